"""What differs between archives: which assets of an item are data, and which bands they hold.

One frozen record per archive; adding an archive is adding a record.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Provider:
    """How to read the items of an archive."""

    name: str
    bands: tuple[str, ...]
    """Common names of the bands to use, in output order; what an item lacks is left out."""
    composites: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Asset keys that hold several bands at once, preferred over single-band assets."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Lower-case asset keys and band names that mean a common name."""


PLAIN_STAC = Provider(
    name="plain STAC",
    bands=("red", "green", "blue", "nir", "vv", "vh", "hh", "hv"),
    composites={"visual": ("red", "green", "blue")},
    aliases={"b02": "blue", "b03": "green", "b04": "red", "b08": "nir"},
)
"""Items that follow STAC alone: bands by `bands`, `eo:bands`, asset key or polarisation."""
