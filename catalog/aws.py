"""How the standard AWS environment leads to an object store: s3fs, Zarr and GDAL get one answer.

Endpoint, region, profile and credentials come from the variables and files that every AWS program
reads (AWS_ENDPOINT_URL, AWS_REGION, AWS_PROFILE, AWS_ACCESS_KEY_ID, ~/.aws/config, a role of the
machine, …), and from nowhere else. They are looked up by the process that opens something, each
time, so nothing secret is ever a parameter, pickled, or written down.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore.configprovider import ConfiguredEndpointProvider
from rasterio.session import Session

from catalog.errors import ArgumentError, has_secret

# A request is sent up to this many times, waiting up to 0, 1, 2, 4, 8, 16, 20 seconds in between
# (at random, so that many workers do not come back at once). Where one of fourteen fails, one of
# a hundred million fails this often.
ATTEMPTS = 8
CONNECT_SECONDS, ANSWER_SECONDS = 10, 60


def storage_options() -> dict[str, Any]:
    """What s3fs takes beside a URL; no secret among it: botocore finds those by itself.

    Raises ArgumentError when the environment's endpoint is unusable.
    """
    endpoint()
    region = _session().get_config_variable("region")
    return {
        "use_listings_cache": False,  # listings must show what other processes wrote since
        # More than one would ask for the size before each read, to split large objects; ours are
        # small, and what runs side by side are objects.
        "max_concurrency": 1,
        "client_kwargs": {"region_name": region} if region else {},
        "config_kwargs": {
            "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": ANSWER_SECONDS,
        },
    }


def endpoint() -> str | None:
    """The address of the object store, None for Amazon's own.

    Raises ArgumentError when it is no plain http(s) address: with a password or a query in it, it
    would be told in error messages.
    """
    session = _session()
    config, scoped = session.full_config, session.get_scoped_config()
    url = ConfiguredEndpointProvider(config, scoped, "s3").provide()
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or has_secret(url):
        raise ArgumentError(
            "AWS_ENDPOINT_URL must be a plain address like https://objects.example.org, without "
            "user, password or query; credentials go into AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or a profile",
            argument="AWS_ENDPOINT_URL",
        )
    return str(url)


class GdalSession(Session):  # type: ignore[misc]
    """The same environment in GDAL's words, for `rasterio.Env`: what botocore finds, s3fs has."""

    def get_credential_options(self) -> dict[str, str]:
        """GDAL's options. Raises ArgumentError when the environment's endpoint is unusable."""
        options = {}
        if (url := endpoint()) is not None:
            parts = urlsplit(url)
            options["AWS_S3_ENDPOINT"] = (parts.netloc + parts.path).rstrip("/")
            options["AWS_HTTPS"] = "YES" if parts.scheme == "https" else "NO"
            options["AWS_VIRTUAL_HOSTING"] = "FALSE"  # as botocore does at endpoints of one's own
        if region := _session().get_config_variable("region"):
            options["AWS_REGION"] = region
        credentials = _session().get_credentials()
        if credentials is None:  # public data is read without
            return {**options, "AWS_NO_SIGN_REQUEST": "YES"}
        now = credentials.get_frozen_credentials()
        options["AWS_ACCESS_KEY_ID"], options["AWS_SECRET_ACCESS_KEY"] = now[:2]
        return {**options, "AWS_SESSION_TOKEN": now.token or ""}


def _session() -> botocore.session.Session:
    """The session of this process's environment. It renews credentials that expire."""
    return _session_of(frozenset((k, v) for k, v in os.environ.items() if k.startswith("AWS_")))


@lru_cache(maxsize=1)
def _session_of(environment: frozenset[tuple[str, str]]) -> botocore.session.Session:
    session = botocore.session.Session()
    # botocore alone of all AWS programs does not know AWS_REGION.
    if region := dict(environment).get("AWS_REGION"):
        session.set_config_variable("region", region)
    return session
