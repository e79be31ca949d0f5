"""Credentials reach one host alone and no message; what an API answers wrongly is one line."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from catalog.errors import ApiError
from catalog.stac_api.connection import HOST, PASSWORD, TOKEN, USER, connected
from tests.support.small_stac_api import SmallStacApi, small_stac_api

ENTRY = {"id": "la"}


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (HOST, TOKEN, USER, PASSWORD):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def api() -> Iterator[SmallStacApi]:
    with small_stac_api() as running:
        yield running


@pytest.fixture
def other() -> Iterator[SmallStacApi]:
    with small_stac_api() as running:
        yield running


def write(url: str) -> None:
    with connected(url) as connection:
        connection.write(ENTRY, "collections", known=False)


def test_a_token_or_a_name_and_password_are_sent_to_their_host(
    api: SmallStacApi, other: SmallStacApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOST, api.host)
    with monkeypatch.context() as patch:
        patch.setenv(TOKEN, "S3CRET\n")  # as files end
        write(api.url)
        write(other.url)
    with monkeypatch.context() as patch:
        patch.setenv(USER, "me")
        patch.setenv(PASSWORD, "S3CRET")
        write(api.url)
    sent = [each for _, _, each in api.requests]
    assert sent == ["Bearer S3CRET", "Basic bWU6UzNDUkVU", "Basic bWU6UzNDUkVU"]
    assert [each for _, _, each in other.requests] == [None]


def test_neither_a_link_nor_a_redirect_takes_credentials_elsewhere(
    api: SmallStacApi, other: SmallStacApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOST, api.host)
    monkeypatch.setenv(TOKEN, "S3CRET")
    for each in (api, other):
        each.collections["la"] = ENTRY
    api.next_page = f"{other.url}/collections/la/items"
    with connected(api.url) as connection:
        assert connection.items("la") == {}
        api.faults, api.location = {"": 307}, f"{other.url}/collections"
        with pytest.raises(ApiError, match="answers 307"):
            connection.write(ENTRY, "collections", known=False)
    assert api.requests[0][2] == "Bearer S3CRET"
    assert other.requests == [("GET", "/collections/la/items", None)]


@pytest.mark.parametrize(
    "given", [(HOST,), (TOKEN,), (HOST, USER), (HOST, PASSWORD), (USER, PASSWORD),
              (HOST, TOKEN, USER, PASSWORD)],
)  # fmt: skip
def test_credentials_that_are_half_there_are_told_not_shown(
    monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...]
) -> None:
    for name in given:
        monkeypatch.setenv(name, "S3CRET")
    with pytest.raises(ApiError, match="half there") as caught:
        write("http://127.0.0.1:9")
    assert "S3CRET" not in str(caught.value)


@pytest.mark.parametrize("token", ["S3CRET\u20ac", "S3\nCRET"])
def test_a_token_that_no_header_can_hold_is_not_shown(
    api: SmallStacApi, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv(HOST, api.host)
    monkeypatch.setenv(TOKEN, token)
    with pytest.raises(ApiError, match="no token") as caught:
        write(api.url)
    assert "CRET" not in str(caught.value)
    assert caught.value.__context__ is None
    assert not api.requests


def test_an_address_where_nobody_answers_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catalog.stac_api.connection.FIRST_WAIT_SECONDS", 0.0)
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        with pytest.raises(ApiError) as caught:
            write(url)
    assert str(caught.value) == (
        f"POST {url}/collections: cannot be reached "
        "(ConnectionError: [Errno 111] Connection refused)"
    )  # fmt: skip


@pytest.mark.parametrize("item", [3, {"id": "x"}, {"properties": {}}, {"id": "x", "properties": 3}])
def test_what_is_no_item_is_one_line(api: SmallStacApi, item: Any) -> None:
    api.collections["la"], api.items["la"] = ENTRY, {"x": item}
    with (
        connected(api.url) as connection,
        pytest.raises(ApiError, match=r"^GET .*/items: no page of items \("),
    ):
        connection.items("la")


def test_a_status_that_stays_is_told(api: SmallStacApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catalog.stac_api.connection.FIRST_WAIT_SECONDS", 0.0)
    api.faults = {"": 503}
    with pytest.raises(ApiError, match=r"POST .*/collections: answers 503") as caught:
        write(api.url)
    assert caught.value.status == 503
    assert len(api.requests) == 5
