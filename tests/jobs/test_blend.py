"""The shares of a blend's corpora, counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.jobs import refused, run_job

NOT_A_BLENDS = (
    *("train.bin", "train.idx", "train.jsonl", "quarantine.jsonl"),
    *("artifact.json", "metrics.jsonl", "spec.json", "job.log", "system.jsonl"),
)
"""Files of a corpus that a blend over it has of its own, or not at all."""


def held(folder: Path, tokens: int, documents: int = 1) -> Path:
    """A corpus as the data stage leaves it, as far as a blend reads it."""
    folder.mkdir()
    for name in (*NOT_A_BLENDS, "validation.bin", "test.jsonl", "tokenizer/tokenizer.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    counts = {"splits": {"train": {"tokens": tokens, "documents": documents}, "test": {"tokens": 9}}}
    (folder / "statistics.json").write_text(
        json.dumps(counts | {"tokenizer_fingerprint": "a", "eod_id": 0, "dtype": "uint16"})
    )
    return folder


def inputs(folder: Path, own: int, more: int) -> dict[str, Path]:
    return {"data": held(folder / "own", own, 3), "source-more": held(folder / "more", more, 4)}


def config(own: float, more: float, **settings: Any) -> dict[str, Any]:
    return {"sources": {"more": {"source": "more.txt", "weight": more}}, "weight": own} | settings


def parts(made: Path) -> list[tuple[int, int, float]]:
    read = json.loads((made / "blend.json").read_text())["sources"]
    return [(part["tokens"], part["held"], part["passes"]) for part in read]


def test_tokens_and_passes_follow_the_weights(tmp_path: Path) -> None:
    given = inputs(tmp_path, 300, 50)
    once = run_job("blend", config(1, 1, tokens=100), given, tmp_path / "once")
    assert parts(once) == [(50, 300, 0.1667), (50, 50, 1.0)]
    again = run_job("blend", config(1, 3, tokens=100, exhausted="repeat"), given, tmp_path / "again")
    assert parts(again) == [(25, 300, 0.0833), (75, 50, 1.5)]
    statistics = json.loads((again / "statistics.json").read_text())
    assert statistics["splits"] == {"train": {"documents": 7, "tokens": 100}, "test": {"tokens": 9}}
    assert [part["name"] for part in statistics["blend"]] == ["data", "more"]
    (line,) = (json.loads(text) for text in (again / "metrics.jsonl").read_text().splitlines())
    assert (line["step"], line["total"]) == (1, 1)
    assert line["values"] == {"train_tokens": 100, "passes_data": 0.0833, "passes_more": 1.5}


def test_a_corpus_without_training_text_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told = refused("blend", config(1, 1, tokens=100), inputs(tmp_path, 300, 0), tmp_path / "none", capfd)
    assert "the corpus more has no training tokens; remove it from the blend or check its source" in told


def test_a_corpus_of_weight_0_bounds_no_blend(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without tokens, all that the weighted corpora hold, or as many as they allow until the first runs out."""
    given = inputs(tmp_path, 300, 50)
    whole = run_job("blend", config(1, 3, exhausted="repeat"), given, tmp_path / "whole")
    assert json.loads((whole / "blend.json").read_text())["tokens"] == 350
    least = run_job("blend", config(1, 3), given, tmp_path / "least")
    assert json.loads((least / "blend.json").read_text())["tokens"] == 66, "50 of which are three quarters"
    assert "blend.tokens is not set: 66, at which more is the first corpus that runs out" in capfd.readouterr().out


def test_a_blend_tells_how_it_was_made_itself(tmp_path: Path) -> None:
    """Its settings and inputs, its log and its measurements are its own; text and tokenizer are the corpus's."""
    made = run_job("blend", config(1, 1, tokens=100), inputs(tmp_path, 300, 50), tmp_path / "made")
    for name in NOT_A_BLENDS:
        assert not (made / name).exists() or (made / name).read_text() != name, name
    for name in ("validation.bin", "test.jsonl", "tokenizer/tokenizer.json"):
        assert (made / name).read_text() == name


def test_less_than_a_token_over_is_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = inputs(tmp_path, 100, 50)
    made = run_job("blend", config(2, 1, tokens=151), given, tmp_path / "made")
    assert parts(made) == [(100, 100, 1.0), (50, 50, 1.0)]
    told = refused("blend", config(2, 1, tokens=152), given, tmp_path / "none", capfd)
    assert "the corpus data holds 100 tokens but 66.7% of the blend's 152 are 101; lower blend.weight" in told
    told = refused("blend", config(1, 1, tokens=102), given, tmp_path / "less", capfd)
    assert "the corpus more holds 50 tokens but 50.0% of the blend's 102 are 51; lower blend.sources.more" in told


def test_a_blend_has_the_recipes_own_held_out_text(tmp_path: Path) -> None:
    made = run_job("blend", config(1, 1, tokens=20), inputs(tmp_path, 100, 50), tmp_path / "made")
    there = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    assert {"validation.bin", "test.jsonl", "tokenizer/tokenizer.json", "blend.json", "statistics.json"} <= there
    assert not {"train.bin", "train.idx", "train.jsonl", "artifact.json", "quarantine.jsonl"} & there


STAGES = [{"until": 0.5, "weights": {"data": 1}}, {"until": 1, "weights": {"data": 1, "more": 3}}]


def staged(**settings: Any) -> dict[str, Any]:
    return {"sources": {"more": {"source": "more.txt"}}, "stages": STAGES} | settings


def test_stages_are_told_logged_and_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = run_job("blend", staged(tokens=80), inputs(tmp_path, 300, 60), tmp_path / "made")
    assert parts(made) == [(50, 300, 0.1667), (30, 60, 0.5)]
    content, statistics = (json.loads((made / f"{name}.json").read_text()) for name in ("blend", "statistics"))
    assert content["stages"] == [
        {"until": 0.5, "weights": {"data": 1.0}},
        {"until": 1.0, "weights": {"data": 0.25, "more": 0.75}},
    ]
    assert [stage["until_tokens"] for stage in statistics["blend_stages"]] == [40, 80]
    assert statistics["blend_stages"][1]["sources"]["more"]["passes_so_far"] == 0.5
    logged = [json.loads(line)["values"] for line in (made / "metrics.jsonl").read_text().splitlines()]
    assert logged == [
        {"train_tokens": 40, "passes_data": 0.1333, "stage_passes_data": 0.1333},
        {
            "train_tokens": 80,
            "passes_data": 0.1667,
            "stage_passes_data": 0.0333,
            "passes_more": 0.5,
            "stage_passes_more": 0.5,
        },
    ]
    out = capfd.readouterr().out
    assert "stage 2 of 2, to 80 tokens: data 25.00%, 0.03 passes, 0.17 so far; more 75.00%, 0.50 passes, 0.50" in out
    assert "more: 37.50% of 80 tokens, 0.50 passes over its 60" in out


def test_without_tokens_stages_take_what_there_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = inputs(tmp_path, 300, 60)
    made = run_job("blend", staged(), given, tmp_path / "made")
    assert json.loads((made / "blend.json").read_text())["tokens"] == 160, "3/8 of which more holds"
    only_more = [{"until": 1, "weights": {"more": 1}}]
    made = run_job("blend", staged(stages=only_more), given, tmp_path / "more")
    assert json.loads((made / "blend.json").read_text())["tokens"] == 60
    assert parts(made) == [(0, 300, 0.0), (60, 60, 1.0)]
    made = run_job("blend", staged(stages=only_more, exhausted="repeat"), given, tmp_path / "again")
    assert json.loads((made / "blend.json").read_text())["tokens"] == 60, "the other corpus is not read"
    in_tokens = [{"until": 50, "weights": {"data": 1}}, {"until": 90, "weights": {"more": 1}}]
    made = run_job("blend", staged(stages=in_tokens), given, tmp_path / "tokens")
    assert parts(made) == [(50, 300, 0.1667), (40, 60, 0.6667)]
    told = refused("blend", staged(tokens=170), given, tmp_path / "none", capfd)
    assert "the corpus more runs out in stage 2 of 2 of the blend: it holds 60 tokens" in told


def test_a_blend_without_stages_has_no_sign_of_them(tmp_path: Path) -> None:
    made = run_job("blend", config(1, 1, tokens=20), inputs(tmp_path, 100, 50), tmp_path / "made")
    assert json.loads((made / "blend.json").read_text()).keys() == {"tokens", "sources"}
    assert "blend_stages" not in json.loads((made / "statistics.json").read_text())
