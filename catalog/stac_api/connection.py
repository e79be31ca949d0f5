"""Speaking to a STAC API that takes transactions: with patience, and credentials for one host.

Credentials come from the environment of the process and are sent to the host they are for, never
to another that an address or a link leads to:

    TAR_STAC_API_HOST                             that host, with its port where it has one
    TAR_STAC_API_TOKEN                            a bearer token; or
    TAR_STAC_API_USER and TAR_STAC_API_PASSWORD   for basic authentication
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from catalog.archives.api import PAGE_SIZE, RETRIED_STATUSES, RETRIES, Patience
from catalog.errors import ApiError, ArgumentError, SearchError, has_secret, shown
from catalog.outside.answers import TIMEOUT_SECONDS
from catalog.retrying import FIRST_WAIT_SECONDS

HOST, TOKEN = "TAR_STAC_API_HOST", "TAR_STAC_API_TOKEN"
USER, PASSWORD = "TAR_STAC_API_USER", "TAR_STAC_API_PASSWORD"
NOT_FOUND, CONFLICT = 404, 409
REFUSED = (401, 403)  # which means all, not one entry
NO_TRANSACTIONS = (404, 405, 501)  # where something was to be written
TOLD_CHARACTERS = 200  # of what it answers beside a status
MOST_PAGES = 10_000


def validated_api_url(url: str) -> str:
    """The address of an API's landing page, without a slash at its end.

    Raises ArgumentError for anything but a plain http(s) address.
    """
    if not url.startswith(("http://", "https://")) or not urlsplit(url).hostname:
        raise ArgumentError(
            f"{shown(url)!r} is no http(s) address of a STAC API", argument="stac_api"
        )
    if has_secret(url):
        raise ArgumentError(
            f"{shown(url)} was given with a user, password or query, and it is stored and shown; "
            f"give the plain address, and credentials in {TOKEN} or {USER} and {PASSWORD}",
            argument="stac_api",
        )
    return url.rstrip("/")


class Credentials(AuthBase):
    """Those of the environment, put into requests to their host alone.

    Raises ApiError for such that are only half there, or no credentials.
    """

    def __init__(self, api_url: str) -> None:
        host, token, user, password = (
            os.environ.get(name, "").strip() for name in (HOST, TOKEN, USER, PASSWORD)
        )
        basic = base64.b64encode(f"{user}:{password}".encode()).decode()
        whole = bool(token) != bool(user and password) and bool(host)
        if any((host, token, user, password)) and not whole:
            raise ApiError(
                f"{shown(api_url)}: its credentials are half there: set {HOST} and {TOKEN}, or "
                f"{HOST}, {USER} and {PASSWORD}, or none of them",
                url=shown(api_url),
            )
        if not (token.isascii() and token.isprintable()):  # whoever sends it would quote it
            raise ApiError(
                f"{shown(api_url)}: {TOKEN} holds what is no token: a character outside of ASCII, "
                "or a line's end",
                url=shown(api_url),
            )
        self.host = host
        """Empty where there are none."""
        self._header = f"Bearer {token}" if token else f"Basic {basic}"
        self._secrets = [secret for secret in (token, password, basic if user else "") if secret]

    def are_for(self, url: str) -> bool:
        """Whether requests to this address get them."""
        return bool(self.host) and urlsplit(url).netloc == self.host

    def in_(self, text: str) -> bool:
        """Whether a text repeats them."""
        return any(secret in text for secret in self._secrets)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.are_for(request.url or ""):
            request.headers["Authorization"] = self._header
        return request


class Connection:
    """Requests to one API. Each raises ApiError, one line, when the answer is no success."""

    def __init__(self, api_url: str, session: requests.Session, credentials: Credentials) -> None:
        self._root = api_url
        self._session = session
        self._credentials = credentials

    def collection(self, id_: str) -> dict[str, Any] | None:
        """A collection, None where the API has none of that name."""
        return self._json(self._address("collections", id_))

    def items(self, collection: str) -> dict[str, dict[str, Any]]:
        """The properties of every item of a collection, by id."""
        found: dict[str, dict[str, Any]] = {}
        url = f"{self._address('collections', collection, 'items')}?limit={PAGE_SIZE}"
        for _ in range(MOST_PAGES):
            page = self._json(url) or {"features": []}
            try:
                found |= {str(each["id"]): dict(each["properties"]) for each in page["features"]}
                links = [each for each in page.get("links") or () if each.get("rel") == "next"]
                if not links:
                    return found
                url = urljoin(url, links[0]["href"])
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                why = f"{type(error).__name__}: {error}"
                raise ApiError(
                    f"GET {shown(url)}: no page of items ({why})", url=shown(url)
                ) from error
        raise ApiError(f"GET {shown(url)}: its pages do not end", url=shown(url))

    def write(self, entry: dict[str, Any], *parts: str, known: bool) -> None:
        """Put an entry into a list, as `collections`: in the place of what is `known` there."""
        url = self._address(*parts)
        one = self._address(*parts, entry["id"])
        method, address = ("PUT", one) if known else ("POST", url)
        answer = self._send(method, address, entry)
        if method == "POST" and answer.status_code == CONFLICT:
            # Also where a first answer was lost on its way and the same was sent again.
            method, address = "PUT", one
            answer = self._send(method, address, entry)
        self._require(method, address, answer)

    def delete(self, *parts: str) -> None:
        """Delete an entry; one that is not there is none to delete."""
        url = self._address(*parts)
        answer = self._send("DELETE", url)
        if answer.status_code != NOT_FOUND:
            self._require("DELETE", url, answer)

    def _address(self, *parts: str) -> str:
        return "/".join([self._root, *(quote(part, safe="") for part in parts)])

    def _send(self, method: str, url: str, body: Any = None) -> requests.Response:
        asked = f"{method} {shown(url)}"
        try:
            return self._session.request(
                method, url, json=body, timeout=TIMEOUT_SECONDS, auth=self._credentials,
                allow_redirects=method == "GET",  # others would go on as a GET, and seem to succeed
            )  # fmt: skip
        except SearchError as error:  # of Patience
            raise ApiError(f"{asked}: {error}", url=shown(url)) from None
        except requests.Timeout:
            raise ApiError(f"{asked}: no answer in time", url=shown(url)) from None
        except requests.RequestException as error:
            # Words of other kinds of errors may quote headers, and so what opens the API.
            told = _cause_of(error) if isinstance(error, requests.ConnectionError) else ""
            why = ": ".join(filter(None, (type(error).__name__, told)))
            raise ApiError(f"{asked}: cannot be reached ({why})", url=shown(url)) from None

    def _require(self, method: str, url: str, answer: requests.Response) -> requests.Response:
        """The answer, if it is a success."""
        if 200 <= answer.status_code < 300:
            return answer
        told = " ".join(answer.text.split())
        words = f" ({told[:TOLD_CHARACTERS]})" if told and not self._credentials.in_(told) else ""
        hint = ""
        if method != "GET" and answer.status_code in NO_TRANSACTIONS:
            hint = "; does this API have the Transaction extension?"
        elif answer.status_code in REFUSED and not self._credentials.are_for(url):
            hint = f"; no credentials were sent: {HOST} is not set, or another host"
        raise ApiError(
            f"{method} {shown(url)}: answers {answer.status_code}{words}{hint}",
            url=shown(url),
            status=answer.status_code,
        )

    def _json(self, url: str) -> dict[str, Any] | None:
        """What a GET answers, None where there is nothing."""
        answer = self._send("GET", url)
        if answer.status_code == NOT_FOUND:
            return None
        try:
            content = self._require("GET", url, answer).json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise ApiError(f"GET {shown(url)}: answers no JSON object", url=shown(url))
        return content


@contextmanager
def connected(api_url: str) -> Iterator[Connection]:
    """A connection for as long as the block. Raises ApiError for credentials that are half there.

    What may pass is tried again: a few times within some seconds, or when the answer says.
    """
    retry = Patience(
        total=RETRIES,
        backoff_factor=FIRST_WAIT_SECONDS,
        status_forcelist=RETRIED_STATUSES,
        allowed_methods=None,  # each of these requests may be repeated
        raise_on_status=False,
    )
    credentials = Credentials(api_url)
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        yield Connection(api_url, session, credentials)


def _cause_of(error: requests.ConnectionError) -> str:
    """The last words of the innermost cause, as "[Errno 111] Connection refused"."""
    cause = getattr(error.args[0], "reason", error) if error.args else error
    return str(cause).rpartition(": ")[2].rstrip("')")
