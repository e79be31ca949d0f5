"""What this machine offers is told truly, and no secret with it."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from catalog.archives.providers import PROVIDERS, Provider
from catalog.child_server import free_port
from flows.cli import doctor
from flows.cli.main import main

SECRET = "never-to-be-shown"


@pytest.fixture
def answering() -> Iterator[str]:
    """The address of something that answers every request, with a list of files."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def archives(answering: str, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Provider]:
    """One archive that answers, and one that does not."""
    known = PROVIDERS["earth-search"]
    there = replace(known, name="there", api_url=answering)
    gone = replace(known, name="gone", api_url=f"http://127.0.0.1:{free_port()}/")
    monkeypatch.setattr(doctor, "PROVIDERS", {"there": there, "gone": gone})
    return {"there": there, "gone": gone}


def examined(tmp_path: Path, *words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and what was found by what it is about."""
    file = tmp_path / "found.json"
    code = main(["doctor", "--json", str(file), *words])
    return code, {each["what"]: each for each in json.loads(file.read_text())}


@pytest.mark.usefixtures("archives")
def test_a_sound_machine_is_told_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("CDSE_ACCESS_KEY_ID", SECRET)
    monkeypatch.setenv("CDSE_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("TAR_STAC_API_HOST", "stac.example.org")
    monkeypatch.setenv("TAR_STAC_API_TOKEN", SECRET)
    code, found = examined(tmp_path, "--store", str(tmp_path / "not" / "yet"))
    assert code == 0
    assert found["STAC API"]["found"] == "credentials for stac.example.org"
    assert found["archive there"]["grade"] == "good"
    assert found["archive gone"]["grade"] == "note"
    assert "cannot be reached" in found["archive gone"]["found"]
    assert found["object store"]["grade"] == found["Copernicus Data Space"]["grade"] == "good"
    assert found["store"]["grade"] == "good"
    assert SECRET not in json.dumps(found) + capsys.readouterr().out


@pytest.mark.usefixtures("archives")
def test_what_a_run_cannot_do_without_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://me:{SECRET}@objects.example.org")
    nobody = f"http://127.0.0.1:{free_port()}/api"
    with temporary_settings({PREFECT_API_URL: nobody}):
        code, found = examined(tmp_path)
    assert code == 1
    assert found["Prefect"]["grade"] == "wrong"
    assert nobody in found["Prefect"]["found"]
    assert found["object store"]["grade"] == "wrong"
    assert SECRET not in json.dumps(found)
