"""A stranger's catalogue: hundreds of hostile items and files, planned and read, and watched.

The real planning and reading code in a process of its own, a real API and real servers on loopback.
The kernel tells which files were opened and where connections led.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flows.cli.demo_region import DemoRegion
from tests.hostile.files import (
    hostile_annotations,
    hostile_rasters,
    write_in_radar_geometry,
)
from tests.hostile.items import Places, at_another_time, hostile_items
from tests.support.loopback import answer, answer_part, serving
from tests.support.quirky_api import Quirks, quirky_api
from tests.support.regions import request_of

ROOT = Path(__file__).resolve().parents[2]
MOST_MIB = 1024
# What any Python opens, and GDAL, PROJ and a resolver.
OPENED_BY_ALL = (
    "/proc/", "/sys/", "/dev/null", "/dev/urandom", "/usr/", "/lib", "/etc/ld.so", "/etc/ssl/",
    "/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf",
    "/etc/localtime", "/etc/passwd", "/etc/mime.types", "/etc/services", "/etc/protocols",
)  # fmt: skip
ITEMS, FILES = 200, 100
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
needs_strace = pytest.mark.skipif(
    not shutil.which("strace"), reason="STRACE MISSING: nobody sees which files are opened"
)


@needs_strace
@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_strangers_catalogue_opens_nothing_here_and_costs_little(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    there, secret = _folders(small_region, tmp_path)
    with _servers(there) as (everybodys, inside, asked):
        places = Places(everybodys, inside, str(secret))
        catalogue = _catalogue(small_region, there, places, ITEMS, FILES)
        quirks = Quirks(page_size=100, matched=None, filters=True)
        with quirky_api(catalogue, quirks) as (url, _):
            found, opened, reached = _watched(small_region, tmp_path, url)
    run, cache = tmp_path / "run", Path.home() / ".cache"
    ours = (str(ROOT), sys.prefix, sys.base_prefix, str(run), str(cache))
    elsewhere = {path for path in opened if not path.startswith((*ours, *OPENED_BY_ALL))}
    assert not elsewhere
    assert reached <= {"127.0.0.1"}
    assert not asked
    assert found["peak_mib"] <= MOST_MIB
    assert found["read"]["read"] >= 5  # the sound ones among them
    told = re.sub(r"\x1b\[[0-9;]*m", "", found["told"])  # its own colours
    assert not CONTROL.search(told)
    print(
        f"\n{len(catalogue)} items of which {FILES} have hostile files: {found['scenes']}, read "
        f"{found['read']}, left out {len(found['left_out'])}; {len(opened)} files opened, peak "
        f"{found['peak_mib']:.0f} MiB ({found['before_mib']:.0f} before)"
    )


def _folders(region: DemoRegion, folder: Path) -> tuple[Path, Path]:
    """What a server shows, and a sound raster that it does not, for hostile items to name."""
    there, hidden = folder / "there", folder / "secret"
    hidden.mkdir()
    shutil.copytree(region.catalog.parent, there)
    shutil.copy(there / "S2-DEMO-WEST.tif", hidden / "secret.tif")
    (folder / "run").mkdir()
    return there, hidden / "secret.tif"


def _catalogue(
    region: DemoRegion, there: Path, places: Places, items: int, files: int
) -> list[Any]:
    """Sound items, hostile ones, and sound ones of hostile files, in one answer."""
    sound = json.loads(region.catalog.read_text())["features"]
    for item in sound:
        for asset in item["assets"].values():
            asset["href"] = f"{places.everybodys}/{Path(asset['href']).name}"
    tifs = sorted(there.glob("S*.tif"))
    rasters = hostile_rasters(there, tifs, places.secret, files, seed=1)
    annotations = hostile_annotations(there, places.secret)
    write_in_radar_geometry(there / "GRD.tif", region.bbox)
    radar = next(item for item in sound if "vh" in item["assets"])  # of one band, as the files
    of_files = []
    for number, path in enumerate(rasters):
        item = at_another_time(radar, 400 + number)
        item["assets"]["vh"]["href"] = f"{places.everybodys}/{path.name}"
        of_files.append(item)
    for number, path in enumerate(annotations):
        item = at_another_time(radar, 600 + number)
        item["assets"]["vh"]["href"] = f"{places.everybodys}/GRD.tif"
        for kind in ("product", "calibration", "noise"):
            item["assets"][f"schema-{kind}-vh"] = {"href": f"{places.everybodys}/{path.name}"}
        of_files.append(item)
    return [*sound, *hostile_items(sound, places, items, seed=2), *of_files]


@contextmanager
def _servers(there: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Everybody's server and one inside, and what that was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.server.server_address[0] != "127.0.0.1":
                asked.append(self.path)
            file = there / Path(self.path).name
            if self.path.startswith("/to/"):
                answer(self, 302, b"", {"Location": self.path.removeprefix("/to/")})
            elif file.is_file():
                answer_part(self, file.read_bytes())
            else:
                answer(self, 404, b"")

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ExitStack() as stack:
        ports = [
            stack.enter_context(serving(ThreadingHTTPServer((host, 0), Handler))).rpartition(":")[2]
            for host in ("127.0.0.1", "127.0.0.2")
        ]
        yield f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.2:{ports[1]}", asked


def _watched(
    region: DemoRegion, folder: Path, url: str
) -> tuple[dict[str, Any], set[str], set[str]]:
    """Plan and read a catalogue in a process; its findings, the files it opened, where it led."""
    run = folder / "run"
    request = request_of(region, run / "store", catalog=url)
    asked = {"request": request.model_dump(mode="json"), "findings": str(run / "findings.json")}
    (run / "asked.json").write_text(json.dumps(asked))
    done = subprocess.run(
        ["strace", "-f", "--seccomp-bpf", "-qq", "-s", "4096",
         "-e", "trace=open,openat,openat2,connect", "-e", "signal=none", "-o", str(run / "trace"),
         sys.executable, "-m", "tests.hostile.read_all", str(run / "asked.json")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    trace = (run / "trace").read_text(errors="replace")
    opened = set(re.findall(r'open(?:at2?)?\((?:AT_FDCWD, )?"([^"]+)".*\) = \d+', trace))
    reached = set(re.findall(r'sin_addr=inet_addr\("([^"]+)"\)', trace))
    return json.loads((run / "findings.json").read_text()), opened, reached
