"""A section after the report's main table, as text; report.md and report.html show the same."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config


class Section(Config):
    """One section. All texts are plain, without markup."""

    title: str = Field(description="Heading of the section.")
    sentences: tuple[str, ...] = Field(default=(), description="Results, each a full sentence.")
    header: tuple[str, ...] = Field(default=(), description="Column titles of the table.")
    rows: tuple[tuple[str, ...], ...] = Field(default=(), description="Table cells by row; empty: no table.")
    notes: tuple[str, ...] = Field(default=(), description="Paragraphs after the table: how to read it.")
    pictures: dict[str, str] = Field(default={}, description="Caption by figure name; the file is plots/NAME.svg.")
