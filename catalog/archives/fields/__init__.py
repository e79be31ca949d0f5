"""What the fields of one STAC item say: whether they can be read, its bands, its processing.

Pure functions of plain dicts; `catalog.archives.items` makes scenes of what they tell.
"""
