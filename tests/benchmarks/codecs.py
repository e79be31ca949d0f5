"""How pixels could be stored: bytes and seconds by type, codec, chunk and shard, on real mosaics.

    .venv/bin/python -m tests.benchmarks.codecs STORE/REGION [STORE/REGION ...]

The first day of each region is read by `open_mosaic`; what the tables hold is then encoded and
decoded by zarr in memory, so seconds are those of codecs, and bytes fetched those that a reader of
an object store would wait for. Decibels are rounded where linear users would have to undo them:
they stand here to be compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from affine import Affine
from odc.geo.geobox import GeoBox
from zarr.abc.store import ByteRequest
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import MemoryStore

import catalog
from catalog.grid import Lattice
from catalog.store.layout import COMPRESSORS, overview_factors
from catalog.store.schema import is_flag

Pixels = npt.NDArray[Any]
CODECS: dict[str, Any] = {
    "zstd 1": ZstdCodec(level=1),
    "zstd 3": ZstdCodec(level=3),
    "zstd 9": ZstdCodec(level=9),
    "blosc zstd 1, bytes": BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", blocksize=2**20),
    "blosc zstd 3, bytes": BloscCodec(cname="zstd", clevel=3, shuffle="shuffle", blocksize=2**20),
    "blosc zstd 5, bytes": BloscCodec(cname="zstd", clevel=5, shuffle="shuffle", blocksize=2**20),
    "as stored": COMPRESSORS,
    "blosc zstd 3, bits": BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
}
ARRANGEMENTS: tuple[tuple[int, int | None], ...] = (
    (512, None), (1024, None), (2048, None), (256, 1024), (256, 2048), (512, 2048),
)  # fmt: skip
DAYS, WINDOW_PX = 50, 256
GRANULE_PX, VARIABLES = 10980, 13


class CountingStore(MemoryStore):
    """A store in memory that counts what is fetched from it."""

    requests = fetched = 0

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """As any store, and counted."""
        found = await super().get(key, prototype, byte_range)
        self.requests, self.fetched = self.requests + 1, self.fetched + len(found or b"")
        return found


def main() -> None:
    """Print both tables for every region."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("regions", nargs="+")
    for url in parser.parse_args().regions:
        mosaic = catalog.open_mosaic(url).isel(time=0)
        names = [str(name) for name, each in mosaic.items() if not is_flag(each)]
        measured = {name: mosaic[name].values for name in names}
        print(f"\n{url}, {' x '.join(str(side) for side in mosaic['dx'].shape)} px")
        print_types(measured)
        print_arrangements(measured)


def print_types(measured: dict[str, Pixels]) -> None:
    """Bytes, and seconds to encode and to decode, of one variable of each kind."""
    print("\n| variable | type | largest error | codec | MB | encode, s | decode, s |")
    print("|---|---|---|---|---|---|---|")
    for name in ("red", "vh", "dx", "expected_error"):
        values = measured[name]
        for kind, (encode, error) in types_of(name, values).items():
            stored = encode(values)
            for codec in CODECS:
                if codec not in ("zstd 3", "blosc zstd 3, bytes") and not is_favourite(kind):
                    continue
                size, encode_s, decode_s = weigh(stored, codec)
                print(
                    f"| {name} | {kind} | {error} | {codec} | {size / 1e6:.2f} "
                    f"| {encode_s:.2f} | {decode_s:.2f} |",
                    flush=True,
                )


def is_reflectance(values: Pixels) -> bool:
    """Or else grey levels of 8 bits."""
    return bool(np.nanmax(values) < 10)


def is_favourite(kind: str) -> bool:
    """Whether a type is tried with every codec."""
    return kind in ("uint16, 1/10000", "uint16, 1/16", "float32, 7 bits", "int16, 1/64")


def types_of(name: str, values: Pixels) -> dict[str, tuple[Callable[[Pixels], Pixels], str]]:
    """Ways to store a variable, each with the error it makes."""
    plain = {"float32": (lambda values: values, "0")}
    if name == "red" and is_reflectance(values):
        return plain | {"uint16, 1/10000": (grid(np.uint16, 1e-4, -0.1), "0 where native")}
    if name == "red":
        return plain | {
            "uint16, 1/16": (grid(np.uint16, 1 / 16, 0.0), "0 where native"),
            "uint16, 1/2": (grid(np.uint16, 1 / 2, 0.0), "0 where native"),
        }
    if name == "vh":
        return plain | {
            "float32, 7 bits": (rounded_bits(7), "0.017 dB"),
            "float32, 6 bits": (rounded_bits(6), "0.034 dB"),
            "float32, 7 bits or 1/32": (rounded_both, "0.017 dB, linear or decibel"),
            "int16, 0.04 dB": (decibels(0.04), "0.02 dB"),
        }
    return plain | {
        "int16, 1/64": (grid(np.int16, 1 / 64, 0.0), "0.008 px"),
        "int16, 1/100": (grid(np.int16, 1 / 100, 0.0), "0.005 px"),
    }


def grid(dtype: type, scale: float, offset: float) -> Callable[[Pixels], Pixels]:
    """Rounded to whole multiples of `scale` from `offset` on; the lowest number for no data."""

    def encode(values: Pixels) -> Pixels:
        limits = np.iinfo(dtype)
        whole = np.clip(np.rint((values - offset) / scale), limits.min + 1, limits.max)
        return np.where(np.isfinite(values), whole, limits.min).astype(dtype)

    return encode


def decibels(step: float) -> Callable[[Pixels], Pixels]:
    """Power in decibels, rounded."""
    to_grid = grid(np.int16, step, 0.0)

    def encode(values: Pixels) -> Pixels:
        return to_grid(10 * np.log10(np.maximum(values, 1e-5)))

    return encode


def rounded_bits(kept: int) -> Callable[[Pixels], Pixels]:
    """Floats whose mantissas keep so many bits."""

    def encode(values: Pixels) -> Pixels:
        bits = values.view(np.uint32)
        half = np.uint32(1 << (22 - kept))
        cut = (bits + half) & ~np.uint32((1 << (23 - kept)) - 1)
        return np.where(np.isfinite(values), cut.view(np.float32), np.float32(np.nan))

    return encode


def rounded_both(values: Pixels) -> Pixels:
    """To 7 bits or to 1/32, whichever is finer."""
    _, exponent = np.frexp(values)
    step = np.ldexp(np.float32(1), np.minimum(exponent - 8, -5)).astype(np.float32)
    return (np.rint(values / step) * step).astype(np.float32)


def weigh(stored: Pixels, codec: str) -> tuple[int, float, float]:
    """Bytes, and processor seconds to encode and to decode."""
    store = CountingStore()
    array = created(store, stored, codec, 2048, None)
    started = time.process_time()
    array[...] = stored
    encode_s = time.process_time() - started
    started = time.process_time()
    array[...]
    decode_s = time.process_time() - started
    return size_of(store), encode_s, decode_s


def print_arrangements(measured: dict[str, Pixels]) -> None:
    """Chunks and shards: bytes, objects of a granule, and what readers wait for."""
    name = "red"
    scale, offset = (1e-4, -0.1) if is_reflectance(measured[name]) else (1 / 16, 0.0)
    stored = grid(np.uint16, scale, offset)(measured[name])
    print(
        f"\n{name} as uint16 by blosc zstd 3\n\n| chunk | shard | MB | objects, granule "
        f"| window of {WINDOW_PX} px, ms and MB | all at half the resolution, ms "
        f"| a pixel through {DAYS} days, ms and MB |\n|---|---|---|---|---|---|---|"
    )
    middle = stored.shape[0] // 2 - 300
    window = np.s_[middle : middle + WINDOW_PX, middle : middle + WINDOW_PX]
    for chunk, shard in ARRANGEMENTS:
        store, half = CountingStore(), CountingStore()
        array = created(store, stored, "blosc zstd 3, bytes", chunk, shard)
        array[...] = stored
        smaller = created(half, stored[::2, ::2].copy(), "blosc zstd 3, bytes", chunk, shard)
        smaller[...] = stored[::2, ::2]
        size = size_of(store)
        window_ms, window_bytes = fetch(array, store, window)
        whole_ms, _ = fetch(smaller, half, np.s_[:, :])
        pixel_ms, pixel_bytes = fetch(array, store, np.s_[middle, middle])
        print(
            f"| {chunk} | {shard or '-'} | {size / 1e6:.2f} | {granule_objects(shard or chunk)} "
            f"| {window_ms:.0f}, {window_bytes / 1e6:.2f} | {whole_ms:.0f} "
            f"| {DAYS * pixel_ms:.0f}, {DAYS * pixel_bytes / 1e6:.1f} |",
            flush=True,
        )


def granule_objects(side: int) -> int:
    """Of the pixels of a granule and its overviews."""
    factors = overview_factors(Lattice(GeoBox((GRANULE_PX, GRANULE_PX), Affine.scale(10), 32632)))
    levels = [-(-GRANULE_PX // factor) for factor in (1, *factors)]
    return sum((-(-level // side)) ** 2 for level in levels) * VARIABLES


def fetch(array: zarr.Array[Any], store: CountingStore, part: Any) -> tuple[float, int]:
    """Milliseconds and bytes of one read, the median time of five."""
    times = []
    before = store.fetched
    for _ in range(5):
        started = time.perf_counter()
        array[part]
        times.append(time.perf_counter() - started)
    return 1000 * sorted(times)[2], (store.fetched - before) // 5


def created(
    store: CountingStore, like: Pixels, codec: str, chunk: int, shard: int | None
) -> zarr.Array[Any]:
    """An empty array of the shape and type of another."""
    return zarr.create_array(
        store, shape=like.shape, dtype=like.dtype, chunks=(chunk, chunk),
        shards=None if shard is None else (shard, shard), compressors=CODECS[codec], fill_value=0,
    )  # fmt: skip


def size_of(store: CountingStore) -> int:
    """Bytes of all chunks."""
    return sum(len(value) for key, value in store._store_dict.items() if "zarr.json" not in key)


if __name__ == "__main__":
    main()
