"""The roles of infra/terraform at work: what a region run and a prune may do to a bucket.

moto enforces the policies on real requests of s3fs and Zarr. Amazon itself decides otherwise in one
point: moto ignores conditions, so that listing ends at the prefix is read from the policy instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from string import Template
from typing import Any

import boto3
import fsspec
import moto.settings
import pytest
from moto.server import ThreadedMotoServer

from catalog import objects
from catalog.errors import StoreError
from catalog.memory.open import open_memory
from catalog.memory.upkeep import verify
from catalog.store.days import page_url, published_slots
from catalog.store.open import open_mosaic
from catalog.store.publish import withdraw
from catalog.store.slot import check_writable
from tests.support.memories import FIRST_VERSION, committed, memory_store
from tests.support.object_store import disconnect
from tests.support.slots import ONE_SHARD, created, published

POLICIES = Path(__file__).resolve().parents[2] / "infra/terraform/policies"
NAMES = {"bucket_arn": "arn:aws:s3:::archive", "prefix": "mosaics"}
STORE = "s3://archive/mosaics"


def policy(name: str) -> str:
    return Template((POLICIES / f"{name}.json").read_text()).substitute(NAMES)


def statements(name: str) -> list[dict[str, Any]]:
    return list(json.loads(policy(name))["Statement"])


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        disconnect()
        server.stop()


@pytest.fixture(scope="module")
def credentials(endpoint: str) -> dict[str, dict[str, str]]:
    """Of both roles, as a pod gets them: for a while, from the token service."""
    options = {
        "endpoint_url": endpoint,
        "region_name": "us-east-1",
        "aws_access_key_id": "root",
        "aws_secret_access_key": "root",
    }
    iam, sts = boto3.client("iam", **options), boto3.client("sts", **options)
    boto3.client("s3", **options).create_bucket(Bucket="archive")
    found = {}
    for name, policies in {
        "worker": ("worker",),
        "prune": ("prune",),
        "retiring": ("worker", "retire"),  # the worker's role where `retention` is on
    }.items():
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]
        for each in policies:
            iam.put_role_policy(RoleName=name, PolicyName=each, PolicyDocument=policy(each))
        made = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="pod")["Credentials"]
        found[name] = {
            "AWS_ACCESS_KEY_ID": made["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"],
            "AWS_SESSION_TOKEN": made["SessionToken"],
        }
    return found


@contextmanager
def acting_as(endpoint: str, credentials: dict[str, str]) -> Iterator[None]:
    """This process with a role's credentials, and the server enforcing its policy."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in credentials.items():
            patch.setenv(name, value)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setattr(moto.settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)  # from now on, it checks
        disconnect()
        try:
            yield
        finally:
            disconnect()


def test_the_worker_role_suffices_for_a_mosaic(
    endpoint: str, credentials: dict[str, dict[str, str]]
) -> None:
    with acting_as(endpoint, credentials["worker"]):
        check_writable(STORE)
        assert objects.get(f"{STORE}/nothing.json") is None
        published(STORE, ONE_SHARD)
        assert created(STORE, ONE_SHARD).written_shards()
        assert "red" in open_mosaic(f"{STORE}/la")
        memory = committed(STORE)
        assert memory.name in open_memory(f"{STORE}/la")
        assert verify(memory) == []


def test_the_worker_role_deletes_nothing_and_stays_below_its_prefix(
    endpoint: str, credentials: dict[str, dict[str, str]]
) -> None:
    with acting_as(endpoint, credentials["worker"]):
        objects.put(f"{STORE}/la/collection.json", b"{}")
        for forbidden in (
            lambda: objects.remove(f"{STORE}/la/collection.json"),
            lambda: objects.remove_tree(f"{STORE}/la"),
            lambda: objects.put("s3://archive/elsewhere/x", b""),
            lambda: objects.get("s3://archive/elsewhere/x"),
            lambda: check_writable("s3://archive/elsewhere"),
        ):
            with pytest.raises(StoreError):
                forbidden()
        assert objects.get(f"{STORE}/la/collection.json") == b"{}"


def test_the_prune_role_deletes_generations_and_nothing_else(
    endpoint: str, credentials: dict[str, dict[str, str]]
) -> None:
    chunk, item = f"{STORE}/la/slots/2020-11-04/abc.zarr/x", f"{STORE}/la/items/2020-11-04.json"
    memory = memory_store(STORE)
    version, current = f"{memory.version_url(FIRST_VERSION)}/x", f"{memory.url}/current.json"
    with acting_as(endpoint, credentials["worker"]):
        for deletable in (chunk, version):
            objects.put(deletable, b"1")
        for followed in (item, current):
            objects.put(followed, b"{}")
    with acting_as(endpoint, credentials["prune"]):
        for deletable in (chunk, version):
            objects.remove(deletable)  # one by one: moto refuses roles the request for many at once
            assert objects.get(deletable) is None
        for followed in (item, current):
            for forbidden in (objects.remove, partial(objects.put, content=b"")):
                with pytest.raises(StoreError):
                    forbidden(followed)
            assert objects.get(followed) == b"{}"


def test_with_retention_the_worker_role_withdraws_days_and_cannot_forget(
    endpoint: str, credentials: dict[str, dict[str, str]]
) -> None:
    store = f"{STORE}/old"
    memory = memory_store(store)
    remembered = f"{memory.url}/current.json", f"{memory.version_url(FIRST_VERSION)}/x"
    kept = *remembered, f"{store}/la/report.json"
    with acting_as(endpoint, credentials["worker"]):
        day = published(store, ONE_SHARD)
        for each in kept:
            objects.put(each, b"{}")
        with pytest.raises(StoreError, match="cannot delete"):
            withdraw(store, "la", [day.slot])
        assert published_slots(f"{store}/la") == [day.slot]
    with acting_as(endpoint, credentials["retiring"]):
        withdraw(store, "la", [day.slot])
        assert published_slots(f"{store}/la") == []
        assert objects.get(f"{store}/la/collection.json") is None
        objects.put(page_url(f"{store}/la", day.slot), b"")
        chunk = f"{day.url}/red/0/0"
        for deletable in (page_url(f"{store}/la", day.slot), chunk):
            assert objects.get(deletable) is not None
            objects.remove(deletable)
        for each in kept:
            with pytest.raises(StoreError):
                objects.remove(each)


def test_policies_allow_named_actions_on_the_prefix_only() -> None:
    allowed = {}
    for name in ("worker", "prune"):
        actions: set[str] = set()
        for statement in statements(name):
            asked = statement["Action"]
            actions |= {asked} if isinstance(asked, str) else set(asked)
            if statement["Resource"] == "arn:aws:s3:::archive":
                assert statement["Action"] == "s3:ListBucket"
                prefixes = statement["Condition"]["StringLikeIfExists"]["s3:prefix"]
                assert prefixes == ["mosaics", "mosaics/*"]
            else:
                assert statement["Resource"].startswith("arn:aws:s3:::archive/mosaics/")
        allowed[name] = actions
    (whole_days,) = statements("retire")
    assert whole_days["Action"] == "s3:DeleteObject"
    assert all("/mosaics/*/" in each for each in whole_days["Resource"])
    reading = {"s3:ListBucket", "s3:GetObject"}
    writing = {"s3:PutObject", "s3:AbortMultipartUpload"}
    assert allowed["worker"] == reading | writing | {"s3:DeleteObject"}  # of its trial, see above
    assert allowed["prune"] == reading | {"s3:PutObject", "s3:DeleteObject"}
    written = {s["Resource"] for s in statements("prune") if "s3:PutObject" in s["Action"]}
    region = "arn:aws:s3:::archive/mosaics/*"
    assert written == {f"{region}/cube/*", f"{region}/stac-api.json"}


def test_only_the_named_service_account_makes_a_role() -> None:
    names = {
        "oidc_provider_arn": "arn:aws:iam::111122223333:oidc-provider/issuer",
        "oidc_issuer": "issuer",
        "service_account": "system:serviceaccount:tar-pipeline:pruner",
    }
    text = Template((POLICIES / "trust.json").read_text()).substitute(names)
    (statement,) = json.loads(text)["Statement"]
    assert statement["Condition"]["StringEquals"]["issuer:sub"] == names["service_account"]
    assert statement["Principal"] == {"Federated": names["oidc_provider_arn"]}


def test_unencrypted_requests_are_denied() -> None:
    (statement,) = statements("bucket")
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


@pytest.fixture(autouse=True)
def _no_filesystem_outlives_its_credentials() -> Iterator[None]:
    yield
    fsspec.get_filesystem_class("s3").clear_instance_cache()
