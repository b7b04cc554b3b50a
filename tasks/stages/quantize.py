"""A student in fewer bits."""

from __future__ import annotations

from prefect import task

from conf.stages.quantize import QuantizeConfig
from tasks.build import build
from tasks.stages.options import OPTIONS
from tasks.store.store import Artifact


@task(**OPTIONS)
def quantize(
    label: str, config: QuantizeConfig, *, model: Artifact, data: Artifact, sensitivity: Artifact | None = None
) -> Artifact:
    """Quantize a model after training, calibrated on the corpus, and export what inference engines read."""
    scored = {"sensitivity": sensitivity} if sensitivity else {}
    return build("quantize", label, config, {"model": model, "data": data} | scored)
