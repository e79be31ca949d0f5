"""From a STAC query to scenes and pairs: `search` asks, `items` and `fields` read the answers.

`providers` has what differs between archives, `embedded` serves a file of items as an API,
`acquisitions` keeps one scene of what comes more than once, `faults` says which scenes are of no
use, `pairs` which SAR scene goes with which optical one, `signing` and `sizes` know files from
outside.
Nothing here opens a raster. It imports the ground floor of `catalog` alone; `catalog.sentinel1`,
`catalog.pixels`, `catalog.store` and `flows` may import it.
"""
