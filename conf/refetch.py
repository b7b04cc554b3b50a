"""Settings of PDF files that an archive has cut and that are fetched again from where they were found."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from conf.base import Config
from conf.patterns import HOST

Host = Annotated[str, Field(pattern=HOST, max_length=253)]


class Refetch(Config):
    """From which hosts cut PDF files are fetched again, over HTTPS, and what each may cost."""

    hosts: tuple[Host, ...] = Field(
        min_length=1, description="Hosts that may be asked, by their full names; redirects lead to these alone."
    )
    seconds: float = Field(default=60.0, gt=0, description="Longest time for one file, redirects included.")
    max_bytes: int | None = Field(
        default=None, ge=1, description="Largest file that is fetched, in bytes; null: extract.max_bytes."
    )
