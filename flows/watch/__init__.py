"""What those look at who watch regions rather than mosaics: people by night, and machines.

`freshness` says how old a region's newest day is, and which region is stale.
"""
