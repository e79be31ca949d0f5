"""A real STAC API over a file of items: rustac, on loopback, for as long as a run lasts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from catalog.child_server import ending_with_parent, free_port, wait_for_answer
from catalog.errors import SearchError
from catalog.retrying import retry

START_SECONDS = 30.0
START_ATTEMPTS = 3  # a free port can be taken by another program before the server has it
STOP_SECONDS = 5.0


@contextmanager
def stac_api(items_file: Path) -> Iterator[str]:
    """Serve an ItemCollection as a STAC API; yields its URL and stops it on leaving.

    Asset hrefs relative to the file become absolute. Collections are derived from the items.

    Raises SearchError when the file is missing or no ItemCollection, or the server fails to start.
    """
    items = load_items(items_file)
    with tempfile.TemporaryDirectory(prefix="stac-api-") as folder:
        files = []
        for number, content in enumerate([*_collections(items), items]):
            files.append(Path(folder, f"{number}.json"))
            files[-1].write_text(json.dumps(content))
        server, url = _start(files, items_file)
        try:
            yield url
        finally:
            server.terminate()
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def load_items(items_file: Path) -> dict[str, Any]:
    """An ItemCollection file as a dict, with every asset href absolute."""
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
    folder = items_file.resolve().parent
    features = [_absolute_hrefs(item, folder, url) for item in items["features"]]
    return {"type": "FeatureCollection", "features": features}


def _absolute_hrefs(item: Any, folder: Path, url: str) -> dict[str, Any]:
    required = ("id", "collection", "geometry", "properties", "assets")
    missing = [key for key in required if not (isinstance(item, Mapping) and key in item)]
    if missing:
        name = item.get("id", "without id") if isinstance(item, Mapping) else "that is no object"
        raise SearchError(f"the catalog {url} has an item {name} without {missing[0]}", url=url)
    try:
        assets = {
            key: {**asset, "href": _absolute_href(asset["href"], folder)}
            for key, asset in item["assets"].items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise SearchError(
            f"the catalog {url} has an item {item['id']} with an asset without href", url=url
        ) from error
    # Links point into the catalog the file was taken from; the API makes its own.
    return {**item, "assets": assets, "links": []}


def _absolute_href(href: str, folder: Path) -> str:
    return href if urlsplit(href).scheme else str(folder / href)


def _collections(items: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = sorted({item["collection"] for item in items["features"]})
    return [
        {
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
        for name in names
    ]


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
