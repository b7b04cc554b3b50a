"""How a teacher that only runs forward is held in memory."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from conf.base import Later

TeacherWeights = Annotated[
    Literal["full", "fp8"],
    Later(),
    Field(
        description=(
            "full: the teacher's weights are held in `precision`; fp8: the matrices of its layers in E4M3, with one"
            " scale for each output, and turned into `precision` one at a time as they are multiplied."
        )
    ),
]
