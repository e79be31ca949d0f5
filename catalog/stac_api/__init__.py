"""A STAC API that shows what is published: `entries` of a region, a `connection`, `reconcile`.

The store is the truth. An API is somebody else's server, so nothing here can undo or delay a
publication: what an API has not taken yet is told and kept beside the region, and brought there by
the next call.
"""
