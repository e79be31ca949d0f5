"""A real STAC API over a file of items: rustac, on loopback, for as long as a run lasts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Container, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import rustac
import shapely

from catalog.archives.fields.versions import as_utc
from catalog.archives.items import Dropped, name_item, read_items
from catalog.child_server import (
    ending_with_parent,
    free_port,
    reach_loopback_directly,
    wait_for_answer,
)
from catalog.errors import SearchError
from catalog.longitudes import as_geojson_has_it
from catalog.retrying import retry

START_SECONDS = 30.0
START_ATTEMPTS = 3  # a free port can be taken by another program before the server has it
STOP_SECONDS = 5.0
_served: set[str] = set()


@contextmanager
def stac_api(items_file: Path) -> Iterator[str]:
    """Serve an ItemCollection as a STAC API; yields its URL and stops it on leaving.

    Asset hrefs relative to the file become absolute. Collections are derived from the items. Items
    that cannot be served are left out; `refused_items` has them.

    Raises SearchError when the file is missing, no ItemCollection or without any valid item, or the
    server fails to start.
    """
    reach_loopback_directly()
    sound, refused = _load_items(items_file, _state_of(items_file))
    if refused and not sound:
        first = refused[0][1]
        raise SearchError(
            f"the catalog {items_file} has no valid item: {first.id} {first.reason}",
            url=str(items_file),
        )
    names = {item["collection"] for item in sound} | {name for name, _ in refused if name}
    served = {"type": "FeatureCollection", "features": sound}
    with tempfile.TemporaryDirectory(prefix="stac-api-") as folder:
        files = []
        for number, content in enumerate([*map(_collection, sorted(names)), served]):
            files.append(Path(folder, f"{number}.json"))
            files[-1].write_text(json.dumps(content))
        server, url = _start(files, items_file)
        _served.add(url)
        try:
            yield url
        finally:
            _served.discard(url)
            server.terminate()
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def serves(api_url: str) -> bool:
    """Whether this process serves a file of items there: whoever wrote it wrote on this machine."""
    return api_url in _served


def refused_items(items_file: Path, collections: Container[str]) -> tuple[Dropped, ...]:
    """The items that `stac_api` leaves out, of these collections or without any."""
    _, refused = _load_items(items_file, _state_of(items_file))
    return tuple(dropped for name, dropped in refused if name is None or name in collections)


def _state_of(items_file: Path) -> tuple[int, int] | None:
    """What is another when a file is; None where there is none, which reading it tells."""
    try:
        told = items_file.stat()
    except OSError:
        return None
    return told.st_mtime_ns, told.st_size


@lru_cache(maxsize=1)  # who serves a file asks for what is not served of it, too
def _load_items(
    items_file: Path, _state: tuple[int, int] | None
) -> tuple[list[dict[str, Any]], list[tuple[str | None, Dropped]]]:
    """The items of a file that can be served, hrefs absolute; the others with their collection."""
    sound: list[dict[str, Any]] = []
    refused: list[tuple[str | None, Dropped]] = []
    for number, item in enumerate(_read_features(items_file), start=1):
        served, fault = _prepare(item, items_file.resolve().parent)
        if served is not None:
            sound.append(served)
        else:
            name = item.get("collection") if isinstance(item, dict) else None
            known = name if isinstance(name, str) and name.isprintable() else None
            refused.append((known, Dropped(name_item(item, number), fault)))
    return sound, refused


def _read_features(items_file: Path) -> list[Any]:
    url = str(items_file)
    try:
        items = json.loads(items_file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SearchError(
            f"the catalog {url} cannot be read: {error.strerror or error}; give the address of a "
            "STAC API or the path of an ItemCollection JSON file",
            url=url,
        ) from error
    except ValueError as error:
        raise SearchError(f"the catalog {url} is not JSON: {error}", url=url) from error
    if not isinstance(items, dict) or not isinstance(items.get("features"), list):
        raise SearchError(
            f"the catalog {url} is not a STAC ItemCollection: it has no list `features`", url=url
        )
    return list(items["features"])


def _prepare(item: Any, folder: Path) -> tuple[dict[str, Any] | None, str]:
    """An item as it is served, or why it is not."""
    scenes, faults = read_items([item], str(folder))
    if faults:
        return None, faults[0].reason
    if not item.get("collection"):
        return None, "is no valid STAC item: its collection is missing"
    assets = {
        key: {**asset, "href": _absolute_href(asset["href"], folder)}
        for key, asset in item["assets"].items()
    }
    # A search by place finds no item without a geometry, and times have to have their zone. Links
    # point into the catalog the file was taken from; the API makes its own.
    outline, _ = as_geojson_has_it(scenes[0].footprint)
    told = {name: item["properties"].get(name) for name in ("datetime", "start_datetime")}
    times = {name: as_utc(text).isoformat() for name, text in told.items() if text}
    served = {
        **item,
        "type": "Feature",
        "geometry": item.get("geometry") or shapely.geometry.mapping(outline),
        "properties": {**item["properties"], **times},
        "assets": assets,
        "links": [],
    }
    try:
        # The server stops at the first item that it cannot read; this reads them as it does, NaN
        # and infinity apart.
        rustac.migrate(served)
        json.dumps(served, allow_nan=False)
    except (rustac.RustacError, ValueError) as error:
        return None, f"is no valid STAC item: it cannot be served ({error})"
    return served, ""


def _absolute_href(href: str, folder: Path) -> str:
    return href if urlsplit(href).scheme else str(folder / href)


def _collection(name: str) -> dict[str, Any]:
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": name,
        "description": f"Items of {name}",
        "license": "other",
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [[None, None]]},
        },
        "links": [],
    }


def _start(files: list[Path], items_file: Path) -> tuple[subprocess.Popen[bytes], str]:
    program = shutil.which("rustac", path=sysconfig.get_path("scripts")) or shutil.which("rustac")
    if program is None:
        raise SearchError(
            "the program rustac, which serves catalog files, is not installed beside this "
            "Python; reinstall tar-pipeline",
            url=str(items_file),
        )
    return retry(
        lambda: _start_once(program, files, items_file),
        lambda error: isinstance(error, SearchError),
        attempts=START_ATTEMPTS,
    )


def _start_once(
    program: str, files: list[Path], items_file: Path
) -> tuple[subprocess.Popen[bytes], str]:
    address = f"127.0.0.1:{free_port()}"
    log = files[0].with_name("server.log")
    with log.open("wb") as output:
        server = subprocess.Popen(
            ending_with_parent([program, "serve", *map(str, files), "--addr", address]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    if wait_for_answer(f"http://{address}/", server, START_SECONDS):
        return server, f"http://{address}"
    server.kill()
    server.wait()
    complaint = log.read_text(errors="replace").strip()[-500:]
    raise SearchError(
        f"the embedded STAC API for {items_file} did not start: {complaint or 'no message'}",
        url=str(items_file),
    )
