"""A row of the report as the pipeline hands it on."""

from __future__ import annotations

from flows.reading import Model


def test_a_benchmark_has_its_own_judgement_all_else_the_scores() -> None:
    model = Model(name="a", stage="distill", artifact="m", scores="scores", judged={"gsm8k": "judged"})
    assert (model.measured("gsm8k"), model.measured("mmlu")) == ("judged", "scores")


def test_a_model_is_of_its_last_cut_and_untrained_unless_said() -> None:
    model = Model(name="a", stage="prune", artifact="m")
    assert (model.cut, model.trained, model.gates, model.student, model.format) == (-1, False, (), None, None)
    assert model.measured("mmlu") is None
