"""Which address counts, and whose word about it is believed."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from pipeline.api.http.addresses import Proxies, counted_as, is_near


def test_an_ipv6_network_counts_as_one() -> None:
    assert counted_as("2001:db8:1:2:3::1") == counted_as("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert counted_as("2001:db8:1:3::1") != counted_as("2001:db8:1:2::1")
    assert counted_as("fe80::1%eth0") == "fe80::/64"
    assert counted_as("10.1.2.3") == "10.1.2.3" and counted_as("a:b") == "a:b" and counted_as("") == ""


def test_only_named_proxies_are_trusted() -> None:
    proxies = Proxies("10.0.0.0/8, 192.0.2.7,::1")
    assert [proxies.trusts(a) for a in ("10.9.9.9", "192.0.2.7", "::1")] == [True] * 3
    assert [proxies.trusts(a) for a in ("11.0.0.1", "192.0.2.8", "", "unix", "::2")] == [False] * 5
    assert not Proxies("").trusts("127.0.0.1")
    with pytest.raises(ValueError, match="does not appear"):
        Proxies("proxy.example")


def test_near_is_this_machine_and_private_networks_without_a_proxy() -> None:
    near = ("127.0.0.1", "127.9.9.9", "::1", "10.0.0.1", "172.18.0.3", "fd00::7", "fe80::1%eth0")
    assert [is_near(a, Headers({})) for a in near] == [True] * len(near)
    assert [is_near(a, Headers({})) for a in ("8.8.8.8", "2a00::1", "testclient", "")] == [False] * 4
    for header in ("X-Forwarded-For", "forwarded"):
        assert not is_near("127.0.0.1", Headers({header: "10.0.0.1"}))


def test_an_ipv4_address_on_a_socket_for_both_families_is_that_ipv4_address() -> None:
    assert counted_as("::ffff:192.0.2.1") == "192.0.2.1" != counted_as("::ffff:192.0.2.2")
    assert Proxies("10.0.0.0/8").trusts("::ffff:10.1.1.1")
    assert is_near("::ffff:127.0.0.1", Headers({}))
    assert not is_near("::ffff:8.8.8.8", Headers({}))
