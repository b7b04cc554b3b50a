"""What each format would cost each layer."""

from __future__ import annotations

from prefect import task

from conf.stages.sensitivity import SensitivityConfig
from tasks.build import build
from tasks.stages.options import OPTIONS
from tasks.store.store import Artifact


@task(**OPTIONS)
def sensitivity(label: str, config: SensitivityConfig, *, model: Artifact, data: Artifact) -> Artifact:
    """Score formats on every layer of a model; a mix for any budget of bits is chosen from the scores."""
    return build("sensitivity", label, config, {"model": model, "data": data})
