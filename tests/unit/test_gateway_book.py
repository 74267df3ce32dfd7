"""Registered gateways: their keys, what they sign, and whose record may hold events of a source."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.formats import NewerFormatError
from pipeline.gateway_book import (
    HEADER,
    GatewayBook,
    GatewayKey,
    RegisteredGateway,
    SignedRecord,
    decode_gateway,
    encode_gateway,
    name_of,
    registered,
)
from tests.support.builders import EXAMPLES

ROOT, OLD_ROOT = b"the command key of these tests, 1", b"the command key of these tests, 0"
VALUE, PARTITION = b'{"id": "e1"}', 3
NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)


def book(
    *gateways: RegisteredGateway, roots: tuple[bytes, ...] = (ROOT,), all_signed: bool = False
) -> GatewayBook:
    """Return a book of gateways, of mum-1 with its first key where none is given."""
    made = GatewayBook(roots, all_signed=all_signed)
    for gateway in gateways or (RegisteredGateway("mum-1", (1,)),):
        made.add(gateway)
    return made


def key(name: str = "mum-1", number: int = 1, root: bytes = ROOT) -> GatewayKey:
    """Return a gateway's key."""
    return GatewayKey.derived(root, name, number)


def problem(
    gateways: GatewayBook,
    signer: GatewayKey | None,
    source: str = "gateway/mum-1/5f0c",
    value: bytes = VALUE,
) -> str | None:
    """Return what is wrong with an event of a source in a record that somebody signed, or nobody."""
    headers = signer.headers(VALUE, PARTITION) if signer is not None else []
    return SignedRecord(gateways, headers, value, PARTITION).problem(source)


@EXAMPLES
@given(
    name=NAMES,
    number=st.integers(1, 999_999),
    value=st.binary(max_size=200),
    root=st.binary(min_size=32, max_size=64),
)
def test_what_a_gateway_signs_with_its_key_is_its_own(
    name: str, number: int, value: bytes, root: bytes
) -> None:
    as_set = GatewayKey.parse(GatewayKey.derived(root, name, number).text(), name)
    gateways = book(RegisteredGateway(name, (number,)), roots=(root,))
    record = SignedRecord(gateways, as_set.headers(value, PARTITION), value, PARTITION)
    assert record.problem(f"gateway/{name}/spool") is None
    assert record.problem(f"gateway/{name}") is None


@EXAMPLES
@given(data=st.data())
def test_no_header_that_differs_in_a_byte_is_taken(data: st.DataObject) -> None:
    [(_, good)] = key().headers(VALUE, PARTITION)
    at = data.draw(st.integers(0, len(good) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != good[at]))
    spoilt = good[:at] + bytes([other]) + good[at + 1 :]
    assert SignedRecord(book(), [(HEADER, spoilt)], VALUE, PARTITION).problem("gateway/mum-1") is not None


def test_a_signature_is_good_on_its_partition_alone() -> None:
    """Elsewhere a record's numbers may be ahead of what its gateway has sent there so far."""
    headers = key().headers(VALUE, PARTITION)
    for partition in (0, PARTITION + 1, PARTITION << 8):
        found = SignedRecord(book(), headers, VALUE, partition).problem("gateway/mum-1")
        assert "was not made with key 1" in (found or "")


@EXAMPLES
@given(value=st.binary(max_size=100).filter(lambda value: value != VALUE))
def test_a_signature_is_good_for_its_bytes_alone(value: bytes) -> None:
    assert "was not made with key 1" in (problem(book(), key(), value=value) or "")


@pytest.mark.parametrize(
    ("signer", "expected"),
    [
        (None, "carries no header 'mac'"),
        (key(root=OLD_ROOT), "was not made with key 1 of 'mum-1'"),
        (key(number=2), "key 2 of 'mum-1', which is not accepted"),
        (key("del-1"), "is not that of 'del-1', which signed the record"),
        (key("nobody"), "key 1 of 'nobody', which is not accepted"),
    ],
)
def test_who_is_not_the_sources_gateway_is_refused_and_told_why(
    signer: GatewayKey | None, expected: str
) -> None:
    gateways = book(RegisteredGateway("mum-1", (1,)), RegisteredGateway("del-1", (1,)))
    assert expected in (problem(gateways, signer) or "")


@pytest.mark.parametrize(
    "headers",
    [[(HEADER, b"")], [(HEADER, None)], [(HEADER, b"2.mum-1.1.00")], key().headers(VALUE, PARTITION) * 2],
)
def test_a_header_of_another_form_or_two_of_them_are_none(headers: list[tuple[str, bytes | None]]) -> None:
    assert "not of a form" in (SignedRecord(book(), headers, VALUE, PARTITION).problem("gateway/mum-1") or "")


@pytest.mark.parametrize(
    "source", ["gateway/mum-10", "gateway/mum-1x/5f0c", "gateways/mum-1", "mum-1", "", "x/gateway/mum-1"]
)
def test_other_sources_are_free_unless_all_have_to_be_signed(source: str) -> None:
    assert problem(book(), None, source) is None
    assert "of no registered gateway" in (problem(book(all_signed=True), key(), source) or "")


def test_nothing_is_looked_at_where_no_source_is_bound() -> None:
    gateways = GatewayBook((ROOT,))
    assert not gateways
    assert GatewayBook(all_signed=True)
    gateways.add(RegisteredGateway("mum-1", (1,)))
    assert gateways
    gateways.remove("mum-1")
    gateways.remove("mum-1")
    assert not gateways
    assert problem(gateways, None) is None


def test_while_the_command_key_is_renewed_keys_of_both_are_good() -> None:
    both = book(roots=(ROOT, OLD_ROOT))
    assert problem(both, key()) is None
    assert problem(both, key(root=OLD_ROOT)) is None


def test_a_renewed_key_stands_beside_the_last_one_and_no_older_one() -> None:
    gateway = registered("mum-1", None, renew=True)
    seen = [gateway.numbers]
    for _ in range(2):
        gateway = registered("mum-1", gateway, renew=True)
        seen.append(gateway.numbers)
    assert seen == [(1,), (1, 2), (2, 3)]
    assert registered("mum-1", gateway, renew=False) is gateway
    assert problem(book(gateway), key(number=1)) is not None
    assert [problem(book(gateway), key(number=number)) for number in (2, 3)] == [None, None]


@pytest.mark.parametrize("name", ["", "a/b", "a b", "a" * 65, "मुंबई", "a\n"])
def test_a_name_that_is_no_nodes_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 64 letters"):
        registered(name, None, renew=False)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "must be what"),
        ("mum-1:0:" + "0" * 64, "must be what"),
        (key().text()[:-1], "must be what"),
        (key("del-1").text(), "that of 'del-1', but this gateway is 'mum-1'"),
    ],
)
def test_a_key_that_is_none_or_anothers_is_refused_and_not_shown(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        GatewayKey.parse(text, "mum-1")
    assert not text or text[-20:] not in str(refused.value)
    assert key().secret.hex() not in repr(key())


def test_the_keys_of_two_gateways_and_of_two_numbers_differ() -> None:
    assert len({key(name, number).secret for name in ("a", "a1", "a\x001") for number in (1, 11)}) == 6


def test_a_record_comes_back_and_a_newer_one_is_no_nonsense() -> None:
    gateway = RegisteredGateway("mum-1", (3, 4))
    assert decode_gateway(encode_gateway(gateway)) == gateway
    with pytest.raises(NewerFormatError):
        decode_gateway(encode_gateway(gateway).replace(b'"format":1', b'"format":2'))
    for nonsense in (
        b"{",
        b'{"format":1,"name":"a/b","numbers":[1]}',
        b'{"format":1,"name":"a","numbers":[]}',
    ):
        with pytest.raises(msgspec.MsgspecError):
            decode_gateway(nonsense)


def test_the_name_in_a_source() -> None:
    assert [name_of(source) for source in ("gateway/a", "gateway/a/b/c", "gateway", "x/a")] == [
        "a",
        "a",
        "",
        None,
    ]
