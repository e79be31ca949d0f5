"""A scene's pixels on the lattice."""
