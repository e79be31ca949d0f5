"""Files as a stranger may serve them under the name of a raster, or of an annotation, by a seed."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint

BOMB = (
    '<!DOCTYPE p [<!ENTITY a "aaaaaaaaaa">'
    + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]><product>&i;</product>"
)


def hostile_rasters(
    folder: Path, sound: Sequence[Path], secret: str, count: int, seed: int
) -> list[Path]:
    """So many files, each kind by turns."""
    draw = random.Random(seed)
    kinds: Sequence[Callable[[Path, Path, str, random.Random], None]] = (
        _truncated, _flipped_at_its_head, _flipped, _list_of_files, _declared, _of_zeros,
        _other_content, _picture, _jp2, _odd_numbers,
    )  # fmt: skip
    made = []
    for number in range(count):
        path = folder / f"hostile-{number}{draw.choice(('.tif', '.jp2', '.png', ''))}"
        kinds[number % len(kinds)](path, draw.choice(list(sound)), secret, draw)
        made.append(path)
    return made


def hostile_annotations(folder: Path, secret: str) -> list[Path]:
    """XML that grows, leads to other files, is deep or large, or tells of what nobody can hold."""
    entity = f'<!DOCTYPE p [<!ENTITY x SYSTEM "file://{secret}">]><product>&x;</product>'
    other = f'<!DOCTYPE p SYSTEM "file://{secret}"><product/>'
    lines = "<product><numberOfLines>9999999999</numberOfLines></product>"
    contents = (
        BOMB, entity, other, lines, "<a>" * 200_000, f"<product>{'<a/>' * 1_000_000}</product>",
        '<?xml version="1.0" encoding="UTF-7"?><product/>', "", "\x00" * 1000,
        "<product><pixel>" + "1 " * 1_000_000 + "</pixel></product>",
    )  # fmt: skip
    made = []
    for number, content in enumerate(contents):
        made.append(folder / f"hostile-{number}.xml")
        made[-1].write_text(content)
    return made


def write_in_radar_geometry(path: Path, bbox: tuple[float, float, float, float]) -> None:
    """A raster that control points place on a box, as annotations are read for."""
    west, south, east, north = bbox
    side, wide, high = 400, east - west, north - south
    points = [
        GroundControlPoint(row * side, column * side, west + column * wide, north - row * high, 0.0)
        for row in (0.0, 0.5, 1.0)
        for column in (0.0, 0.5, 1.0)
    ]
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=1, dtype="uint16",
        gcps=points, crs="EPSG:4326",
    ) as target:  # fmt: skip
        target.write(np.full((1, side, side), 77, np.uint16))


def _truncated(path: Path, sound: Path, _secret: str, draw: random.Random) -> None:
    content = sound.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def _flipped_at_its_head(path: Path, sound: Path, _secret: str, draw: random.Random) -> None:
    """Where a TIFF tells of its sizes, places and kinds."""
    content = bytearray(sound.read_bytes())
    for _ in range(draw.randint(1, 40)):
        content[draw.randrange(4, min(2000, len(content)))] = draw.randrange(256)
    path.write_bytes(content)


def _flipped(path: Path, sound: Path, _secret: str, draw: random.Random) -> None:
    content = bytearray(sound.read_bytes())
    for _ in range(draw.randint(1, 400)):
        content[draw.randrange(len(content))] = draw.randrange(256)
    path.write_bytes(content)


def _list_of_files(path: Path, _sound: Path, secret: str, draw: random.Random) -> None:
    """Formats that only name others."""
    band = (
        f'<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename>{secret}'
        "</SourceFilename></SimpleSource></VRTRasterBand>"
    )
    path.write_text(
        draw.choice(
            (
                f'<VRTDataset rasterXSize="64" rasterYSize="64">{band}</VRTDataset>',
                f"<GDAL_WMS><Service name='TMS'><ServerUrl>file://{secret}</ServerUrl></Service></GDAL_WMS>",
                f"<GDALTileIndexDataset><IndexDataset>{secret}</IndexDataset></GDALTileIndexDataset>",
                f"#EXTM3U\n{secret}\n",
                f"ENVI\nfile = {secret}\n",
            )
        )
    )


def _declared(path: Path, sound: Path, _secret: str, draw: random.Random) -> None:
    """Kilobytes that tell of what nobody has memory for."""
    shape = draw.choice(
        (
            {
                "width": 10**6,
                "height": 10**6,
                "tiled": True,
                "blockxsize": 2**16,
                "blockysize": 2**16,
            },
            {
                "width": 2**17,
                "height": 2**17,
                "tiled": True,
                "blockxsize": 2**15,
                "blockysize": 2**15,
            },
            {"width": 40_000, "height": 40_000, "blockysize": 40_000},
            {"width": 10**6, "height": 16, "blockysize": 16},
            {
                "width": 2**17,
                "height": 2**17,
                "tiled": True,
                "blockxsize": 4096,
                "blockysize": 4096,
            },
            {"width": 64, "height": 64, "count": 5000},
        )
    )
    _write(path, sound, None, BIGTIFF="YES", SPARSE_OK="TRUE", **shape)


def _block(side: int) -> dict[str, int]:
    return {"blockxsize": side, "blockysize": side}


def _of_zeros(path: Path, sound: Path, _secret: str, draw: random.Random) -> None:
    """Packed a thousand times smaller, in blocks as large as they may be, or larger."""
    side = draw.choice((2048, 4096, 8192))
    values = np.zeros((1, side, side), draw.choice(("uint16", "float32", "uint8")))
    _write(path, sound, values, tiled=True, zlevel=9, **_block(side))


def _other_content(path: Path, sound: Path, _secret: str, draw: random.Random) -> None:
    content = draw.choice(
        (
            b"", b"II*\x00", b"II+\x00\x08\x00\x00\x00", b"<html><script>alert(1)</script></html>",
            BOMB.encode(), draw.randbytes(5000), zlib.compress(bytes(10**7)),
            b"PK\x03\x04" + bytes(100),
            b"\x89HDF\r\n\x1a\n" + draw.randbytes(2000), b"CDF\x01" + draw.randbytes(2000),
            b"II*\x00\x08\x00\x00\x00" + b"\xff" * 3000, sound.read_bytes() * 2,
        )
    )  # fmt: skip
    path.write_bytes(content)


def _picture(path: Path, _sound: Path, _secret: str, draw: random.Random) -> None:
    """A PNG, interlaced or not, that tells of more pixels than it has."""
    side = draw.choice((1000, 30_000, 2**20))
    told = struct.pack(">IIBBBBB", side, side, 16, 2, 0, 0, draw.randint(0, 1))
    chunks = ((b"IHDR", told), (b"IDAT", zlib.compress(bytes(10_000))), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks
        )
    )


def _jp2(path: Path, sound: Path, _secret: str, draw: random.Random) -> None:
    """JPEG 2000, sound but for some bytes; one in three tells of another size."""
    values = np.full((1, 256, 256), 7, np.uint16)
    _write(path, sound, values, driver="JP2OpenJPEG", REVERSIBLE="YES", QUALITY="100")
    content = bytearray(path.read_bytes())
    size = content.find(b"\xff\x51")  # the marker of the image's and its tiles' size
    if draw.random() < 0.3 and size > 0:
        big = struct.pack(">I", draw.choice((2**15, 2**20, 2**31 - 1)))
        content[size + 6 : size + 14] = big * 2
        content[size + 22 : size + 30] = big * 2
    else:
        for _ in range(draw.randint(1, 40)):
            content[draw.randrange(12, len(content))] = draw.randrange(256)
    path.write_bytes(content)


def _odd_numbers(path: Path, sound: Path, _secret: str, draw: random.Random) -> None:
    values = np.full((1, 256, 256), draw.choice((np.nan, np.inf, -np.inf, 3e38, 1e-40, 0.0)), "f4")
    odd = draw.choice((0.0, 1e-300, 1e300, -10.0))
    _write(
        path, sound, values, transform=Affine(odd, 0, draw.choice((0.0, 1e300, 5e5)), 0, odd, 1e12),
        nodata=draw.choice((None, float("nan"), 7.0, -1e38)),
    )  # fmt: skip


def _write(path: Path, sound: Path, values: Any, **profile: Any) -> None:
    """A raster in the place of a sound one, unless its profile says otherwise."""
    with rasterio.open(sound) as source:
        placed = {"crs": source.crs, "transform": source.transform}
    if values is not None:
        count, height, width = values.shape
        profile |= {"count": count, "height": height, "width": width, "dtype": values.dtype}
    told = {"driver": "GTiff", "count": 1, "dtype": "uint16", **placed, **profile}
    if told["driver"] == "GTiff":
        told.setdefault("compress", "deflate")
    with rasterio.open(path, "w", **told) as target:
        if values is not None:
            target.write(values)
