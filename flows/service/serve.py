"""`tar-pipeline serve`: Prefect server, work pool, worker and both deployments on one machine.

Each part is Prefect's own program, a process of its own. They end together: when one of them ends,
when this one is asked to, and by the kernel should this one be killed.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_SERVER_API_AUTH_STRING
from prometheus_client import start_http_server
from rich.console import Console

from catalog.child_server import ending_with_parent, wait_for_answer
from flows.plan.request import RequestError
from flows.report.figures.metrics import RegionFigures
from flows.service.alarms import check_addresses
from flows.service.automations import renew_automations
from flows.service.regions import ANY_DAY, Region, load_notify, load_regions

POOL = "regions"
START_SECONDS = 180.0  # the first start makes the database
STOP_SECONDS = 30.0  # runs that are going end with their worker, and the next run goes on
POLL_SECONDS = 0.2


class ServeError(RuntimeError):
    """A part of the service did not start, or ended by itself."""


class Stopped(BaseException):
    """SIGTERM or Ctrl-C: not an error, and nothing may swallow it."""


@dataclass(frozen=True)
class Service:
    """What to serve, and where."""

    host: str
    port: int
    runs: int
    """How many flow runs may go at once."""
    prefect_file: Path
    regions_file: Path
    metrics_port: int | None = None
    """Where Prometheus finds the regions' figures, on the same host; None for nowhere."""

    @property
    def url(self) -> str:
        """Of the UI, as this machine reaches it."""
        host = "127.0.0.1" if self.host == "0.0.0.0" else self.host
        return f"http://{host}:{self.port}"

    @property
    def is_exposed(self) -> bool:
        """Whether other machines may reach it."""
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"


def serve(service: Service, console: Console) -> None:
    """Start everything, tell where it is, and wait until it is asked to stop.

    Raises `RequestError` for files that are missing or wrong, `ServeError` when a part fails.
    """
    regions = load_regions(service.regions_file)
    if (notify := load_notify(service.regions_file)) is not None:
        check_addresses(notify)
    for port in (service.port, service.metrics_port):
        if port is not None:
            _check_port(service.host, port)
    password = PREFECT_SERVER_API_AUTH_STRING.value()
    if service.is_exposed:
        _warn_of_strangers(service, password, console)
    environment = _environment(service, password)
    log = _log_file()
    address = ("--host", service.host, "--port", str(service.port))
    work = ("--pool", POOL, "--type", "process", "--limit", str(service.runs))
    with _stop_signals(), _metrics(service, regions):
        try:
            with _program(("server", "start", *address), environment, log) as server:
                _wait_for(f"{service.url}/api/health", "server", server, log)
                with _program(("worker", "start", *work), environment) as worker:
                    pool = f"{service.url}/api/work_pools/{POOL}"
                    _wait_for(pool, "worker", worker, log, password)
                    _deploy(service, environment, password)
                    _print_addresses(service, console)
                    _wait_for_an_end({"server": server, "worker": worker}, log)
        except Stopped:
            console.print("Stopped. Runs that were going continue when they are started again.")


def _warn_of_strangers(service: Service, password: str | None, console: Console) -> None:
    """Prefect's server lets everybody do everything, unless it has a password."""
    if password is None:
        console.print(
            f"Warning: whoever reaches {service.host}:{service.port} can start runs, change and "
            "read everything there. Prefect asks for no password unless one is set: "
            "PREFECT_SERVER_API_AUTH_STRING=user:password.",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
    if service.metrics_port is not None:
        console.print(
            f"Warning: the figures on {service.host}:{service.metrics_port} are for whoever "
            "reaches them; they have no password.",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip


def _check_port(host: str, port: int) -> None:
    """Another server that answers there must not be taken for ours."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise RequestError(f"port: {host}:{port} cannot be served: {error.strerror}") from error


@contextmanager
def _metrics(service: Service, regions: Sequence[Region]) -> Iterator[None]:
    """The figures of the regions, for as long as the block, if they are asked for."""
    if service.metrics_port is None:
        yield
        return
    days = ANY_DAY, ANY_DAY  # of a request, the store and the name are wanted
    places = [(region.request(*days).store, region.name) for region in regions]
    server, thread = start_http_server(service.metrics_port, service.host, RegionFigures(places))
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _environment(service: Service, password: str | None) -> dict[str, str]:
    """Of Prefect's programs; what the user has set stays, but for how they find each other."""
    return {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "5",  # what is asked for by hand should start soon
        "DASK_LOGGING__DISTRIBUTED": "warning",
        # Kept in memory, the lease of a region would outlive a server that is started anew.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        **os.environ,
        "PREFECT_API_URL": f"{service.url}/api",
        **({} if password is None else {"PREFECT_API_AUTH_STRING": password}),
        "TAR_PIPELINE_REGIONS": str(service.regions_file.resolve()),
    }


@contextmanager
def _stop_signals() -> Iterator[None]:
    """SIGINT and SIGTERM raise `Stopped`, once; further ones do not disturb the shutdown."""

    def stop(number: int, _: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(signal.Signals(number).name)

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _log_file() -> Path:
    """Where the server's own words go."""
    folder = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "tar-pipeline-server.log"


@contextmanager
def _program(
    arguments: Sequence[str], environment: Mapping[str, str], log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """One of Prefect's programs for the length of the block; its output in `log`, or here.

    It gets a session of its own, so that Ctrl-C reaches this process alone and the order of the
    shutdown is ours.
    """
    output = log.open("wb") if log else None
    process = subprocess.Popen(
        ending_with_parent([sys.executable, "-m", "prefect", *arguments], signal.SIGTERM),
        env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if output:
            output.close()


def _deploy(service: Service, environment: Mapping[str, str], password: str | None) -> None:
    """`prefect deploy --all`, and the automations that lie beside its file, if there are any.

    Raises `ServeError` with the last words of the deployment.
    """
    automations = service.prefect_file.with_name("automations.yaml")
    if automations.exists():
        renew_automations(
            automations, SyncPrefectClient(f"{service.url}/api", auth_string=password)
        )
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all",
         "--prefect-file", str(service.prefect_file)],
        env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        words = " ".join((done.stderr.strip() or done.stdout.strip()).split())
        raise ServeError(f"the deployments of {service.prefect_file} were refused: {words[-600:]}")


def _wait_for(
    url: str, name: str, process: subprocess.Popen[bytes], log: Path, password: str | None = None
) -> None:
    """Until `url` answers, which is what this part of the service is started for."""
    headers = {}
    if password is not None:
        headers["Authorization"] = f"Basic {base64.b64encode(password.encode()).decode()}"
    if not wait_for_answer(url, process, START_SECONDS, headers):
        raise ServeError(
            f"the Prefect {name} did not start; the server's words: {_last_words(log)}"
        )


def _wait_for_an_end(parts: Mapping[str, subprocess.Popen[bytes]], log: Path) -> None:
    while True:
        for name, process in parts.items():
            if process.poll() is not None:
                raise ServeError(
                    f"the Prefect {name} ended by itself (exit code {process.returncode}); "
                    f"the server's last words: {_last_words(log)}"
                )
        time.sleep(POLL_SECONDS)


def _last_words(log: Path) -> str:
    return " ".join(log.read_text(errors="replace").split())[-600:] or "it said nothing"


def _print_addresses(service: Service, console: Console) -> None:
    metrics = (
        f"  metrics    http://{service.host}:{service.metrics_port}/metrics\n"
        if service.metrics_port is not None
        else ""
    )
    console.print(
        f"[bold]Prefect UI[/]   {service.url}\n"
        f"  nightly    {service.url}/deployments?name=nightly   every region of "
        f"{service.regions_file}\n"
        f"  on-demand  one region by hand: open it in the UI and choose Run\n"
        f"{metrics}"
        f"Ctrl-C stops server and worker.",
        highlight=False,
        soft_wrap=True,
    )
