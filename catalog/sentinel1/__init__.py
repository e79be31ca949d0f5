"""What a Sentinel-1 product says of itself, and the geometry and radiometry that follow from it.

`annotation` fetches the XML beside a product. `range_doppler` leads from its orbit and ranges to
where ground shows, with `orbits` from files of their own; `gcps` does where there is no annotation,
and `terrain` then moves pixels by their height, and finds what cannot be seen. `geoid` tells what
heights are above. `calibration` leads from numbers to sigma nought, less the `noise`. Rasters are
opened elsewhere. It imports the ground floor of `catalog` and `archives`; `pixels`, `store` and
`flows` may import it.
"""
