"""A whole run in a real object store: COGs, mosaic, items and reports in S3, and S3 failing.

The short sample is a drawn region through a proxy that fails one request of fourteen. The full
rows, on real scenes, are long: `make faults` runs them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

import catalog
from catalog import objects
from catalog.errors import StoreError
from flows.cli.demo_region import DemoRegion
from flows.cli.main import main
from flows.plan.request import RegionRequest
from flows.register_region import register_region
from tests.support.faulty_proxy import Faults, faulty_proxy
from tests.support.object_store import (
    Swift,
    aws_environment,
    contents,
    new_bucket,
    put_scenes,
)
from tests.support.prefect_home import prepare_home
from tests.support.regions import request_of
from tests.support.scenes import REAL_ITEMS, needs_real_data

TOLD = ("report.json", "metrics.prom")  # they tell of seconds and of where the store is


@dataclass(frozen=True)
class Finished:
    """What a run in a process of its own left: its store, what it said, and its Prefect home."""

    store: str
    said: str
    home: Path
    seconds: float
    catalog: Path


def run_in_process(request: RegionRequest, folder: Path) -> Finished:
    """`tar-pipeline run` with everything logged, in this process's AWS environment."""
    home = folder / "prefect"
    prepare_home(home)
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "DEBUG",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "catalog,flows,s3fs,rasterio,distributed",
        "DASK_LOGGING__DISTRIBUTED": "debug",
    }
    words = [sys.executable, "-m", "flows.cli.main", "run"]
    for name in ("catalog", "optical", "sar", "start", "end", "store", "region"):
        words += [f"--{name}", str(getattr(request, name))]
    words += ["--bbox", *map(str, request.bbox)]
    started = time.monotonic()
    process = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    said = process.stdout + process.stderr
    assert process.returncode == 0, said[-4000:]
    seconds = time.monotonic() - started
    return Finished(request.store, said, home, seconds, Path(request.catalog))


def mosaic_bytes(store: str, region: str) -> dict[str, bytes]:
    """Every object of a region except what tells of a run's time and place."""
    return {
        name: content
        for name, content in contents(f"{store}/{region}").items()
        if not name.endswith(TOLD) and not name.startswith("cube/")  # which has random names
    }


def assert_same_bytes(first: dict[str, bytes], second: dict[str, bytes]) -> None:
    assert first.keys() == second.keys()
    assert not [name for name in first if first[name] != second[name]]
    assert any(".zarr/" in name for name in first)


@pytest.fixture(scope="module")
def faults() -> Faults:
    return Faults(errors=0.05, drops=0.02, latency_s=0.01, seed=4)


@pytest.fixture(scope="module")
def aws(swift: Swift, faults: Faults) -> Iterator[None]:
    with (
        faulty_proxy(swift.address, faults) as address,
        aws_environment(swift.environment(address)),
    ):
        yield


@pytest.fixture(scope="module")
def finished(
    aws: None, small_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    """The drawn region, from COGs in S3 to a mosaic in S3, through the failing proxy."""
    assert aws is None
    folder = tmp_path_factory.mktemp("s3-run")
    moved = put_scenes(small_region.catalog, new_bucket(), folder)
    request = request_of(small_region, f"{new_bucket()}/all", catalog=str(moved))
    return run_in_process(request, folder)


def test_a_failing_object_store_gets_the_bytes_of_a_local_run(
    finished: Finished, faults: Faults, small_region: DemoRegion, tmp_path: Path, client: Client
) -> None:
    assert faults.counts["500"] + faults.counts["503"] > 0
    register_region(request_of(small_region, tmp_path, scheduler=client.scheduler.address))
    assert_same_bytes(mosaic_bytes(finished.store, "demo"), mosaic_bytes(str(tmp_path), "demo"))
    mosaic = catalog.open_mosaic(f"{finished.store}/demo")
    assert float((mosaic["quality"] == 1).mean()) > 0.95


def test_secrets_stay_in_the_environment(finished: Finished, swift: Swift) -> None:
    written = contents(finished.store)
    assert {"demo/report.json", "demo/preview.png"} <= written.keys()
    kept = {str(path): path.read_bytes() for path in finished.home.rglob("*") if path.is_file()}
    assert any(name.endswith(".db") for name in kept)  # parameters, logs and artifacts
    assert b"register-region" in b"".join(kept.values())
    everything = {**written, **kept, "output": finished.said.encode()}
    assert "DEBUG" in finished.said
    assert not [name for name, content in everything.items() if swift.secret.encode() in content]


def test_a_rerun_in_s3_has_nothing_to_do(
    finished: Finished, small_region: DemoRegion, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(finished.store)
    request = request_of(small_region, finished.store, catalog=str(finished.catalog))
    assert register_region(request).report.status == "nothing to do"
    assert contents(finished.store) == before
    assert main(["status", finished.store, "--json", "-"]) == 0
    slot, memory, cost = json.loads(capsys.readouterr().out)
    assert memory["memory"].startswith(("ascending-", "descending-"))
    assert cost["objects"] == len(before)
    assert cost["bytes"] == sum(map(len, before.values()))
    assert slot["published"]
    assert (slot["pairs"], slot["refused"]) == (4, [])
    assert slot["pixels"]["registered"] > 0.95
    assert main(["verify", finished.store]) == 0


def test_a_store_that_is_down_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catalog.aws.ATTEMPTS", 2)
    gone = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_REGION": "us-east-1"}
    gone |= {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "S3CRET"}
    with aws_environment(gone):
        with pytest.raises(StoreError, match="s3://mosaics"):
            objects.names("s3://mosaics")
        assert main(["status", "s3://mosaics"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("tar-pipeline: error: cannot list s3://mosaics")
    assert told.count("\n") == 1
    assert "S3CRET" not in told


def all_real_scenes(items: Path, store: str) -> RegionRequest:
    """The 9 + 18 scenes around Los Angeles as one region."""
    return RegionRequest.of(
        catalog=str(items), store=store, region="los-angeles", optical="sentinel-2-visual",
        sar="sentinel-1-grd-vh", bbox=(-118.432, 33.710, -117.803, 34.094), start="2020-11-01",
        end="2020-11-30",
    )  # fmt: skip


@pytest.fixture(scope="module")
def local_run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """All real scenes from this disk to this disk."""
    folder = tmp_path_factory.mktemp("local")
    return run_in_process(all_real_scenes(REAL_ITEMS, str(folder / "store")), folder)


def print_row(what: str, found: str) -> None:
    """One line of the fault table."""
    print(f"\n| {what} | {found} |")


@needs_real_data
@pytest.mark.real_data
@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("what", "plan"),
    [
        ("27 scenes from COGs in S3 into S3", Faults()),
        (
            "27 scenes, 5 % answered 500 or 503, 2 % dropped, 200 ms",
            Faults(errors=0.05, drops=0.02, latency_s=0.2, seed=1),
        ),
    ],
)
def test_all_real_scenes_in_s3_are_the_local_mosaic(
    what: str, plan: Faults, local_run: Finished, swift: Swift, tmp_path: Path
) -> None:
    with (
        faulty_proxy(swift.address, plan) as address,
        aws_environment(swift.environment(address)),
    ):
        with aws_environment(swift.environment()):  # what is prepared is not what is tested
            moved, bucket = put_scenes(REAL_ITEMS, new_bucket(), tmp_path), new_bucket()
        run = run_in_process(all_real_scenes(moved, bucket), tmp_path)
        with aws_environment(swift.environment()):
            remote = mosaic_bytes(bucket, "los-angeles")
            report: dict[str, Any] = json.loads(
                objects.get(f"{bucket}/los-angeles/report.json") or b""
            )
            everything = [*contents(bucket).values(), run.said.encode()]
    assert_same_bytes(remote, mosaic_bytes(local_run.store, "los-angeles"))
    assert len(report["pairs"]) >= 27
    everything += [path.read_bytes() for path in run.home.rglob("*") if path.is_file()]
    leaks = sum(swift.secret.encode() in content for content in everything)
    assert leaks == 0
    size = sum(map(len, remote.values())) / 2**20
    print_row(
        what,
        f"{len(remote)} objects, {size:.0f} MiB, bit for bit the local run's; {run.seconds:.0f} s "
        f"(local {local_run.seconds:.0f} s); {plan.summary}; secrets found: {leaks}",
    )
