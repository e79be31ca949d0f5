"""Scenes' pixels: files opened and read, placed on the lattice, resampled once, composited.

`composite` is the image of all scenes, `clearest` decides which of them shows a pixel, and `scene`
reads one of them; the others are what a raster, a mask or a radar product needs for that. Nothing
is written here. May import `archives` and `sentinel1` below; `store` and `flows` import this.
"""
