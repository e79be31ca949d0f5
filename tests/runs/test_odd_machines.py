"""A machine that is set up oddly in many ways at once: a run works there all the same."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from catalog.store.upkeep import generations, verify
from flows.cli.demo_region import DemoRegion
from tests.support.disks import small_disk, where_nothing_can_be_written
from tests.support.regions import arguments_of, request_of
from tests.support.service import ROOT
from tests.support.typed import COMMAND

NOBODY = "http://127.0.0.1:9"  # a proxy that does not answer
ODD = {
    "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",  # a locale that is not UTF-8
    "TZ": "Pacific/Kiritimati",
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOBODY),
}  # fmt: skip


@pytest.mark.faults
def test_no_home_no_utf8_a_far_time_zone_a_dead_proxy_and_paths_of_other_letters(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    scenes, store = tmp_path / "Kärnten Süd", tmp_path / "Straße nach Süden" / "store"
    shutil.copytree(small_region.catalog.parent, scenes)
    region = replace(small_region, catalog=scenes / small_region.catalog.name)
    words = arguments_of(request_of(region, store))
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **ODD}
    environment["PREFECT_HOME"] = str(tmp_path / "Präfekt")
    run = subprocess.run(
        [sys.executable, "-c", COMMAND, *words], env=environment, capture_output=True, check=False
    )
    told = run.stdout.decode()
    assert run.returncode == 0, run.stderr.decode()
    assert "✓" in told
    assert str(store) in told
    (published,) = generations(str(store), "demo")
    assert verify(published.store).faults == ()


@pytest.mark.faults
def test_a_machine_of_which_one_small_folder_alone_can_be_written_to(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 300_000) as disk:
        words = arguments_of(request_of(small_region, disk / "store"))
        command = where_nothing_can_be_written([sys.executable, "-c", COMMAND, *words])
        environment = {
            "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": "/nowhere",
            "TMPDIR": str(disk), "PREFECT_HOME": str(disk / "prefect"),
        }  # fmt: skip
        run = subprocess.run(
            command, cwd="/", env=environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        (published,) = generations(str(disk / "store"), "demo")
        assert verify(published.store).faults == ()
