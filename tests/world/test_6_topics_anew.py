"""The last thing that is done to this product: its topics are deleted and made anew, or lose their end.

Each part that reads such a topic stops, and says which, by both ids or ends, and which page of the manual it is.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import httpx2

from pipeline import topics
from pipeline.kafka.clients import started_admin
from pipeline.kafka.topic_ids import topic_ids
from tests.support.product.processes import Role
from tests.support.product.razorpay import PARTITIONS
from tests.support.product.world import World


def _id(world: World, topic: str) -> str:
    return world.run(lambda: topic_ids(world.product.connection, [topic]))[topic]


def _made_anew(world: World, topic: str) -> tuple[str, str]:
    """Delete a topic and have the operator's command make it again; both ids."""
    before = _id(world, topic)

    async def delete() -> None:
        async with started_admin(world.product.connection) as admin:
            await admin.delete_topics([topic])
            while topic in await admin.list_topics():
                await asyncio.sleep(0.02)

    world.run(delete)
    assert topic in world.metering("topics")["created"]
    return before, _id(world, topic)


def _says_which(words: str, topic: str, before: str, anew: str) -> None:
    assert f"{topic} has the id {anew}, but what was read had the id {before}" in words, words
    assert "docs/operations.md" in words


def _log_of_requests(world: World) -> list[Path]:
    """Return the files in which the broker keeps the requests and what it knows of their producers."""
    data = world.product.broker.home / "data"
    files = [
        file
        for partition in range(PARTITIONS)
        for file in (data / f"{topics.REQUESTS}-{partition}").iterdir()
    ]
    return [
        file for file in files if file.suffix in (".log", ".index", ".timeindex", ".snapshot", ".txnindex")
    ]


def test_the_tail_of_an_input_is_lost(world: World) -> None:
    """The broker is killed and its log cut, as a power cut does it: the topic keeps its id and ends too early."""
    org = world.org("org_tail")
    for _ in range(3):
        world.publish(world.event(org))
        world.owes(org)
    world.agrees(org)
    broker = world.product.broker
    for role in world.product.roles():
        role.kill()
    asyncio.run(broker.stop())
    kept = {file: file.read_bytes() for file in _log_of_requests(world)}
    for file in kept:
        file.unlink()
    asyncio.run(broker.start())
    world.worker.start()
    words = world.ended(world.worker)
    assert re.search(r"metering.requests/\d ends at 0, but was read up to \d+", words), words
    assert "docs/operations.md" in words
    assert world.worker.process is not None and world.worker.process.returncode == 70
    # The page's first way: the topic is restored with its offsets.
    asyncio.run(broker.stop())
    for file in _log_of_requests(world):
        file.unlink()
    for file, content in kept.items():
        file.write_bytes(content)
    asyncio.run(broker.start())
    for role in world.product.roles():
        role.start()
    world.ready()
    world.publish(world.event(org))
    world.owes(org)
    world.agrees(org)


def test_the_topic_of_requests_is_another_one(world: World) -> None:
    before, anew = _made_anew(world, topics.REQUESTS)
    _says_which(_stopped(world, world.worker), topics.REQUESTS, before, anew)
    _stays_ready_without_a_worker(world)
    accepted = json.dumps({topics.REQUESTS: anew})
    world.restart(world.worker, METERING_ACCEPTED_TOPICS=accepted)
    world.publish(world.event("org_tail"))
    world.owes("org_tail")
    world.agrees("org_tail")


def _stays_ready_without_a_worker(world: World) -> None:
    """What ClickHouse alone can answer is answered, and the server says which routes are away."""
    server = world.product.server
    assert server is not None

    def away() -> list[str]:
        answer = httpx2.get(f"{server.status_url}/readyz", trust_env=False, timeout=20)
        assert answer.status_code == 200, answer.text
        routes: list[str] = answer.json()["routes_away"]
        return routes

    world.shop.until(lambda: "GET /me/billing" in away(), "the server knows that no worker answers", 60)
    assert "GET /me/activity" not in away()
    world.shop.get("/me/activity", "org_tail")
    assert world.shop.http.get("/healthz").status_code == 503


def _stopped(world: World, role: Role) -> str:
    """Wait until a role has stopped, start it, and return what it says when it stops again."""
    world.ended(role)
    role.start()
    return world.ended(role)


def _mailed(world: World, org: str) -> None:
    """Have an org fall below its threshold, and wait until the mail server has the mail."""
    before = len(list(world.mail_dir.glob("*.eml")))
    world.org(org)
    world.shop.put("/me/billing/threshold", org, {"threshold_inr": 50})
    world.metering("credit", org, "--inr", "-60", "--reason", "spent")
    world.balances[org] -= 60
    world.shop.until(lambda: len(list(world.mail_dir.glob("*.eml"))) > before, "a mail comes", 60)


def test_the_topic_of_mails_is_another_one(world: World) -> None:
    _mailed(world, "org_mailed")
    before, anew = _made_anew(world, topics.MAIL)
    server = world.product.server
    assert server is not None

    def said() -> str:
        try:
            return httpx2.get(f"{world.product.http_url}/healthz", trust_env=False, timeout=20).text
        except httpx2.HTTPError:
            return ""

    world.shop.until(lambda: anew in said(), "the mailer says why it stopped", 60)
    _says_which(said(), topics.MAIL, before, anew)
    world.restart(server, METERING_ACCEPTED_TOPICS=json.dumps({topics.MAIL: anew}))
    _mailed(world, "org_mailed_after")


def test_the_books_still_agree(world: World) -> None:
    assert world.metering("verify")["differences"] == []


def test_the_journal_is_another_one(world: World) -> None:
    """The end of this product: there is no way on with another journal but a rebuild."""
    before, anew = _made_anew(world, topics.JOURNAL)
    sink = world.product.sink
    assert sink is not None
    _says_which(_stopped(world, sink), topics.JOURNAL, before, anew)
    world.worker.kill()
    world.worker.start()
    _says_which(world.ended(world.worker), topics.JOURNAL, before, anew)
