"""The same reflectance through each archive's convention, and what each archive's files need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from catalog.archives.items import scene_from_item
from catalog.archives.providers import (
    MSI_BANDS,
    PROVIDERS,
    optical_bands,
    provider_at,
    provider_named,
)
from catalog.errors import ArgumentError
from catalog.grid import Lattice
from catalog.pixels.scene import probe
from tests.support.archives import CONVENTIONS, CORNER, CRS, NATIVE_PX_M, Convention, write_scene
from tests.support.scenes import read_window

API = "https://example.org/stac"
SIDE = 120
L2A_BANDS = tuple(band for band in MSI_BANDS if band != "cirrus")


def lattice_of(side: int = SIDE, px_m: int = 10) -> Lattice:
    affine = Affine(float(px_m), 0.0, CORNER[0], 0.0, -float(px_m), CORNER[1])
    return Lattice(GeoBox((side, side), affine, CRS), shard_px=64)


def reflectances(bands: tuple[str, ...] = L2A_BANDS) -> dict[str, NDArray[np.float64]]:
    """Whole ten-thousandths, equal within blocks of 60 m, so that any resolution holds them."""
    drawn = np.random.default_rng(4).integers(50, 6000, (len(bands), SIDE // 6, SIDE // 6)) / 10_000
    return dict(zip(bands, drawn.repeat(6, axis=1).repeat(6, axis=2), strict=True))


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=CONVENTIONS)
def test_every_convention_leads_to_the_same_reflectance(
    tmp_path: Path, convention: Convention
) -> None:
    truth = reflectances()
    truth["red"][:12, :12] = np.nan
    item = write_scene(tmp_path, convention, truth, np.full((SIDE, SIDE), 4, np.uint8))
    provider = provider_named(convention.provider)
    found = scene_from_item(item, API, provider, L2A_BANDS)
    assert found.unusable is None
    assert found.bands == L2A_BANDS
    assert found.mask is not None
    probe(found)
    for px_m in (10, 20, 60):
        own = tuple(band for band in L2A_BANDS if NATIVE_PX_M[band] == px_m)
        lattice = lattice_of(SIDE * 10 // px_m, px_m)
        for band, values in zip(
            own, read_window([found], lattice, lattice.window, own), strict=True
        ):
            expected = truth[band][:: px_m // 10, :: px_m // 10]
            known = np.isfinite(values)
            assert np.array_equal(known, np.isfinite(expected)) or band != "red"
            assert known.mean() > 0.9
            assert np.abs(values - expected)[known].max() <= 1e-6
    # Together on one lattice, coarse pixels between the centres of their neighbours.
    lattice = lattice_of()
    together = read_window([found], lattice, lattice.window, ("red", "coastal", "swir16"))
    assert np.isfinite(together).mean() > 0.9
    for band, values in zip(("coastal", "swir16"), together[1:], strict=True):
        low, high = truth[band].min(), truth[band].max()
        assert np.nanmin(values) >= low - 1e-6
        assert np.nanmax(values) <= high + 1e-6
        inside = np.isfinite(values)
        assert np.corrcoef(values[inside], truth[band][inside])[0, 1] > 0.8


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=CONVENTIONS)
def test_without_bands_asked_for_the_usual_ones_are_read(
    tmp_path: Path, convention: Convention
) -> None:
    item = write_scene(tmp_path, convention, reflectances())
    found = scene_from_item(item, API, provider_named(convention.provider))
    assert found.bands == ("red", "green", "blue", "nir")
    assert not [asset.key for asset in found.assets if "jp2" in asset.key or asset.key == "visual"]


def test_an_item_without_a_band_asked_for_says_so(tmp_path: Path) -> None:
    item = write_scene(tmp_path, CONVENTIONS["earth search, collection 1"], reflectances())
    found = scene_from_item(item, API, PROVIDERS["earth-search"], ("red", "cirrus"))
    assert found.unusable == "it has no band cirrus, which was asked for"


def test_a_scene_whose_baseline_nothing_tells_is_unusable(tmp_path: Path) -> None:
    item = write_scene(tmp_path, CONVENTIONS["planetary computer"], reflectances(("red",)))
    del item["properties"]["s2:processing_baseline"]
    found = scene_from_item(item, API, PROVIDERS["planetary-computer"])
    assert found.assets[0].offset == pytest.approx(-0.1)  # by the product's name
    del item["properties"]["s2:product_uri"]
    found = scene_from_item(item, API, PROVIDERS["planetary-computer"])
    assert found.unusable is not None
    assert "processing baseline" in found.unusable


def test_the_baseline_decides_and_not_the_date(tmp_path: Path) -> None:
    """The past is processed anew: a scene of 2019 with an offset, one of 2022 without."""
    archive = PROVIDERS["copernicus"]
    item = write_scene(tmp_path, CONVENTIONS["copernicus"], reflectances(("red",)))
    item["properties"]["datetime"] = "2019-06-12T10:15:59Z"
    assert scene_from_item(item, API, archive).assets[0].offset == pytest.approx(-0.1)
    item["properties"] |= {"datetime": "2022-06-12T10:15:59Z", "processing:version": "03.01"}
    assert scene_from_item(item, API, archive).assets[0].offset == 0.0


def test_an_archive_is_known_by_its_address() -> None:
    for provider in PROVIDERS.values():
        if provider.api_url:
            assert provider_at(provider.api_url) is provider
            assert {"optical", "sar", "dem"} == {each.role for each in provider.collections}
    assert provider_at("https://stac.example.org/v1").name == "stac"
    assert provider_at("/data/items.json").name == "stac"
    with pytest.raises(ArgumentError, match="'nasa' is not known; there are: earth-search, "):
        provider_named("nasa")


def test_optical_bands_are_known_by_common_and_by_instrument_name() -> None:
    assert optical_bands(("B04", "nir", "rededge1", "b8a")) == ("red", "nir", "rededge071", "nir08")
    assert optical_bands(("red", "B04")) == ("red",)
    with pytest.raises(ArgumentError, match=r"bands: vh; there are: coastal \(B01\)"):
        optical_bands(("red", "vh"))


def test_access_depends_on_archive_and_collection() -> None:
    earth_search, computer = PROVIDERS["earth-search"], PROVIDERS["planetary-computer"]
    assert earth_search.access("sentinel-1-grd").requester_pays
    assert not earth_search.access("sentinel-2-l2a").requester_pays
    assert computer.access("sentinel-1-rtc").signed
    assert not PROVIDERS["stac"].access("anything").signed
