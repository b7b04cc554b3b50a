"""Which model of a run is handed over: by name, or chosen by a rule."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from conf.base import Config
from conf.benchmarks import BENCHMARKS, BenchmarkName
from conf.patterns import RUN_NAME

Metric = Literal["val_loss", "kl_teacher", "mmlu", BenchmarkName]
MARGINS: dict[str, float] = {"val_loss": 0.02, "kl_teacher": 0.02, "mmlu": 0.01} | dict.fromkeys(BENCHMARKS, 0.01)
"""Default margin by metric: nats per token (0.02 is 2% of the perplexity), and a share of the questions."""


class WinnerConfig(Config):
    """The winner among the taught students that pass their gates: the smallest within a margin of the best."""

    model: str | None = Field(default=None, description="The winner, by its name in the report; empty: chosen by rule.")
    by: Metric | None = Field(
        default=None,
        description=(
            "Deciding metric: val_loss or kl_teacher (nats per token, lower is better), or mmlu or one of"
            " evaluate.benchmarks (higher is better). Empty: val_loss, or kl_teacher if the corpus is outside the"
            " teacher's domain."
        ),
    )
    margin: float | None = Field(
        default=None,
        ge=0,
        description=(
            "How much worse than the best a smaller model may be, at the worse end of the paired 95% interval, in nats"
            " per token (scores: share of the questions); empty: 0.02 nats, or 0.01 of the questions; 0: the best wins."
        ),
    )
    max_bytes: int | None = Field(
        default=None, gt=0, description="Maximum bytes of the winner's weights; empty: no limit."
    )
    registered: str | None = Field(
        default=None,
        pattern=RUN_NAME,
        description="Name in MLflow's model registry; empty: the run's name. Each winner becomes a version.",
    )


class CardConfig(Config):
    """Licences and languages for the model card."""

    license: str | None = Field(
        default=None, description="Licence of the students, by its name on the Hugging Face hub; empty: the teacher's."
    )
    teacher_license: str | None = Field(
        default=None, description="Licence of the teacher; empty: from its model card or LICENSE file."
    )
    data_license: str | None = Field(
        default=None, description="Licence of the corpus; empty: from its card or LICENSE file."
    )
    language: tuple[str, ...] = Field(default=(), description="Languages of the corpus, as two-letter codes.")
