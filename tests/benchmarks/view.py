"""What the map of a store takes: its first tile, tiles of everywhere, a pixel through all days.

    .venv/bin/python -m tests.benchmarks.granule --keep FOLDER
    .venv/bin/python -m tests.benchmarks.view FOLDER/store [--tiles 80]

`tar-pipeline view` runs in a process of its own and is asked as a browser asks it. Every tile of
the first table is the first of its zoom; the others are drawn at random from all of the region.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import psutil
from morecantile import Tile
from rio_tiler.constants import WEB_MERCATOR_TMS

CONNECTIONS = 6  # as many as a browser has to one host
MIB = 2**20


@dataclass
class View:
    """The command that serves the map, and its address."""

    process: psutil.Process
    address: str

    def ask(self, path: str) -> tuple[bytes, float, float]:
        """An answer, and how many seconds it took: of a clock, and of the server's CPU."""
        began, cpu = time.perf_counter(), self.cpu_s
        with urlopen(self.address + path) as answer:
            content = answer.read()
        return content, time.perf_counter() - began, self.cpu_s - cpu

    @property
    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)

    @property
    def resident_mib(self) -> float:
        return float(self.process.memory_info().rss / MIB)


def main() -> None:
    """Serve, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store")
    parser.add_argument("--tiles", type=int, default=80, help="so many from everywhere")
    args = parser.parse_args()
    with serving(args.store) as view:
        print(f"{'':32}{'s':>7}{'CPU s':>7}{'KiB':>7}{'MiB resident':>14}")
        tell(view, "started")
        store = tell_answer(view, "what is published", "api/store")
        region = store["regions"][0]
        base = f"api/regions/{quote(region['name'])}/days/{region['days'][-1]}"
        day = tell_answer(view, "the newest day, its legends", base)
        for layer in ("sar", "delivered", "optical", "quality"):
            name = next(each["name"] for each in day["layers"] if each["name"].startswith(layer))
            for zoom in (8, 10, 12, 14):
                tile = middle(day, zoom)
                place = f"{base}/{day['generation']}/{name}/{zoom}/{tile.x}/{tile.y}.png"
                content, wall_s, cpu_s = view.ask(place)
                tell(view, f"{name}, zoom {zoom}", wall_s, cpu_s, len(content))
        many(view, base, day, args.tiles)
        west, south, east, north = day["bounds"]
        span = f"first={region['days'][0]}&last={region['days'][-1]}"
        where = f"lon={(west + east) / 2}&lat={(south + north) / 2}"
        series = f"{base}/pixel?{where}&variables=dx,dy,quality&{span}"
        days = tell_answer(view, "a pixel, three variables", series)["days"]
        print(f"{len(days)} days")


@contextmanager
def serving(store: str) -> Iterator[View]:
    """The map of a store, until the block ends."""
    command = [sys.executable, "-m", "flows.cli.main", "view", store, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        found = re.match(r"(http://\S+)", server.stdout.readline())
        assert found
        try:
            yield View(psutil.Process(server.pid), found[1])
        finally:
            server.send_signal(signal.SIGINT)


def middle(day: dict[str, Any], zoom: int) -> Tile:
    """The tile in the middle of a day."""
    west, south, east, north = day["bounds"]
    tile: Tile = WEB_MERCATOR_TMS.tile((west + east) / 2, (south + north) / 2, zoom)
    return tile


def many(view: View, base: str, day: dict[str, Any], count: int) -> None:
    """Tiles of everywhere, several at once."""
    names = [each["name"] for each in day["layers"]]
    places = [
        f"{base}/{day['generation']}/{name}/{tile.z}/{tile.x}/{tile.y}.png"
        for tile in WEB_MERCATOR_TMS.tiles(*day["bounds"], [10, 11, 12])
        for name in names
    ]
    chosen = random.Random(0).sample(places, min(count, len(places)))
    began, cpu_s = time.perf_counter(), view.cpu_s
    with ThreadPoolExecutor(CONNECTIONS) as browser:
        size = sum(len(content) for content, _, _ in browser.map(view.ask, chosen))
    wall_s, cpu_s = time.perf_counter() - began, view.cpu_s - cpu_s
    tell(view, f"{len(chosen)} tiles of everywhere", wall_s, cpu_s, size)


def tell_answer(view: View, what: str, path: str) -> Any:
    """What an address answers, and a line about it."""
    content, wall_s, cpu_s = view.ask(path)
    tell(view, what, wall_s, cpu_s, len(content))
    return json.loads(content)


def tell(view: View, what: str, wall_s: float = 0, cpu_s: float = 0, size: int = 0) -> None:
    """A line of the table."""
    print(f"{what:32}{wall_s:7.2f}{cpu_s:7.2f}{size / 1024:7.0f}{view.resident_mib:14.0f}")


if __name__ == "__main__":
    main()
