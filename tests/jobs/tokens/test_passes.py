"""What a mix reads of each corpus, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from conf.stages.blend import BlendConfig
from jobs.tokens.passes import plain_part, stages_read

STAGES = [
    {"until": 0.5, "weights": {"data": 3, "more": 1}},
    {"until": 0.75, "weights": {"more": 1}},
    {"until": 1, "weights": {"data": 1, "more": 1}},
]


def config(stages: list[dict[str, Any]] = STAGES, **more: Any) -> BlendConfig:
    return BlendConfig.model_validate({"sources": {"more": {"source": "a"}}, "stages": stages} | more)


def counts(weight: float, tokens: int, passes: float, so_far: float) -> dict[str, float]:
    return {"weight": weight, "tokens": tokens, "passes": passes, "passes_so_far": so_far}


def test_each_stage_goes_on_where_the_last_one_stopped() -> None:
    read = stages_read(config(), 400, {"data": 200, "more": 200})
    assert read == [
        {
            "until": 0.5,
            "until_tokens": 200,
            "sources": {"data": counts(0.75, 150, 0.75, 0.75), "more": counts(0.25, 50, 0.25, 0.25)},
        },
        {"until": 0.75, "until_tokens": 300, "sources": {"more": counts(1, 100, 0.5, 0.75)}},
        {
            "until": 1,
            "until_tokens": 400,
            "sources": {"data": counts(0.5, 50, 0.25, 1.0), "more": counts(0.5, 50, 0.25, 1.0)},
        },
    ]
    in_tokens = [stage | {"until": 400 * stage["until"]} for stage in STAGES]
    again = stages_read(config(in_tokens), 400, {"data": 200, "more": 200})
    assert [stage["sources"] for stage in again] == [stage["sources"] for stage in read]
    assert [stage["until"] for stage in again] == [200, 300, 400]


def test_the_stage_in_which_a_corpus_runs_out_is_named() -> None:
    assert len(stages_read(config(), 399, {"data": 199, "more": 199})) == 3, "less than a token over is none"
    with pytest.raises(ValueError, match="the corpus more runs out in stage 3 of 3"):
        stages_read(config(), 400, {"data": 200, "more": 199})
    with pytest.raises(ValueError) as caught:
        stages_read(config(), 400, {"data": 200, "more": 149})
    assert str(caught.value) == (
        "the corpus more runs out in stage 2 of 3 of the blend: it holds 149 tokens, of which the stages before read"
        " 50, and this one reads 100 more; lower blend.stages.2.weights.more or the blend's tokens, or repeat it with"
        " blend.exhausted=repeat"
    )
    with pytest.raises(ValueError, match="the corpus data runs out in stage 1 of 3 of the blend: it holds 149 tokens"):
        stages_read(config(), 400, {"data": 149, "more": 900})


def test_a_mix_that_repeats_reads_on() -> None:
    read = stages_read(config(exhausted="repeat"), 400, {"data": 100, "more": 40})
    assert [stage["sources"]["more"]["passes_so_far"] for stage in read] == [1.25, 3.75, 5.0]
    assert [stage["sources"]["more"]["passes"] for stage in read] == [1.25, 2.5, 1.25]


def test_the_whole_of_a_mix_is_the_sum_of_its_stages() -> None:
    mix = config(exhausted="repeat")
    assert plain_part(mix, "more", 400, 100) == {
        "name": "more",
        "weight": 0.5,
        "tokens": 200,
        "held": 100,
        "passes": 2.0,
    }
    assert plain_part(config(), "more", 401, 200)["tokens"] == 200, "half a token more than it holds"
    assert stages_read(BlendConfig.model_validate({"sources": {"a": {"source": "a", "weight": 1}}}), 9, {"a": 1}) == []


@pytest.mark.parametrize(
    ("name", "total", "words"),
    [
        ("more", 400, None),
        ("data", 403, None),  # less than a token over
        ("data", 404, "the corpus data holds 300 tokens but 75.0% of the blend's 404 are 303; lower blend.weight or"),
        ("more", 404, "holds 100 tokens but 25.0% of .* are 101; lower blend.sources.more.weight or blend.tokens"),
    ],
)
def test_a_plain_part_is_no_more_than_there_is(name: str, total: int, words: str | None) -> None:
    plain = BlendConfig.model_validate({"weight": 3, "sources": {"more": {"source": "a", "weight": 1}}})
    held = 302 if total == 403 else {"data": 300, "more": 100}[name]
    if words:
        with pytest.raises(ValueError, match=words):
            plain_part(plain, name, total, held)
        return
    assert plain_part(plain, name, total, held) == {
        "name": name,
        "weight": {"data": 0.75, "more": 0.25}[name],
        "tokens": held,
        "held": held,
        "passes": 1.0,
    }


def test_passes_are_told_to_four_places() -> None:
    read = stages_read(config(exhausted="repeat"), 400, {"data": 700, "more": 300})
    assert read[0]["sources"] == {"data": counts(0.75, 150, 0.2143, 0.2143), "more": counts(0.25, 50, 0.1667, 0.1667)}
