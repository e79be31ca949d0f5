"""GDAL reaches everybody's files through the gate, and nothing inside by whatever way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from catalog import retrying
from catalog.archives.items import Scene, scene_from_item
from catalog.archives.providers import Access
from catalog.errors import SceneReadError
from catalog.outside import answers, gate
from catalog.pixels.rasters import read_asset
from catalog.sentinel1.annotation import AnnotationError, xml_of
from tests.support.loopback import answer, answer_part, serving
from tests.support.scenes import item, write_raster

pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2"])
INSIDE = "127.0.0.2"  # stands for what only this machine reaches; 127.0.0.1 for everybody's


@dataclass(frozen=True)
class Servers:
    """Two servers of one file: everybody's, and one inside; `asked` are the requests to that."""

    everybodys: str
    inside: str
    asked: list[str]


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    """Everybody's sends on to where the path of the address says, after /to/."""
    values = np.full((3, 64, 64), 7, np.uint16)
    body = write_raster(tmp_path / "a.tif", values).read_bytes()
    asked: list[str] = []
    for room in (gate, answers):
        monkeypatch.setattr(room, "is_public", lambda address: address == "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.server.server_address[0] == INSIDE:
                asked.append(self.path)
            if self.path.startswith("/to/"):
                answer(self, 302, b"", {"Location": self.path.removeprefix("/to/")})
            else:
                answer_part(self, body if self.path.endswith(".tif") else b"<product/>")

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ExitStack() as stack:
        hosts = [
            stack.enter_context(serving(ThreadingHTTPServer((address, 0), Handler)))
            for address in ("127.0.0.1", INSIDE)
        ]
        inside = hosts[1].replace("127.0.0.1", INSIDE)
        yield Servers(f"http://{hosts[0]}", f"http://{inside}", asked)


def scene_at(href: str) -> Scene:
    return scene_from_item(item("x", href), "https://api.example.org")


def first_value(scene: Scene) -> int:
    return int(read_asset(scene, scene.assets[0], lambda source: source.read(1)[0, 0]))


def test_everybodys_files_are_read_through_the_gate_and_nothing_inside(servers: Servers) -> None:
    there = scene_at(f"{servers.everybodys}/to/{servers.everybodys}/a.tif")
    assert first_value(there) == 7
    ways_inside = (
        f"{servers.inside}/a.tif",
        f"{servers.everybodys}/to/{servers.inside}/b.tif",
        f"{servers.everybodys}/to/{servers.everybodys}/to/{servers.inside}/c.tif",
        f"{servers.everybodys}/to/ftp://{servers.inside.removeprefix('http://')}/d.tif",
    )
    for href in ways_inside:
        with pytest.raises(SceneReadError, match=f"leads to {INSIDE}, which only this machine"):
            first_value(scene_at(href))
    assert not servers.asked


def test_what_may_lead_inside_does(servers: Servers) -> None:
    found = scene_at(f"{servers.everybodys}/to/{servers.inside}/e.tif")
    assets = tuple(replace(each, access=Access(inside=True)) for each in found.assets)
    assert first_value(replace(found, assets=assets)) == 7
    assert servers.asked


def test_a_list_of_hosts_without_a_proxy_leads_past_no_gate(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", INSIDE)
    gate._port.cache_clear()  # as in a new process
    with pytest.raises(SceneReadError, match="only this machine"):
        first_value(scene_at(f"{servers.everybodys}/to/{servers.inside}/f.tif"))
    assert not servers.asked


def test_a_name_is_looked_up_where_it_is_connected_to(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it does not matter what it meant a moment before."""
    port = servers.inside.rpartition(":")[2]
    monkeypatch.setattr(gate, "is_public", lambda _: False)
    for name in ("localhost", "127.2", "0x7f000002"):
        with pytest.raises(SceneReadError, match="only this machine"):
            first_value(scene_at(f"http://{name}:{port}/g.tif"))
    assert not servers.asked


def test_a_host_that_nobody_knows_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_WAIT_SECONDS", 0.0)
    with pytest.raises(SceneReadError, match=r"no\.such\.host\.invalid cannot be reached"):
        first_value(scene_at("http://no.such.host.invalid/a.tif"))


def test_small_files_lead_no_further(servers: Servers) -> None:
    assert xml_of(f"{servers.everybodys}/a.xml", Access()).tag == "product"
    for href in (f"{servers.inside}/a.xml", f"{servers.everybodys}/to/{servers.inside}/a.xml"):
        with pytest.raises(AnnotationError, match=r"leads to 127\.0\.0\.2"):
            xml_of(href, Access())
    assert not servers.asked
    assert xml_of(f"{servers.inside}/a.xml", Access(inside=True)).tag == "product"
