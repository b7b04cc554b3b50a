"""Finds personal data in a text and puts marks in its place.

What has a checksum is taken only where it is right (payment cards, IBAN), and what has none only in forms that other
numbers do not have: years, prices, dates, versions, ISBNs and measurements stay."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from conf.filters import Pii

MARKS = {"emails": "<EMAIL>", "ibans": "<IBAN>", "cards": "<CARD>", "ips": "<IP>", "phones": "<PHONE>"}
"""By kind, in the order in which they are looked for: a card's number could be read as a phone's."""

EMAIL = re.compile(
    r"(?<![\w.+%-])\w[\w.+%'-]{0,63}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![^\W_]|-\w|@)"
)
_OCTETS = r"\d{1,3}(?:\.\d{1,3}){3}"
IPV4 = re.compile(rf"(?<![\w.])(?<![vV]ersion )(?<![rR]elease ){_OCTETS}(?![\w])(?!\.\d)")
_GROUP = "[0-9A-Fa-f]{1,4}"
IPV6 = re.compile(rf"(?<![\w:.])(?:{_GROUP}:){{1,7}}(?::|:?{_GROUP}(?::{_GROUP}){{0,5}})(?![\w:])")
GLOBAL6 = ipaddress.IPv6Network("2000::/3")
IBAN = re.compile(r"(?<![A-Za-z0-9])([A-Z]{2})\d{2}(?= ?[A-Z0-9])")
_COUNTRIES = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24"
    " FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32"
    " LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22"
    " SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20"
)
LENGTHS = {part[:2]: int(part[2:]) for part in _COUNTRIES.split()}
"""Characters of an IBAN by country."""
_REST = {length: re.compile(rf"(?: ?[A-Z0-9]){{{length - 4}}}(?![A-Za-z0-9])") for length in set(LENGTHS.values())}
CARD = re.compile(
    r"(?<![\w.,$€£-])(?<![\d] )(?:"
    r"\d{14,19}"
    r"|(?:\d{4}[ -]){3}\d{4}(?:[ -]?\d{3})?"
    r"|\d{4}[ -]\d{6}[ -]\d{4,5}"
    r")(?![\w-])(?![.,]\d)(?! \d)"
)
ISSUERS = re.compile(
    r"4\d{15}(?:\d{3})?|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|6(?:011|4[4-9]\d|5\d\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}"
)
"""Numbers that Visa, Mastercard, American Express, Discover, Diners Club, JCB and UnionPay give out."""
LONG = re.compile(r"\d[\d .()-]{5,}\d")
DOTTED, DOUBLE_COLON = re.compile(r"\d\.\d{1,3}\.\d"), re.compile(r":[0-9A-Fa-f]{0,4}:")
"""What every card and phone number, and every address, has in it; most documents have none, which is quick to see."""
_PART = r"[ .()-]{0,2}\d"
ABROAD = re.compile(rf"(?<![\w+)])(?<!\d )\+[1-9](?:{_PART}){{7,14}}")
AMERICAN = re.compile(
    r"(?<![\w.,/-])(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d([.-]))[2-9](?!11)\d\d(?(1)\1|[ .-])\d{4}(?![\w-])(?![.,]\d)"
)
TOLD = re.compile(
    r"\b(?i:tel|telephone|phone|fax|mobile)\b(?:[.:]| no\.| number|)[ :]{1,2}"
    rf"(\(?\d(?:{_PART}){{6,14}})(?![\w])(?![.,]\d)"
)
"""A number that the word before it calls a phone's."""
COUNTRIES = re.compile(
    r"1[2-9]\d\d[2-9]\d{6}|7\d{10}|(?:2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58])\d{6,12}"
    r"|(?:2[1-689]\d|3[578]\d|42\d|5[09]\d|6[789]\d|80\d|85\d|87\d|88\d|96\d|97\d|99\d)\d{5,11}"
)
"""A phone number with its country code, digits alone."""


@dataclass
class Masked:
    """A text with marks, and how many there are of each kind."""

    text: str
    counts: dict[str, int] = field(default_factory=dict)


def masked(text: str, kinds: Pii) -> Masked:
    """Replace the personal data of the kinds that are on."""
    result = Masked(text)
    for kind, mark in MARKS.items():
        if getattr(kinds, kind):
            _replace(result, kind, mark)
    return result


def _replace(result: Masked, kind: str, mark: str) -> None:
    """Put a mark in place of all that one kind finds in the text."""
    text, parts, last = result.text, list[str](), 0
    for start, end in FINDERS[kind](text):
        parts += [text[last:start], mark]
        last = end
    if parts:
        result.counts[kind] = len(parts) // 2
        result.text = "".join([*parts, text[last:]])


def _emails(text: str) -> Iterator[tuple[int, int]]:
    if "@" in text:
        yield from (found.span() for found in EMAIL.finditer(text))


def _ips(text: str) -> Iterator[tuple[int, int]]:
    """Public addresses in order. Four numbers with but one second digit are a section or a version, and addresses of
    private networks are nobody's."""
    found = [match for match in IPV4.finditer(text) if len(match[0]) > 8] if DOTTED.search(text) else []
    found += IPV6.finditer(text) if DOUBLE_COLON.search(text) else []
    for match in sorted(found, key=lambda one: one.start()):
        try:
            address = ipaddress.ip_address(match[0])
        except ValueError:
            continue
        if address.is_global and (address.version == 4 or address in GLOBAL6):
            yield match.span()


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    for head in IBAN.finditer(text):
        length = LENGTHS.get(head[1])
        rest = _REST[length].match(text, head.end()) if length else None
        if rest and _is_iban((head[0] + rest[0]).replace(" ", "")):
            yield head.start(), rest.end()


def _is_iban(number: str) -> bool:
    """Whether the remainder of a number by 97, with letters as 10 to 35, is 1 (ISO 13616)."""
    return int("".join(str(int(sign, 36)) for sign in number[4:] + number[:4])) % 97 == 1


def _cards(text: str) -> Iterator[tuple[int, int]]:
    for found in CARD.finditer(text) if LONG.search(text) else ():
        digits = re.sub(r"\D", "", found[0])
        if ISSUERS.fullmatch(digits) and len(set(digits)) > 1 and _has_luhn(digits):
            yield found.span()


def _has_luhn(digits: str) -> bool:
    """Whether the last digit is the checksum of the others (ISO 7812)."""
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _phones(text: str) -> Iterator[tuple[int, int]]:
    if not LONG.search(text):
        return
    spans = [found.span(1) for found in TOLD.finditer(text) if found[1].count(".") != 1]
    spans += (found.span() for found in AMERICAN.finditer(text))
    if "+" in text:
        spans += (span for found in ABROAD.finditer(text) if (span := _abroad(text, *found.span())))
    last = 0
    for start, end in sorted(spans):
        if start >= last:
            yield start, end
            last = end


def _abroad(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The longest beginning of a span, up to the end of a group of digits, that is a number with its country code; a
    single point in it is a decimal one."""
    for stop in range(end, start, -1):
        number = text[start:stop]
        whole = number[-1].isdigit() and not text[stop : stop + 1].isalnum()
        if whole and number.count(".") != 1 and COUNTRIES.fullmatch(re.sub(r"\D", "", number)):
            return start, stop
    return None


FINDERS = {"emails": _emails, "ibans": _ibans, "cards": _cards, "ips": _ips, "phones": _phones}
