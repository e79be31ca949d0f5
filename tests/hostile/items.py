"""Items as a stranger may write them: each a sound one with something hostile in it, by a seed."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Item = dict[str, Any]
LONG = 10_000
TEXTS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a\nb\r\nc",
    "../../../../etc/cron.d/x",
    "..\\..\\x",
    "x" * LONG,
    "\x1b[2J\x1b]0;owned\x07\x1b[31m",
    "\x9b2J",
    "[bold red]markup[/] [link=http://127.0.0.2]x[/link] [/nothing]",
    "`code` | table | [a](http://127.0.0.2) ![b](http://127.0.0.2/i.png)",
    "\u202egnp.exe",
    "\ud800",
    "a\x00b",
    "{region} %s %(x)s ${HOME} $(id)",
    "con/../nul",
    "",
    " ",
)


@dataclass(frozen=True)
class Places:
    """Where hostile items lead: servers by their address, and a folder that nobody may read."""

    everybodys: str
    """Sends on to whatever its path says after /to/."""
    inside: str
    secret: str
    """Path of a sound raster on the machine that reads."""

    @property
    def hrefs(self) -> tuple[str, ...]:
        to, secret = f"{self.everybodys}/to/", self.secret
        vrt = f"<VRTDataset><SourceFilename>{secret}</SourceFilename></VRTDataset>"
        return (
            secret, f"file://{secret}", f"file:{secret}", f"FILE://{secret}",
            f"file://localhost{secret}",
            "../" * 20 + secret.lstrip("/"), f"/vsicurl/{self.inside}/a.tif", f"/vsizip/{secret}",
            f"/vsisubfile/0_100,{secret}", "/vsistdin/", "/dev/zero", "/dev/stdin",
            "/etc/hostname",
            f"GTIFF_DIR:1:{secret}", f'NETCDF:"{secret}":x', f"HDF5:{secret}://x", f"zip://{secret}!a",
            f"tar://{secret}", f"{self.everybodys}/list.vrt", vrt, f"vrt://{secret}",
            f"{self.inside}/a.tif", f"{to}{self.inside}/a.tif", f"{to}{to}{self.inside}/a.tif",
            f"{to}file://{secret}", f"{to}{secret}", f"{to}ftp://127.0.0.2/a.tif",
            f"{to}gopher://127.0.0.2:1/", f"{self.everybodys}/to/{self.everybodys}/loop",
            "http://169.254.169.254/latest/meta-data/", "http://[::1]/a.tif", "http://0/a.tif",
            "http://2130706434/a.tif", "http://localhost./a.tif", "http:///a.tif", "http://[/a.tif",
            "https://user:pass@127.0.0.2/a.tif", "ftp://127.0.0.2/a.tif", "s3:///a.tif",
            "data:image/tiff;base64,AAAA", "javascript:alert(1)", "\\\\server\\share\\a.tif",
            *TEXTS,
        )  # fmt: skip


def hostile_items(sound: Sequence[Item], places: Places, count: int, seed: int) -> list[Any]:
    """So many items, each kind by turns, of which every one has a time of its own."""
    draw = random.Random(seed)
    kinds: Sequence[Callable[[Item, Places, random.Random], Any]] = (
        _leads_elsewhere, _beside_it, _odd_text, _odd_place, _any_json, _odd_numbers,
    )  # fmt: skip
    made = []
    for number in range(count):
        item = at_another_time(draw.choice(sound), number)
        made.append(kinds[number % len(kinds)](item, places, draw))
    return made


def at_another_time(item: Item, number: int) -> Item:
    """A copy that is another acquisition than its neighbours in number."""
    minutes, seconds = divmod(20 * number, 60)
    changed = copy.deepcopy(item)
    day = item["properties"]["datetime"][:10]
    hour = 6 + minutes // 60
    changed["properties"]["datetime"] = f"{day}T{hour:02d}:{minutes % 60:02d}:{seconds:02d}Z"
    changed["id"] = f"{item['id']}-{number}"
    return changed


def _leads_elsewhere(item: Item, places: Places, draw: random.Random) -> Item:
    draw.choice(list(item["assets"].values()))["href"] = draw.choice(places.hrefs)
    if draw.random() < 0.3:
        item["links"] = [{"rel": "self", "href": draw.choice(places.hrefs)}]
    return item


def _beside_it(item: Item, places: Places, draw: random.Random) -> Item:
    """Sidecars and masks, which are read too."""
    for key in ("schema-product-vh", "schema-calibration-vh", "schema-noise-vh", "scl", "visual"):
        if draw.random() < 0.7:
            href = draw.choice(places.hrefs)
            item["assets"][key] = {"href": href, "type": "image/tiff", "roles": ["data"]}
    return item


def _odd_text(item: Item, _places: Places, draw: random.Random) -> Item:
    text = draw.choice(TEXTS)
    where = draw.choice(("id", "properties", "assets", "bands", "title"))
    if where == "id":
        item["id"] = text + item["id"] if draw.random() < 0.7 else text
    elif where == "properties":
        item["properties"][draw.choice(("platform", "sat:orbit_state", "datetime"))] = text
    elif where == "assets":
        key = draw.choice(list(item["assets"]))
        item["assets"][text] = item["assets"].pop(key)
    elif where == "bands":
        for asset in item["assets"].values():
            asset["bands"] = [{"name": text, "eo:common_name": text}]
    else:
        item["properties"]["title"] = item["assets"]["title"] = text
    return item


def _odd_place(item: Item, _places: Places, draw: random.Random) -> Item:
    many = [[draw.uniform(-180, 180), draw.uniform(-90, 90)] for _ in range(20_000)]
    deep: Any = [0, 0]
    for _ in range(300):
        deep = [deep]
    rings = (
        [[*many, many[0]]], deep, [[[0, 0], [0, 0], [0, 0], [0, 0]]], [], [[]], [[[]]],
        [[[-1e9, 0], [1e9, 0], [0, 1e9], [-1e9, 0]]],
        [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]],
        [[[0, 0], [1, 1], [0, 1], [1, 0], [0, 0]]], [[["a", "b"]]],
    )  # fmt: skip
    item["geometry"] = {
        "type": draw.choice(("Polygon", "MultiPolygon")),
        "coordinates": draw.choice(rings),
    }
    return item


def _odd_numbers(item: Item, _places: Places, draw: random.Random) -> Item:
    number = draw.choice((float("nan"), float("inf"), -1e300, 10**400, 0, -1, 2**63, 1e-320))
    asset = draw.choice([each for each in item["assets"].values() if isinstance(each, dict)])
    field = draw.choice(("raster:scale", "raster:offset", "nodata", "file:size", "proj:transform"))
    asset[field] = [number] * 6 if field == "proj:transform" else number
    if draw.random() < 0.5:
        item["properties"]["eo:cloud_cover"] = number
    return item


def _any_json(item: Item, _places: Places, draw: random.Random) -> Any:
    """One to four values anywhere gone, or of another kind."""
    values = (None, [], {}, 7, -0.5, True, "x", [[]], {"x": [1]}, "\ud800", 10**400)
    for _ in range(draw.randint(1, 4)):
        inner: Any = item
        while True:
            keys = list(inner) if isinstance(inner, Mapping) else list(range(len(inner)))
            if not keys:
                break
            key = draw.choice(keys)
            if isinstance(inner[key], dict | list) and inner[key] and draw.random() < 0.8:
                inner = inner[key]
                continue
            inner[key] = draw.choice(values)
            break
    return item if draw.random() < 0.95 else draw.choice(values)
