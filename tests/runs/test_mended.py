"""A published day that was damaged on its disk: named, mended by the run that made it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from distributed import Client

import catalog
from flows.cli.main import main
from tests.support.regions import DemoRun, arguments_of, files_under, request_of
from tests.support.slots import digests

TOLD = ("report.json", "metrics.prom", "preview.png")  # seconds, and where the store is


def content_of(store: Path) -> dict[str, str]:
    """What the request determines: a cube has random names."""
    found = digests(store)
    return {
        name: each
        for name, each in found.items()
        if "/cube/" not in name and name.split("/")[-1] not in TOLD
    }


@pytest.mark.faults
def test_a_damaged_day_is_named_and_its_run_made_again_mends_just_that(
    demo_run: DemoRun, tmp_path: Path, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    shutil.copytree(demo_run.store / "demo", store / "demo")
    shutil.copytree(demo_run.store / "demo", store / "other")
    expected = content_of(store)
    (group,) = (store / "demo" / "slots").glob("*/*.zarr")
    for name, share in {"vh/0/0": 0.5, "red/0/0": 0.0, "zarr.json": 0.7}.items():
        path = group / name
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    turned = bytearray((group / "dx/0/0").read_bytes())
    turned[len(turned) // 2] ^= 1
    (group / "dx/0/0").write_bytes(turned)
    estimate = group.with_suffix(".estimate.npz")
    estimate.write_bytes(estimate.read_bytes()[:-100])
    other = files_under(store / "other")

    assert main(["verify", str(store)]) == 1
    assert f"✗ demo {demo_run.day}" in capsys.readouterr().out
    with pytest.raises(Exception, match="zarr"):
        catalog.open_mosaic(str(store / "demo")).compute()

    request = request_of(demo_run.region, store, scheduler=client.scheduler.address, remake=True)
    assert main([*arguments_of(request), "--remake"]) == 0
    capsys.readouterr()
    assert main(["verify", str(store)]) == 0
    assert content_of(store) == expected
    assert files_under(store / "other") == other
    assert catalog.open_mosaic(str(store / "demo")).compute().sizes["time"] == 1
