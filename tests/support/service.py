"""`tar-pipeline serve` as its users run it: a process, spoken to over Prefect's REST API."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml

from catalog.child_server import free_port
from catalog.retrying import ATTEMPTS
from flows.cli.demo_region import OPTICAL_COLLECTION, SAR_COLLECTION, DemoRegion
from flows.plan.request import EDGES
from tests.support.prefect_home import prepare_home

ROOT = Path(__file__).resolve().parents[2]
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
PATIENCE_SECONDS = 240
T = TypeVar("T")


@dataclass(frozen=True)
class RunningService:
    """A served pipeline; its nightly has one region, `night`, and its cron fires every minute."""

    url: str
    process: subprocess.Popen[bytes]
    output: Path
    region: DemoRegion
    store: Path
    metrics_url: str
    password: str | None = None
    """Of Prefect's API, as user:password."""

    @property
    def server_log(self) -> Path:
        """The words of the Prefect server itself, which people do not see."""
        return self.output.parent / "home" / "tar-pipeline-server.log"

    def api(self, method: str, path: str, body: Any = None) -> httpx.Response:
        user, _, password = (self.password or "").partition(":")
        login = (user, password) if self.password else None
        return httpx.request(method, f"{self.url}/api{path}", json=body, timeout=30, auth=login)

    def ask(self, path: str, **body: Any) -> Any:
        """The JSON that a POST (with a body) or a GET answers."""
        answer = self.api("POST" if body else "GET", path, body or None)
        answer.raise_for_status()
        return answer.json()

    def deployment(self, name: str) -> dict[str, Any]:
        (found,) = self.ask("/deployments/filter", deployments={"name": {"any_": [name]}})
        return dict(found)

    def request(self, **changes: Any) -> dict[str, Any]:
        """What a person would type into the form for the drawn region."""
        return {
            "region": "demo",
            "bbox": dict(zip(EDGES, self.region.bbox, strict=True)),
            "start": self.region.start, "end": self.region.end,
            "catalog": str(self.region.catalog), "store": str(self.store),
            "optical": OPTICAL_COLLECTION, "sar": SAR_COLLECTION,
            **changes,
        }  # fmt: skip

    def create(self, dry_run: Any = True, **changes: Any) -> httpx.Response:
        """Create an on-demand run, as the form's Submit does; again while the server is at fault,
        whose SQLite may be locked for a moment."""
        deployment = self.deployment("on-demand")["id"]
        parameters = {"request": self.request(**changes), "dry_run": dry_run}
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        for _ in range(ATTEMPTS):
            answer = self.api("POST", f"/deployments/{deployment}/create_flow_run", body)
            if answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                break
            time.sleep(1)
        return answer

    def let_nights_start(self, go: bool) -> None:
        """Whether the cron starts runs; each takes as much of the machine as one that is asked."""
        deployment = self.deployment("nightly")["id"]
        self.api("PATCH", f"/deployments/{deployment}", {"paused": not go})

    def run(self, run_id: str) -> dict[str, Any]:
        return dict(self.ask(f"/flow_runs/{run_id}"))

    def ended(self, run_id: str) -> dict[str, Any]:
        """The final state of a run, waited for."""
        self.wait(lambda: self.run(run_id)["state_type"] in ENDED, f"the end of run {run_id}")
        return dict(self.run(run_id)["state"])

    def logs(self, run_id: str) -> str:
        found = self.ask("/logs/filter", logs={"flow_run_id": {"any_": [run_id]}})
        return "\n".join(log["message"] for log in found)

    def artifacts(self, run_id: str) -> dict[str, dict[str, Any]]:
        """Those of a run, by key without the region's name."""
        found = self.ask("/artifacts/filter", artifacts={"flow_run_id": {"any_": [run_id]}})
        return {a["key"].partition("-")[2]: a for a in found if a["key"]}

    def wait(self, ready: Callable[[], T], what: str) -> T:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"the service ended: {self.output.read_text()}"
            if found := ready():
                return found
            time.sleep(0.5)
        raise AssertionError(
            f"no {what} in {PATIENCE_SECONDS} s: {self.output.read_text()[-3000:]}"
        )


@contextmanager
def served(
    folder: Path, region: DemoRegion, host: str = "127.0.0.1", password: str | None = None
) -> Iterator[RunningService]:
    """The service for the length of the block, with a home of its own."""
    (folder / "regions.yaml").write_text(yaml.safe_dump(_regions(folder, region)))
    (folder / "prefect.yaml").write_text(yaml.safe_dump(_deployments(region)))
    (folder / "automations.yaml").write_text(yaml.safe_dump(_automations()))
    prepare_home(folder / "home")
    ports = free_port(), free_port()
    service = start_service(folder, region, ports, host, password)
    try:
        yield service
    finally:
        stop(service)


def start_service(
    folder: Path,
    region: DemoRegion,
    ports: tuple[int, int],
    host: str = "127.0.0.1",
    password: str | None = None,
) -> RunningService:
    """The service of a folder in which its files lie, once it is there."""
    output = folder / "output.txt"
    home = {"PREFECT_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    if password is not None:
        home["PREFECT_SERVER_API_AUTH_STRING"] = password
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli.main", "serve", "--port", str(ports[0]),
             "--regions", str(folder / "regions.yaml"),
             "--prefect-file", str(folder / "prefect.yaml"), "--metrics-port", str(ports[1]),
             "--host", host],
            env=os.environ | home | {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"},
            cwd=folder, stdout=file, stderr=file,
        )  # fmt: skip
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    service = RunningService(urls[0], process, output, region, folder / "store", urls[1], password)
    try:
        service.wait(lambda: "Prefect UI" in output.read_text(), "UI")
    except BaseException:
        stop(service)
        raise
    return service


def started_again(service: RunningService) -> RunningService:
    """The same service once more, after its end: same files, same home, same addresses."""
    ports = [int(url.rpartition(":")[2]) for url in (service.url, service.metrics_url)]
    return start_service(service.output.parent, service.region, (ports[0], ports[1]))


def stop(service: RunningService) -> None:
    """Ask it to end, and see to it."""
    service.process.send_signal(signal.SIGTERM)
    try:
        service.process.wait(60)
    finally:
        service.process.kill()


def _regions(folder: Path, region: DemoRegion) -> dict[str, Any]:
    return {
        "defaults": {"catalog": str(region.catalog), "store": str(folder / "nightly")},
        "regions": [
            {"name": "night", "bbox": list(region.bbox), "optical": OPTICAL_COLLECTION,
             "sar": SAR_COLLECTION}
        ],
    }  # fmt: skip


def _deployments(region: DemoRegion) -> dict[str, Any]:
    """The repository's own, but for a night every minute and the days of the drawn scenes."""
    content = yaml.safe_load((ROOT / "infra" / "prefect.yaml").read_text())
    nightly = next(each for each in content["deployments"] if each["name"] == "nightly")
    nightly["parameters"] |= {"until": region.end, "days_back": 14}
    nightly["schedules"][0]["cron"] = "* * * * *"
    return dict(content)


def _automations() -> dict[str, Any]:
    """The repository's own, but for a shorter patience."""
    content = yaml.safe_load((ROOT / "infra" / "automations.yaml").read_text())
    content["automations"][0]["trigger"]["within"] = 90
    return dict(content)
