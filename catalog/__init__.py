"""Everything with an address on Earth or in a bucket: search, pairs, pixels, the store."""

from catalog.store.open import open_mosaic

__all__ = ["open_mosaic"]
