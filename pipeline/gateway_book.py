"""Which gateways are registered, and the signature by which a record shows that one of them sent it.

Owns: the record of each on `metering.gateways`, the key of each, the header that its records carry on `metering.requests`,
what is known of all of them together (`GatewayBook`), and whether a record may hold events of a source (`SignedRecord`).
Pure.
Called by: `metering gateway` registers and prints keys; `gateway/sending/sender.py` signs; `posting/requests.py` asks.
Next: `kafka/gateways.py` writes and follows the records.

Kafka tells a consumer nothing of who wrote a record, so who may write under a source has to show in the record itself.
The sources of the gateway NAME are `gateway/NAME` and `gateway/NAME/...`. Once NAME is registered, an event under them is
charged only from a record that carries a code made with a key of NAME: HMAC-SHA256 (RFC 2104) over the topic, the
partition and the record's exact bytes. A record that is overheard and written again has the same source, ids and numbers, so its events
are duplicates, or too late; on another partition, where its numbers may not have been seen, it is not signed.

The keys themselves are stored nowhere but at the gateways. Each is derived from the command key, the gateway's name and
the key's number (HMAC-SHA256 as the pseudo-random function, as in RFC 5869), so who reads the topic learns none, and
workers, which hold the command key, need nothing more.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Self

import msgspec
from msgspec import Meta, Struct

from pipeline.formats import GATEWAYS
from pipeline.topics import REQUESTS

HEADER = "mac"
KINDS = "gateway"
"""The first part of a gateway's sources."""
NAME = r"[A-Za-z0-9._-]{1,64}"
NUMBERS_ACCEPTED = 2
"""So many keys of a gateway are accepted at a time: the newest, and the one before while it takes its place."""
_KEY = re.compile(rf"({NAME}):([1-9]\d{{0,5}}):([0-9a-f]{{64}})")
_FORM = b"1"
"""What a header begins with."""
_NUMBER = re.compile(rb"[1-9]\d{0,5}")
_PREFIX = REQUESTS.encode() + b"\0"


class RegisteredGateway(Struct, frozen=True, tag_field="format", tag=GATEWAYS.number):
    """A registered gateway: its name, and the numbers of the keys that are accepted, oldest first."""

    name: Annotated[str, Meta(pattern=f"^{NAME}$")]
    numbers: Annotated[tuple[int, ...], Meta(min_length=1, max_length=NUMBERS_ACCEPTED)]


encode_gateway = msgspec.json.Encoder().encode
_decode = GATEWAYS.decoder(RegisteredGateway)


def decode_gateway(value: bytes) -> RegisteredGateway:
    """Return the record of a value. Raises NewerFormatError, and msgspec.MsgspecError for what is none."""
    return _decode(value)


def registered(name: str, before: RegisteredGateway | None, *, renew: bool) -> RegisteredGateway:
    """Return the record that registers a gateway: as it is, or with one more key where `renew`.

    Raises ValueError where the name cannot be part of a source.
    """
    if not re.fullmatch(NAME, name):
        raise ValueError("must be 1 to 64 letters, digits, dots, dashes or underscores")
    if before is None:
        return RegisteredGateway(name, (1,))
    if not renew:
        return before
    return RegisteredGateway(name, (*before.numbers, before.numbers[-1] + 1)[-NUMBERS_ACCEPTED:])


@dataclass(frozen=True)
class GatewayKey:
    """What a gateway signs its records with. As text it is `name:number:secret`."""

    name: str
    number: int
    secret: bytes = field(repr=False)

    @classmethod
    def derived(cls, root: bytes, name: str, number: int) -> Self:
        """Return the key of a number that follows from a command key."""
        return cls(name, number, hmac.digest(root, b"gateway\0%s\0%d" % (name.encode(), number), "sha256"))

    @classmethod
    def parse(cls, text: str, node: str) -> Self:
        """Return the key of a setting of the gateway `node`. Raises ValueError, which never shows the key."""
        found = _KEY.fullmatch(text.strip())
        if found is None:
            raise ValueError("the gateway's key must be what `metering gateway create` printed")
        if found[1] != node:
            raise ValueError(f"the gateway's key is that of {found[1]!r}, but this gateway is {node!r}")
        return cls(node, int(found[2]), bytes.fromhex(found[3]))

    def text(self) -> str:
        """Return the key as the gateway's setting takes it."""
        return f"{self.name}:{self.number}:{self.secret.hex()}"

    def headers(self, value: bytes, partition: int) -> list[tuple[str, bytes]]:
        """Return the headers of a record that this gateway sends to a partition."""
        return [(HEADER, b"1.%s.%d.%s" % (self.name.encode(), self.number, self.code(value, partition)))]

    def code(self, value: bytes, partition: int) -> bytes:
        """Return the code of a record's bytes on a partition, in hex."""
        return (
            hmac.digest(self.secret, b"%s%s%s" % (_PREFIX, partition.to_bytes(4), value), "sha256")
            .hex()
            .encode()
        )


class GatewayBook:
    """The registered gateways, and the keys of each."""

    def __init__(self, roots: Sequence[bytes] = (), *, all_signed: bool = False) -> None:
        """Start with no gateway. `roots` are the command keys, `all_signed` refuses whoever is not registered."""
        self._roots, self.all_signed = roots, all_signed
        self._gateways: dict[str, RegisteredGateway] = {}
        self._keys: dict[tuple[str, int], list[GatewayKey]] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to be looked at: any source at all is bound to who may use it."""
        return self.all_signed or bool(self._gateways)

    def add(self, gateway: RegisteredGateway) -> None:
        """Take in a gateway's record, in the place of an earlier one."""
        self._gateways[gateway.name] = gateway

    def remove(self, name: str) -> None:
        """Forget a gateway; nothing happens where it is not known."""
        self._gateways.pop(name, None)

    def get(self, name: str) -> RegisteredGateway | None:
        """Return a gateway's record, None where it is not registered."""
        return self._gateways.get(name)

    def keys(self, name: str, number: int) -> list[GatewayKey]:
        """Return the keys that a number may stand for: one for each command key."""
        found = self._keys.get((name, number))
        if found is None:
            found = [GatewayKey.derived(root, name, number) for root in self._roots]
            self._keys[name, number] = found
        return found


class SignedRecord:
    """A record whose events ask whether it may hold them. Its signature is looked at once, and where it matters alone."""

    def __init__(
        self, gateways: GatewayBook, headers: Sequence[tuple[str, bytes | None]], value: bytes, partition: int
    ) -> None:
        """Take a record's headers, bytes and partition; nothing is computed yet."""
        self._gateways, self._headers, self._value, self._partition = gateways, headers, value, partition
        self._sender: str | None = None
        self._problem: str | None = None

    def problem(self, source: str) -> str | None:
        """Return why the record may hold no event of a source, None where it may."""
        name = name_of(source)
        if name is None or self._gateways.get(name) is None:
            return f"source {source!r} is of no registered gateway" if self._gateways.all_signed else None
        if self._sender is None and self._problem is None:
            self._sender, self._problem = self._look()
        if self._problem is not None:
            return f"source {source!r} is a registered gateway's, but {self._problem}"
        if self._sender != name:
            return f"source {source!r} is not that of {self._sender!r}, which signed the record"
        return None

    def _look(self) -> tuple[str | None, str | None]:
        """Return the name of who signed the record, or why nobody did whom we know."""
        # A header's value may be absent, in Kafka's own form.
        given = [each or b"" for header, each in self._headers if header == HEADER]
        if not given:
            return None, f"the record carries no header {HEADER!r}"
        signature = _parts(given[0]) if len(given) == 1 else None
        if signature is None:
            return None, f"the record's header {HEADER!r} is not of a form that this release knows"
        name, number, code = signature
        gateway = self._gateways.get(name)
        if gateway is None or number not in gateway.numbers:
            return None, f"the record is signed with key {number} of {name!r}, which is not accepted"
        codes = [key.code(self._value, self._partition) for key in self._gateways.keys(name, number)]
        # Each is compared, and each in full, so that the time it takes tells nothing.
        if not sum(hmac.compare_digest(each, code) for each in codes):
            return (
                None,
                f"the record's header {HEADER!r} was not made with key {number} of {name!r} for its bytes and partition",
            )
        return name, None


def _parts(header: bytes) -> tuple[str, int, bytes] | None:
    """Return name, number and code of a signature, None where it is of another form.

    Not by one expression: a name may have dots and digits in it, so to look for its end would take ten times as long.
    """
    try:
        head, number, code = header.rsplit(b".", 2)
        form, name = head.split(b".", 1)
    except ValueError:
        return None
    if form != _FORM or not _NUMBER.fullmatch(number):
        return None
    return name.decode("ascii", "replace"), int(number), code


def name_of(source: str) -> str | None:
    """Return the name of the gateway that a source is of, None where it is no gateway's."""
    kind, _, rest = source.partition("/")
    return rest.partition("/")[0] if kind == KINDS else None
