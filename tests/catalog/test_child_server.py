"""Servers of our own on loopback: no proxy of the environment comes between."""

from __future__ import annotations

import os

import pytest
import requests

from catalog.child_server import LOOPBACK, reach_loopback_directly


@pytest.mark.parametrize("known", ["", "example.org,.internal", "localhost"])
def test_what_was_spared_stays_and_loopback_is_added_once(
    known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", known)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    reach_loopback_directly()
    reach_loopback_directly()
    spared = os.environ["no_proxy"].split(",")
    assert len(spared) == len(set(spared))
    assert set(spared) == {*LOOPBACK, *filter(None, known.split(","))}
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"]
    for host in ("127.0.0.1:4200", "localhost:4200"):
        assert not requests.utils.get_environ_proxies(f"http://{host}/api")
    assert requests.utils.get_environ_proxies("http://example.com/api")


def test_who_spares_everything_goes_on_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    reach_loopback_directly()
    assert requests.utils.get_environ_proxies("http://example.com") == {}
