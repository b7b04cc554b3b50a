"""Claims and winners that a run cannot judge are refused before it starts."""

from __future__ import annotations

import pytest

from conf.load import load
from tests.fixtures.flow import RECIPE, told

CLAIM = "claims={{good: {{says: one is better, model: {model}, than: {than}, by: {by}}}}}"
NO_MMLU, NO_SPEED = "evaluate.mmlu=null", "evaluate.new_tokens=0"


def claim(model: str = "depth", than: str = "teacher", by: str = "val_loss") -> str:
    return CLAIM.format(model=model, than=than, by=by)


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ([claim(than="depth")], ("claims.good compares depth with itself",)),
        ([claim(model="nobody")], ("claims.good.model is nobody", "choose one of")),
        ([claim(than="nobody")], ("claims.good.than is nobody",)),
        ([claim(by="mmlu"), NO_MMLU], ("claims.good.by is mmlu", "evaluate.mmlu is null")),
        ([claim(by="tokens_per_second"), NO_SPEED], ("tokens_per_second", "evaluate.new_tokens is 0")),
        ([claim(by="gsm8k")], ("claims.good.by is gsm8k", "evaluate.benchmarks does not ask it")),
        (["winner={by: mmlu}", NO_MMLU], ("winner.by is mmlu", "evaluate.mmlu is null")),
        (["winner={model: nobody}"], ("winner.model is nobody",)),
    ],
)
def test_what_cannot_be_judged_is_refused(overrides: list[str], parts: tuple[str, ...]) -> None:
    message = told(*overrides)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "overrides",
    [
        [claim()],
        [claim(by="mmlu")],
        [claim(by="tokens_per_second"), "evaluate.new_tokens=4"],
        [claim(by="val_loss"), NO_MMLU],
        [claim(by="gsm8k"), "evaluate.benchmarks={gsm8k: {}}"],
        [claim(by="val_loss"), NO_SPEED],
        ["winner={by: val_loss}", NO_MMLU],
        ["winner={model: depth}"],
    ],
)
def test_what_is_measured_may_be_claimed(overrides: list[str]) -> None:
    assert load(str(RECIPE), overrides)


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["contamination={}", NO_MMLU], "contamination is set but evaluate.mmlu is null"),
        (["contamination={mmlu: {path: quiz}}"], "contamination.mmlu is set"),
    ],
)
def test_contamination_looks_for_the_questions_asked(overrides: list[str], part: str) -> None:
    assert part in told(*overrides)
    assert load(str(RECIPE), ["contamination={}"]).contamination_stage.mmlu == load(str(RECIPE), []).evaluate.mmlu
