"""What several test files share and what is dear to make."""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from flows.cli.terminal import prepare_prefect
from tests.support.prefect_home import prepare_home

if TYPE_CHECKING:
    from distributed import Client

    from flows.cli.demo_region import DemoRegion
    from tests.support.object_store import Swift
    from tests.support.regions import DemoRun


# How long an example takes says nothing here: other tests run beside it.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


def pytest_configure() -> None:
    """Prefect as a laptop has it, its embedded server included, but with a home of its own.

    Prefect reads its settings when it is imported, so this comes before any test module.
    """
    os.environ.pop("PREFECT_API_URL", None)
    os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="prefect-home-")
    prepare_prefect()
    prepare_home(Path(os.environ["PREFECT_HOME"]))


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["PREFECT_HOME"], ignore_errors=True)


@pytest.fixture(scope="session")
def small_region(tmp_path_factory: pytest.TempPathFactory) -> DemoRegion:
    """A drawn region of 400 px: two optical granules, two SAR frames, one granule too early."""
    from flows.cli.demo_region import write_region

    return write_region(tmp_path_factory.mktemp("region"), size_px=400, seed=3)


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> DemoRun:
    """A whole region, run once for all that only read what a run leaves.

    And for all processes of pytest-xdist: the first that needs it makes it, the others wait.
    """
    from tests.support.regions import DemoRun, run_small_demo

    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "demo"
    folder.mkdir(exist_ok=True)
    told = folder / "run.pickle"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not told.exists():
            told.write_bytes(pickle.dumps(run_small_demo(folder)))
    run = pickle.loads(told.read_bytes())
    assert isinstance(run, DemoRun)
    return run


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """A local cluster of one worker; `client.scheduler.address` is what `--scheduler` takes."""
    from flows.cluster.workers import cluster

    with cluster(workers=1) as workers:
        yield workers.client


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    """A real object store on loopback; `aws_environment(swift.environment())` leads to it."""
    from tests.support.object_store import serve_swift

    with serve_swift(tmp_path_factory.mktemp("swift")) as server:
        yield server
