"""Names of keys and orgs."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.accounts.names import NAME_CHARS_MAX, BadNameError, plain_name
from tests.support.builders import EXAMPLES


@pytest.mark.parametrize(
    ("given_name", "name"),
    [
        ("CI", "CI"),
        ("  Acme Labs \n", "Acme Labs"),
        ("Cafe\u0301", "Caf\u00e9"),
        ("नाम", "नाम"),
        ("ക\u0d4d\u200d", "ക\u0d4d\u200d"),
        ("x" * NAME_CHARS_MAX, "x" * NAME_CHARS_MAX),
        ("<b>&amp;", "<b>&amp;"),
    ],
)
def test_what_shows_as_it_is_is_taken(given_name: str, name: str) -> None:
    assert plain_name(given_name) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \t ",
        "a\x00b",
        "a\nb",
        "a\x1b[31m",
        "abc\u202egpj.exe",
        "a\u2066b",
        "a\u200bb",
        "a\u200db",
        "\u200d",
        "a\ufeffb",
        "a\ud800",
        "a\u2028b",
        "x" * (NAME_CHARS_MAX + 1),
    ],
)
def test_what_does_not_print_is_refused(text: str) -> None:
    with pytest.raises(BadNameError):
        plain_name(text)


@EXAMPLES
@given(st.text(max_size=80))
def test_a_plain_name_stays_as_it_is(text: str) -> None:
    try:
        name = plain_name(text)
    except BadNameError:
        return
    assert plain_name(name) == name == unicodedata.normalize("NFC", name).strip()
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in name)
    assert not any(unicodedata.bidirectional(char) in ("RLO", "LRO", "RLE", "LRE", "PDF") for char in name)
