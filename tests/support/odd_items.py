"""STAC items with something wrong in them: any field gone, or with any JSON in it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from catalog.archives.items import read_items

Path = tuple[str | int, ...]

ANY_NUMBER = st.one_of(st.integers(), st.floats(), st.just(10**400))
ANY_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), ANY_NUMBER, st.text(), st.just("\ud800"), st.just("a\x00")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=8,
)


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Where in nested JSON there is anything, at every depth."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))


def replaced(item: Any, path: Path, value: Any) -> Any:
    """The item with another value at a place."""
    if not path:
        return value
    changed = copy.deepcopy(item)
    inner = changed
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return changed


def removed(item: Any, path: Path) -> Any:
    """The item without what is at a place."""
    changed = copy.deepcopy(item)
    inner = changed
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    return changed


@st.composite
def mutated(draw: st.DrawFn, item: dict[str, Any], times: int = 3) -> Any:
    """The item after one to `times` changes anywhere in it."""
    for _ in range(draw(st.integers(1, times))):
        path = draw(st.sampled_from(list(places(item))))
        if path and draw(st.booleans()):
            item = removed(item, path)
        else:
            item = replaced(item, path, draw(ANY_JSON))
        if not isinstance(item, dict):
            break
    return item


def odd_items(item: dict[str, Any], count: int) -> list[Any]:
    """So many items, each the given one with one field of another kind: none of them is valid."""
    values = [[], {}, 7.5, -1, True, "x", [7], {"x": 7}, [None], "", "\ud800", 1e300, None]
    changed = [
        replaced(item, path, value)
        for path in places(item)
        for value in values
        if path and path[0] not in ("type", "stac_version")
    ]
    odd = []
    for each in changed:
        named = {**each, "id": f"odd {len(odd)}"} if isinstance(each.get("id"), str) else each
        if read_items([named], "https://api")[1]:
            odd.append(named)
    assert len(odd) >= count
    return odd[:: len(odd) // count][:count]
