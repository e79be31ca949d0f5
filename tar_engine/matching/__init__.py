"""From two images to matches.

`locate` says roughly where, by the `search` of all rotations, scales and shifts; `refine` moves
`positions` by `windows`, then by all of them together (`dense`), and confirms what it found.
Imports config, coordinates, deformation, fields and network; register and training may import it.
"""
