"""Scenes' pixels: files opened and read, placed on the lattice, resampled once, composited.

`composite` is the image of all scenes, `clearest` decides which of them shows a pixel, and `scene`
reads one of them; the others are what a raster, a mask or a radar product needs for that. Nothing
is written here. It imports the ground floor of `catalog`, `archives` and `sentinel1`; `store` and
`flows` may import it.
"""
