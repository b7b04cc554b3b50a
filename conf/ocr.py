"""Settings of text recognition (OCR) for PDF pages that are images."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from conf.base import Config, Execution
from conf.patterns import ADDRESS, LANGUAGE, VARIABLE

Language = Annotated[str, Field(pattern=LANGUAGE)]
ENGLISH = ("eng",)


class Ocr(Config):
    """Text recognition by tesseract, or by a model behind an OpenAI-compatible endpoint."""

    languages: tuple[Language, ...] = Field(
        default=ENGLISH,
        min_length=1,
        description="Tesseract's names of the languages to expect, the main one first, for instance eng, deu.",
    )
    dpi: int = Field(default=300, ge=72, le=600, description="Resolution at which a page is drawn.")
    seconds: float = Field(default=120.0, gt=0, description="Longest time for one page, retries included.")
    max_failed_share: float = Field(
        default=0.5, ge=0, le=1, description="The stage fails if a larger share of the pages cannot be recognized."
    )
    endpoint: Annotated[str | None, Execution()] = Field(
        default=None,
        pattern=ADDRESS,
        description="Base URL of an OpenAI-compatible server that sees images; empty: tesseract.",
    )
    model: str | None = Field(default=None, min_length=1, description="Name of the model on the server.")
    api_key_env: Annotated[str | None, Execution()] = Field(
        default=None,
        pattern=VARIABLE,
        description="Name of the environment variable with the server's API key, not the key itself.",
    )
    prompt: str = Field(
        default="Write down all text of this page in reading order. Answer with the text alone.",
        min_length=1,
        description="What the model is asked, beside the page.",
    )
    max_tokens: int = Field(default=4096, ge=1, description="Most tokens of an answer; a page with more fails.")
    retries: Annotated[int, Execution()] = Field(
        default=3, ge=0, description="Retries where the server is busy or does not answer."
    )

    @model_validator(mode="after")
    def _one_engine(self) -> Self:
        if (self.endpoint is None) != (self.model is None):
            raise ValueError(
                "only one of data.extract.ocr.endpoint and data.extract.ocr.model is set; set both for a model, or"
                " neither for tesseract"
            )
        if self.endpoint and self.languages != ENGLISH:
            raise ValueError(
                "data.extract.ocr.languages are tesseract's, but an endpoint is set; remove languages, or tell the"
                " model in data.extract.ocr.prompt"
            )
        if self.api_key_env and not self.endpoint:
            raise ValueError(
                "data.extract.ocr.api_key_env is set but no endpoint; set data.extract.ocr.endpoint or remove it"
            )
        return self
