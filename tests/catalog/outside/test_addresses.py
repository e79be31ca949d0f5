"""Which addresses everybody can reach."""

from __future__ import annotations

import pytest

from catalog.outside.addresses import is_public, leads_inside


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.10", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1",
        "169.254.169.254", "100.100.100.200", "168.63.129.16", "224.0.0.1", "255.255.255.255",
        "::1", "::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:169.254.169.254", "64:ff9b::7f00:1",
    ],
)  # fmt: skip
def test_what_only_a_machine_or_its_network_reaches_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "52.218.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_what_everybody_reaches_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/a.tif", "http://127.1/a.tif", "http://2130706433/a.tif",
        "https://0x7f000001:80/a.tif", "http://[::1]:80/a.tif", "http://user@127.0.0.1/a.tif",
    ],
)  # fmt: skip
def test_however_it_is_written_a_host_is_looked_up(url: str) -> None:
    assert leads_inside(url)


@pytest.mark.parametrize(
    "url", ["s3://bucket/a.tif", "/a.tif", "http:///a.tif", "http://no.such.host.invalid/a.tif"]
)
def test_what_names_no_host_that_is_known_leads_nowhere(url: str) -> None:
    assert not leads_inside(url)
