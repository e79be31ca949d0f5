"""The mosaics of a region, on a disk or in a bucket: written shard by shard, opened by analysts.

`schema` says what a slot holds per pixel, `layout` how its Zarr group is arranged, `slot` what
belongs to one day and where it lies. `shards` and `overviews` write pixels, `receipts` prove it;
`stac` and `publish` make a day visible, `days` and `open` find and open it, `upkeep` serves who
keeps it.

Only `memory` stands above it: it may import every other room of `catalog`, and none of them may
import it; `flows` may. Users take `open_mosaic` from `catalog` itself.
"""
