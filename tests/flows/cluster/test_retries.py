"""What may pass, and what cannot."""

from __future__ import annotations

import pytest

from catalog.errors import (
    ArgumentError,
    SceneReadError,
    SearchError,
    StoreError,
    raise_portably,
)
from flows.cluster.retries import may_pass
from flows.cluster.stream import GivenUp, JobsFailed
from flows.cluster.workers import DispatchError
from flows.plan.plan import PlanError
from tar_engine.errors import WeightsError


def caused(error: Exception, cause: Exception) -> Exception:
    try:
        raise error from cause
    except Exception as raised:
        return raised


@pytest.mark.parametrize(
    "error",
    [
        DispatchError("the scheduler was lost"),
        ConnectionResetError("reset"),
        StoreError("cannot write s3://b/x: 503 Slow Down", "s3://b/x"),
        caused(SearchError("unreachable", "http://x"), ConnectionError("refused")),
        caused(PlanError("lost"), DispatchError("lost")),
        caused(SearchError("/x fails", "/x"), caused(SearchError("x fails", "x"), OSError())),
        JobsFailed({"shard 0.0": GivenUp(StoreError("cannot write: 500", "s3://b"))}),
    ],
)
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    assert may_pass(error)


@pytest.mark.parametrize(
    "error",
    [
        None,
        WeightsError("the checkpoint is another one"),
        ArgumentError("bbox is empty", "bbox"),
        SceneReadError("it is truncated", "S1", "s1.tif"),
        SearchError("no collection 'landsat'", "http://x"),
        caused(SearchError("items.json has none", "/x"), SearchError("has none", "http://x")),
        caused(PlanError("bad weights"), WeightsError("bad weights")),
        StoreError("cannot write s3://b/x: Access Denied", "s3://b/x"),
        StoreError("cannot write /d/x: [Errno 28] No space left on device", "/d/x"),
        JobsFailed({"shard 0.0": GivenUp(ValueError("a bug"))}),
        ValueError("a bug"),
    ],
)
def test_what_cannot_pass_fails_at_once(error: Exception | None) -> None:
    assert not may_pass(error)


def test_a_permission_is_told_from_a_bad_minute_across_processes() -> None:
    with pytest.raises(StoreError) as caught:
        raise_portably(StoreError("cannot write /x", "/x"), PermissionError(13, "denied"))
    assert not may_pass(caught.value)
