"""Small objects of a store, on a local path."""

from __future__ import annotations

from pathlib import Path

from catalog import objects


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


def test_hrefs_resolve_against_their_object() -> None:
    cases = [
        ("/s/la/items/x.json", "../slots/y.zarr", "/s/la/slots/y.zarr"),
        ("s3://b/la/items/x.json", "../slots/y.zarr", "s3://b/la/slots/y.zarr"),
        ("/s/la/items/x.json", "s3://other/y.zarr", "s3://other/y.zarr"),
    ]
    for base, href, expected in cases:
        assert objects.resolve(base, href) == expected
