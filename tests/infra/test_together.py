"""infra/ against itself and the programs it runs: commands exist, names and numbers agree."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import yaml
from dask.utils import parse_bytes
from distributed.cli.dask_scheduler import main as dask_scheduler
from distributed.cli.dask_worker import main as dask_worker
from prefect.cli import app as prefect

from flows.cli.main import main as tar_pipeline
from flows.cluster.workers import GPU, WORKER_SETTINGS
from tests.support.infra import (
    CONTAINERFILE,
    CONTAINERS,
    INFRA,
    KUSTOMIZATION,
    MANIFESTS,
    OURS,
    PODS,
    SERVICES,
    VERSION,
    terraform,
)

POOL = "regions"


def commands(program: str) -> dict[str, list[str]]:
    """Who runs `program …`, by service or pod; a shell script counts line by line."""
    found = {}
    for name, container in {**SERVICES, **CONTAINERS}.items():
        command = [str(word) for word in container.get("command", [])]
        script = command[2].splitlines() if command[:2] == ["sh", "-ec"] else []
        lines = [line.split() for line in script] or [command]
        for number, line in enumerate(lines):
            if " ".join(line).startswith(program):
                found[f"{name}/{number}"] = line[len(program.split()) :]
    assert found, program
    return found


@pytest.mark.parametrize("program", ["dask worker", "dask scheduler"])
def test_dask_commands_are_ones_that_the_installed_dask_takes(program: str) -> None:
    command = {"dask worker": dask_worker, "dask scheduler": dask_scheduler}[program]
    for name, arguments in commands(program).items():
        context = command.make_context(name, list(arguments), resilient_parsing=False)
        if program == "dask worker":
            assert context.params["scheduler"] == "tcp://dask-scheduler:8786"
            assert context.params["nthreads"] == 1


def test_prefect_commands_are_ones_that_the_installed_prefect_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, arguments in commands("prefect").items():
        words = [word for word in arguments if word != "--no-prompt"]
        subcommand = words[:1] if words[0] == "deploy" else words[:2]
        monkeypatch.setattr("sys.argv", ["prefect", *subcommand, "--help"])
        with suppress(SystemExit):
            prefect()
        told = capsys.readouterr().out
        for option in (word for word in words if word.startswith("--")):
            assert option in told, f"{name}: {option}"


def test_programs_of_ours_have_the_commands_that_are_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (command,) = re.findall(r"^CMD (.*)$", CONTAINERFILE.read_text(), re.MULTILINE)
    assert json.loads(command)[0] == "tar-pipeline"
    with pytest.raises(SystemExit, match="0"):
        tar_pipeline(json.loads(command)[1:])
    assert "usage: tar-pipeline" in capsys.readouterr().out


def test_engine_workers_offer_what_matching_asks_for() -> None:
    (resource, units), *others = GPU.items()
    assert not others
    offering = {n for n, a in commands("dask worker").items() if f"{resource}={units}" in a}
    assert offering == {"gpu-worker/0", "gpu-stand-in/0", "dask-gpu-worker/0"}
    reserved = SERVICES["gpu-worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert reserved == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert {SERVICES["gpu-worker"]["profiles"][0], SERVICES["gpu-stand-in"]["profiles"][0]} == {
        "gpu",
        "cpu",
    }
    for name, container in CONTAINERS.items():
        limit = container["resources"]["limits"].get("nvidia.com/gpu")
        assert limit == (units if name == "dask-gpu-worker" else None)
    pod = PODS["dask-gpu-worker"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod["tolerations"][0]["key"] == "nvidia.com/gpu"


def test_workers_of_a_cluster_have_the_settings_of_local_ones() -> None:
    wanted = {}
    for key, value in WORKER_SETTINGS.items():
        name = key.removeprefix("distributed.nanny.pre-spawn-environ.")
        if name == key:
            name = "DASK_" + key.upper().replace(".", "__").replace("-", "_")
        wanted[name] = str(value).lower()
    (shared,) = [d["data"] for d in MANIFESTS if d["metadata"]["name"] == "dask-worker"]
    assert shared == wanted
    for name in ("cpu-worker", "gpu-worker", "gpu-stand-in"):
        assert wanted.items() <= SERVICES[name]["environment"].items()


def test_a_worker_restarts_before_its_container_is_killed_for_memory() -> None:
    for name, arguments in commands("dask worker").items():
        where = name.split("/")[0]
        limit = (
            SERVICES[where]["mem_limit"] + "ib"
            if where in SERVICES
            else CONTAINERS[where]["resources"]["limits"]["memory"] + "B"
        )
        asked = arguments[arguments.index("--memory-limit") + 1]
        assert parse_bytes(asked) <= 0.8 * parse_bytes(limit), name


def test_images_and_ports_agree() -> None:
    assert {s["image"] for s in OURS.values()} == {
        f"tar-pipeline:{VERSION}-{s['build']['target']}" for s in OURS.values()
    }
    renamed = {i["name"]: f"{i['newName']}:{i['newTag']}" for i in KUSTOMIZATION["images"]}
    assert {c["image"] for c in CONTAINERS.values()} == set(renamed)
    assert set(renamed.values()) == {s["image"] for s in OURS.values()}
    for image in (s["image"] for s in SERVICES.values()):
        assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?", image), image
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is open to the network: {port}"
    listening = {"prefect-server": {4200}, "dask-scheduler": {8786, 8787}}
    for document in MANIFESTS:
        if document["kind"] == "Service":
            ports = {port["port"] for port in document["spec"]["ports"]}
            assert ports == listening[document["metadata"]["name"]]
    for url in re.findall(r"(?:http|tcp)://([a-z-]+):(\d+)", (INFRA / "compose.yaml").read_text()):
        assert url[0] in {*SERVICES, "mosaics"}, url
        assert int(url[1]) in listening.get(url[0], {7070})


def test_pods_keep_to_the_restricted_profile() -> None:
    for name, pod in PODS.items():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
            assert {"cpu", "memory"} <= set(container["resources"]["limits"]), name
    for name, service in OURS.items():
        assert service["read_only"] is True, name


def test_only_what_touches_the_store_has_a_role_for_it() -> None:
    with_role = {n for n, pod in PODS.items() if pod["serviceAccountName"] == "region-runner"}
    assert with_role == {"prefect-worker", "dask-cpu-worker", "dask-gpu-worker"}
    accounts = {d["metadata"]["name"] for d in MANIFESTS if d["kind"] == "ServiceAccount"}
    assert accounts == {"region-runner", "pruner", "no-rights"}
    roles = terraform("main.tf")["locals"][0]["roles"]
    assert set(roles.values()) == accounts - {"no-rights"}


def test_network_policies_select_pods_that_exist() -> None:
    labels = [
        d["spec"]["template"]["metadata"]["labels"]
        for d in MANIFESTS
        if d["kind"] in ("Deployment", "Job")
    ]
    selectors = list(_selectors([d for d in MANIFESTS if d["kind"] == "NetworkPolicy"]))
    assert selectors
    for selector in selectors:
        for key, value in selector.get("matchLabels", {}).items():
            assert any(found.get(key) == value for found in labels), selector
        for expression in selector.get("matchExpressions", []):
            apps = {found["app"] for found in labels}
            assert set(expression["values"]) <= apps, selector


def _selectors(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "podSelector":
                yield value
            yield from _selectors(value)
    elif isinstance(node, list):
        for value in node:
            yield from _selectors(value)


def test_one_work_pool_is_made_polled_and_deployed_to() -> None:
    made = {a[a.index("create") + 1] for a in commands("prefect --no-prompt work-pool").values()}
    polled = {a[a.index("--pool") + 1] for a in commands("prefect worker").values()}
    assert made == polled == {POOL}
    if (INFRA / "prefect.yaml").exists():
        deployments = yaml.safe_load((INFRA / "prefect.yaml").read_text())["deployments"]
        assert {d["work_pool"]["name"] for d in deployments} == {POOL}
