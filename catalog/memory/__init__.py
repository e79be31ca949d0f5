"""What a region remembers of the ground under one viewing geometry, night after night.

    {store}/{region}/memory/{name}/current.json     the version that is in use; putting it commits
    {store}/{region}/memory/{name}/{version}.zarr/  the field of displacements, on nodes
    {store}/{region}/memory/{name}/{version}.zarr/reference/  a despeckled SAR image

`geometry` says which scenes share a memory, `encoding` how its numbers are packed, `layout` how a
version is arranged, `store` writes and commits versions, `open` shows them to analysts, `upkeep`
serves who keeps them. Versions are written once: a run that is stopped leaves one that no
`current.json` names, and the next run writes the same bytes there.

It stands above `store`, whose mosaics it helps to make. Users take `open_memory` from `catalog`.
"""
