"""Which parts of a deployment are well, by what was found out.

Owns: that judgement, so also whether `metering status` exits with 0. Pure. Called by: `status/screen.py`, `cli/status.py`.

A worker, a sink, a mailer or a sender of webhooks is well while its consumer group has members, every partition has an
owner, and nothing waits for longer than BEHIND_MAX_MS. What could not be asked is not called well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pipeline import ist
from pipeline.status.found import Backlog, ConsumerGroup, DeploymentFound, KafkaFound, RoleFound, Unknown

BEHIND_MAX_MS = 60_000
"""How long a record may wait before its role is not well any more."""
STABLE = "Stable"
"""Kafka's word for a group whose members have all that they are to have."""
READY = "ok"
NAMED_MAX = 8
GROUPS = {"worker": "worker", "sink": "sink", "mailer": "mail", "webhooks": "webhooks", "notary": "notary"}
"""Each part that is known by its consumer group, and the group's name after the deployment's."""
ONE_PARTITION = frozenset({"notary"})
"""Parts that read a topic of one partition."""
MAY_BE_ABSENT = frozenset({"notary"})
"""Parts that a deployment may do without."""


class PartCondition(StrEnum):
    """How a part is. `off`: it does not run, and need not."""

    OK = "ok"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    OFF = "off"


@dataclass(frozen=True)
class JudgedPart:
    """A part, how it is, and why, in one line for a person."""

    name: str
    condition: PartCondition
    detail: str

    @property
    def is_well(self) -> bool:
        """Whether nothing has to be done about it."""
        return self.condition in (PartCondition.OK, PartCondition.OFF)


def judged(found: DeploymentFound) -> list[JudgedPart]:
    """Return every part in the order in which one looks at them: what others need comes first."""
    parts = {part.name: part for part in (_kafka(found.kafka), _clickhouse(found.debited_nano))}
    for name in GROUPS:
        parts[name] = _role(name, found.kafka)
    parts["server"] = _server(parts["mailer"])
    parts["books"] = _books(found.kafka)
    for role in found.roles:
        said = _of_role(role)
        # That a worker is well says its group already, and of all workers.
        if role.name == "server" or role.name not in parts or not said.is_well:
            parts[role.name] = said
    return list(parts.values())


def is_well(found: DeploymentFound, parts: Iterable[JudgedPart]) -> bool:
    """Whether every part is well and every figure is known."""
    return all(part.is_well for part in parts) and not unknown_figures(found)


def unknown_figures(found: DeploymentFound) -> dict[str, str]:
    """Return each figure that is not known, and why."""
    figures: dict[str, object] = {}
    if isinstance(found.debited_nano, Unknown):
        figures["debited_today"] = Unknown("ClickHouse could not be asked")
    if isinstance(found.kafka, Unknown):
        names = ("lag", "events", "dead_letters", "open_payments", "verify")
        figures |= dict.fromkeys(names, Unknown("Kafka could not be asked"))
    else:
        kafka = found.kafka
        backlogs = [kafka.backlogs[role] for role in ("worker", "sink")]
        figures["lag"] = next((each for each in backlogs if isinstance(each, Unknown)), None)
        figures |= {
            "events": kafka.posted,
            "dead_letters": kafka.dead_letters,
            "open_payments": kafka.orders,
            "verify": kafka.verified,
        }
    return {name: figure.why for name, figure in figures.items() if isinstance(figure, Unknown)}


def _kafka(kafka: KafkaFound | Unknown) -> JudgedPart:
    if isinstance(kafka, Unknown):
        return JudgedPart("kafka", PartCondition.WRONG, kafka.why)
    return JudgedPart(
        "kafka", PartCondition.OK, f"{_many(kafka.brokers, 'broker')}, {_many(kafka.partitions, 'partition')}"
    )


def _clickhouse(debited_nano: int | Unknown) -> JudgedPart:
    if isinstance(debited_nano, Unknown):
        return JudgedPart("clickhouse", PartCondition.WRONG, debited_nano.why)
    return JudgedPart("clickhouse", PartCondition.OK, "answers")


def _role(name: str, kafka: KafkaFound | Unknown) -> JudgedPart:
    if isinstance(kafka, Unknown):
        return JudgedPart(name, PartCondition.UNKNOWN, "Kafka could not be asked")
    group = kafka.groups[GROUPS[name]]
    if isinstance(group, Unknown):
        return JudgedPart(name, PartCondition.UNKNOWN, group.why)
    if not group.members and name in MAY_BE_ABSENT:
        return JudgedPart(name, PartCondition.OFF, _with_signed("none runs", kafka))
    partitions = 1 if name in ONE_PARTITION else kafka.partitions
    problem = _problem(group, partitions) or _behind(kafka.backlogs.get(GROUPS[name]))
    if problem is not None:
        return JudgedPart(name, PartCondition.WRONG, problem)
    runs = "1 runs" if group.members == 1 else f"{group.members} run"
    detail = f"{runs}, every partition has an owner"
    return JudgedPart(name, PartCondition.OK, _with_signed(runs, kafka) if name == "notary" else detail)


def _problem(group: ConsumerGroup, partitions: int) -> str | None:
    """Return what is wrong with a group, None where nothing is."""
    if not group.members:
        return "none runs"
    if group.state != STABLE:
        return f"its partitions are being given out anew (group state {group.state}): look again in a moment"
    lacking = sorted(set(range(partitions)) - group.partitions)
    if not lacking:
        return None
    more = f" and {len(lacking) - NAMED_MAX} more" if len(lacking) > NAMED_MAX else ""
    return f"nobody has partition {', '.join(map(str, lacking[:NAMED_MAX]))}{more}"


def _behind(backlog: Backlog | Unknown | None) -> str | None:
    if not isinstance(backlog, Backlog) or backlog.longest_ms <= BEHIND_MAX_MS:
        return None
    partition = max(backlog.oldest_ms, key=lambda each: backlog.oldest_ms[each])
    return f"it is behind: on partition {partition} a record has waited for {backlog.longest_ms // 1000} s"


def _books(kafka: KafkaFound | Unknown) -> JudgedPart:
    """Return whether the books agreed when they were compared last; how long ago that was is for a person to judge."""
    if isinstance(kafka, Unknown):
        return JudgedPart("books", PartCondition.UNKNOWN, "Kafka could not be asked")
    verified = kafka.verified
    if isinstance(verified, Unknown):
        return JudgedPart("books", PartCondition.UNKNOWN, verified.why)
    if verified is None:
        return JudgedPart("books", PartCondition.OFF, "never compared: run `metering verify`")
    at = ist.datetime_of(verified.ended_ms).strftime("%Y-%m-%d %H:%M:%S IST")
    if verified.differences:
        found = _many(verified.differences, "difference")
        return JudgedPart("books", PartCondition.WRONG, f"`metering verify` found {found} at {at}")
    return JudgedPart("books", PartCondition.OK, f"agreed at {at}, by `metering verify`")


def _with_signed(runs: str, kafka: KafkaFound) -> str:
    if isinstance(kafka.signed_through, Unknown):
        return f"{runs}; what is signed is not known: {kafka.signed_through.why}"
    return f"{runs}, signed through {kafka.signed_through or 'no day yet'}"


def _server(mailer: JudgedPart) -> JudgedPart:
    """Return how the servers are where no address of one is known: each has a mailer, whose group Kafka knows."""
    if mailer.condition is PartCondition.OK:
        return JudgedPart("server", PartCondition.OK, "runs, by its mailer; --role URL asks one how it is")
    detail = "none runs" if mailer.detail == "none runs" else "no address is known to ask one (--role URL)"
    condition = PartCondition.WRONG if mailer.detail == "none runs" else PartCondition.UNKNOWN
    return JudgedPart("server", condition, detail)


def _of_role(role: RoleFound) -> JudgedPart:
    if isinstance(role.parts, Unknown):
        return JudgedPart(role.name, PartCondition.WRONG, f"{role.url}: {role.parts.why}")
    wrong = problems_of(role.parts)
    detail = "; ".join(f"{name}: {said}" for name, said in wrong.items()) or f"ready at {role.url}"
    return JudgedPart(role.name, PartCondition.WRONG if wrong else PartCondition.OK, detail)


def problems_of(parts: Mapping[str, str]) -> dict[str, str]:
    """Return what of an answer of `/healthz` is not ready."""
    return {name: said for name, said in parts.items() if said != READY}


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
