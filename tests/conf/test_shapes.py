"""Shapes that a teacher can be cut to: counts by hand, and by transformers' own model."""

from __future__ import annotations

import pytest

from conf import shapes
from conf.shape import Shape, head_dim, num_params
from conf.shapes import candidates, choices, cut_shape, cut_to, describe, memory_mb, points, sizes_of
from conf.stages.prune import PruneConfig
from conf.stages.search import SearchConfig
from conf.stages.sweep import SweepConfig

TEACHER = Shape(
    num_layers=6, hidden_size=64, ffn_hidden_size=192, num_attention_heads=8, num_query_groups=2, vocab_size=256
)


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_those_of_transformers_model(architecture: str, tied: bool) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = TEACHER.model_copy(update={"architecture": architecture, "tie_word_embeddings": tied})
    config = AutoConfig.for_model(
        architecture,
        num_hidden_layers=6,
        hidden_size=64,
        intermediate_size=192,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=8,
        vocab_size=256,
        tie_word_embeddings=tied,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    assert num_params(shape) == sum(weight.numel() for weight in model.parameters())


def test_memory_is_weights_and_cache_in_bf16() -> None:
    cache = 2 * 6 * 2 * 8 * 3 * 100  # keys and values, layers, groups, width of a head, sequences, tokens
    assert memory_mb(TEACHER, 3, 100) == pytest.approx(2 * (num_params(TEACHER) + cache) / 1e6)


def test_the_width_of_a_head_outlives_a_cut() -> None:
    cut = cut_to(TEACHER, {"hidden_size": 48, "num_attention_heads": 4})
    assert (head_dim(cut), cut.hidden_size, cut.num_attention_heads) == (8, 48, 4)
    assert sizes_of(cut, TEACHER) == {"hidden_size": 48, "num_attention_heads": 4}
    assert describe(cut) == "6 layers, hidden 48, ffn 192, 4 heads"


def prune(**sizes: object) -> PruneConfig:
    return PruneConfig.model_validate(sizes)


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"hidden_size": 72}, "cut.hidden_size is 72 but the teacher has 64"),
        ({"drop_layers": [7]}, "names layer 7 but the teacher has 6"),
        ({"num_attention_heads": 5}, "not a multiple of the teacher's 2"),
        ({"drop_layers": [1, 2, 3, 4, 5, 6]}, "all 6 layers"),
        ({"hidden_size": 64}, "cut more"),
    ],
)
def test_a_cut_that_does_not_fit_is_refused(sizes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        cut_shape("cut", prune(**sizes), TEACHER)


def test_a_cut_at_its_bound_is_taken() -> None:
    assert cut_shape("cut", prune(drop_layers=[6]), TEACHER).num_layers == 5
    assert cut_shape("cut", prune(hidden_size=64, num_layers=5), TEACHER).hidden_size == 64
    assert cut_shape("cut", prune(drop_layers=[2, 3, 4, 5, 6]), TEACHER).num_layers == 1


def search(**settings: object) -> SearchConfig:
    return SearchConfig.model_validate(
        {"layers_divisor": 1, "hidden_divisor": 16, "ffn_divisor": 64, "heads_divisor": 1} | settings
    )


def test_an_axis_is_cut_down_to_its_bound_inclusive() -> None:
    config = search(target_params=0.9, max_depth_pruning=0.5, max_width_pruning=0.5, axes=["num_layers", "hidden_size"])
    sizes = choices(config, TEACHER)
    assert sizes["num_layers"] == [3, 4, 5, 6]
    assert sizes["hidden_size"] == [32, 48, 64]
    assert sizes["ffn_hidden_size"] == [192], "not among the axes"
    assert choices(search(target_params=0.9, max_width_pruning=0.5), TEACHER)["num_attention_heads"] == [4, 6, 8]


def test_candidates_meet_the_budget_largest_first() -> None:
    total = num_params(TEACHER)
    found = candidates("search", search(target_params=0.7, candidates=5), TEACHER)
    params = [num_params(shape) for shape in found]
    assert len(found) == 5 and params == sorted(params, reverse=True)
    assert max(params) <= 0.7 * total
    exact = candidates("search", search(target_params=params[0], candidates=5), TEACHER)
    assert exact == found, "a budget that is met exactly"


def test_a_memory_budget_counts_the_cache() -> None:
    config = search(target_memory_mb=0.8 * memory_mb(TEACHER, 4, 512), memory_batch=4, memory_length=512)
    assert all(
        memory_mb(shape, 4, 512) <= 0.8 * memory_mb(TEACHER, 4, 512) for shape in candidates("s", config, TEACHER)
    )


@pytest.mark.parametrize("target", [1, num_params(TEACHER)])
def test_a_budget_of_the_whole_teacher_is_refused(target: float) -> None:
    with pytest.raises(ValueError, match="choose less"):
        candidates("search", search(target_params=target), TEACHER)


def test_a_budget_nothing_meets_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="no shape within the bounds meets the budget of 100 parameters"):
        candidates("search", search(target_params=100), TEACHER)


def test_a_sweep_rounds_to_sizes_that_can_be_cut() -> None:
    config = SweepConfig(axes=("num_layers", "num_attention_heads", "hidden_size"), ratios=(0.9, 0.5), divisor=8)
    assert [(axis, ratio, getattr(shape, axis)) for axis, ratio, shape in points(config, TEACHER)] == [
        ("num_layers", 0.9, 5),
        ("num_layers", 0.5, 3),
        ("num_attention_heads", 0.5, 4),
        ("hidden_size", 0.9, 56),
        ("hidden_size", 0.5, 32),
    ]
    with pytest.raises(ValueError, match=r"no ratio of the teacher's 8"):
        points(SweepConfig(axes=("num_attention_heads",), ratios=(0.9,)), TEACHER)


def test_a_memory_budget_of_the_whole_teacher_is_refused() -> None:
    whole = memory_mb(TEACHER, 4, 512)
    with pytest.raises(ValueError, match=r"target_memory_mb is .* but the teacher takes .* MB; choose less"):
        candidates("s", search(target_memory_mb=whole, memory_batch=4, memory_length=512), TEACHER)


def test_an_axis_that_no_divisor_cuts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"axes has hidden_size, but the teacher's 64 cannot be cut to a multiple of"):
        candidates("s", search(target_params=0.5, hidden_divisor=64, axes=["hidden_size", "num_layers"]), TEACHER)
    with pytest.raises(ValueError, match=r"axes has num_attention_heads, .* cannot be cut to a multiple of 10 within"):
        candidates("s", search(target_params=0.5, heads_divisor=5, axes=["num_attention_heads"]), TEACHER)
    settings = {"layers_divisor": 6, "hidden_divisor": 64, "ffn_divisor": 192, "heads_divisor": 8}
    with pytest.raises(ValueError, match=r"can cut no axis of 6 layers, hidden 64, ffn 192, 8 heads"):
        candidates("s", search(target_params=0.5, **settings), TEACHER)


def test_a_grid_may_be_as_large_as_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    config = search(target_params=0.9, axes=["num_layers"], max_depth_pruning=0.5)
    monkeypatch.setattr(shapes, "MOST_SHAPES", 4)
    assert candidates("s", config, TEACHER), "3, 4, 5 and 6 layers"
    monkeypatch.setattr(shapes, "MOST_SHAPES", 3)
    with pytest.raises(ValueError, match="s has 4 shapes but the maximum is 3; raise hidden_divisor"):
        candidates("s", config, TEACHER)


def test_the_nearest_shape_is_told_with_its_memory() -> None:
    config = search(target_memory_mb=0.001, memory_batch=1, memory_length=8, axes=["num_layers"], max_depth_pruning=0.5)
    three = cut_to(TEACHER, {"num_layers": 3})
    told = f"the nearest is {describe(three)} with {num_params(three):,} parameters, {memory_mb(three, 1, 8):,.1f} MB"
    with pytest.raises(ValueError, match=told):
        candidates("s", config, TEACHER)
