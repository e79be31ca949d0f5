"""infra/: each file checked by its parser or schema; test_together.py checks the set.

What is checked here cannot run in a test: no container engine, cluster or cloud account is needed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from dockerfile_parse import DockerfileParser

from tests.support.infra import (
    COMPOSE,
    CONTAINERFILE,
    CONTAINERS,
    INFRA,
    MANIFESTS,
    ROOT,
    SERVICES,
    VERSION,
    terraform,
)


def test_the_linter_has_nothing_to_say_about_the_containerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, CONTAINERFILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_compose_follows_its_specification() -> None:
    schema = files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    jsonschema.validate(COMPOSE, json.loads(schema.read_text(encoding="utf-8")))
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", {})) <= set(SERVICES), name
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], other
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or source.startswith("./"), volume


@pytest.mark.parametrize(
    "document", MANIFESTS, ids=lambda d: f"{d['kind']}-{d['metadata']['name']}"
)
def test_manifests_follow_the_schema_of_kubernetes(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, "1.33", strict=True)
    assert document["kind"] == "Namespace" or document["metadata"]["namespace"] == "tar-pipeline"


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl here: kustomize is not run")
def test_kustomize_renders_the_manifests() -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", INFRA / "kubernetes"], capture_output=True, text=True, check=True
    )
    rendered = list(yaml.safe_load_all(done.stdout))
    assert len(rendered) == len(MANIFESTS)
    images = set(re.findall(r"image: (\S+)", done.stdout))
    assert images == {f"tar-pipeline:{VERSION}-cpu", f"tar-pipeline:{VERSION}-cuda"}


def test_terraform_parses_and_guards_the_bucket() -> None:
    parsed = [terraform(name) for name in ("main.tf", "variables.tf", "outputs.tf")]
    resources = {kind: body for block in parsed[0]["resource"] for kind, body in block.items()}
    bucket = resources["aws_s3_bucket"]["mosaics"]
    assert bucket["lifecycle"][0]["prevent_destroy"] is True
    guard = resources["aws_s3_bucket_public_access_block"]["mosaics"]
    assert [guard[key] for key in guard if key.startswith(("block", "ignore", "restrict"))] == [
        True
    ] * 4
    encryption = resources["aws_s3_bucket_server_side_encryption_configuration"]["mosaics"]
    (rule,) = encryption["rule"][0]["apply_server_side_encryption_by_default"]
    assert rule["sse_algorithm"] == "AES256"
    (rule,) = resources["aws_s3_bucket_lifecycle_configuration"]["mosaics"]["rule"]
    assert rule["abort_incomplete_multipart_upload"][0]["days_after_initiation"] == 2
    assert "expiration" not in rule
    variables = {name for block in parsed[1]["variable"] for name in block}
    used = set(re.findall(r"\bvar\.(\w+)", (INFRA / "terraform/main.tf").read_text()))
    assert variables == used


@pytest.mark.skipif(not shutil.which("terraform"), reason="no terraform here: only parsed")
def test_terraform_itself_reads_the_files(tmp_path: Path) -> None:
    subprocess.run(["terraform", "fmt", "-check", INFRA / "terraform"], check=True)
    names = '{bucket_arn = "arn:aws:s3:::archive", prefix = "mosaics"}'
    for policy in ("worker", "prune", "retire", "bucket"):
        path = json.dumps(str(INFRA / f"terraform/policies/{policy}.json"))
        done = subprocess.run(
            ["terraform", "console"],
            input=f"length(jsondecode(templatefile({path}, {names})).Statement)",
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert int(done.stdout.split()[-1]) >= 1


# --- what an image is


@pytest.fixture(scope="module")
def instructions() -> list[dict[str, Any]]:
    return list(DockerfileParser(fileobj=BytesIO(CONTAINERFILE.read_bytes())).structure)


def values(instructions: list[dict[str, Any]], name: str) -> list[str]:
    return [i["value"] for i in instructions if i["instruction"] == name]


def test_images_are_pinned_constrained_and_run_as_nobody(
    instructions: list[dict[str, Any]],
) -> None:
    (base,) = [a for a in values(instructions, "ARG") if a.startswith("PYTHON_IMAGE=")]
    assert re.fullmatch(r"PYTHON_IMAGE=python:\d+\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", base)
    stages = [value.split(" AS ") for value in values(instructions, "FROM")]
    names = {name for _, name in stages}
    assert {"cpu", "cuda"} <= names
    assert all(parent in names or parent == "${PYTHON_IMAGE}" for parent, _ in stages)
    (user,) = values(instructions, "USER")
    assert all(int(part) >= 1000 for part in user.split(":"))
    assert instructions.index(next(i for i in instructions if i["value"] == user)) < min(
        n for n, i in enumerate(instructions) if i["value"] in ("runtime AS cpu", "runtime AS cuda")
    )
    installs = [
        part
        for run in values(instructions, "RUN")
        for part in run.split("&&")
        if "pip install" in part
    ]
    assert installs
    for install in installs:  # torch for the CPU takes its one version out of the same file
        assert "constraints.txt" in install


def test_python_is_the_one_that_the_constraints_were_found_with(
    instructions: list[dict[str, Any]],
) -> None:
    (minor,) = re.findall(r"\(Python (3\.\d+)\)", (ROOT / "constraints.txt").read_text())
    assert f"python:{minor}." in CONTAINERFILE.read_text()
    assert any(v.startswith(f"PYTHON_IMAGE=python:{minor}.") for v in values(instructions, "ARG"))


def test_no_file_holds_a_secret(instructions: list[dict[str, Any]]) -> None:
    secret = re.compile(r"SECRET|PASSWORD|TOKEN|AUTH|ACCESS_KEY|CONNECTION_URL", re.IGNORECASE)
    for kind in ("ARG", "ENV"):
        assert not [v for v in values(instructions, kind) if secret.search(v)]
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if secret.search(key):
                assert "${" in value, f"{name}: {key}"
    for name, container in CONTAINERS.items():
        for entry in container.get("env", []):
            if secret.search(entry["name"]):
                assert "secretKeyRef" in entry["valueFrom"], f"{name}: {entry['name']}"
    assert not [d for d in MANIFESTS if d["kind"] == "Secret"]
    example = dict(
        line.split("=", 1)
        for line in (INFRA / "example.env").read_text().splitlines()
        if line and not line.startswith("#")
    )
    asked = set(re.findall(r"\$\{(\w+)", (INFRA / "compose.yaml").read_text()))
    assert asked == set(example) - {"COMPOSE_PROFILES"}
    assert not any(example[name] for name in asked)


def test_an_image_gets_what_it_needs_and_no_key_or_data() -> None:
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert rules[0] == "*"
    allowed = {rule[1:].rstrip("/") for rule in rules if rule.startswith("!")}
    needed = {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "packages"
    ]
    assert needed | {pattern.rstrip("*") for pattern in packages["find"]["include"]} <= allowed
    assert not [a for a in allowed if fnmatch(a, "*.env") or a in ("tests", ".git", ".venv")]
