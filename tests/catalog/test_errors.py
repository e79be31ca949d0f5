"""The error tree travels: messages, attributes and types survive the way back from a worker."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from distributed.core import clean_exception, error_message

from catalog.errors import (
    ArgumentError,
    CatalogError,
    SceneReadError,
    SearchError,
    StoreError,
    shown,
    without_secrets,
)
from catalog.objects import store_errors
from catalog.pixels.scene import probe
from tests.support.scenes import noise, scene_of, write_raster


@pytest.mark.parametrize(
    "error",
    [
        ArgumentError("bad box", argument="bbox"),
        SearchError("no answer", url="http://127.0.0.1"),
        SceneReadError("truncated", scene_id="S1", href="/x.tif"),
        StoreError("full", url="s3://bucket"),
    ],
)
def test_errors_survive_pickling(error: CatalogError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
    assert isinstance(copy, CatalogError)


def back_from_a_worker(error: BaseException) -> BaseException:
    """What the client of a Dask cluster is given for an error of a task."""
    message = error_message(error)
    kind, received, _ = clean_exception(message["exception"].data, message["traceback"].data)
    assert kind is type(received)
    assert received is not None
    return received


def test_gdals_errors_come_back_from_a_worker_with_scene_and_file(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "x.tif", noise((1, 300, 300)), tiled=True, compress="deflate")
    scene = scene_of(path, ("vh",), "S1-007")
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(SceneReadError) as caught:
        probe(scene)
    received = back_from_a_worker(caught.value)
    assert isinstance(received, SceneReadError)
    assert (received.scene_id, received.href) == ("S1-007", str(path))
    assert str(received) == str(caught.value)
    assert "IReadBlock failed" in str(received)  # what rasterio leaves to its cause
    assert "IReadBlock failed" in str(received.__cause__)


def test_errors_of_storage_libraries_come_back_from_a_worker() -> None:
    class ServiceError(Exception):
        """Like botocore's: made while running, so no other process can import it."""

        def __reduce__(self) -> str:
            return "nowhere to be found"

    def put() -> None:
        with store_errors("write", "s3://bucket/x"):
            raise OSError("busy") from ServiceError("slow down")

    with pytest.raises(StoreError) as caught:
        put()
    received = back_from_a_worker(caught.value)
    assert isinstance(received, StoreError)
    assert received.url == "s3://bucket/x"
    assert str(received) == "cannot write s3://bucket/x: busy"
    assert str(received.__cause__) == "OSError: busy"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("https://user:word@x.org/a.tif?sig=abc&se=1#f", "https://x.org/a.tif"),
        ("https://x.org:8080/a.tif", "https://x.org:8080/a.tif"),
        ("s3://bucket/a.tif", "s3://bucket/a.tif"),
        ("/data/what?.tif", "/data/what?.tif"),
    ],
)
def test_addresses_are_shown_without_their_secrets(address: str, public: str) -> None:
    assert shown(address) == public
    assert (
        without_secrets(f"'/vsicurl/{address}' is gone", address) == f"'/vsicurl/{public}' is gone"
    )


def test_the_query_alone_is_a_secret_too() -> None:
    told = without_secrets("a.tif?sig=abc, band 1: failed", "https://x.org/a.tif?sig=abc")
    assert told == "a.tif, band 1: failed"


def test_words_of_others_steer_no_terminal() -> None:
    error = SearchError("it says \x1b[2J\x9b31m\u202eab\nc", url="https://example.org")
    assert str(error) == "it says \ufffd[2J\ufffd31m\ufffdab\nc"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
