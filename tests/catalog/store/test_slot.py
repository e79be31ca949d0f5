"""A slot in the store: its names, what lies beside its pixels, whether it can be written."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from catalog.errors import ArgumentError, StoreError
from catalog.store.slot import SlotStore, check_writable
from tests.support.slots import slot_store


def test_the_estimate_saved_last_is_loaded_for_its_generation_alone(tmp_path: Path) -> None:
    store = slot_store(tmp_path)
    assert store.load_estimate() is None
    store.save_estimate(b"first")
    store.save_estimate(b"second")
    assert store.load_estimate() == b"second"
    assert pickle.loads(pickle.dumps(store)).load_estimate() == b"second"
    assert slot_store(tmp_path, generation="other").load_estimate() is None


@pytest.mark.parametrize("region", ["", "a/b", "..", "../a", "A", "-a", "a b", "a\n"])
def test_bad_region_names_are_refused(region: str) -> None:
    with pytest.raises(ArgumentError, match="usable name") as caught:
        SlotStore("/tmp", region, "2020-11-04", "abc")
    assert caught.value.argument == "region"


def test_bad_slots_are_refused() -> None:
    with pytest.raises(ArgumentError, match="a day like 2020-11-04"):
        SlotStore("/tmp", "la", "../2020", "abc")


def test_a_writable_store_is_left_as_it_was(tmp_path: Path) -> None:
    for store in (tmp_path, tmp_path / "not" / "there"):
        check_writable(str(store))
        check_writable(f"file://{store}")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_store_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for store, words in [
        (f"{file}/below", "is not a folder"),
        ("", "needs a path"),
        ("nope://bucket", "nope"),
        ("/proc/nothing", "cannot be written"),
    ]:
        with pytest.raises(StoreError, match=words) as caught:
            check_writable(store)
        assert caught.value.url == store
    assert file.read_text() == ""
    with pytest.raises(StoreError, match="file is not a folder"):
        check_writable(str(file))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        check_writable(str(tmp_path / "store"))
