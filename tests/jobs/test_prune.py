"""Importance and pruning: what is cut, what is kept and what is refused, through the programs themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures.jobs import refused, run_job

pytestmark = pytest.mark.slow


def logits(directory: Path, without: int | None = None) -> torch.Tensor:
    """Logits of a saved model on fixed tokens, with one layer (from 1) taken out by hand if asked."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(directory / "model", dtype=torch.float32)
    if without is not None:
        del model.model.layers[without - 1]
        for index, layer in enumerate(model.model.layers):
            layer.self_attn.layer_idx = index
        model.config.num_hidden_layers -= 1
    with torch.no_grad():
        return torch.as_tensor(model(torch.arange(40)[None], use_cache=False).logits)


def numbered(text: str) -> list[int]:
    """The numbers of a text such as 1-3, 7."""
    ends = [[int(end) for end in part.split("-")] for part in text.split(", ")]
    return [number for end in ends for number in range(end[0], end[-1] + 1)]


def test_a_named_layer_is_dropped_and_nothing_else_changes(corpus: Path, teacher: Path, tmp_path: Path) -> None:
    cut = run_job("prune", {"drop_layers": [2]}, {"data": corpus, "teacher": teacher}, tmp_path / "cut")
    torch.testing.assert_close(logits(cut), logits(teacher, without=2), rtol=1e-4, atol=1e-4)
    config = json.loads((cut / "model" / "config.json").read_text())
    assert config["num_hidden_layers"] == 3


def test_the_least_important_layer_goes(corpus: Path, teacher: Path, importance: Path, student: Path) -> None:
    scores = json.loads((importance / "importance.json").read_text())["layer_scores"]
    least = int(min(scores, key=scores.get))
    torch.testing.assert_close(logits(student), logits(teacher, without=least), rtol=1e-4, atol=1e-4)


def test_importance_needs_no_logits(
    corpus: Path, teacher: Path, importance: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.megatron import fused_loss as head

    monkeypatch.setattr(head, "defer", lambda model: None)
    config = {"calibration_samples": 16, "seq_length": 64, "micro_batch": 4, "precision": "fp32"}
    whole = run_job("importance", config, {"data": corpus, "teacher": teacher}, tmp_path / "whole")
    for name in ("importance.json", "importance.safetensors"):
        assert (whole / name).read_bytes() == (importance / name).read_bytes()


def test_width_keeps_the_channels_with_the_largest_activations(
    corpus: Path, teacher: Path, importance: Path, tmp_path: Path
) -> None:
    inputs = {"data": corpus, "teacher": teacher, "importance": importance}
    cut = run_job("prune", {"ffn_hidden_size": 64}, inputs, tmp_path / "cut")
    scores = load_file(importance / "importance.safetensors")["1.mlp"]
    kept = scores.sqrt().argsort(descending=True)[:64].sort().values
    before = load_file(teacher / "model" / "model.safetensors")["model.layers.0.mlp.down_proj.weight"]
    after = load_file(cut / "model" / "model.safetensors")["model.layers.0.mlp.down_proj.weight"]
    columns = {tuple(column.tolist()) for column in after.T}
    assert columns == {tuple(column.tolist()) for column in before[:, kept].T}
    told = json.loads((cut / "kept.json").read_text())["axes"]["ffn_hidden_size"]["1"]
    assert numbered(told["ranges"]) == kept.tolist()
    assert told["share"] == pytest.approx(float(scores.sqrt()[kept].sum() / scores.sqrt().sum()))
    pairs = (scores.sqrt()[kept][:, None] - scores.sqrt()[kept][None, :]).abs().mean()
    assert told["gini"] == pytest.approx(float(pairs / scores.sqrt()[kept].mean() / 2), rel=1e-4)


def test_magnitude_keeps_the_channels_with_the_largest_weights(
    corpus: Path, teacher: Path, importance: Path, tmp_path: Path
) -> None:
    inputs = {"data": corpus, "teacher": teacher, "importance": importance}
    cut = run_job("prune", {"ffn_hidden_size": 64, "ranking": "magnitude"}, inputs, tmp_path / "cut")
    before = load_file(teacher / "model" / "model.safetensors")["model.layers.0.mlp.down_proj.weight"]
    after = load_file(cut / "model" / "model.safetensors")["model.layers.0.mlp.down_proj.weight"]
    kept = before.square().sum(0).argsort(descending=True)[:64]
    assert {tuple(column.tolist()) for column in after.T} == {tuple(column.tolist()) for column in before[:, kept].T}


def test_a_random_ranking_follows_its_seed(corpus: Path, teacher: Path, importance: Path, tmp_path: Path) -> None:
    inputs = {"data": corpus, "teacher": teacher, "importance": importance}
    sizes = {"num_layers": 2, "ffn_hidden_size": 48, "ranking": "random"}
    one, same, other = (
        logits(run_job("prune", sizes | {"seed": seed}, inputs, tmp_path / name))
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    )
    assert torch.equal(one, same)
    assert not torch.allclose(one, other, atol=0.1)


def test_reinitialized_weights_differ_from_the_teacher_s(
    corpus: Path, teacher: Path, importance: Path, tmp_path: Path
) -> None:
    inputs = {"data": corpus, "teacher": teacher, "importance": importance}
    blank = run_job("prune", {"num_layers": 3, "reinitialize": True}, inputs, tmp_path / "blank")
    drawn = load_file(blank / "model" / "model.safetensors")
    assert torch.equal(drawn["model.norm.weight"], torch.ones(64))
    weight = drawn["model.layers.1.mlp.gate_proj.weight"]
    assert float(weight.std()) == pytest.approx(0.06, rel=0.05)
    assert float(logits(blank).std()) < float(logits(teacher).std())


def test_all_axes_at_once_load_in_transformers(corpus: Path, teacher: Path, importance: Path, tmp_path: Path) -> None:
    inputs = {"data": corpus, "teacher": teacher, "importance": importance}
    sizes = {"num_layers": 3, "hidden_size": 48, "ffn_hidden_size": 64, "num_attention_heads": 2}
    cut = run_job("prune", sizes, inputs, tmp_path / "cut")
    config = json.loads((cut / "model" / "config.json").read_text())
    assert (config["hidden_size"], config["intermediate_size"], config["num_attention_heads"], config["head_dim"]) == (
        48,
        64,
        2,
        16,
    )
    assert logits(cut).isfinite().all()
    axes = json.loads((cut / "kept.json").read_text())["axes"]
    scores = json.loads((importance / "importance.json").read_text())["layer_scores"]
    layers = numbered(axes["num_layers"]["ranges"])
    assert layers == sorted(int(layer) for layer in sorted(scores, key=scores.get)[1:])
    assert (
        [int(layer) for layer in axes["ffn_hidden_size"]]
        == [int(layer) for layer in axes["num_attention_heads"]]
        == layers
    )
    # What is said to be kept is what the weights hold: a row of the embedding, the MLP and the heads of the last kept
    # layer.
    before, after = (load_file(folder / "model" / "model.safetensors") for folder in (teacher, cut))
    hidden, last = numbered(axes["hidden_size"]["ranges"]), str(layers[-1])
    assert {*after["model.embed_tokens.weight"][7].tolist()} == {
        *before["model.embed_tokens.weight"][7, hidden].tolist()
    }
    ffn = numbered(axes["ffn_hidden_size"][last]["ranges"])
    down = before[f"model.layers.{int(last) - 1}.mlp.down_proj.weight"][hidden][:, ffn]
    assert sorted(after["model.layers.2.mlp.down_proj.weight"].flatten().tolist()) == sorted(down.flatten().tolist())
    heads = numbered(axes["num_attention_heads"][last]["ranges"])
    query = before[f"model.layers.{int(last) - 1}.self_attn.q_proj.weight"].view(4, 16, 64)[heads][:, :, hidden]
    assert sorted(after["model.layers.2.self_attn.q_proj.weight"].flatten().tolist()) == sorted(
        query.flatten().tolist()
    )


def test_key_value_heads_are_merged_without_importance(corpus: Path, teacher: Path, tmp_path: Path) -> None:
    """The two of each layer become one; what is not attention stays as it was, and baselines are no closer."""
    inputs, whole = {"data": corpus, "teacher": teacher}, logits(teacher)
    before = load_file(teacher / "model" / "model.safetensors")
    apart = {}
    for merging in ("aligned", "mean", "first"):
        settings = {"num_query_groups": 1, "kv_merging": merging}
        cut = run_job("prune", settings, inputs, tmp_path / merging)
        config = json.loads((cut / "model" / "config.json").read_text())
        assert (config["num_key_value_heads"], config["num_attention_heads"], config["head_dim"]) == (1, 4, 16)
        after, told = load_file(cut / "model" / "model.safetensors"), json.loads((cut / "kept.json").read_text())
        assert all(torch.equal(after[name], before[name]) for name in before if "self_attn" not in name)
        entry = told["axes"]["num_query_groups"]["3"]
        assert (entry["of"], entry["count"], entry["ranges"]) == (2, 1, "0+1")
        assert (told["ranking"], entry["share"] is None) == (None, merging == "first")
        assert told["cache_bytes"] == {"before": 2 * 2 * 4 * 2 * 16, "after": 2 * 2 * 4 * 16}
        apart[merging] = float((logits(cut) - whole).square().mean())
    assert 0 < apart["aligned"] < min(apart["mean"], apart["first"])


@pytest.mark.drill
def test_merged_heads_combine_with_every_other_cut(
    corpus: Path, teacher: Path, importance: Path, tmp_path: Path
) -> None:
    """Named layers too, and weights that are drawn anew; the student may be cut again."""
    inputs = {"data": corpus, "teacher": teacher, "importance": importance}
    sizes = {"hidden_size": 48, "ffn_hidden_size": 64, "num_attention_heads": 2, "num_query_groups": 1}
    cut = run_job("prune", sizes | {"drop_layers": [2]}, inputs, tmp_path / "cut")
    axes = json.loads((cut / "kept.json").read_text())["axes"]
    assert list(axes["num_query_groups"]) == list(axes["num_attention_heads"]) == ["1", "3", "4"]
    assert logits(cut).isfinite().all()
    blank = run_job("prune", {"num_query_groups": 1, "reinitialize": True}, inputs, tmp_path / "blank")
    drawn = load_file(blank / "model" / "model.safetensors")["model.layers.1.self_attn.k_proj.weight"]
    assert drawn.shape == (16, 64) and float(drawn.std()) == pytest.approx(0.06, rel=0.1)
    again = run_job("prune", {"drop_layers": [1]}, {"data": corpus, "teacher": cut}, tmp_path / "again")
    assert json.loads((again / "model" / "config.json").read_text())["num_key_value_heads"] == 1


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ({"num_layers": 9}, "prune.num_layers is 9 but the teacher has 4"),
        ({"num_query_groups": 4}, "prune.num_query_groups is 4 but the teacher has 2; choose at most that"),
        *(
            pytest.param(cut, message, marks=pytest.mark.drill)
            for cut, message in (
                ({"drop_layers": [7]}, "prune.drop_layers names layer 7 but the teacher has 4 layers"),
                ({"drop_layers": [1, 2, 3, 4]}, "keep at least one"),
                ({"hidden_size": 64}, "cut more"),
                ({"num_attention_heads": 3}, "query groups"),
                ({"num_query_groups": 2}, "cut more"),
            )
        ),
    ],
)
def test_a_cut_that_does_not_fit_is_refused(
    corpus: Path,
    teacher: Path,
    importance: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    cut: dict[str, object],
    message: str,
) -> None:
    inputs = {"data": corpus, "teacher": teacher, "importance": importance}
    assert message in refused("prune", cut, inputs, tmp_path / "cut", capfd)
    assert not (tmp_path / "cut" / "model").exists()
