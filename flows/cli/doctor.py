"""What this machine offers to a run, and what that means for one."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import psutil
import requests
import torch
from dask.utils import parse_bytes
from prefect.settings import get_current_settings

from catalog import aws
from catalog.archives.providers import PROVIDERS
from catalog.errors import ApiError, ArgumentError, without_secrets
from catalog.sentinel1.geoid import EGM2008, undulation_of
from catalog.signing import require_package
from catalog.stac_api.connection import Credentials
from flows.cli.terminal import count
from flows.cluster.workers import WORKER_MEMORY, count_workers
from flows.plan.places import nearest_folder
from tar_engine.errors import WeightsError
from tar_engine.network.weights import load_checkpoint

GIB = 2**30
DRIVER_BYTES = 1 * GIB
LEAST_FREE_BYTES = 2 * GIB  # of a disk: a granule's mosaic is 1.1 GB
ANSWER_SECONDS = 5

Grade = Literal["good", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One thing about this machine. `grade`: "wrong" is what a run cannot do without."""

    what: str
    found: str
    means: str
    grade: Grade = "good"


def examine(store: str | None = None) -> Iterator[Finding]:
    """Everything worth knowing before a run, in the order of how often it is what is amiss."""
    yield _programs()
    yield _engine()
    yield _processors()
    yield _memory()
    yield from _folders(store)
    yield _prefect()
    yield from _credentials()
    yield _geoid()
    yield from _archives()


def _programs() -> Finding:
    python = ".".join(map(str, sys.version_info[:3]))
    found = f"Python {python}, tar-pipeline {version('tar-pipeline')}, torch {torch.__version__}"
    return Finding("programs", found, "")


def _engine() -> Finding:
    try:
        checkpoint = load_checkpoint(None)
    except WeightsError as error:
        return Finding("engine", str(error), "nothing can be matched: install it again", "wrong")
    return Finding("engine", f"weights {checkpoint.sha256[:12]}, their hash checked", "")


def _processors() -> Finding:
    cores = len(os.sched_getaffinity(0))
    if not torch.cuda.is_available():
        return Finding(
            "processors",
            f"{count(cores, 'CPU core')}, no GPU that PyTorch can use",
            "the CPU matches: about 0.6 s a tile and core, five minutes a whole Sentinel-2 scene",
        )
    names = ", ".join(
        f"{(gpu := torch.cuda.get_device_properties(index)).name} "
        f"({gpu.total_memory / GIB:.0f} GiB)"
        for index in range(torch.cuda.device_count())
    )
    return Finding("processors", f"{count(cores, 'CPU core')}, {names}", "each GPU matches")


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    workers = count_workers(None)
    needed = DRIVER_BYTES + workers * parse_bytes(WORKER_MEMORY)
    found = f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
    each = f"{count(workers, 'worker')} of at most {WORKER_MEMORY}"
    means = f"a run starts {each}: {needed / GIB:.0f} GiB with what starts them"
    if memory.available >= needed:
        return Finding("memory", found, means)
    return Finding("memory", found, f"{means}; workers may be ended in the middle", "note")


def _folders(store: str | None) -> Iterator[Finding]:
    home = get_current_settings().home
    places = [("temporary folder", Path(tempfile.gettempdir())), ("Prefect's home", home)]
    if store is not None and "://" not in store:
        places.append(("store", Path(store)))
    for what, folder in places:
        there = nearest_folder(folder)
        free = shutil.disk_usage(there).free
        found = f"{folder}, {free / GIB:.0f} GiB free"
        if not os.access(there, os.W_OK | os.X_OK):
            yield Finding(what, found, f"{there} is not writable: a run cannot start", "wrong")
        elif free < LEAST_FREE_BYTES:
            yield Finding(what, found, "a day of a whole scene is 1.1 GB: make room", "note")
        else:
            yield Finding(what, found, "")


def _prefect() -> Finding:
    url = get_current_settings().api.url
    if url is None:
        return Finding("Prefect", "none named", "each run starts one of its own, for itself")
    shown = without_secrets(url, url)
    fault = _fault_of(f"{url.rstrip('/')}/health")
    if fault is None:
        return Finding("Prefect", f"{shown} answers", "runs show there")
    means = "runs cannot start: start it, or unset PREFECT_API_URL"
    return Finding("Prefect", f"{shown}: {fault}", means, "wrong")


def _credentials() -> Iterator[Finding]:
    """Whether they are there, never what they are."""
    try:
        options = aws.GdalSession().get_credential_options()
        place = aws.endpoint() or "Amazon"
    except ArgumentError as error:
        yield Finding("object store", str(error), "s3:// cannot be used", "wrong")
        return
    has_keys = "AWS_ACCESS_KEY_ID" in options
    yield Finding(
        "object store",
        f"{place}, {'with' if has_keys else 'no'} credentials",
        "" if has_keys else "public files can be read there, and no store written",
        "good" if has_keys else "note",
    )
    yield _checked(
        "Copernicus Data Space", "credentials there", aws.CopernicusSession().get_credential_options
    )
    yield _stac_api()
    yield _checked("Planetary Computer", "its package is installed", require_package)


def _stac_api() -> Finding:
    try:
        host = Credentials("--stac-api").host
    except ApiError as error:
        return Finding("STAC API", "credentials that cannot be used", str(error), "note")
    if host:
        return Finding("STAC API", f"credentials for {host}", "")
    return Finding("STAC API", "no credentials", "--stac-api reaches only one that asks for none")


def _checked(what: str, found: str, check: Callable[[], object]) -> Finding:
    """What is found, unless the check that a run makes says why it is not to be had."""
    try:
        check()
    except ArgumentError as error:
        return Finding(what, "not to be had", str(error), "note")
    return Finding(what, found, "")


def _geoid() -> Finding:
    if undulation_of(EGM2008) is not None:
        return Finding("geoid", "PROJ has the grid of EGM2008", "")
    means = "GRD corrected by --dem lies up to 13 px off before it is registered: projsync it"
    return Finding("geoid", "PROJ has no grid of EGM2008", means, "note")


def _archives() -> Iterator[Finding]:
    known = [(each.name, each.api_url) for each in PROVIDERS.values() if each.api_url]
    with ThreadPoolExecutor(len(known)) as pool:
        faults = pool.map(_fault_of, [url for _, url in known])
    for (name, url), fault in zip(known, faults, strict=True):
        if fault is None:
            yield Finding(f"archive {name}", f"{url} answers", "")
        else:
            means = f"--provider {name} cannot be used from here"
            yield Finding(f"archive {name}", f"{url}: {fault}", means, "note")


def _fault_of(url: str) -> str | None:
    """Why nothing good answers there, in a few words."""
    try:
        answer = requests.get(url, timeout=ANSWER_SECONDS)
    except requests.Timeout:
        return f"no answer in {ANSWER_SECONDS} s"
    except requests.RequestException as error:
        return f"cannot be reached ({type(error).__name__})"
    return None if answer.ok else f"answers {answer.status_code}"
