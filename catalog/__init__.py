"""Everything with an address on Earth or in a bucket.

`archives` finds scenes and pairs them, `sentinel1` reads what its products say of themselves,
`pixels` reads scenes on a region's grid, `store` keeps the mosaics. Below them: `grid` and `crs`
(the lattice), `objects` and `aws` (buckets), `retrying`, `errors`. It imports neither Prefect nor
the engine; `flows` and anybody's own programs import it.
"""

from catalog.pixels.composite import composite
from catalog.store.open import open_mosaic

__all__ = ["composite", "open_mosaic"]
