"""The addresses that the page asks: what is published, tiles, and a pixel through time.

Regions, days, layers and variables of an address are names that the store lists, or there is an
error that says so. A tile's address names the generation that it shows, so a browser may keep it
for good, and a day that is made again is another address.
"""

from __future__ import annotations

import logging
import socket
import threading
import warnings
from collections.abc import Awaitable, Callable
from functools import lru_cache
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path as File
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from rasterio.errors import NotGeoreferencedWarning
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from catalog.errors import ArgumentError, CatalogError
from flows.cluster.heap import share_heaps
from flows.view.chunks import Chunks
from flows.view.days import Day, Published, scenes_of
from flows.view.layers import Layer, layers_of
from flows.view.pixel import read_series
from flows.view.tiles import MOST_ZOOM, draw_tile

logger = logging.getLogger(__name__)

PAGE = File(__file__).with_name("page")
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
TILES_AT_ONCE = 2  # of a hundred megabytes each, at worst
DAYS_REMEMBERED = 64
FOR_GOOD = "public, max-age=31536000, immutable"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

Name = Annotated[str, Path(max_length=200)]
Zoom = Annotated[int, Path(ge=0, le=MOST_ZOOM)]


def listen_at(host: str, port: int) -> socket.socket:
    """A place where browsers find the page; port 0 is any that is free. Raises ArgumentError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise ArgumentError(
            f"port: {host}:{port} cannot be served: {why}", argument="port"
        ) from error


def serve_view(published: Published, listening: socket.socket) -> None:
    """Answer until it is asked to stop."""
    share_heaps()
    # Of copies in memory. rio-tiler silences it too, by `catch_warnings`, which is not for threads.
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    host = listening.getsockname()[0]
    app = view_app(published, hosts=LOOPBACK if ip_address(host).is_loopback else ("*",))
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, ws="none", lifespan="off", server_header=False,
        timeout_graceful_shutdown=2,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listening])


def view_app(published: Published, hosts: tuple[str, ...] = LOOPBACK) -> FastAPI:
    """The page and all it asks, for browsers that address one of `hosts`."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    chunks, turns = Chunks(), threading.BoundedSemaphore(TILES_AT_ONCE)

    @lru_cache(maxsize=DAYS_REMEMBERED)
    def layers(day: Day) -> dict[str, Layer]:
        return {layer.name: layer for layer in layers_of(day)}

    @app.get("/api/store")
    def store() -> dict[str, Any]:
        slots = {name: published.slots(name) for name in published.names()}
        told = [{"name": name, "days": days} for name, days in slots.items() if days]
        return {"regions": told, "version": version("tar-pipeline")}

    @app.get("/api/regions/{region}/days/{slot}")
    def day(region: Name, slot: Name) -> dict[str, Any]:
        shown = _listed(published, region, slot)
        west, south, east, north = shown.level(1).lattice.lonlat_extent().bounds
        return {
            "region": region,
            "day": slot,
            "generation": shown.generation,
            "bounds": [west, south, east, north],
            "layers": [layer.told() for layer in layers(shown).values()],
            "scenes": {sensor: scenes_of(shown, sensor) for sensor in ("optical", "sar")},
        }

    @app.get("/api/regions/{region}/days/{slot}/{generation}/{layer}/{zoom}/{column}/{row}.png")
    def tile(
        region: Name, slot: Name, generation: Name, layer: Name, zoom: Zoom, column: int, row: int
    ) -> Response:
        published.region_url(region)
        if not (0 <= column < 2**zoom and 0 <= row < 2**zoom):
            raise ArgumentError("tile: there is none of that column and row", argument="tile")
        shown = published.day(region, slot, generation)
        with turns:
            drawn = draw_tile(chunks, shown, _named(layers(shown), layer), (zoom, column, row))
        return Response(drawn, media_type="image/png", headers={"Cache-Control": FOR_GOOD})

    @app.get("/api/regions/{region}/days/{slot}/pixel")
    def pixel(
        region: Name, slot: Name, variables: Annotated[str, Query(max_length=500)],
        first: Annotated[str, Query(max_length=10)], last: Annotated[str, Query(max_length=10)],
        lon: Annotated[float, Query(ge=-180, le=180)], lat: Annotated[float, Query(ge=-90, le=90)],
    ) -> dict[str, Any]:  # fmt: skip
        shown = _listed(published, region, slot)
        names = tuple(dict.fromkeys(variables.split(",")))
        with turns:
            return read_series(published, shown, (lon, lat), names, (first, last))

    @app.exception_handler(CatalogError)
    def refuse(_request: Request, error: CatalogError) -> JSONResponse:
        wrong = isinstance(error, ArgumentError)
        if not wrong:
            logger.warning("%s", error)
        return JSONResponse({"error": str(error)}, 404 if wrong else 502)

    @app.middleware("http")
    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await go_on(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers.setdefault("Cache-Control", "no-cache")
        return response

    app.add_middleware(GZipMiddleware, minimum_size=2000)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


def _listed(published: Published, region: str, slot: str) -> Day:
    """A day that the store lists, and no other name."""
    if slot not in published.slots(region):
        raise ArgumentError(f"day: {region} has none published named {slot!r}", argument="day")
    return published.newest(region, slot)


def _named(layers: dict[str, Layer], name: str) -> Layer:
    if name not in layers:
        raise ArgumentError(f"layer: there is none named {name!r}", argument="layer")
    return layers[name]
