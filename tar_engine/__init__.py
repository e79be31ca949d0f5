"""TAR: text-semantic-assisted registration of SAR to optical images (arXiv 2605.12064).

Arrays in, arrays out: no geography, no URLs, no Dask, no Prefect. `register.py` is the front door
(locate, refine, confirm, fit), `config.py` has its numbers, `coordinates.py` its pixels. From the
ground up: errors, config, coordinates; deformation; fields; network; matching; register; training.
A room imports what stands below it. Only `flows` imports this package.
"""

from tar_engine.register import Registrar, Registration

__all__ = ["Registrar", "Registration"]
