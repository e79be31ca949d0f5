"""What a Sentinel-1 product says of itself, and the geometry and radiometry that follow from it.

`annotation` fetches the XML beside a product, `calibration` leads from its numbers to sigma nought,
`gcps` from its control points to places on the ground, `terrain` moves pixels by their height.
Rasters are opened elsewhere. It imports the ground floor of `catalog` and `archives`; `pixels`,
`store` and `flows` may import it.
"""
