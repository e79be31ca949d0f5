"""The network, its words and its checkpoints.

`model` wires the paper's three parts: `msfl` (features of an image), `tafe` (text), `cfdm` (what is
compared); `text` has the words and the frozen encoders that embed them, `weights` reads and writes
checkpoints. Imports config, coordinates, deformation and errors; matching, register and training
may import it.
"""
