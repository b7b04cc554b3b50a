"""The encoding that bytes show, are guessed to be in, and what is said of bytes that are not UTF-8."""

from __future__ import annotations

import codecs
from typing import Any

import pytest
from pydantic import TypeAdapter

from conf.text_encoding import Encoding, advice, decoded, guessed, stated

PLAIN = "the cat sat on the mat and slept.\n" * 2
FRENCH = "Le garçon a mangé une crêpe à la fête de l'été, près de la forêt où naît la rivière.\n"


@pytest.mark.parametrize("name", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_mark_states_its_encoding(name: str) -> None:
    assert stated("ab".encode(name)) == name


def test_big_endian_marks_are_read_too() -> None:
    assert stated(codecs.BOM_UTF16_BE + "a".encode("utf-16-be")) == "utf-16"
    assert stated(codecs.BOM_UTF32_BE + "a".encode("utf-32-be")) == "utf-32"


def test_zero_bytes_show_utf_16_from_32_characters_on() -> None:
    for name in ("utf-16-le", "utf-16-be"):
        assert stated(PLAIN[:32].encode(name)) == name
        assert stated(PLAIN[:32].encode(name) + b"a") == name  # cut within a character
        assert stated(PLAIN[:31].encode(name)) is None
    for head in (PLAIN.encode(), bytes(128), FRENCH.encode("cp1252")):
        assert stated(head) is None


def test_a_guess_needs_five_bytes_beyond_ascii() -> None:
    assert guessed(b"caf\xe9 \xe9\xe9\xe9") is None
    assert guessed(FRENCH.encode("cp1252")) in ("cp1252", "iso8859-1", "iso8859-15")


def test_a_file_mostly_of_utf_8_is_damaged_not_encoded() -> None:
    damaged = FRENCH.encode("cp1252")
    assert guessed(damaged + 2 * FRENCH.encode()) is None
    assert guessed(damaged + FRENCH.encode()) is not None  # half


def test_text_is_decoded_without_its_mark() -> None:
    for name in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le"):
        assert decoded(PLAIN.encode(name), "f.txt", "encoding") == PLAIN


def test_bytes_of_no_utf_8_are_told_with_their_line() -> None:
    with pytest.raises(ValueError, match=r"^f.txt:3 is not UTF-8 \(invalid start byte\); convert it to UTF-8$"):
        decoded(b"a\nb\nc \xff\nd", "f.txt", "encoding")


def test_a_likely_encoding_is_advised() -> None:
    content = (FRENCH * 3 + "“Où ?” 5 €…\n" * 3).encode("cp1252")
    assert advice(content, "data.encoding") == "; it looks like Windows-1252: set data.encoding=cp1252"
    assert advice(content, "") == "; it looks like Windows-1252: convert it to UTF-8"
    assert advice(b"caf\xe9", "data.encoding") == ""


def test_an_encoding_is_named_as_python_names_it() -> None:
    setting: Any = TypeAdapter(Encoding)
    assert setting.validate_python("Latin1") == "iso8859-1"
    assert setting.validate_python(None) is None
    for name in ("base64", "unheard"):
        with pytest.raises(ValueError, match=f"'{name}' is no encoding of text"):
            setting.validate_python(name)
