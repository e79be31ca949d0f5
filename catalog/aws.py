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

COPERNICUS_ENDPOINT = "https://eodata.dataspace.copernicus.eu"
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
    return None if url is None else _plain_address(str(url), "AWS")


def _plain_address(url: str, prefix: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or has_secret(url):
        raise ArgumentError(
            f"{prefix}_ENDPOINT_URL must be a plain address like https://objects.example.org, "
            f"without user, password or query; credentials go into {prefix}_ACCESS_KEY_ID and "
            f"{prefix}_SECRET_ACCESS_KEY{', or a profile' if prefix == 'AWS' else ''}",
            argument=f"{prefix}_ENDPOINT_URL",
        )
    return url


class GdalSession(Session):  # type: ignore[misc]
    """The same environment in GDAL's words, for `rasterio.Env`: what botocore finds, s3fs has."""

    def __init__(self, *, requester_pays: bool = False, unsigned: bool = False) -> None:
        """`unsigned`: without the user's keys, so that nothing is read but what anybody may."""
        self.requester_pays = requester_pays
        self.unsigned = unsigned

    def get_credential_options(self) -> dict[str, str]:
        """GDAL's options. Raises ArgumentError when the environment's endpoint is unusable."""
        options = {"AWS_REQUEST_PAYER": "requester"} if self.requester_pays else {}
        if (url := endpoint()) is not None:
            options |= _endpoint_options(url)
        if region := _session().get_config_variable("region"):
            options["AWS_REGION"] = region
        credentials = None if self.unsigned else _session().get_credentials()
        if credentials is None and self.requester_pays:
            raise ArgumentError(
                "whoever reads these files pays for the transfer, so AWS credentials are needed "
                "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile)",
                argument="AWS_ACCESS_KEY_ID",
            )
        if credentials is None:  # public data is read without
            return {**options, "AWS_NO_SIGN_REQUEST": "YES"}
        now = credentials.get_frozen_credentials()
        options["AWS_ACCESS_KEY_ID"], options["AWS_SECRET_ACCESS_KEY"] = now[:2]
        return {**options, "AWS_SESSION_TOKEN": now.token or ""}


class CopernicusSession(Session):  # type: ignore[misc]
    """The object store of the Copernicus Data Space, in GDAL's words.

    It stands beside the store that mosaics go to, so it has variables of its own:
    CDSE_ACCESS_KEY_ID, CDSE_SECRET_ACCESS_KEY and, if it is to be another one, CDSE_ENDPOINT_URL.
    Like the others they are looked up when something is opened.
    """

    def get_credential_options(self) -> dict[str, str]:
        """GDAL's options. Raises ArgumentError when the keys are missing."""
        names = ("CDSE_ACCESS_KEY_ID", "CDSE_SECRET_ACCESS_KEY")
        keys = [os.environ.get(name, "") for name in names]
        if not all(keys):
            raise ArgumentError(
                f"files of the Copernicus Data Space need {' and '.join(names)} in the "
                "environment (an account there gives them, see its page on S3 access)",
                argument=names[0],
            )
        url = _plain_address(os.environ.get("CDSE_ENDPOINT_URL", COPERNICUS_ENDPOINT), "CDSE")
        return {
            **_endpoint_options(url),
            "AWS_REGION": "default",
            "AWS_ACCESS_KEY_ID": keys[0],
            "AWS_SECRET_ACCESS_KEY": keys[1],
            "AWS_SESSION_TOKEN": "",
            "AWS_NO_SIGN_REQUEST": "NO",
        }


def copernicus_storage_options() -> dict[str, Any]:
    """What s3fs takes beside a URL of the Copernicus Data Space, keys and all: not to be kept.

    Raises ArgumentError when the keys are missing.
    """
    told = CopernicusSession().get_credential_options()
    scheme = "https" if told["AWS_HTTPS"] == "YES" else "http"
    return {
        **storage_options(),
        "key": told["AWS_ACCESS_KEY_ID"],
        "secret": told["AWS_SECRET_ACCESS_KEY"],
        "endpoint_url": f"{scheme}://{told['AWS_S3_ENDPOINT']}",
        "client_kwargs": {"region_name": told["AWS_REGION"]},
    }


def _endpoint_options(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    return {
        "AWS_S3_ENDPOINT": (parts.netloc + parts.path).rstrip("/"),
        "AWS_HTTPS": "YES" if parts.scheme == "https" else "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",  # as botocore does at endpoints of one's own
    }


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
