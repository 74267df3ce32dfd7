"""Which URLs and which addresses an org may have its notices sent to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.accounts.webhooks import URL_LENGTH_MAX, is_public, url_problem

PRIVATE = [
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.5.5", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "224.0.0.1", "239.1.1.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1",
    "::1", "::", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:c0a8:101::1",
]  # fmt: skip
PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "2606:4700:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_no_host_of_the_public_internet_is_not_connected_to(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_is(address: str) -> None:
    assert is_public(ip_address(address))


@given(st.integers(0, 2**32 - 1))
def test_an_ipv6_spelling_of_an_address_is_as_public_as_the_address(number: int) -> None:
    plain = IPv4Address(number)
    mapped = IPv6Address((0xFFFF << 32) | number)
    translated = IPv6Address((0x64FF9B << 96) | number)
    tunnelled = IPv6Address((0x2002 << 112) | (number << 80))
    assert {is_public(mapped), is_public(translated), is_public(tunnelled)} == {is_public(plain)}


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.acme.example/notices",
        "https://hooks.acme.example:8443/a?b=c",
        "https://8.8.8.8/x",
        "https://[2606:4700:4700::1111]/x",
        "HTTPS://Hooks.Acme.Example",
    ],
)
def test_an_https_url_of_a_public_host_is_taken(url: str) -> None:
    assert url_problem(url) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://hooks.acme.example/", "https"),
        ("ftp://hooks.acme.example/", "https"),
        ("hooks.acme.example", "https"),
        ("https:///x", "no host"),
        ("https://hooks.acme.example:0/", "no host"),
        ("https://hooks.acme.example:99999/", "is none"),
        ("https://[::1/", "is none"),
        ("https://user:secret@hooks.acme.example/", "user"),
        ("https://@hooks.acme.example/", "user"),
        ("https://hooks.acme.example/#x", "fragment"),
        ("https://hooks.acme.example/#", "fragment"),
        ("https://hooks.acme.example/a b", "characters"),
        ("https://hooks.acme.example/\r\nX: y", "characters"),
        ("https://hooks.acme.example\\@evil.example/", "characters"),
        ("https://हुक्स.example/", "characters"),
        ("https://hooks.acme.example/" + "a" * URL_LENGTH_MAX, "more than"),
        ("https://localhost/", "public"),
        ("https://router/", "public"),
        ("https://metadata.google.internal/", "public"),
        ("https://printer.local/", "public"),
        ("https://127.0.0.1/", "public"),
        ("https://169.254.169.254/latest", "public"),
        ("https://[::1]/", "public"),
        ("https://[::ffff:10.0.0.1]/", "public"),
    ],
)
def test_another_url_is_refused_with_what_is_wrong_and_not_repeated(url: str, problem: str) -> None:
    said = url_problem(url)
    assert said is not None and problem in said
    assert url not in said
