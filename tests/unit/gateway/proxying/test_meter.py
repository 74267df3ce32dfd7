"""The meter of a process whose Kafka is away: it says so, and keeps what was served."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pipeline.gateway import Refusal
from pipeline.gateway.proxying import meter as meter_module
from pipeline.gateway.proxying.admitted import AdmittedRequest, Caller, Outcome
from pipeline.gateway.proxying.meter import NOT_READY, NOT_STORED, ProxyMeter
from pipeline.gateway.proxying.settings import ProxySettings
from pipeline.gateway.sending.entry import SpoolEntry
from pipeline.gateway.sending.spool import Spool

CALLER = Caller("org_1", "key_1", "standard")
BODY = {"model": "krutrim-2", "messages": [], "max_tokens": 10}
SERVED = Outcome(200, "krutrim-2", "krutrim", {"prompt_tokens": 4, "completion_tokens": 10})
FAILED = Outcome(500, "krutrim-2", "krutrim")


@pytest.fixture(autouse=True)
def _no_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter_module, "CATALOG_LIMIT_S", 0.01)


def meter(tmp_path: Path, **options: Any) -> ProxyMeter:
    """A meter that admits strangers at once: nothing can be read of whom to refuse."""
    settings = ProxySettings("kafka://127.0.0.1:1", "mum-1", tmp_path / "spools")
    return ProxyMeter(settings, ready_limit_s=0.01, drain_limit_s=0.01, **{"unread_limit_s": 0, **options})


async def a_request(meter: ProxyMeter) -> AdmittedRequest:
    request = await meter.admit(CALLER, BODY, embeds=False)
    assert isinstance(request, AdmittedRequest)
    return request


def stored(tmp_path: Path) -> list[SpoolEntry]:
    """What is in the first process's spool; its lock is left alone, as the meter has it still."""
    entries: list[SpoolEntry] = []
    place = tmp_path / "spools" / "worker-0"
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in place.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    Spool(copy, segment_bytes=1000, sync=False, now_ns=0, found=lambda e, _: entries.append(e)).close()
    return entries


async def test_a_request_ends_once_with_what_was_said_first(tmp_path: Path) -> None:
    of_process = meter(tmp_path)
    request = await a_request(of_process)
    assert of_process.open_request(request.request_id) is request
    assert await of_process.end(request, SERVED) is None
    assert await of_process.end(request, FAILED) is None
    assert of_process.open_request(request.request_id) is None
    (entry,) = stored(tmp_path)
    assert entry.given_id == request.request_id
    assert b'"status":200' in entry.event


async def test_a_request_that_no_provider_was_asked_for_leaves_nothing(tmp_path: Path) -> None:
    of_process = meter(tmp_path)
    request = await a_request(of_process)
    of_process.drop(request)
    of_process.drop(request)
    assert await of_process.end(request, SERVED) is None
    assert stored(tmp_path) == []


async def test_who_is_cancelled_while_it_is_stored_has_it_stored(tmp_path: Path) -> None:
    of_process = meter(tmp_path)
    request = await a_request(of_process)
    ending = asyncio.create_task(of_process.end(request, SERVED))
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    another = await a_request(of_process)
    await of_process.end(another, SERVED)
    assert [entry.given_id for entry in stored(tmp_path)] == [request.request_id, another.request_id]


async def test_what_cannot_be_stored_is_not_handed_out(tmp_path: Path) -> None:
    of_process = meter(tmp_path, spool_bytes_max=10)
    assert await of_process.end(await a_request(of_process), SERVED) is NOT_STORED


async def test_nobody_is_called_unknown_before_the_keys_were_read(tmp_path: Path) -> None:
    assert await meter(tmp_path).authenticate("br-something") is NOT_READY


async def test_everybody_is_refused_before_the_verdicts_were_read(tmp_path: Path) -> None:
    refusal = await meter(tmp_path, unread_limit_s=60).admit(CALLER, BODY, embeds=False)
    assert isinstance(refusal, Refusal)
    assert refusal.http_status == 503


async def test_a_start_that_failed_is_tried_again(tmp_path: Path) -> None:
    of_process = meter(tmp_path)
    (tmp_path / "spools").write_text("a file where the spools are to be")
    assert await of_process.admit(CALLER, BODY, embeds=False) is NOT_READY
    assert await of_process.authenticate("br-something") is NOT_READY
    (tmp_path / "spools").unlink()
    assert await of_process.end(await a_request(of_process), SERVED) is None


async def test_a_request_that_never_ends_is_forgotten_loudly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    of_process = meter(tmp_path)
    request = await a_request(of_process)
    monkeypatch.setattr(meter_module, "FORGOTTEN_S", 0)
    await a_request(of_process)
    assert of_process.open_request(request.request_id) is None
    assert f"request {request.request_id} of org_1 never ended" in caplog.text


def test_a_setting_that_cannot_be_is_told_of_at_once(tmp_path: Path) -> None:
    for settings in (
        ProxySettings("k:9092", "mum-1", tmp_path),
        ProxySettings("kafka://k:9092", "mum 1", tmp_path),
    ):
        with pytest.raises(ValueError, match="must"):
            ProxyMeter(settings)
    assert list(tmp_path.iterdir()) == []
