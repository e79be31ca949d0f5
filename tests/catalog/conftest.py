"""What tests of several rooms of `catalog` share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.object_store import aws_environment, new_bucket

if TYPE_CHECKING:
    from tests.support.object_store import Swift


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty store, once on a disk and once in a real object store."""
    if request.param == "folder":
        yield str(tmp_path)
        return
    swift: Swift = request.getfixturevalue("swift")
    with aws_environment(swift.environment()):
        yield new_bucket()
