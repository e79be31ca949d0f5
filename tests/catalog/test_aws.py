"""The standard AWS environment, and what s3fs and GDAL make of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from catalog import aws, objects
from catalog.archives.items import Asset
from catalog.archives.providers import Access
from catalog.errors import ArgumentError
from catalog.pixels.scene import probe
from tests.support.object_store import Swift, aws_environment, new_bucket
from tests.support.scenes import noise, scene, write_raster

VARIABLES = {
    "AWS_ACCESS_KEY_ID": "someone",
    "AWS_SECRET_ACCESS_KEY": "S3CRET",
    "AWS_REGION": "eu-central-1",
}


def test_a_profile_leads_to_the_store_as_variables_do(swift: Swift, tmp_path: Path) -> None:
    variables = swift.environment()
    with aws_environment(variables):
        bucket = new_bucket()
        objects.put(
            f"{bucket}/x.tif", write_raster(tmp_path / "x.tif", noise((1, 64, 64))).read_bytes()
        )
    (tmp_path / "config").write_text(
        f"""[profile night]
region = {variables["AWS_REGION"]}
endpoint_url = {variables["AWS_ENDPOINT_URL"]}
aws_access_key_id = {variables["AWS_ACCESS_KEY_ID"]}
aws_secret_access_key = {variables["AWS_SECRET_ACCESS_KEY"]}
"""
    )
    profile = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_PROFILE": "night"}
    with aws_environment(profile):
        assert "AWS_ENDPOINT_URL" not in os.environ
        assert objects.get(f"{bucket}/x.tif") == (tmp_path / "x.tif").read_bytes()
        probe(scene("s", assets=(Asset("vh", f"{bucket}/x.tif", ("vh",)),)))


def test_gdal_gets_what_the_environment_says() -> None:
    def options(**more: str) -> dict[str, str]:
        with aws_environment({**VARIABLES, **more}):
            return aws.GdalSession().get_credential_options()

    found = options(
        AWS_ENDPOINT_URL="https://objects.example.org:9000/s3/", AWS_SESSION_TOKEN="for an hour"
    )
    assert found["AWS_S3_ENDPOINT"] == "objects.example.org:9000/s3"
    assert (found["AWS_HTTPS"], found["AWS_VIRTUAL_HOSTING"]) == ("YES", "FALSE")
    assert (found["AWS_REGION"], found["AWS_SESSION_TOKEN"]) == ("eu-central-1", "for an hour")
    assert (found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"]) == ("someone", "S3CRET")
    assert options(AWS_ENDPOINT_URL="http://127.0.0.1:9")["AWS_HTTPS"] == "NO"
    assert "AWS_S3_ENDPOINT" not in options()  # Amazon's own
    with aws_environment({}):  # public data is read without a signature
        assert aws.GdalSession().get_credential_options() == {"AWS_NO_SIGN_REQUEST": "YES"}


def test_what_s3fs_gets_holds_no_secret() -> None:
    with aws_environment(VARIABLES):
        options = aws.storage_options()
    assert options["client_kwargs"] == {"region_name": "eu-central-1"}
    assert "S3CRET" not in repr(options)


@pytest.mark.parametrize(
    "url", ["http://me:S3CRET@127.0.0.1:9", "http://127.0.0.1:9/?key=S3CRET", "127.0.0.1:S3CRET"]
)
def test_an_endpoint_with_a_secret_is_refused_without_telling_it(url: str) -> None:
    with (
        aws_environment({**VARIABLES, "AWS_ENDPOINT_URL": url}),
        pytest.raises(ArgumentError, match="AWS_ENDPOINT_URL must be a plain address") as caught,
    ):
        objects.names("s3://mosaics")
    assert "S3CRET" not in repr(caught.value)


def test_a_strangers_bucket_is_read_without_the_users_keys() -> None:
    with aws_environment({"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}):
        options = aws.GdalSession(unsigned=True).get_credential_options()
    assert options == {"AWS_NO_SIGN_REQUEST": "YES"}


def test_requester_pays_needs_credentials_and_is_told_to_gdal() -> None:
    with aws_environment(VARIABLES):
        options = aws.GdalSession(requester_pays=True).get_credential_options()
        assert options["AWS_REQUEST_PAYER"] == "requester"
        assert "AWS_REQUEST_PAYER" not in aws.GdalSession().get_credential_options()
    with aws_environment({}), pytest.raises(ArgumentError, match="pays for the transfer"):
        aws.GdalSession(requester_pays=True).get_credential_options()


def test_copernicus_files_are_read_with_its_own_endpoint_and_keys(
    swift: Swift, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with aws_environment(swift.environment()):
        bucket = new_bucket()
        path = write_raster(tmp_path / "x.tif", noise((1, 64, 64)))
        objects.put(f"{bucket}/x.tif", path.read_bytes())
    asset = Asset("vh", f"{bucket}/x.tif", ("vh",), access=Access(copernicus=True))
    there = scene("s", assets=(asset,))
    elsewhere = {**VARIABLES, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    with aws_environment(elsewhere):
        with pytest.raises(ArgumentError, match="need CDSE_ACCESS_KEY_ID and CDSE_SECRET_ACCESS"):
            probe(there)
        monkeypatch.setenv("CDSE_ENDPOINT_URL", swift.environment()["AWS_ENDPOINT_URL"])
        monkeypatch.setenv("CDSE_ACCESS_KEY_ID", swift.environment()["AWS_ACCESS_KEY_ID"])
        monkeypatch.setenv("CDSE_SECRET_ACCESS_KEY", swift.environment()["AWS_SECRET_ACCESS_KEY"])
        probe(there)
        monkeypatch.setenv("CDSE_ENDPOINT_URL", "http://me:S3CRET@127.0.0.1:9")
        with pytest.raises(ArgumentError, match="CDSE_ENDPOINT_URL must be a plain") as caught:
            probe(there)
        assert "S3CRET" not in repr(caught.value)
