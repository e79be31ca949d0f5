"""What the engine is trained on: drawn pairs, whole scenes, and how a checkpoint remembers them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flows.cli.training_scenes import scene_pairs
from tar_engine.errors import InputError
from tar_engine.training.patches import UNKNOWN, PatchPairs, joined, load_pairs
from tar_engine.training.synthesis import COVER_NAMES, WATER
from tar_engine.training.training_set import manifest, synthetic_pairs
from tests.support.scenes import REAL_SCENES, needs_real_data, noise, write_raster


@pytest.fixture(scope="module")
def drawn() -> PatchPairs:
    return synthetic_pairs(3, side_px=128)


@pytest.fixture(scope="module")
def plain() -> PatchPairs:
    """Pairs whose land cover no one knows."""
    pixels = torch.from_numpy(noise((2, 4, 128, 128)))
    return PatchPairs(("0001", "0002"), pixels[:, :3].contiguous(), pixels[:, 3:].contiguous())


def test_drawn_pairs_know_their_land_cover(drawn: PatchPairs) -> None:
    assert drawn.names == ("synthetic/0", "synthetic/1", "synthetic/2")
    assert drawn.optical.shape == (3, 3, 128, 128)
    assert drawn.sar.shape == (3, 1, 128, 128)
    assert drawn.cover is not None
    assert drawn.cover.shape == (3, 128, 128)
    assert drawn.cover.dtype == torch.uint8
    assert drawn.cover.max() < len(COVER_NAMES)
    assert len(drawn.cover.unique()) >= 5
    water = drawn.cover == WATER
    sar = drawn.sar[:, 0].float()
    assert sar[water].mean() < 0.5 * sar[~water].mean()


def test_packed_pairs_are_the_pairs(drawn: PatchPairs, plain: PatchPairs, tmp_path: Path) -> None:
    """To the bit: speckle that compression smooths is not the speckle of matching."""
    for number, data in enumerate((drawn, plain, joined([drawn, plain]))):
        path = tmp_path / f"{number}.npz"
        data.save(path)
        again = load_pairs(path)
        assert again.names == data.names
        assert (again.cover is None) == (data.cover is None)
        if again.cover is not None and data.cover is not None:
            assert torch.equal(again.cover, data.cover)
        assert torch.equal(again.optical, data.optical)
        assert torch.equal(again.sar, data.sar)


def test_joined_pairs_have_a_cover_if_any_has(drawn: PatchPairs, plain: PatchPairs) -> None:
    both = joined([plain, drawn])
    assert both.names == plain.names + drawn.names
    assert both.cover is not None
    assert drawn.cover is not None
    assert (both.cover[:2] == UNKNOWN).all()
    assert torch.equal(both.cover[2:], drawn.cover)
    assert joined([plain, plain]).cover is None
    with pytest.raises(InputError, match="different sizes"):
        joined([plain, synthetic_pairs(1, side_px=64)])


def test_the_manifest_counts_kinds_and_is_stable(drawn: PatchPairs, plain: PatchPairs) -> None:
    both = joined([plain, drawn])
    told = manifest(both)
    assert told["pairs"] == 5
    assert told["kinds"] == {"patches": 2, "synthetic": 3}
    assert told["with_cover"] == 3
    assert told == manifest(joined([plain, synthetic_pairs(3, side_px=128)]))
    assert json.loads(json.dumps(told)) == told
    sar = both.sar.clone()
    sar[0, 0, 5, 5] += 1
    assert manifest(replace(both, sar=sar))["sha256"] != told["sha256"]
    assert manifest(plain)["with_cover"] == 0


def write_scene(folder: Path, shift: tuple[int, int], side_px: int = 160) -> dict[str, Any]:
    """A scene whose SAR image is its first optical band, moved; and its fit."""
    optical = noise((3, side_px, side_px))
    write_raster(folder / "A_S2.tif", optical)
    write_raster(folder / "A_S1.tif", np.roll(optical[:1], shift[::-1], axis=(1, 2)))
    coefficients = [list(shift)] + [[0.0, 0.0]] * 5
    return {"A": {"quadratic_fit": {"coefficients_dx_dy": coefficients}}}


def test_scenes_are_cut_into_crops_with_sar_moved_to_its_place(tmp_path: Path) -> None:
    fits = write_scene(tmp_path, (5, -3))
    (tmp_path / "residual_fits.json").write_text(json.dumps(fits))
    pairs = scene_pairs(tmp_path, side_px=64)
    assert pairs.names == ("scenes/A_0_0", "scenes/A_0_64", "scenes/A_64_0", "scenes/A_64_64")
    assert pairs.optical.shape == (4, 3, 64, 64)
    assert pairs.sar.shape == (4, 1, 64, 64)
    inner = (slice(None), slice(None, 1), slice(8, -8), slice(8, -8))
    assert torch.equal(pairs.sar[inner], pairs.optical[inner])
    assert manifest(pairs)["kinds"] == {"scenes": 4}


def test_scenes_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no scenes with residual_fits\.json"):
        scene_pairs(tmp_path)
    fits = write_scene(tmp_path, (0, 0))
    (tmp_path / "residual_fits.json").write_text(json.dumps({**fits, "B": fits["A"]}))
    with pytest.raises(InputError, match=r"B_S2\.tif"):
        scene_pairs(tmp_path)


@needs_real_data
@pytest.mark.real_data
def test_real_scenes_are_cut_into_crops(tmp_path: Path) -> None:
    """One of the 27; all of them take a quarter of a minute."""
    fits = json.loads((REAL_SCENES / "residual_fits.json").read_text())
    name = min(fits)
    for suffix in ("S1", "S2"):
        (tmp_path / f"{name}_{suffix}.tif").symlink_to(REAL_SCENES / f"{name}_{suffix}.tif")
    (tmp_path / "residual_fits.json").write_text(json.dumps({name: fits[name]}))
    pairs = scene_pairs(tmp_path)
    assert len(pairs) == 16
    assert pairs.names[:2] == (f"scenes/{name}_0_0", f"scenes/{name}_0_256")
    assert pairs.optical.shape == (16, 3, 256, 256)
    assert pairs.sar.shape == (16, 1, 256, 256)
    assert pairs.optical.dtype == pairs.sar.dtype == torch.uint8
    assert pairs.cover is None
    assert (pairs.sar != 0).float().mean() > 0.9
