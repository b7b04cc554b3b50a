"""Personal data is found in its usual forms, and no other number is."""

from __future__ import annotations

import datetime
import ipaddress
import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from conf.filters import Pii
from jobs.curation.pii import LENGTHS, MARKS, masked

EVERY = Pii()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mail john.doe+x@mail.example.co.uk, please.", "Mail <EMAIL>, please."),
        ("(a_b@x.org) user@müller.de.", "(<EMAIL>) <EMAIL>."),
        ("IP 84.17.22.9.", "IP <IP>."),
        ("from 2001:4860:4860::8888 and 2606:4700::1111", "from <IP> and <IP>"),
        ("DE89 3704 0044 0532 0130 00 EUR", "<IBAN> EUR"),
        ("GB82WEST12345698765432", "<IBAN>"),
        ("FR14 2004 1010 0505 0001 3M02 606.", "<IBAN>."),
        ("card 4111 1111 1111 1111, ok", "card <CARD>, ok"),
        ("3782 822463 10005 or 6011-1111-1111-1117", "<CARD> or <CARD>"),
        ("Call +49 30 12345678 today", "Call <PHONE> today"),
        ("+44 20 7946 0958 in 2024", "<PHONE> in 2024"),
        ("+1 (212) 555-0143, (212) 555-0143 or 1-800-555-0199", "<PHONE>, <PHONE> or <PHONE>"),
        ("Tel.: 030 123456-7, fax 0207 946 0958", "Tel.: <PHONE>, fax <PHONE>"),
        ("+90 532 123 45 67\n+31.20.123.4567", "<PHONE>\n<PHONE>"),
    ],
)
def test_personal_data_becomes_marks(text: str, expected: str) -> None:
    found = masked(text, EVERY)
    assert found.text == expected
    assert found.counts == {kind: expected.count(mark) for kind, mark in MARKS.items() if mark in expected}


@pytest.mark.parametrize(
    "text",
    [
        "In 1999-2004, 12.5% of 1,000,000 at 12:30:45",
        "ISBN 978-0-306-40615-7, 0-306-40615-2, 9780306406157; EAN 4006381333931",
        "version 10.20.30.40, v1.2.3.44, section 3.1.4.2, Python 3.11.0.1",
        "192.168.1.1, 10.0.0.1, 127.0.0.1, 999.999.999.999",
        "std::vector a::b ::1 fe80::1 00:1a:2b:3c:4d:5e",
        "4111 1111 1111 1112 and DE89 3704 0044 0532 0130 01",
        "+3.14159265358, 3.141592653589793, 6.02214076e23, 0.4111111111111111",
        "$4111111111111111 4111111111111111.50",
        "2024-11-28T12:00:00, 28.11.2026, 11/28/2026",
        "10.1038/s41586-020-2649-2, arXiv:2310.17589, RFC 2119, 1234567890123456",
        "@user, foo@bar, a @ b . c, x@y.z1",
        "10+100000000, 48.8566, 2.3522, 300-400-50, 0000 0000 0000 0000",
    ],
)
def test_other_numbers_stay(text: str) -> None:
    assert masked(text, EVERY).text == text


def luhn(body: str) -> str:
    """A number with its check digit, from the definition."""
    total = 0
    for place, digit in enumerate(reversed(body), start=1):
        value = int(digit) * (2 if place % 2 else 1)
        total += value // 10 + value % 10
    return body + str(-total % 10)


@settings(deadline=None)
@given(st.text("0123456789", min_size=14, max_size=14), st.integers(0, 9))
def test_a_card_is_taken_by_its_checksum_alone(body: str, last: int) -> None:
    right = luhn("4" + body)
    wrong = right[:-1] + str((int(right[-1]) + 1 + last % 9) % 10)
    spaced = " ".join(right[start : start + 4] for start in range(0, 16, 4))
    assert masked(f"pay {right} or {spaced}.", EVERY).text == "pay <CARD> or <CARD>."
    assert masked(f"pay {wrong} now", EVERY).text == f"pay {wrong} now"


@settings(deadline=None)
@given(st.sampled_from(sorted(LENGTHS)), st.data())
def test_an_iban_is_taken_by_its_checksum_alone(country: str, data: st.DataObject) -> None:
    length = LENGTHS[country] - 4
    body = data.draw(st.text("0123456789ABCXYZ", min_size=length, max_size=length))
    number = "".join(str(int(sign, 36)) for sign in body + country)
    check = 98 - int(number + "00") % 97
    right, wrong = f"{country}{check:02}{body}", f"{country}{(check + 1) % 100:02}{body}"
    assert masked(f"to {right}.", EVERY).text == "to <IBAN>."
    assert "<IBAN>" not in masked(f"to {wrong}.", EVERY).text


NUMBERS = st.one_of(
    st.integers(-(10**13) + 1, 10**13 - 1).map(str),
    st.integers(0, 10**15).map(lambda number: f"{number:,}"),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=2).map(str),
    st.dates().map(datetime.date.isoformat),
    st.datetimes().map(datetime.datetime.isoformat),
    st.tuples(st.integers(1000, 2100), st.integers(1000, 2100)).map(lambda years: f"{years[0]}-{years[1]}"),
    st.tuples(st.integers(0, 99), st.integers(0, 999), st.integers(0, 9)).map(lambda part: ".".join(map(str, part))),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=6), st.sampled_from([", ", "; ", "\n", " and "]))
def test_no_public_number_is_lost(numbers: list[str], between: str) -> None:
    text = f"It was {between.join(numbers)} in all."
    assert masked(text, EVERY).text == text


@settings(max_examples=200, deadline=None)
@given(st.text(), st.text(), st.sampled_from(sorted(MARKS)))
def test_nothing_but_the_datum_changes(before: str, after: str, kind: str) -> None:
    planted = {
        "emails": "ann@example.org",
        "ips": "84.17.22.91",
        "phones": "+49 30 1234567",
        "ibans": "DE89370400440532013000",
        "cards": "4111111111111111",
    }[kind]
    assume(not any(masked(part, EVERY).counts for part in (before, after)))
    found = masked(f"{before}\n{planted}\n{after}", EVERY)
    assert found.text == f"{before}\n{MARKS[kind]}\n{after}"
    assert masked(found.text, EVERY).counts == {}, "marks stay as they are"


@pytest.mark.parametrize("kind", MARKS)
def test_each_kind_can_be_left_out(kind: str) -> None:
    text = "a@b.org 84.17.22.91, +49 30 1234567, DE89370400440532013000, 4111111111111111"
    found = masked(text, Pii.model_validate({kind: False}))
    assert MARKS[kind] not in found.text
    assert set(found.counts) == set(MARKS) - {kind}


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_only_public_addresses_are_taken(number: int) -> None:
    address = ipaddress.IPv4Address(number)
    assume(len(str(address)) > 8)
    assert masked(f"at {address}.", EVERY).counts == ({"ips": 1} if address.is_global else {})


def test_a_table_of_numbers_stays() -> None:
    chance = random.Random(1)
    rows = "\n".join(
        " ".join(str(chance.randrange(10 ** chance.randrange(1, 9))) for _ in range(8)) for _ in range(2000)
    )
    assert masked(rows, EVERY).counts == {}
