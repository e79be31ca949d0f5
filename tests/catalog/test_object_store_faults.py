"""An object store as it is on bad days: keys that expire, 403 for what is missing, "slow down"."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from catalog import objects
from catalog.archives.items import Asset
from catalog.cube.update import CubeChange, update_cube
from catalog.errors import StoreError
from catalog.pixels.scene import probe
from catalog.store.open import open_mosaic
from flows.cluster.retries import may_pass
from tests.support.cubes import open_cube, publish_day, require_days, written_day
from tests.support.faulty_proxy import Faults, faulty_proxy, s3_error
from tests.support.object_store import ACCESS_KEY, Swift, aws_environment, new_bucket
from tests.support.scenes import noise, scene, write_raster

KEYS = """
import datetime, json, sys, time
now, lasts, secret = time.time(), float(sys.argv[1]), sys.argv[2]
until = (now // lasts + 1) * lasts
print(json.dumps({"Version": 1, "AccessKeyId": sys.argv[3], "SecretAccessKey": secret,
    "SessionToken": f"token-{int(now // lasts)}",
    "Expiration": datetime.datetime.fromtimestamp(until, datetime.UTC).isoformat()}))
"""
KEYS_LAST_SECONDS = 2.0


def profile_of_expiring_keys(swift: Swift, address: str, folder: Path) -> dict[str, str]:
    """An environment whose keys come from a program, new ones every few seconds."""
    program = folder / "keys.py"
    program.write_text(KEYS)
    words = [sys.executable, str(program), str(KEYS_LAST_SECONDS), swift.secret, ACCESS_KEY]
    config = folder / "config"
    config.write_text(
        f"[default]\nregion = us-east-1\nendpoint_url = http://{address}\n"
        f"credential_process = {' '.join(words)}\n"
    )
    return {"AWS_CONFIG_FILE": str(config)}


@pytest.mark.faults
def test_keys_that_expire_in_a_run_are_renewed(swift: Swift, tmp_path: Path) -> None:
    seen: Counter[str] = Counter()

    def refuse_old(_: str, __: str, headers: Mapping[str, str]) -> tuple[int, bytes] | None:
        token = headers.get("X-Amz-Security-Token", "")
        seen[token] += 1
        now = int(time.time() // KEYS_LAST_SECONDS)
        valid = {f"token-{now}", f"token-{now - 1}"}  # one under way may cross the border
        return None if token in valid else s3_error(403, "ExpiredToken")

    with aws_environment(swift.environment()):
        bucket = new_bucket()
    raster = write_raster(tmp_path / "x.tif", noise((1, 64, 64)))
    with (
        faulty_proxy(swift.address, Faults(instead=refuse_old)) as address,
        aws_environment(profile_of_expiring_keys(swift, address, tmp_path)),
    ):
        objects.put(f"{bucket}/x.tif", raster.read_bytes())
        until = time.monotonic() + 3 * KEYS_LAST_SECONDS
        while time.monotonic() < until:
            probe(scene("s", assets=(Asset("vh", f"{bucket}/x.tif", ("vh",)),)))
            assert objects.get(f"{bucket}/x.tif") == raster.read_bytes()
    assert len(seen) >= 3


def test_keys_that_nobody_can_renew_end_in_one_error_at_once(swift: Swift) -> None:
    def expired(_: str, __: str, ___: Mapping[str, str]) -> tuple[int, bytes]:
        return s3_error(400, "ExpiredToken")

    with (
        faulty_proxy(swift.address, Faults(instead=expired)) as address,
        aws_environment(swift.environment(address)),
        pytest.raises(StoreError, match="expired") as caught,
    ):
        objects.put("s3://mosaics/x", b"")
    assert "renew them" in str(caught.value)
    assert not may_pass(caught.value)


def test_a_missing_object_that_is_answered_403_tells_which_right_may_be_lacking(
    swift: Swift,
) -> None:
    def may_not_list(_: str, path: str, __: Mapping[str, str]) -> tuple[int, bytes] | None:
        return s3_error(403, "AccessDenied") if path.endswith("/missing") else None

    with (
        faulty_proxy(swift.address, Faults(instead=may_not_list)) as address,
        aws_environment(swift.environment(address)),
    ):
        bucket = new_bucket()
        assert objects.get(f"{bucket}/gone") is None  # 404
        with pytest.raises(StoreError, match="s3:ListBucket") as caught:
            objects.get(f"{bucket}/missing")
        assert f"{bucket}/missing" in str(caught.value)
        assert not may_pass(caught.value)


@pytest.mark.faults
def test_slow_down_is_heeded_by_every_reader_and_writer(swift: Swift, tmp_path: Path) -> None:
    asked: Counter[tuple[str, str]] = Counter()

    def slow_down(method: str, path: str, _: Mapping[str, str]) -> tuple[int, bytes] | None:
        asked[method, path] += 1
        return s3_error(503, "SlowDown") if asked[method, path] <= 1 else None

    with aws_environment(swift.environment()):
        bucket = new_bucket()
        objects.put(
            f"{bucket}/x.tif", write_raster(tmp_path / "x.tif", noise((1, 64, 64))).read_bytes()
        )
        day = written_day(bucket, "2020-11-04", "a")
    with (
        faulty_proxy(swift.address, Faults(instead=slow_down)) as address,
        aws_environment(swift.environment(address)),
    ):
        publish_day(day)
        update_cube(bucket, "la")
        assert open_mosaic(f"{bucket}/la").sizes["time"] == 1
        probe(scene("s", assets=(Asset("vh", f"{bucket}/x.tif", ("vh",)),)))
    assert max(asked.values()) > 1


@pytest.mark.faults
def test_a_bucket_with_dots_holds_a_store_and_its_cube(swift: Swift, tmp_path: Path) -> None:
    with aws_environment(swift.environment()):
        fs, _ = objects.filesystem("s3://")
        fs.mkdir("mosaics.of.the.alps")
        store = "s3://mosaics.of.the.alps"
        day = publish_day(written_day(store, "2020-11-04", "a"))
        update_cube(store, "la")
        require_days(open_cube(f"{store}/la"), [day])
        path = write_raster(tmp_path / "x.tif", noise((1, 64, 64)))
        objects.put(f"{store}/x.tif", path.read_bytes())
        probe(scene("s", assets=(Asset("vh", f"{store}/x.tif", ("vh",)),)))


@pytest.mark.faults
def test_a_listing_that_is_behind_hides_no_day_that_was_just_published(
    swift: Swift,
) -> None:
    kept: dict[str, bytes] = {}

    def stale(method: str, path: str, _: Mapping[str, str]) -> tuple[int, bytes] | None:
        return (
            (200, kept["items"])
            if method == "GET" and "items" in kept and "prefix=la%2Fitems" in path
            else None
        )

    with aws_environment(swift.environment()):
        bucket = new_bucket()
        first = publish_day(written_day(bucket, "2020-11-04", "a"))
        update_cube(bucket, "la")
        second = publish_day(written_day(bucket, "2020-11-05", "b"))
    name = bucket.removeprefix("s3://")
    kept["items"] = (
        f"<ListBucketResult><Name>{name}</Name><Prefix>la/items/</Prefix><KeyCount>1</KeyCount>"
        "<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated><Contents>"
        "<Key>la/items/2020-11-04.json</Key><LastModified>2020-11-05T00:00:00.000Z</LastModified>"
        "<ETag>x</ETag><Size>9</Size><StorageClass>STANDARD</StorageClass></Contents>"
        "</ListBucketResult>"
    ).encode()
    with (
        faulty_proxy(swift.address, Faults(instead=stale)) as address,
        aws_environment(swift.environment(address)),
    ):
        assert [entry.name for entry in objects.entries(f"{bucket}/la/items")] == [
            "2020-11-04.json"
        ]
        change = update_cube(bucket, "la", published=["2020-11-05"])
        assert change == CubeChange(added=("2020-11-05",))
    with aws_environment(swift.environment()):
        require_days(open_cube(f"{bucket}/la"), [first, second])
