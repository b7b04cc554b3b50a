"""What imbik knows of each stage: whether it needs a GPU or the hub, how it resumes, which files it must write."""

from __future__ import annotations

import importlib.util

import pytest

from conf.stages import stages

LEAVE_THE_GPU = {"data": "light", "fetch": "light", "blend": "light", "records": "cpu", "contamination": "cpu"}
LEAVE_THE_GPU |= dict.fromkeys(("questions", "judge"), "cpu")
READ_THE_HUB = {"data", "fetch", "evaluate", "generate", "records", "contamination", "questions"}
RESUME = {
    **dict.fromkeys(("teacher", "distill", "trunk", "sft"), "checkpoints"),
    **dict.fromkeys(("search", "sweep", "generate", "logits", "answer"), "metrics"),
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
