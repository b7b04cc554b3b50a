"""What imbik knows of each stage: whether it needs a GPU or the hub, how it resumes, which files it must write."""

from __future__ import annotations

import importlib.util

import pytest

from conf.base import StageConfig
from conf.stages import stage_of, stages
from conf.stages.data import DataConfig

LEAVE_THE_GPU = {"data": "light", "fetch": "light", "blend": "light", "records": "cpu", "contamination": "cpu"}
LEAVE_THE_GPU |= dict.fromkeys(("questions", "judge"), "cpu")
READ_THE_HUB = {"data", "fetch", "evaluate", "generate", "records", "contamination", "questions"}
RESUME = {
    **dict.fromkeys(("teacher", "distill", "trunk", "sft"), "checkpoints"),
    **dict.fromkeys(("search", "sweep", "generate", "logits", "answer", "write"), "metrics"),
}
MODELS = {"teacher", "prune", "distill", "sft", "quantize"}


@pytest.mark.parametrize("name", stages())
def test_a_stage_says_what_it_needs(name: str) -> None:
    stage = stages()[name]
    assert stage.device == LEAVE_THE_GPU.get(name, "gpu")
    assert stage.reads_hub == (name in READ_THE_HUB)
    assert stage.resumes == RESUME.get(name, "never")
    assert ("model/config.json" in stage.writes) == (name in MODELS)
    assert stage.writes and stage.revision >= 1


@pytest.mark.parametrize("name", stages())
def test_a_stage_has_its_program(name: str) -> None:
    assert importlib.util.find_spec(f"jobs.{name}"), "the launcher starts jobs.STAGE"


def test_every_stage_is_found() -> None:
    assert set(stages()) == {
        *MODELS,
        *LEAVE_THE_GPU,
        *READ_THE_HUB,
        *RESUME,
        "importance",
        "sensitivity",
        "verify",
    }


def test_a_program_does_the_work_of_its_stage() -> None:
    assert stage_of("curate") is stage_of("data") is DataConfig
    assert stage_of("prune") is stages()["prune"]
    assert stage_of("doctor") is StageConfig
