"""The scores of cut models by plain formulas, each made once."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from conf.parallel import Parallel
from conf.shape import Shape
from conf.stages.prune import PruneConfig
from jobs.megatron import candidate_score, key_values, minitron
from jobs.megatron import model as megatron
from jobs.megatron.candidate_score import _Scorer
from jobs.tokens.indexed import IndexedWriter
from jobs.tokens.windows import Windows
from tests.fixtures.families import megatron_model, random_model
from tests.jobs.megatron.test_departures import SIZES as DENSE

pytestmark = pytest.mark.usefixtures("one_rank")


def random(*sizes: int, seed: int) -> torch.Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("chunk", [1, 7, 512])
def test_loss_and_kl_are_sums_over_tokens(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidate_score, "CHUNK", chunk)
    ours, theirs = random(2, 5, 11, seed=1), random(2, 5, 11, seed=2)
    labels = torch.arange(10).view(2, 5)
    loss, kl = candidate_score._compare(ours, theirs, labels).tolist()
    q, p = (each.double().flatten(0, 1).log_softmax(-1) for each in (ours, theirs))
    assert loss == pytest.approx(float(-q[torch.arange(10), labels.flatten()].sum()), rel=1e-5)
    assert kl == pytest.approx(float((p.exp() * (p - q)).sum()), rel=1e-5)


SIZES = {"hidden_size": 8, "ffn_hidden_size": 12, "num_attention_heads": 2, "num_layers": 3}
WINDOWS = np.random.default_rng(0).integers(0, 11, (5, 7))


@pytest.fixture
def logits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Models are tables of logits by token; the names of those that ran."""
    ran: list[str] = []

    def made(model: Any, batch: torch.Tensor, config: Any) -> torch.Tensor:
        ran.append(model.name)
        assert len(batch) <= config.micro_batch
        return torch.as_tensor(model.table[batch[:, :-1]])

    monkeypatch.setattr(candidate_score, "_logits", made)
    return ran


def table(name: str, seed: int, **config: Any) -> Any:
    settings = SIZES | {"num_moe_experts": None, "moe_ffn_hidden_size": 5} | config
    return SimpleNamespace(name=name, table=random(11, 11, seed=seed), config=SimpleNamespace(**settings))


def test_scores_are_means_over_all_windows(logits: list[str], tmp_path: Path) -> None:
    config: Any = SimpleNamespace(micro_batch=2)
    teacher, cut = table("teacher", 1), table("cut", 2)
    scorer = _Scorer(teacher, config, WINDOWS, tmp_path, total=2)
    pairs = torch.from_numpy(np.stack([WINDOWS[:, :-1], WINDOWS[:, 1:]], -1)).view(-1, 2)
    q, p = (each.table.double().log_softmax(-1) for each in (cut, teacher))
    loss = float(-q[pairs[:, 0], pairs[:, 1]].mean())
    kl = float((p.exp() * (p - q)).sum(-1)[pairs[:, 0]].mean())
    assert scorer(cut) == pytest.approx(-loss, rel=1e-5), "more is better to ModelOpt"
    key = " ".join(f"{axis}={SIZES[axis]}" for axis in candidate_score.AXES)
    assert scorer.scores == {key: {"val_loss": pytest.approx(loss, rel=1e-5), "kl": pytest.approx(kl, rel=1e-5)}}
    before = len(logits)
    scorer(cut)
    again = _Scorer(teacher, config, WINDOWS, tmp_path, total=2)
    assert again(cut) == scorer(cut) and len(logits) == before, "what was scored is not scored again"
    scores = again.score(teacher, SIZES | {"num_layers": 4})
    assert scores["kl"] == pytest.approx(0, abs=1e-9) and logits[before:] == ["teacher"] * 3
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["total"]) for line in lines] == [(1, 2), (1, 2), (2, 2)]


def test_a_cut_is_scored_with_each_number_of_heads(
    logits: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merged as planned while it is scored, and told to ModelOpt by the best."""
    cut, merged = table("cut", 2), table("merged", 3)
    plain, inside = cut.table, []

    @contextlib.contextmanager
    def merging(model: Any, plan: Any) -> Iterator[None]:
        inside.append(plan)
        model.table = merged.table
        yield
        model.table = plain

    monkeypatch.setattr(candidate_score.key_values, "merged_outputs", merging)
    config: Any = SimpleNamespace(micro_batch=8)
    scorer = _Scorer(table("teacher", 1), config, WINDOWS, tmp_path, total=3)
    key = candidate_score._key(SIZES)
    scorer.groups, scorer.plans = {key: [None, 2]}, {2: cast(Any, "to two")}
    best = scorer(cut)
    assert inside == ["to two"] and set(scorer.scores) == {key, f"{key} num_query_groups=2"}
    losses = [scores["val_loss"] for scores in scorer.scores.values()]
    assert best == -min(losses) and losses[0] != losses[1]
    scorer.groups = {key: [2]}
    assert scorer(cut) == -losses[1]


def test_sizes_name_the_heads_where_they_are_merged() -> None:
    teacher = Shape(num_layers=3, hidden_size=8, ffn_hidden_size=12, num_attention_heads=2, num_query_groups=2)
    assert candidate_score._sizes(teacher, teacher) == SIZES
    merged = teacher.model_copy(update={"num_query_groups": 1})
    assert candidate_score._sizes(merged, teacher) == SIZES | {"num_query_groups": 1}


def test_experts_are_as_wide_as_each(logits: list[str], tmp_path: Path) -> None:
    config: Any = SimpleNamespace(micro_batch=8)
    scorer = _Scorer(table("teacher", 1), config, WINDOWS, tmp_path, total=1)
    scorer(table("cut", 2, num_moe_experts=4))
    key = next(iter(scorer.scores))
    assert "ffn_hidden_size=5" in key and key.endswith("num_experts=4")


def test_sizes_name_the_experts_of_a_mixture() -> None:
    """Of every cut: ModelOpt would keep those of the cut before."""
    sizes: dict[str, Any] = {"architecture": "qwen3_moe", "num_experts": 4, "experts_per_token": 2}
    teacher = Shape(num_layers=3, hidden_size=8, ffn_hidden_size=12, num_attention_heads=2, num_query_groups=2, **sizes)
    assert candidate_score._sizes(teacher, teacher) == SIZES | {"num_experts": 4}
    cut = teacher.model_copy(update={"num_experts": 2})
    assert candidate_score._sizes(cut, teacher) == SIZES | {"num_experts": 2}


@pytest.mark.parametrize(("sequences", "fits"), [(3, True), (4, True), (5, False)])
def test_too_short_a_split_is_refused(
    sequences: int, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Held:
        def __init__(self, path: Path, length: int) -> None:
            assert (path, length) == (tmp_path / "validation", 9)

        def __len__(self) -> int:
            return 4

        def tokens_at(self, indices: range) -> list[int]:
            return list(indices)

    monkeypatch.setattr(candidate_score, "Windows", Held)
    config: Any = SimpleNamespace(sequences=sequences, seq_length=9)
    if fits:
        assert candidate_score._windows(tmp_path, config) == list(range(sequences))  # type: ignore[comparison-overlap]
    else:
        with pytest.raises(ValueError, match="the validation split has 4 sequences of 9 tokens, fewer than the 5 to"):
            candidate_score._windows(tmp_path, config)


LENGTH, MODEL = 8, DENSE | {"num_key_value_heads": 2}


def plain_scores(cut: torch.Tensor, teacher: torch.Tensor, windows: torch.Tensor) -> dict[str, Any]:
    """Of the logits of both on `windows` [sequences, length + 1]."""
    q, p = (each.double().log_softmax(-1) for each in (cut, teacher))
    loss = float(torch.nn.functional.nll_loss(q.flatten(0, 1), windows[:, 1:].flatten()))
    kl = float((p.exp() * (p - q)).sum(-1).mean())
    return {"val_loss": pytest.approx(loss, rel=1e-4), "kl": pytest.approx(kl, rel=1e-3, abs=1e-6)}


def test_every_cut_is_scored_against_the_whole_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut alone by what was measured of it, or with merged heads; in the order of the shapes, and each told of."""
    monkeypatch.setattr(candidate_score.inputs, "checked_model", lambda folder, *_: megatron.read_config(folder))
    folder = tmp_path / "model"
    random_model("llama", folder, torch.float32, **MODEL)
    with IndexedWriter(tmp_path / "validation", np.dtype(np.uint16)) as writer:
        writer.add(np.random.default_rng(0).integers(0, 32, 5 * LENGTH + 1), np.array([5 * LENGTH + 1], np.int32))
    windows = torch.from_numpy(Windows(tmp_path / "validation", LENGTH).tokens_at(range(4)))
    inputs = windows[:, :-1]

    def logits(model: Any) -> torch.Tensor:
        with torch.no_grad():
            return torch.as_tensor(model(inputs, torch.arange(LENGTH).expand_as(inputs), None))

    minitron.measure(megatron_model(folder, for_pruning=True), logits, tmp_path)
    changes: list[dict[str, int]] = [{"num_layers": 2, "hidden_size": 12}, {"num_query_groups": 1}, {"num_layers": 1}]
    config: Any = SimpleNamespace(parallel=Parallel(), seq_length=LENGTH, sequences=4, micro_batch=3, precision="fp32")
    shape, scores, cuts = candidate_score.score_cuts(
        dict.fromkeys(("data", "teacher", "importance"), str(tmp_path)),
        config,
        ("activation", 0),
        lambda shape: [shape.model_copy(update=change) for change in changes],
        tmp_path,
        torch.device("cpu"),
    )
    whole = logits(megatron_model(folder, for_pruning=True))
    assert scores == plain_scores(whole, whole, windows) and shape.hidden_size == 16
    for change, (found, score) in zip(changes, cuts, strict=True):
        assert found == shape.model_copy(update=change)
        cut = megatron_model(folder, for_pruning=True)
        if "num_query_groups" in change:
            key_values.merge(cut, key_values.plan(cut, megatron.read_config(folder), 1))
        else:
            cut, *_ = minitron.cut(cut, PruneConfig(**change), tmp_path)
        assert score == plain_scores(logits(cut), whole, windows), change
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["total"]) for line in lines] == [(number, 4) for number in range(1, 5)]
