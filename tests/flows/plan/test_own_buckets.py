"""An API may name any bucket; the user's keys open those alone that the user named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.cli.demo_region import DemoRegion
from flows.cli.main import main
from tests.support.object_store import Swift, aws_environment, new_bucket, put_scenes
from tests.support.quirky_api import Quirks, quirky_api
from tests.support.regions import arguments_of, request_of


def test_a_private_bucket_that_an_api_names_is_read_when_its_user_named_it_too(
    swift: Swift, small_region: DemoRegion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with aws_environment(swift.environment()):
        bucket = new_bucket().removeprefix("s3://")
        items = put_scenes(small_region.catalog, f"s3://{bucket}", tmp_path)
        found = json.loads(items.read_text())["features"]
        with quirky_api(found, Quirks(filters=True, matched=None)) as (url, _):
            request = request_of(small_region, tmp_path / "store", catalog=url)
            words = [*arguments_of(request), "--dry-run", "--json", "-"]
            assert main(words) == 0
            plan = json.loads(capsys.readouterr().out)
            assert main([*words, "--own-buckets", "other", bucket]) == 0
            named = json.loads(capsys.readouterr().out)
        assert main([*arguments_of(request_of(small_region, tmp_path, catalog=str(items))),
                     "--dry-run", "--json", "-"]) == 0  # fmt: skip
        of_a_file = json.loads(capsys.readouterr().out)

    assert plan["slots"] == []
    reasons = [each["reason"] for each in plan["unpaired"]]
    note = f"; it was read without your keys, which --own-buckets {bucket} lets it have"
    assert sum(f"s3://{bucket}/" in reason and note in reason for reason in reasons) >= 4
    assert [slot["slot"] for slot in named["slots"]] == [
        slot["slot"] for slot in of_a_file["slots"]
    ]
    assert len(named["slots"][0]["pairs"]) == 4
