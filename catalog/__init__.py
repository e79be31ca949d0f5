"""Everything with an address on Earth or in a bucket.

`archives` finds scenes and pairs them, `sentinel1` reads what its products say of themselves,
`pixels` reads scenes on a region's grid, `store` keeps the mosaics, `cube` shows all days as one,
`memory` what they teach of the ground. Below them: `grid` and `crs` (the lattice), `objects` and
`aws` (buckets), `child_server`, `retrying`, `errors`. It imports neither Prefect nor the engine;
`flows` and anybody's own programs import it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from catalog.cube.open import open_cube
    from catalog.memory.open import open_memory
    from catalog.pixels.composite import composite
    from catalog.store.open import open_mosaic
else:

    def __getattr__(name: str) -> object:
        # Not before they are asked for: xarray and Zarr take longer to import than all else here,
        # and whoever needs a lattice or an error needs neither.
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from catalog.cube.open import open_cube
        from catalog.memory.open import open_memory
        from catalog.pixels.composite import composite
        from catalog.store.open import open_mosaic

        globals().update(
            composite=composite, open_cube=open_cube, open_memory=open_memory,
            open_mosaic=open_mosaic,
        )  # fmt: skip
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = ["composite", "open_cube", "open_memory", "open_mosaic"]
