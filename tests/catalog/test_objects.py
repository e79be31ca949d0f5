"""Small objects of a store, on a local path."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog import objects
from catalog.errors import StoreError


def test_small_objects_replace_each_other_whole(tmp_path: Path) -> None:
    url = f"{tmp_path}/a/b.json"
    assert objects.get(url) is None
    assert objects.names(f"{tmp_path}/a") == []
    objects.put(url, b"one")
    objects.put(url, b"two")
    assert objects.get(url) == b"two"
    assert objects.names(f"{tmp_path}/a") == ["b.json"]
    objects.remove(url)
    assert objects.get(url) is None


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(tmp_path: Path) -> None:
    assert objects.entries(f"{tmp_path}/none") == []
    objects.put(f"{tmp_path}/file", b"")
    assert objects.entries(f"{tmp_path}/file/below") == []
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(StoreError, match=r"cannot list .*circle"):
        objects.entries(f"{tmp_path}/circle")


def test_hrefs_resolve_against_their_object() -> None:
    cases = [
        ("/s/la/items/x.json", "../slots/y.zarr", "/s/la/slots/y.zarr"),
        ("s3://b/la/items/x.json", "../slots/y.zarr", "s3://b/la/slots/y.zarr"),
        ("/s/la/items/x.json", "s3://other/y.zarr", "s3://other/y.zarr"),
    ]
    for base, href, expected in cases:
        assert objects.resolve(base, href) == expected
