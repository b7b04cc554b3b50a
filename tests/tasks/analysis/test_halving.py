"""Successive halving over made-up candidates: who continues, who wins, and what is known of a run in progress."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf.load import load
from conf.stages.distill import DistillConfig
from conf.stages.search import SearchConfig
from tasks.analysis.halving import Candidate, HalvingProgress, last_loss, successive_halving
from tasks.store.store import Artifact

SHAPE = {"num_layers": 4, "hidden_size": 64, "ffn_hidden_size": 128, "num_attention_heads": 4}


class Rounds:
    """Stages whose losses are given by round and candidate; stages after `known` rounds are not known yet."""

    def __init__(self, root: Path, losses: list[dict[int, float]], known: int) -> None:
        self.root, self.losses, self.known_rounds = root, losses, known
        self.taught: list[tuple[int, int, int]] = []

    def cut(self, candidate: Candidate) -> Path:
        return self.root / f"cut-{candidate.number}"

    def teach(self, candidate: Candidate, config: DistillConfig, number: int) -> Path:
        self.taught.append((number, candidate.number, config.steps))
        folder = self.root / f"round-{number}-{candidate.number}"
        folder.mkdir()
        lines = [{"values": {"val_loss": 9.0}}, {"values": {"val_loss": self.losses[number - 1][candidate.number]}}]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return folder

    def known(self, handles: list[Any]) -> bool:
        return int(handles[0].name.split("-")[1]) <= self.known_rounds

    def artifacts(self, handles: list[Any]) -> list[Artifact]:
        return [Artifact(stage="distill", key=handle.name, path=str(handle)) for handle in handles]


def halved(
    root: Path, losses: list[float], rounds: list[dict[int, float]], known: int = 9, **halving: Any
) -> tuple[HalvingProgress, Rounds]:
    """Halving over candidates with `losses` after the cut."""
    scores = {"params": 10, "memory_mb": 1.0, "kl": 0.1}
    candidates = [{"shape": SHAPE | {"num_layers": 3}, "val_loss": loss} | scores for loss in losses]
    teacher = {"shape": SHAPE, "val_loss": 0.5} | scores
    (root / "search.json").write_text(json.dumps({"candidates": candidates, "teacher": teacher}))
    search = Artifact(stage="search", key="s", path=str(root))
    config = SearchConfig.model_validate({"target_params": 10.0, "halving": halving})
    stages = Rounds(root, rounds, known)
    distill = load("demo").distill
    return successive_halving(search, config, distill, stages.cut, stages.teach, stages), stages


def test_the_better_half_continues_and_the_best_wins(tmp_path: Path) -> None:
    rounds = [{1: 1.3, 2: 1.1, 3: 1.2, 4: 1.4}, {2: 1.05, 3: 1.0}]
    progress, stages = halved(tmp_path, [2.4, 2.1, 2.3, 2.2, 2.5], rounds, top_k=4, steps=10)
    assert [(number, candidate, steps) for number, candidate, steps in stages.taught] == [
        (1, 2, 10),
        (1, 4, 10),
        (1, 3, 10),
        (1, 1, 10),
        (2, 2, 20),
        (2, 3, 20),
    ]
    result = progress.result
    assert result is not None and (progress.chosen, progress.rounds) == (True, 2)
    assert result.winner == 3
    assert (result.pruned.key, result.model.key) == ("cut-3", "round-2-3")
    assert {each.number: each.losses for each in result.candidates} == {
        2: (1.1, 1.05),
        4: (1.4,),
        3: (1.2, 1.0),
        1: (1.3,),
        5: (),
    }
    assert [each.number for each in result.candidates] == [2, 4, 3, 1, 5], "best after the cut first"
    assert result.teacher.val_loss == 0.5


def test_rounds_record_steps_tokens_and_candidates(tmp_path: Path) -> None:
    progress, _ = halved(tmp_path, [2.0, 2.1, 2.2], [{1: 1.0, 2: 1.1, 3: 1.2}, {1: 1.0, 2: 0.9}], top_k=3, steps=10)
    distill = load("demo").distill
    assert progress.result is not None and distill is not None
    per_step = distill.tokens // distill.steps
    assert [(each.steps, each.tokens, each.candidates) for each in progress.result.rounds] == [
        (10, 10 * per_step, 3),
        (20, 20 * per_step, 2),
    ]


def test_of_equal_losses_the_lower_number_goes_first(tmp_path: Path) -> None:
    progress, stages = halved(tmp_path, [2.0, 2.0, 2.0], [{1: 1.0, 2: 1.0}], top_k=2, steps=10)
    assert [candidate for _, candidate, _ in stages.taught] == [1, 2]
    assert progress.result is not None and progress.result.winner == 1


@pytest.mark.parametrize(("known", "rounds"), [(0, 1), (1, 2)])
def test_an_unknown_round_ends_without_a_result(known: int, rounds: int, tmp_path: Path) -> None:
    losses = [{1: 1.0, 2: 1.1, 3: 1.2, 4: 1.3}, {1: 1.0, 2: 1.1}]
    progress, _ = halved(tmp_path, [2.0, 2.1, 2.2, 2.3], losses, known, top_k=4, steps=10)
    assert progress == HalvingProgress(chosen=True, rounds=rounds)


def test_one_candidate_wins_without_distillation(tmp_path: Path) -> None:
    progress, stages = halved(tmp_path, [2.1, 2.0], [], top_k=1)
    assert progress.result is not None and stages.taught == []
    assert (progress.result.winner, progress.result.rounds, progress.rounds) == (2, (), 0)
    assert progress.result.model == progress.result.pruned


def test_the_last_validation_counts(tmp_path: Path) -> None:
    lines = [{"val_loss": 3.0}, {"val_loss": 2.0}, {"loss": 1.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps({"values": line}) + "\n" for line in lines))
    assert last_loss(tmp_path) == 2.0
