"""The demo's address for signing in: each visit gets a link of its own, and only who knows the address."""

from __future__ import annotations

import itertools

import httpx2

from pipeline.demo.sign_in import sign_in_address


def test_before_there_is_anything_to_open_a_visitor_waits_and_goes_on() -> None:
    links: list[str | None] = [None, "http://127.0.0.1:1/login?token=t"]
    with sign_in_address(lambda: links.pop(0)) as address:
        waits = httpx2.get(address, trust_env=False)
        assert (waits.status_code, waits.headers["refresh"]) == (200, "1") and "starting" in waits.text
        assert httpx2.get(address, trust_env=False).status_code == 303


def test_each_visit_is_sent_on_with_a_link_of_its_own() -> None:
    numbers = itertools.count(1)
    with sign_in_address(lambda: f"http://127.0.0.1:1/login?token=t{next(numbers)}") as address:
        for number in (1, 2):
            visit = httpx2.get(address, trust_env=False)
            assert visit.status_code == 303
            assert visit.headers["location"] == f"http://127.0.0.1:1/login?token=t{number}"
        for other in (address[:-1], address + "x", address.rsplit("/", 1)[0], address.rsplit("/", 2)[0]):
            nothing = httpx2.get(other, trust_env=False)
            assert nothing.status_code == 404 and "location" not in nothing.headers
    assert next(numbers) == 3
