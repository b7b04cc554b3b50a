"""Settings of the quality filters and of the personal data that is replaced.

The defaults are the published ones (Gopher's table A1, C4, FineWeb), as datatrove ships them. Every bound that is null
turns its rule off."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from conf.base import Config, Later

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
GROUPS = ("language", "repetition", "gopher", "c4", "fineweb")
"""Groups of rules in the order in which a document meets them, which is FineWeb's."""
# fmt: off
LANGUAGES = (
    "ace", "af", "am", "an", "ar", "ary", "arz", "as", "az", "ba", "bcl", "be", "bg", "bn", "br", "bs", "ca", "crh",
    "cs", "cy", "da", "de", "dz", "el", "en", "eo", "es", "et", "eu", "ext", "fa", "fi", "fo", "fr", "fuv", "fy",
    "ga", "gcf", "gcr", "gd", "gl", "gom", "grc", "gu", "gug", "guw", "ha", "hbo", "he", "hi", "hr", "ht", "hu", "hy",
    "id", "ig", "is", "it", "ja", "jv", "ka", "kab", "kik", "kk", "km", "kn", "ko", "ku", "ky", "la", "lb", "lg",
    "lij", "ln", "lo", "lt", "ltg", "lv", "mg", "mk", "ml", "mn", "mr", "ms", "mt", "my", "ne", "nl", "nn", "no",
    "nso", "oc", "om", "or", "pa", "pcm", "pl", "ps", "pt", "qu", "ro", "ru", "rw", "sa", "sdh", "se", "si", "sk",
    "sl", "sn", "so", "sq", "sr", "st", "sv", "sw", "ta", "te", "tg", "th", "tk", "tl", "tr", "tt", "ug", "uk", "ur",
    "uz", "uzs", "vec", "vi", "vo", "wa", "wuu", "xh", "yo", "yue", "zh", "zu", "zxx",
)
# fmt: on
"""Languages that are told apart, by ISO 639 code; zxx is text in none."""
UNSURE = "unsure"
"""A document's reason where the likeliest language is one to keep, but not surely enough."""


def _most(default: float, what: str) -> Any:
    return Field(default=default, ge=0, le=1, description=f"Largest share of {what}; null: off.")


Share = float | None


def _language(code: str) -> str:
    if code in LANGUAGES:
        return code
    nearest = {"nb": "no", "zh-cn": "zh", "zh-tw": "zh", "iw": "he", "fil": "tl"}.get(code.lower()) or next(
        iter(difflib.get_close_matches(code.lower()[:2], LANGUAGES, n=1)), "en"
    )
    raise ValueError(
        f"{code!r} is no language that is told apart; the nearest is {nearest}, and the known ones are"
        f" {', '.join(LANGUAGES)}"
    )


class Language(Config):
    """The languages to keep. A document is removed by the name of its own likeliest language."""

    keep: tuple[Annotated[str, AfterValidator(_language)], ...] = Field(
        min_length=1, description="Languages to keep, as ISO 639 codes: [en, de]."
    )
    min_probability: float = Field(
        default=0.65, gt=0, le=1, description="Smallest probability that a document is in one of them."
    )


class Repetition(Config):
    """Gopher's rules on text that repeats itself."""

    max_repeated_paragraphs: Share = _most(0.3, "paragraphs that an earlier one equals")
    max_repeated_paragraph_characters: Share = _most(0.2, "characters in such paragraphs")
    max_repeated_lines: Share = _most(0.3, "lines that an earlier one equals")
    max_repeated_line_characters: Share = _most(0.2, "characters in such lines")
    max_top_2_gram: Share = _most(0.2, "characters in the most frequent run of 2 words")
    max_top_3_gram: Share = _most(0.18, "characters in the most frequent run of 3 words")
    max_top_4_gram: Share = _most(0.16, "characters in the most frequent run of 4 words")
    max_repeated_5_grams: Share = _most(0.15, "characters in runs of 5 words that occurred before")
    max_repeated_6_grams: Share = _most(0.14, "characters in runs of 6 words that occurred before")
    max_repeated_7_grams: Share = _most(0.13, "characters in runs of 7 words that occurred before")
    max_repeated_8_grams: Share = _most(0.12, "characters in runs of 8 words that occurred before")
    max_repeated_9_grams: Share = _most(0.11, "characters in runs of 9 words that occurred before")
    max_repeated_10_grams: Share = _most(0.1, "characters in runs of 10 words that occurred before")


class Gopher(Config):
    """Gopher's rules on words and lines. Its stop words are English."""

    min_words: int | None = Field(
        default=50, ge=1, description="Fewest words that are not punctuation alone; null: off."
    )
    max_words: int | None = Field(default=100_000, ge=1, description="Most words; null: off.")
    min_word_length: float | None = Field(
        default=3, ge=1, description="Smallest mean length of a word, in characters; null: off."
    )
    max_word_length: float | None = Field(
        default=10, ge=1, description="Largest mean length of a word, in characters; null: off."
    )
    max_hashes: float | None = Field(default=0.1, ge=0, description="Most '#' per word; null: off.")
    max_ellipses: float | None = Field(default=0.1, ge=0, description="Most ellipses per word; null: off.")
    max_bullet_lines: Share = _most(0.9, "lines that start with a bullet")
    max_ellipsis_lines: Share = _most(0.3, "lines that end with an ellipsis")
    min_alphabetic_words: Share = Field(
        default=0.8,
        ge=0,
        le=1,
        description="Smallest share of words, punctuation included, that have a letter; null: off.",
    )
    min_stop_words: int | None = Field(default=2, ge=1, description="Fewest different stop words; null: off.")
    stop_words: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=STOP_WORDS, min_length=1, description="Stop words, as they are written; the default is English."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for low, high in (("min_words", "max_words"), ("min_word_length", "max_word_length")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise ValueError(f"{low} is {least:g}, above {high} {most:g}; no text has both")
        different = len(set(self.stop_words))
        if self.min_stop_words and self.min_stop_words > different:
            raise ValueError(
                f"min_stop_words is {self.min_stop_words}, but there are {different} different stop_words; choose at"
                " most as many"
            )
        return self


class C4(Config):
    """C4's rules. Those on lines take lines out of a document, which is then edited; those on documents remove it."""

    terminal_punctuation: bool = Field(
        default=True, description="Take out lines that do not end with a full stop, question mark or quotation mark."
    )
    min_line_words: int | None = Field(
        default=3, ge=1, description="Take out lines of fewer words between spaces; null: off."
    )
    max_word_characters: int | None = Field(
        default=1000, ge=1, description="Take out lines with a longer word; null: off."
    )
    javascript: bool = Field(default=True, description="Take out lines that mention JavaScript.")
    policy: bool = Field(default=True, description="Take out lines on cookies, privacy and terms of use.")
    citations: bool = Field(default=True, description="Take out [1], [edit] and [citation needed].")
    lorem_ipsum: bool = Field(default=True, description="Remove documents with 'lorem ipsum'.")
    curly_bracket: bool = Field(default=True, description="Remove documents with '{'.")
    min_sentences: int | None = Field(
        default=5, ge=1, description="Remove documents with fewer sentences in the lines that stay; null: off."
    )

    def editing(self) -> list[str]:
        """Settings that are on and take something out of a text that stays, each as it is switched off."""
        return [f"{name}: {off}" for name, off in EDITING.items() if getattr(self, name)]


EDITING = {
    "terminal_punctuation": "false",
    "min_line_words": "null",
    "max_word_characters": "null",
    "javascript": "false",
    "policy": "false",
    "citations": "false",
}
"""C4's rules that edit texts, and what switches each off."""


class FineWeb(Config):
    """FineWeb's own rules."""

    min_punctuated_lines: Share = Field(
        default=0.12, ge=0, le=1, description="Smallest share of lines that end a sentence; null: off."
    )
    max_short_lines: Share = _most(0.67, "short lines")
    short_line: int = Field(default=30, ge=1, description="Length of the longest short line, in characters.")
    max_repeated_characters: Share = _most(0.01, "characters in lines that an earlier one equals")
    max_line_ends: float | None = Field(default=0.3, ge=0, description="Most line ends per word; null: off.")


class Filter(Config):
    """Quality filters: groups of rules, each off unless it is named. A document is removed by the first rule that it
    breaks."""

    action: Literal["remove", "report"] = Field(
        default="remove",
        description="remove: leave documents out; report: keep all, and count what each rule would remove.",
    )
    language: Annotated[Language | None, Later()] = Field(default=None, description="Languages to keep; null: all.")
    repetition: Repetition | None = Field(default=None, description="Text that repeats itself; null: off.")
    gopher: Gopher | None = Field(default=None, description="Words and lines, by Gopher; null: off.")
    c4: C4 | None = Field(default=None, description="Lines and documents, by C4; null: off.")
    fineweb: FineWeb | None = Field(default=None, description="Lines, by FineWeb; null: off.")

    def check_rules(self, setting: str) -> None:
        """Raise ValueError where there are none; `setting` is where they should be."""
        if not dict(self.groups()):
            raise ValueError(f"{setting} has no rules; name some of {', '.join(GROUPS)}, as in {{gopher: {{}}}}")

    def groups(self) -> Iterator[tuple[str, Config]]:
        """The groups that are on, in order."""
        for name in GROUPS:
            if (group := getattr(self, name)) is not None:
                yield name, group


class Pii(Config):
    """Personal data, replaced by marks such as <EMAIL>."""

    action: Literal["replace", "report"] = Field(
        default="replace", description="replace: write marks; report: count only, and change nothing."
    )
    emails: bool = Field(default=True, description="E-mail addresses.")
    ips: bool = Field(default=True, description="Public IP addresses, of version 4 and 6.")
    phones: bool = Field(
        default=True, description="Phone numbers with a country code, in North American form, or after 'tel.' or so."
    )
    ibans: bool = Field(default=True, description="Bank accounts (IBAN) whose checksum is right.")
    cards: bool = Field(default=True, description="Payment card numbers whose checksum is right.")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not (self.emails or self.ips or self.phones or self.ibans or self.cards):
            raise ValueError("all kinds are false, so nothing is looked for; set one to true or leave the section out")
        return self
