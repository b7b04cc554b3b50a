"""Settings of the text that is taken from web pages, web archives and PDF files."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from conf.base import Config, Later
from conf.ocr import Ocr
from conf.refetch import Refetch


class Extract(Config):
    """How text is taken from HTML, WARC and PDF files: what is looked for, and what a file may cost."""

    favour: Literal["balanced", "precision", "recall"] = Field(
        default="balanced",
        description="HTML: whether a doubtful block is text. precision: less of what is around the text; recall: more.",
    )
    truncated: Literal["quarantine", "keep"] = Field(
        default="quarantine",
        description="Pages and PDF files whose end is missing. keep: use what can be read of them.",
    )
    max_bytes: int = Field(
        default=100_000_000, ge=1, description="Largest file, or record of a web archive, in bytes, unpacked."
    )
    max_pages: int = Field(default=5000, ge=1, description="Most pages of a PDF file.")
    seconds: float = Field(default=60, gt=0, description="Longest time for one file, or record of a web archive.")
    memory_mb: int = Field(default=2048, ge=64, description="Most memory for one of them, in megabytes.")
    min_page_characters: int = Field(
        default=50, ge=1, description="A PDF page with fewer characters needs OCR if it is an image."
    )
    min_image_share: float = Field(
        default=0.5, gt=0, le=1, description="Share of a page's area from which its images make it one."
    )
    max_rejected_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="The stage fails if no text can be taken from a larger share of files and archived pages.",
    )
    order: Annotated[Literal["drawn", "reading"], Later()] = Field(
        default="drawn",
        description="PDF: drawn: text in the order of the file; reading: columns that it draws across or backwards"
        " are put in order.",
    )
    ocr: Annotated[Ocr | None, Later()] = Field(
        default=None, description="Text recognition for PDF pages that need it; null: they are counted."
    )
    refetch: Annotated[Refetch | None, Later()] = Field(
        default=None, description="PDF files that an archive has cut: fetch them again; null: they stay cut."
    )

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        if self.refetch and (self.refetch.max_bytes or 0) > self.max_bytes:
            raise ValueError(
                f"data.extract.refetch.max_bytes is {self.refetch.max_bytes}, above data.extract.max_bytes"
                f" {self.max_bytes}, which no file may exceed; choose at most that"
            )
        return self
