"""Folders that cannot be used are named before anything is done, with the way out."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from flows.cli.demo_region import DemoRegion
from flows.cli.main import main
from flows.cli.terminal import WRONG_REQUEST
from tests.support.disks import small_disk, where_nothing_can_be_written
from tests.support.regions import arguments_of, files_under, request_of
from tests.support.service import ROOT
from tests.support.typed import COMMAND


def lead_to(variable: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let TMPDIR or PREFECT_HOME name a folder; nothing else of this process follows."""
    patch.setattr(tempfile, "tempdir", None)
    patch.setenv(variable, str(folder))


@pytest.mark.parametrize("variable", ["TMPDIR", "PREFECT_HOME"])
def test_a_full_folder_is_named_before_work(
    variable: str,
    small_region: DemoRegion,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with small_disk(tmp_path / "disk", 1000) as disk:
        lead_to(variable, disk, monkeypatch)
        store = tmp_path / "store"
        assert main(arguments_of(request_of(small_region, store))) == WRONG_REQUEST
    told = capsys.readouterr().err
    assert f"{disk} has 1.0 MB of room, and a run needs 64 MB there" in told
    assert f"set {variable} to another folder" in told
    assert told.count("\n") == 1
    assert not store.exists()


def test_a_machine_without_any_temporary_folder_is_told_which_variable_gives_one(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    words = arguments_of(request_of(small_region, tmp_path / "store"))
    command = where_nothing_can_be_written([sys.executable, "-c", COMMAND, *words])
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        command, cwd="/", env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == WRONG_REQUEST
    assert "No usable temporary directory found in ['/tmp', '/var/tmp', '/usr/tmp'" in run.stderr
    assert "set TMPDIR to a folder that can be written to" in run.stderr
    assert run.stderr.count("\n") == 1


def test_prefect_without_a_home_is_told_which_variable_gives_one(
    small_region: DemoRegion,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a-file").touch()
    lead_to("PREFECT_HOME", tmp_path / "a-file" / "home", monkeypatch)
    assert main(arguments_of(request_of(small_region, tmp_path / "s"))) == WRONG_REQUEST
    assert "cannot be written to" in (told := capsys.readouterr().err)
    assert "set PREFECT_HOME to a folder that can" in told


def test_a_store_that_may_only_be_read_is_named_before_work(
    small_region: DemoRegion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", 40_000, read_only=True) as disk:
        assert main(arguments_of(request_of(small_region, disk / "store"))) == WRONG_REQUEST
    told = capsys.readouterr().err
    assert f"the store {disk}/store/demo cannot be written" in told
    assert "Read-only file system" in told


def test_a_store_without_room_is_told_what_the_plan_needs(
    small_region: DemoRegion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", 5000) as disk:
        assert main(arguments_of(request_of(small_region, disk / "store"))) == WRONG_REQUEST
        assert not files_under(disk)
    told = capsys.readouterr().err
    assert f"store: {disk}/store has 5 MB of room" in told
    assert "0.2 million pixels at 9.1 bytes" in told
    assert "Traceback" not in told
