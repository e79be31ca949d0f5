"""The files of infra/, parsed."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import hcl2
import yaml
from hcl2.utils import SerializationOptions

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
CONTAINERFILE = INFRA / "Containerfile"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())
KUSTOMIZATION = yaml.safe_load((INFRA / "kubernetes/kustomization.yaml").read_text())
MANIFESTS: list[dict[str, Any]] = [
    document
    for name in KUSTOMIZATION["resources"]
    for document in yaml.safe_load_all((INFRA / "kubernetes" / name).read_text())
]
PODS = {
    document["metadata"]["name"]: document["spec"]["template"]["spec"]
    for document in MANIFESTS
    if document["kind"] in ("Deployment", "Job")
}
CONTAINERS = {name: pod["containers"][0] for name, pod in PODS.items()}
SERVICES = COMPOSE["services"]
OURS = {name: s for name, s in SERVICES.items() if s["image"].startswith("tar-pipeline:")}


def terraform(name: str) -> dict[str, Any]:
    """A file of Terraform's as its parser sees it."""
    with (INFRA / "terraform" / name).open() as file:
        options = SerializationOptions(strip_string_quotes=True)
        return dict(hcl2.load(file, serialization_options=options))
