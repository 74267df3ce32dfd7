"""Blocks of columns in ClickHouse's Native format: values on their way into bytes, and back.

Owns: the layout of a block, and the types that a column may have here.
Called by: `journal/records.py`. Pure: it knows nothing of rows or of what a column means.

A block names and types its own columns, which is what makes it fit for keeping: whoever reads it needs no list of
columns from elsewhere, and a table fills a column that a block lacks with the default of its type. Blocks may be joined: bytes
of several after each other are read as several. The layout (https://clickhouse.com/docs/interfaces/formats/Native),
all numbers little-endian, a varint being LEB128, seven bits a byte with the lowest first:

    block   number of columns: varint, number of rows: varint, then each column
    column  name: text, type: text, then the values of all rows
    text    length in bytes: varint, then UTF-8
    values  String: a text each; Bool: a byte each; Int8 to UInt64: 1 to 8 bytes each;
            Nullable(T): a byte each that is 1 for none, then the values as of T, 0 where there is none
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from typing import Any

Values = Sequence[Any]
"""The values of a column, a row each: str, bool, int, or int | None."""
Block = dict[str, tuple[str, Values]]
"""The columns of a block by name, each with its type and its values."""

_INTEGERS = {
    "Int8": "b",
    "Int16": "h",
    "Int32": "i",
    "Int64": "q",
    "UInt8": "B",
    "UInt16": "H",
    "UInt32": "I",
    "UInt64": "Q",
}
"""Types of integers and the codes that the module `array` has for them."""
_SIGNED = _INTEGERS["Int64"]
_FEW = 64
"""Of how many different texts it is cheaper to encode each once."""
_ONE_BYTE = 128
"""A varint below this is one byte."""
_VARINT_BYTES_MAX = 10


class BlockError(Exception):
    """Bytes that are no block, or a block of a type that is not known here. The message says what is wrong."""


def encode_block(types: Mapping[str, str], columns: Sequence[Values]) -> bytes:
    """Return a block of columns with these names and types, in this order; all have as many values as the first.

    Raises BlockError for an unknown type, and OverflowError for a number that does not fit its type.
    """
    parts = [_varint(len(types)), _varint(len(columns[0]))]
    for (name, kind), values in zip(types.items(), columns, strict=True):
        parts += (_head(name, kind), _writer_of(kind)(values))
    return b"".join(parts)


def default_of(kind: str) -> object:
    """Return what ClickHouse fills a column of a type with: no text, false, 0 or, for Nullable(T), none."""
    if kind == "String":
        return ""
    if kind == "Bool":
        return False
    return None if _nullable(kind) else 0


def decode_blocks(data: bytes) -> list[Block]:
    """Return the blocks that the bytes hold, one after the other. Raises BlockError."""
    reader = _Reader(data)
    blocks = []
    while not reader.at_end():
        columns, rows = reader.varint(), reader.varint()
        block: Block = {}
        for _ in range(columns):
            name, kind = reader.text(), reader.text()
            block[name] = (kind, reader.values(kind, rows))
        blocks.append(block)
    return blocks


def reads_as(written: str, kept: str) -> bool:
    """Return whether the values of a column written as one type are values of another: any integers are integers."""
    of, among = _nullable(written), _nullable(kept)
    if (among or kept) in _INTEGERS:
        return written in _INTEGERS or (bool(among) and of in _INTEGERS)
    return written == kept


@cache
def _head(name: str, kind: str) -> bytes:
    return _text(name) + _text(kind)


@cache
def _writer_of(kind: str) -> Callable[[Values], bytes]:
    if kind == "String":
        return _texts
    if kind == "Bool":
        return bytes
    if kind in _INTEGERS:
        return partial(_integers, _INTEGERS[kind])
    of = _nullable(kind)
    if of in _INTEGERS:
        return partial(_nullable_integers, _INTEGERS[of])
    raise BlockError(f"no column can be written as {kind}")


def _nullable(kind: str) -> str:
    """Return what T is where the type is Nullable(T), else nothing."""
    return kind.removeprefix("Nullable(").removesuffix(")") if kind.startswith("Nullable(") else ""


def _varint(number: int) -> bytes:
    made = bytearray()
    while number >= _ONE_BYTE:
        made.append(number % _ONE_BYTE | _ONE_BYTE)
        number //= _ONE_BYTE
    made.append(number)
    return bytes(made)


def _text(text: str) -> bytes:
    data = text.encode()
    return _varint(len(data)) + data


def _texts(values: Sequence[str]) -> bytes:
    """Return texts. Nearly always they are few different ones, or ids of one length: both need no loop in Python."""
    if len(set(values[: _FEW + 1])) > _FEW and (joined := _of_one_length(values)) is not None:
        return joined
    different = set(values)
    if len(different) == 1:
        return _text(values[0]) * len(values)
    encoded = {text: _text(text) for text in different}
    return b"".join(map(encoded.__getitem__, values))


def _of_one_length(values: Sequence[str]) -> bytes | None:
    """Return texts that are all of one length, short and in ASCII; None for others."""
    length = len(values[0])
    mark = chr(length)
    joined = mark + mark.join(values)
    if length >= _ONE_BYTE or not joined.isascii():
        return None
    # The mark stands where each text begins, and nowhere else, and the last one ends where it should: so no text is
    # longer or shorter.
    alike = (
        len(joined) == len(values) * (length + 1)
        and joined.count(mark) == len(values)
        and joined[:: length + 1] == mark * len(values)
    )
    return joined.encode() if alike or set(map(len, values)) == {length} else None


def _integers(code: str, values: Sequence[int]) -> bytes:
    if values[0] == values[-1] and values.count(values[0]) == len(values):
        return _little(array(code, values[:1])) * len(values)
    if code == _SIGNED:
        # What is not negative is written alike as unsigned, for which `array` takes a third of the time. No number is
        # that large where the highest byte of none has its highest bit.
        with suppress(OverflowError):
            unsigned = _little(array("Q", values))
            if unsigned[7::8].isascii():
                return unsigned
    return _little(array(code, values))


def _little(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _nullable_integers(code: str, values: Sequence[int | None]) -> bytes:
    if None not in values:
        return bytes(len(values)) + _integers(code, values)  # type: ignore[arg-type] # as there is no None
    nulls = bytes([value is None for value in values])
    return nulls + _integers(code, [value or 0 for value in values])


class _Reader:
    """Reads one value after the other from bytes."""

    def __init__(self, data: bytes) -> None:
        """Start at the beginning."""
        self._data, self._at = data, 0

    def at_end(self) -> bool:
        return self._at == len(self._data)

    def varint(self) -> int:
        number = 0
        for place in range(_VARINT_BYTES_MAX):
            byte = self._bytes(1)[0]
            number |= (byte % _ONE_BYTE) << (7 * place)
            if byte < _ONE_BYTE:
                return number
        raise BlockError("a number has more bytes than a number has")

    def text(self) -> str:
        data = self._bytes(self.varint())
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise BlockError(f"a text is no UTF-8: {error}") from None

    def values(self, kind: str, rows: int) -> Values:
        if kind == "String":
            return [self.text() for _ in range(rows)]
        if kind == "Bool":
            return [byte != 0 for byte in self._bytes(rows)]
        if kind in _INTEGERS:
            return self._integers(_INTEGERS[kind], rows)
        of = _nullable(kind)
        if of in _INTEGERS:
            nulls = self._bytes(rows)
            numbers = self._integers(_INTEGERS[of], rows)
            return [None if null else number for null, number in zip(nulls, numbers, strict=True)]
        raise BlockError(f"a column is of type {kind}, which is not known here")

    def _integers(self, code: str, rows: int) -> Sequence[int]:
        numbers = array(code)
        numbers.frombytes(self._bytes(rows * numbers.itemsize))
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers

    def _bytes(self, count: int) -> bytes:
        self._at += count
        if self._at > len(self._data):
            raise BlockError("the bytes end within a block")
        return self._data[self._at - count : self._at]
