"""Looking after memories: what there is, what is damaged, what may go."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from catalog import objects
from catalog.memory.upkeep import remove, superseded, verify, versions
from flows.cli.main import main
from tests.support.memories import (
    FIRST_VERSION,
    SECOND_VERSION,
    committed,
    memory_store,
    write_version,
)
from tests.support.slots import FEW_CHUNKS, make_old, published

DAY = timedelta(days=1)


def test_old_versions_go_and_the_one_in_use_never_does(tmp_path: Path) -> None:
    store = committed(tmp_path, (FIRST_VERSION, SECOND_VERSION))
    found = versions(str(tmp_path), "la")
    assert [(each.version, each.current) for each in found] == [
        (FIRST_VERSION, False), (SECOND_VERSION, True)
    ]  # fmt: skip
    assert superseded(found, DAY) == []  # replaced a moment ago: a run may read it yet
    make_old(tmp_path)
    (old,) = superseded(versions(str(tmp_path), "la"), DAY)
    assert old.version == FIRST_VERSION
    objects.put(f"{store.url}/current.json", objects.get(f"{store.url}/current.json") or b"")
    assert not remove(old, DAY)  # it changed since it was listed
    make_old(tmp_path)
    assert remove(old, DAY)
    assert [each.version for each in versions(str(tmp_path), "la")] == [SECOND_VERSION]
    assert verify(store) == []


def test_what_is_damaged_or_lost_is_found(tmp_path: Path) -> None:
    store = committed(tmp_path)
    assert verify(store) == []
    group = Path(store.version_url(FIRST_VERSION))
    chunk = group / "day_dx" / "0" / "0" / "0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:-6] + bytes([content[-6] ^ 1]) + content[-5:])
    (fault,) = verify(store)
    assert "day_dx" in fault
    chunk.unlink()
    assert verify(store) == ["1 of its 22 chunks are missing"]
    chunk.write_bytes(content)
    sar = group / "reference" / "sar" / "c" / "0" / "0"
    sar.write_bytes(sar.read_bytes()[:-2])
    (fault,) = verify(store)
    assert "reference/sar" in fault
    (group / "zarr.json").unlink()
    assert len(verify(store)) == 1
    Path(store.url, "current.json").write_text("{")
    (fault,) = verify(store)
    assert "current.json" in fault


def test_a_memory_without_a_version_in_use_has_no_faults(tmp_path: Path) -> None:
    store = memory_store(tmp_path)
    write_version(store, FIRST_VERSION)
    assert verify(store) == []


def test_the_commands_know_what_is_remembered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published(tmp_path, FEW_CHUNKS, generation="a" * 16)
    store = committed(tmp_path, (FIRST_VERSION, SECOND_VERSION))
    make_old(tmp_path)
    place = str(tmp_path)
    assert main(["status", place]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"la remembers {store.name}: 2 versions" in told
    assert f"in use {SECOND_VERSION}" in told

    assert main(["prune", place]) == 0
    told = capsys.readouterr().out
    assert "0 generations and 1 version of memories" in told
    assert len(versions(place, "la")) == 2
    assert main(["prune", place, "--yes", "--json", "-"]) == 0
    (removed,) = json.loads(capsys.readouterr().out)["removed"]
    assert (removed["memory"], removed["version"]) == (store.name, FIRST_VERSION)
    assert [each.version for each in versions(place, "la")] == [SECOND_VERSION]

    assert main(["verify", place]) == 0
    assert f"la {store.name} {SECOND_VERSION}: 45 objects readable" in " ".join(
        capsys.readouterr().out.split()
    )
    Path(store.version_url(SECOND_VERSION), "dx", "0", "0").unlink()
    assert main(["verify", f"{place}/la"]) == 1
    assert "chunks are missing" in capsys.readouterr().out
