"""Who can reach `tar-pipeline serve`: this machine, unless it is told otherwise, and then it warns.

The long row starts a whole service on every address with a password, so `make faults` runs it.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from flows.cli.demo_region import DemoRegion
from flows.service.serve import Service, _warn_of_strangers
from tests.support.service import served

HERE = Service("127.0.0.1", 4200, 2, Path("p.yaml"), Path("r.yaml"), metrics_port=4201)
PASSWORD = "someone:S3CRET"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_on_loopback_nobody_is_warned(host: str) -> None:
    assert not replace(HERE, host=host).is_exposed


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
@pytest.mark.parametrize("password", [None, PASSWORD])
def test_what_others_reach_without_a_password_is_told(host: str, password: str | None) -> None:
    service = replace(HERE, host=host)
    assert service.is_exposed
    console = Console(file=io.StringIO(), width=40)
    _warn_of_strangers(service, password, console)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("PREFECT_SERVER_API_AUTH_STRING=user:password" in told) == (password is None)
    assert f"the figures on {host}:4201 are for whoever reaches them" in told
    assert "S3CRET" not in told


@pytest.mark.faults
def test_with_a_password_strangers_are_refused_and_runs_go(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    with served(tmp_path, small_region, "0.0.0.0", PASSWORD) as service:
        words = service.output.read_text()
        assert "PREFECT_SERVER_API_AUTH_STRING" not in words
        assert "they have no password" in words
        for login in (None, ("someone", "else")):
            answer = httpx.post(f"{service.url}/api/flow_runs/filter", json={}, auth=login)
            assert answer.status_code == httpx.codes.UNAUTHORIZED
        run = service.create().json()["id"]
        assert service.ended(run)["type"] == "COMPLETED"
        assert service.artifacts(run)
        assert "S3CRET" not in service.output.read_text() + service.server_log.read_text()
