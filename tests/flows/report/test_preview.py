"""The picture: drawn from thinned data, its close look where there is something to see."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path

import numpy as np
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from catalog.archives.items import Asset
from catalog.archives.pairs import Pair
from catalog.grid import Window
from catalog.store.schema import ABSTAINED, NO_OPTICAL, REGISTERED, REGISTERED_FROM_MEMORY
from flows.cli.demo_region import DemoRegion
from flows.plan.generation import SlotPlan
from flows.plan.groups import Group
from flows.report.artifacts import thumbnail
from flows.report.preview import choose_detail, render_preview
from tests.support.regions import plan_of
from tests.support.scenes import scene

RGB_SCENE = scene("o", assets=(Asset("visual", "/nowhere.tif", ("red", "green", "blue")),))
VH_SCENE = scene("s")
PAIR = Pair(RGB_SCENE, VH_SCENE, 1.0, timedelta(0))
SLOT = SlotPlan("2020-11-04", (Group((PAIR,), (RGB_SCENE,), (VH_SCENE,)),), "0" * 16, False)


def fake_mosaic(height: int, width: int, quality: int = REGISTERED) -> xr.Dataset:
    rng = np.random.default_rng(0)
    pixels = {name: rng.random((height, width), np.float32) for name in ("red", "green", "blue")}
    pixels |= {"vh": rng.random((height, width), np.float32)}
    moved = np.full((height, width), 2.0 if quality == REGISTERED else np.nan, np.float32)
    pixels |= {"dx": moved, "dy": moved}
    flags = np.full((height, width), quality, np.uint8)
    dims = ("y", "x")
    return xr.Dataset({name: (dims, v) for name, v in {**pixels, "quality": flags}.items()})


def test_every_outcome_has_a_picture_and_always_the_same(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    plan = plan_of(small_region, tmp_path)
    for quality in (REGISTERED, ABSTAINED, NO_OPTICAL):
        mosaic = fake_mosaic(*plan.lattice.shape, quality)
        small = mosaic.isel(y=slice(1, None, 2), x=slice(1, None, 2))
        picture = render_preview(mosaic, small, 2, plan.lattice, plan.slots[0], "a title")
        assert picture == render_preview(mosaic, small, 2, plan.lattice, plan.slots[0], "a title")
        with Image.open(io.BytesIO(picture)) as image:
            assert image.width > 1000
            assert len(image.getcolors(1 << 24) or ()) > 50


def test_a_day_without_optical_has_a_picture_too(small_region: DemoRegion, tmp_path: Path) -> None:
    plan = plan_of(small_region, tmp_path, slots="sar", max_optical_age_days=0)
    (slot,) = plan.slots
    assert not slot.optical_bands
    for quality in (REGISTERED, REGISTERED_FROM_MEMORY, ABSTAINED):
        mosaic = fake_mosaic(*plan.lattice.shape, quality).drop_vars(["red", "green", "blue"])
        small = mosaic.isel(y=slice(1, None, 2), x=slice(1, None, 2))
        picture = render_preview(mosaic, small, 2, plan.lattice, slot, "a title")
        with Image.open(io.BytesIO(picture)) as image:
            assert len(image.getcolors(1 << 24) or ()) > 50


@settings(max_examples=20, deadline=None)
@given(st.integers(8, 900), st.integers(8, 900), st.integers(1, 4))
def test_the_close_look_stays_inside_the_lattice(height: int, width: int, step: int) -> None:
    mosaic = fake_mosaic(height, width)
    thin = mosaic.isel(y=slice(None, None, step), x=slice(None, None, step))
    window = choose_detail(mosaic, thin, SLOT, step)
    assert window.clip((height, width)) == window


def test_the_close_look_is_where_something_was_moved() -> None:
    mosaic = fake_mosaic(900, 1200)
    mosaic["dx"][600:, 900:] = 9.0
    mosaic["vh"][650:800, 950:1100] = mosaic["red"][650:800, 950:1100]
    window = choose_detail(mosaic, mosaic, SLOT, 1)
    assert window.intersect(Window(650, 950, 150, 150)) == Window(650, 950, 150, 150)


def test_without_a_registered_pixel_the_middle_is_shown() -> None:
    mosaic = fake_mosaic(400, 600, ABSTAINED)
    assert choose_detail(mosaic, mosaic, SLOT, 1) == Window(40, 140, 320, 320)


def test_what_goes_into_prefects_database_is_small() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (600, 1650, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format="png")
    small = thumbnail(buffer.getvalue())
    assert len(small) < 0.15 * len(buffer.getvalue())
    with Image.open(io.BytesIO(small)) as image:
        assert image.size == (1000, 364)
