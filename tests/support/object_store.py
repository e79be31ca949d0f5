"""A real object store on loopback: OpenStack Swift, four small processes, spoken to as S3.

Objects are files below a folder, listings are SQLite: what is written outlives the servers. One
replica on one device, no background daemons, and users from a file instead of Keystone; everything
else, the S3 signatures included, is what a production Swift runs.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import fsspec
import fsspec.asyn
import pytest
import zarr.core.sync

from catalog import objects
from catalog.child_server import ending_with_parent, free_port

START_SECONDS = 60.0
KINDS = ("account", "container", "object")
ACCESS_KEY = "test:tester"
REGION = "us-east-1"
ROOT = Path(__file__).resolve().parents[2]

SWIFT_CONF = """\
[swift-hash]
swift_hash_path_suffix = for-tests-only
"""
STORAGE_CONF = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
fallocate_reserve = 0
disable_fallocate = true
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
PROXY_CONF = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats bulk s3api tempauth slo
 proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:cache]
paste.filter_factory = tests.support.swift_cache:filter_factory
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
location = {region}
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
[filter:slo]
use = egg:swift#slo
"""
# Swift is imported by its own processes alone: eventlet patches and warns wherever it is loaded.
MAKE_RINGS = """
import sys
from swift.common.ring import RingBuilder
folder, *kinds_and_ports = sys.argv[1:]
for kind, port in zip(kinds_and_ports[::2], kinds_and_ports[1::2]):
    builder = RingBuilder(1, 1, 0)
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port),
                     "device": "disk", "weight": 1.0})
    builder.rebalance()
    builder.get_ring().save(f"{folder}/{kind}.ring.gz")
"""


@dataclass(frozen=True)
class Swift:
    """A running Swift: where it answers, and the secret that opens it."""

    address: str
    """host:port"""
    secret: str

    def environment(self, address: str | None = None) -> dict[str, str]:
        """The standard AWS environment that leads here, or through a proxy at `address`."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": f"http://{address or self.address}",
        }


@contextmanager
def serve_swift(folder: Path) -> Iterator[Swift]:
    """Four processes that keep their objects below `folder`, stopped on leaving."""
    secret = f"secret-{uuid.uuid4().hex}"
    (folder / "devices" / "disk").mkdir(parents=True, exist_ok=True)
    (folder / "swift.conf").write_text(SWIFT_CONF)
    ports = {kind: free_port() for kind in (*KINDS, "proxy")}
    words = {"user": pwd.getpwuid(os.getuid()).pw_name, "folder": folder}
    for kind in KINDS:
        settings = STORAGE_CONF.format(kind=kind, port=ports[kind], **words)
        (folder / f"{kind}-server.conf").write_text(settings)
    proxy = PROXY_CONF.format(port=ports["proxy"], secret=secret, region=REGION, **words)
    (folder / "proxy-server.conf").write_text(proxy)
    placed = [word for kind in KINDS for word in (kind, str(ports[kind]))]
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MAKE_RINGS, str(folder), *placed], check=True
    )
    servers = {kind: _start(folder, kind) for kind in ports}
    try:
        for kind, port in ports.items():
            _wait_for(servers[kind], port, folder / f"{kind}.log")
        yield Swift(f"127.0.0.1:{ports['proxy']}", secret)
    finally:
        for server in servers.values():
            server.kill()
        for server in servers.values():
            server.wait()


@contextmanager
def aws_environment(environment: Mapping[str, str]) -> Iterator[None]:
    """This process's AWS environment, nothing of the machine's own in it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        # No server of the machine's network is asked for credentials, no file of its user read.
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        for name, value in environment.items():
            patch.setenv(name, value)
        disconnect()
        try:
            yield
        finally:
            disconnect()


def new_bucket() -> str:
    """The URL of an empty bucket."""
    name = f"mosaics-{uuid.uuid4().hex}"
    with suppress(FileExistsError):  # a repeated request, where the first answer was lost
        objects.filesystem("s3://")[0].mkdir(name)
    return f"s3://{name}"


def put_scenes(items_file: Path, bucket: str, folder: Path) -> Path:
    """Every raster of an ItemCollection into a bucket; returns the same items pointing there."""
    items = json.loads(items_file.read_text())
    for item in items["features"]:
        for asset in item["assets"].values():
            raster = items_file.parent / asset["href"]
            asset["href"] = f"{bucket}/{raster.name}"
            objects.put(asset["href"], raster.read_bytes())
    moved = folder / "items.json"
    moved.write_text(json.dumps(items))
    return moved


def contents(store: str) -> dict[str, bytes]:
    """Every object below a URL or folder by its name there."""
    fs, root = objects.filesystem(store)
    return {path.removeprefix(root).lstrip("/"): fs.cat_file(path) for path in fs.find(root)}


def disconnect() -> None:
    """Close what fsspec keeps open for the life of a process: the server ends before it."""
    filesystems = fsspec.get_filesystem_class("s3")
    for fs in filesystems._cache.values():
        if fs._s3 is not None and fs.asynchronous:  # zarr's, on zarr's event loop
            zarr.core.sync.sync(fs._s3.close())
        elif fs._s3 is not None:
            fsspec.asyn.sync(fs.loop, fs._s3.close)
    filesystems.clear_instance_cache()


def _start(folder: Path, kind: str) -> subprocess.Popen[bytes]:
    program = shutil.which(f"swift-{kind}-server", path=sysconfig.get_path("scripts"))
    assert program, "Swift is not installed: pip install -c constraints.txt -e '.[test]'"
    with (folder / f"{kind}.log").open("wb") as log:
        return subprocess.Popen(
            ending_with_parent([program, str(folder / f"{kind}-server.conf"), "-v"]),
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"Swift did not start: {log.read_text(errors='replace')[-2000:]}")
