"""`tar-pipeline serve`: a real Prefect server and worker, asked over REST."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import catalog
from flows.cli.demo_region import DemoRegion
from flows.cli.main import main
from flows.plan.request import RegionRequest
from flows.report.figures.metrics import OPEN_METRICS
from flows.service.automations import renew_automations
from tests.support.browser import needs_chromium, page_text
from tests.support.service import RunningService, served


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, small_region: DemoRegion
) -> Iterator[RunningService]:
    with served(tmp_path_factory.mktemp("service"), small_region) as running:
        running.let_nights_start(False)
        yield running


def test_both_deployments_are_there(service: RunningService) -> None:
    nightly, on_demand = service.deployment("nightly"), service.deployment("on-demand")
    assert nightly["entrypoint"] == "flows.service.nightly.nightly"
    assert nightly["schedules"][0]["schedule"]["timezone"] == "Europe/Rome"
    assert Path(nightly["parameters"]["regions_file"]).is_absolute()
    assert on_demand["enforce_parameter_schema"]
    form = form_of(on_demand)
    assert all(field["description"] for field in form.values())
    assert form["dry_run"]["default"] is True
    assert form["request.start"]["format"] == "date"


def test_the_automations_are_there(service: RunningService) -> None:
    (ending,) = service.api("POST", "/automations/filter", {}).json()
    assert ending["name"] == "runs without a sign of life"
    assert ending["enabled"]
    assert [action["state"] for action in ending["actions"]] == ["CRASHED"]
    file = service.output.with_name("automations.yaml")
    renew_automations(file, SyncPrefectClient(f"{service.url}/api"))
    assert service.api("POST", "/automations/filter", {}).json() == [ending]


def test_every_field_of_a_request_is_in_the_form(service: RunningService) -> None:
    fields = {f"request.{name}" for name in RegionRequest.model_fields}
    form = form_of(service.deployment("on-demand"))
    assert form.keys() == fields | {"dry_run"}
    for name, field in RegionRequest.model_fields.items():
        shown = form[f"request.{name}"]
        assert shown["description"] == field.description
        # What may stay empty says what stands in for it; no one has to choose between types.
        assert field.is_required() or "default" in shown or "(default: " in shown["description"]
        assert "anyOf" not in shown


def form_of(deployment: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The fields of a deployment's form, those of the request by their path."""
    schema = deployment["parameter_openapi_schema"]
    of_request = schema["definitions"]["RegionRequest"]["properties"]
    assert schema["properties"].keys() == {"request", "dry_run"}
    return {
        "dry_run": schema["properties"]["dry_run"],
        **{f"request.{name}": field for name, field in of_request.items()},
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bbox", {"west": 200, "south": 46, "east": 12, "north": 47}),
        ("bbox", {"west": 11, "south": 46, "east": 12}),
        ("provider", "nasa"),
        ("region", "No Name"),
        ("resolution", 0),
        ("max_offset_px", 257),
        ("weights", 5),
        ("tiles", 3),
        ("max_cloud_cover", -1),
        ("store", ""),
        ("scheduler", "http://nowhere"),
        ("start", None),
        ("catalog", "https://me:S3CRET@stac.example.org"),
    ],
)
def test_bad_parameters_are_refused_with_the_field(
    service: RunningService, field: str, value: object
) -> None:
    answer = service.create(**{field: value})
    assert answer.status_code == 409
    assert field in answer.json()["detail"]
    assert "S3CRET" not in service.output.read_text() + service.server_log.read_text()


def test_a_dry_run_plans_and_writes_nothing(service: RunningService) -> None:
    """Two runs side by side: one is right, one has days in the wrong order."""
    dry = service.create().json()["id"]
    wrong = service.create(start="2024-06-20").json()["id"]
    state = service.ended(dry)
    assert state["type"] == "COMPLETED"
    assert "pairs: 4, days: 1, of which to do: 1" in state["message"]
    assert not service.store.exists()
    artifacts = service.artifacts(dry)
    assert artifacts.keys() == {"workload", "plan"}
    numbers = artifacts["workload"]["data"]
    assert "3 optical, 2 SAR" in numbers
    assert "4 scenes" in numbers
    assert "(measured)" in numbers
    assert "(default: a granule of" in numbers
    state = service.ended(wrong)
    assert state["type"] == "FAILED"
    assert "end: 2024-06-15 is before start 2024-06-20" in state["message"]


def test_figures_of_the_regions_are_served_to_prometheus(service: RunningService) -> None:
    asked = httpx.get(f"{service.metrics_url}/metrics", headers={"Accept": OPEN_METRICS})
    assert asked.headers["content-type"].startswith("application/openmetrics-text")
    families = text_string_to_metric_families(asked.text)
    told = {sample.name: sample for family in families for sample in family.samples}
    assert told["tar_region_readable"].value == 1
    assert told["tar_region_days"].labels == {"region": "night"}


@pytest.mark.faults
def test_the_cron_starts_a_run_by_itself_and_it_publishes(service: RunningService) -> None:
    deployment = service.deployment("nightly")["id"]
    service.let_nights_start(True)

    def runs() -> list[str]:
        found = service.ask(
            "/flow_runs/filter",
            deployments={"id": {"any_": [deployment]}},
            flow_runs={"state": {"type": {"any_": ["RUNNING", "COMPLETED", "FAILED"]}}},
            sort="EXPECTED_START_TIME_ASC",
        )
        return [str(run["id"]) for run in found if run["auto_scheduled"]]

    first = service.wait(runs, "nightly run")[0]
    service.let_nights_start(False)
    state = service.ended(first)
    assert (state["type"], state["message"]) == (
        "COMPLETED",
        "regions: 1, 2024-06-01 to 2024-06-15",
    )
    mosaic = catalog.open_mosaic(str(service.store.with_name("nightly") / "night"))
    assert mosaic.sizes["time"] == 2  # nights make the days of SAR passes too


@pytest.mark.faults
def test_two_runs_of_one_region_take_turns(service: RunningService) -> None:
    ids = [service.create(region="twice", dry_run=False).json()["id"] for _ in range(2)]
    states = [service.ended(run_id) for run_id in ids]
    assert [state["type"] for state in states] == ["COMPLETED"] * 2
    told = sorted(state["message"].partition(":")[0] for state in states)
    assert told == ["nothing to do", "registered"]
    waited = ["another run works on region twice" in service.logs(run_id) for run_id in ids]
    assert sorted(waited) == [False, True]
    assert len(list((service.store / "twice" / "slots").rglob("*.zarr"))) == 1
    assert catalog.open_mosaic(str(service.store / "twice")).sizes["time"] == 1


@pytest.mark.faults
def test_a_killed_run_holds_its_region_no_longer_than_its_lease(service: RunningService) -> None:
    def slots() -> int:
        limits = service.ask("/v2/concurrency_limits/filter", limit=200)
        return sum(x["active_slots"] for x in limits if x["name"].startswith("region killed"))

    killed = service.create(region="killed", dry_run=False).json()["id"]
    service.wait(slots, "lease")
    pid = int(service.run(killed)["infrastructure_pid"].rpartition(":")[2])
    family = psutil.Process(pid)
    for process in [*family.children(recursive=True), family]:
        process.kill()
    second = service.create(region="killed", dry_run=False).json()["id"]
    assert service.ended(killed)["type"] == "CRASHED"
    state = service.ended(second)
    assert state["type"] == "COMPLETED"
    assert "another run works on region killed" in service.logs(second)
    assert slots() == 0
    assert catalog.open_mosaic(str(service.store / "killed")).sizes["time"] == 1


@needs_chromium
def test_the_form_has_every_field_and_its_help(service: RunningService, tmp_path: Path) -> None:
    deployment = service.deployment("on-demand")
    url = f"{service.url}/deployments/deployment/{deployment['id']}/run"
    text = page_text(url, tmp_path)
    for name, field in form_of(deployment).items():
        assert f"{name.removeprefix('request.')} " in text
        assert " ".join(field["description"].split()) in text
    assert "west south east north" in text
    assert "earth-search planetary-computer copernicus stac" in text  # a choice, not to type into
    assert 'type "None"' not in text  # nor is anyone asked whether a field has a value
    assert "Submit" in text


@needs_chromium
def test_a_finished_run_shows_its_artifacts(service: RunningService, tmp_path: Path) -> None:
    """A dry run in every suite; with the full fault table, one that registered as well."""
    finished = service.ask(
        "/flow_runs/filter",
        deployments={"name": {"any_": ["on-demand"]}},
        flow_runs={"state": {"type": {"any_": ["COMPLETED"]}}},
    )
    registered = [r["id"] for r in finished if r["state"]["message"].startswith("registered")]
    for run in finished:
        page = page_text(f"{service.url}/v2/runs/flow-run/{run['id']}?tab=Artifacts", tmp_path)
        assert "Completed" in page
        assert "-workload" in page
        assert "-plan" in page
        if run["id"] in registered:
            assert all(f"-{name}" in page for name in ("progress", "result", "preview"))
            progress = service.artifacts(run["id"])["progress"]["id"]
            assert "Progress: 100%" in page_text(
                f"{service.url}/artifacts/artifact/{progress}", tmp_path
            )
    assert finished


def test_a_taken_port_and_a_wrong_file_are_told_before_anything_starts(
    service: RunningService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = service.url.rpartition(":")[2]
    regions = str(service.output.with_name("regions.yaml"))
    assert main(["serve", "--port", port, "--regions", regions]) == 2
    assert f"port: 127.0.0.1:{port} cannot be served" in capsys.readouterr().err
    assert main(["serve", "--regions", str(tmp_path / "no.yaml")]) == 2
    assert "regions: there is no file" in capsys.readouterr().err


def test_the_service_stops_cleanly_when_it_is_asked_to(service: RunningService) -> None:
    """The last test of this file: it ends the service that the others use."""
    children = psutil.Process(service.process.pid).children(recursive=True)
    assert len(children) >= 2
    os.kill(service.process.pid, signal.SIGTERM)
    assert service.process.wait(60) == 0
    assert "Stopped." in service.output.read_text()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
