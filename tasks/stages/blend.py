"""Several corpora in proportions of their own."""

from __future__ import annotations

from prefect import task

from conf.stages.blend import BlendConfig
from tasks.build import build
from tasks.stages.options import OPTIONS
from tasks.store.store import Artifact


@task(**OPTIONS)
def blend(label: str, config: BlendConfig, *, data: Artifact, sources: dict[str, Artifact]) -> Artifact:
    """Weigh the recipe's own corpus and its further sources against each other."""
    return build(
        "blend", label, config, {"data": data} | {f"source-{name}": artifact for name, artifact in sources.items()}
    )
