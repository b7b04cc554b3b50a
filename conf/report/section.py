"""A section of the report beside its main table, as text: report.md and report.html show it alike."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config


class Section(Config):
    """One section. Its texts are plain: they hold no markup."""

    title: str = Field(description="Heading of the section.")
    sentences: tuple[str, ...] = Field(default=(), description="Statements, each a full sentence.")
    header: tuple[str, ...] = Field(default=(), description="Column titles of the table.")
    rows: tuple[tuple[str, ...], ...] = Field(default=(), description="Cells of the table, row by row; empty: none.")
    notes: tuple[str, ...] = Field(default=(), description="Paragraphs below the table: how to read it.")
    pictures: dict[str, str] = Field(
        default={}, description="Caption by the picture's name, which is its file plots/NAME.svg."
    )
