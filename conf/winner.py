"""Which model of a run is handed over: named, or chosen by a rule that the report can prove."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from conf.base import RUN_NAME, Config


class WinnerConfig(Config):
    """The winner among the students whose gates are open: the best, or the smallest that is shown to be nearly as
    good."""

    model: str | None = Field(default=None, description="The winner, as the report's table calls it; empty: chosen.")
    by: Literal["val_loss", "kl_teacher", "mmlu"] = Field(
        default="val_loss",
        description="What decides: test loss or KL from the teacher (nats a token, lower), or the score (higher).",
    )
    margin: float = Field(
        default=0.0,
        ge=0,
        description=(
            "Nats (a share of the questions for mmlu) that a smaller model may lose against the best, at the worse end "
            "of the paired 95% interval; 0: the best wins."
        ),
    )
    max_bytes: int | None = Field(default=None, gt=0, description="Bytes of weights that the winner may have at most.")
    registered: str | None = Field(
        default=None,
        pattern=RUN_NAME,
        description="Name in MLflow's model registry; empty: the run's. Each winner is a version of it.",
    )


class CardConfig(Config):
    """What a model card says where the files do not."""

    license: str | None = Field(
        default=None, description="Licence of the students, as the Hugging Face hub names it; empty: the teacher's."
    )
    teacher_license: str | None = Field(
        default=None, description="Licence of the teacher; empty: as its own card or LICENSE file says."
    )
    data_license: str | None = Field(
        default=None, description="Licence of the corpus; empty: as a card or LICENSE file beside it says."
    )
    language: tuple[str, ...] = Field(default=(), description="Languages of the corpus as two-letter codes.")
