"""Which deployment records and rows are of, and the refusal to mix those of two.

Owns: a deployment's identity, how it is written beside records, and the words where two sides are of different ones. Pure.
Called by: the protocols of worker, sink and mailer, when they take a partition over; `sink/rebuild.py`.

Why identities are made and compared as they are is in `docs/adr/0009-a-deployment-has-an-identity.md`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from pipeline import topics
from pipeline.steps import LastHeaders, TopicIds, TopicPlace, takes_another

HEADER = "deployment"
"""The header of each record of the journal that says whose it is."""


class MixedHistoriesError(Exception):
    """Two parts are of different deployments or histories. The message names both and says what goes on."""


class DeploymentIdentity(Struct, frozen=True):
    """A deployment: its name, the setting METERING_DEPLOYMENT, and the id that its journal had when it began.

    `id` is Kafka's id of that topic, 32 hex digits, kept wherever the records go from then on. It is empty where the
    brokers, before Kafka 2.8, give topics no ids: then only names are compared.
    """

    name: str
    id: str = ""

    def __str__(self) -> str:
        """Return it as it is written: name/id."""
        return f"{self.name}/{self.id}"

    def header(self) -> tuple[str, bytes]:
        """Return the header that a record of the journal has."""
        return HEADER, str(self).encode()

    def is_of(self, other: DeploymentIdentity) -> bool:
        """Whether two are of one deployment, as far as their ids are known."""
        return self.name == other.name and (not self.id or not other.id or self.id == other.id)


def parse(text: str) -> DeploymentIdentity:
    """Return what `str` of an identity has made."""
    name, _, topic_id = text.partition("/")
    return DeploymentIdentity(name, topic_id)


def of_headers(headers: Sequence[tuple[str, bytes]] | None) -> DeploymentIdentity | None:
    """Return whose a record of the journal is; None where there is none, or a release wrote it that had no identities."""
    found = dict(headers or ()).get(HEADER)
    return None if found is None else parse(found.decode())


def check_name(name: str, place: str, found: DeploymentIdentity | None) -> None:
    """Raise MixedHistoriesError where what is in a place is of a deployment of another name than this process."""
    if found is not None and found.name != name:
        raise MixedHistoriesError(
            f"{place} is of the deployment {found}, and this process is of {name!r} (METERING_DEPLOYMENT): nothing was "
            f"written. Set METERING_DEPLOYMENT={found.name} if it was mistyped; two deployments need topics of their own."
        )


def whose_topic(
    deployment: str, place: TopicPlace, known_id: str | None, accepted: Mapping[str, str]
) -> Generator[LastHeaders | TopicIds, Any, tuple[str | None, bool]]:
    """Return the id of a topic whose partition is taken over, and whether it is to be read from its beginning.

    `known_id` is the id that the topic had when it was read last. Raises MixedHistoriesError where the journal's partition
    of that number is of another deployment, AnotherTopicError for another topic that is not `accepted`.
    """
    last = yield from LastHeaders(TopicPlace(topics.JOURNAL, place.partition))
    check_name(deployment, f"{topics.JOURNAL}/{place.partition}", of_headers(last))
    topic_id = (yield from TopicIds((place.topic,))).get(place.topic)
    return topic_id, takes_another(place.topic, known_id, topic_id, accepted)
