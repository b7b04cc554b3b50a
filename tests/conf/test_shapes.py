"""Shapes that a teacher can be cut to: counts by hand, and by transformers' own model."""

from __future__ import annotations

import pytest

from conf import shapes
from conf.budgets import memory_mb
from conf.shape import Shape, cache_bytes, head_dim, num_params
from conf.shapes import candidates, choices, cut_shape, cut_to, describe, points, sizes_of
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
        ({"hidden_size": 72}, "cut.hidden_size is 72 but the teacher has 64; choose at most that"),
        ({"num_layers": 7}, "cut.num_layers is 7 but the teacher has 6; choose at most that"),
        ({"ffn_hidden_size": 193}, "cut.ffn_hidden_size is 193 but the teacher has 192; choose at most that"),
        ({"num_attention_heads": 10}, "cut.num_attention_heads is 10 but the teacher has 8; choose at most that"),
        ({"drop_layers": [7]}, "names layer 7 but the teacher has 6 layers, numbered from 1; choose 1 to 6"),
        ({"num_attention_heads": 5}, "not a multiple of the teacher's 2"),
        ({"num_query_groups": 4}, "cut.num_query_groups is 4 but the teacher has 2; choose at most that"),
        ({"num_query_groups": 2}, "cut more"),
        ({"drop_layers": [1, 2, 3, 4, 5, 6]}, "drops all 6 layers of the teacher; keep at least one"),
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


def test_key_value_heads_become_one_as_many_at_a_time() -> None:
    teacher = TEACHER.model_copy(update={"num_query_groups": 8})
    cut = cut_shape("cut", prune(num_query_groups=2), teacher)
    assert (cut.num_query_groups, cut.num_attention_heads, head_dim(cut)) == (2, 8, 8)
    assert num_params(teacher) - num_params(cut) == 6 * 64 * 2 * (8 - 2) * 8, "keys and values of six heads a layer"
    assert cut_shape("cut", prune(num_query_groups=8, num_layers=5), teacher).num_query_groups == 8
    said = "num_query_groups is 3, which does not divide the 8 key-value heads of the teacher; choose 1 or 2 or 4, so"
    with pytest.raises(ValueError, match=f"cut.{said}"):
        cut_shape("cut", prune(num_query_groups=3), teacher)
    with pytest.raises(ValueError, match="num_attention_heads is 4, which is not a multiple of the teacher's 8"):
        cut_shape("cut", prune(num_query_groups=4, num_attention_heads=4), teacher)


def test_the_cache_of_a_token_has_keys_and_values_of_all_layers() -> None:
    assert cache_bytes(TEACHER) == 2 * 2 * 6 * 2 * 8  # bytes, keys and values, layers, heads, their width
    assert cache_bytes(cut_to(TEACHER, {"hidden_size": 48, "num_query_groups": 1})) == 2 * 2 * 6 * 1 * 8


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


def test_key_value_heads_are_searched_where_they_are_named() -> None:
    teacher = TEACHER.model_copy(update={"num_query_groups": 4})
    bounds: dict[str, object] = {"target_params": 0.99, "max_width_pruning": 0.75}
    assert choices(search(**bounds), teacher)["num_query_groups"] == [4]
    assert choices(search(**bounds, axes=["num_query_groups"]), teacher)["num_query_groups"] == [1, 2, 4]
    halved = search(target_params=0.99, max_width_pruning=0.5, axes=["num_query_groups"])
    (found,) = candidates("s", halved, teacher)
    assert (sizes_of(found, teacher), describe(found, teacher)) == (
        {"num_query_groups": 2},
        "6 layers, hidden 64, ffn 192, 8 heads, 2 key-value heads",
    )
    one = cut_to(teacher, {"num_query_groups": 1})
    assert describe(one, teacher).endswith("8 heads, 1 key-value head")
    assert describe(found) == describe(found, found) == "6 layers, hidden 64, ffn 192, 8 heads"
    with pytest.raises(
        ValueError, match=r"max_width_pruning 0\.4 leaves no .* key-value heads, which are 4; raise it to 0\.5 or"
    ):
        candidates("s", search(target_params=0.9, axes=["num_query_groups"]), teacher)
    single = TEACHER.model_copy(update={"num_query_groups": 1})
    with pytest.raises(ValueError, match="which are 1; remove num_query_groups"):
        candidates("s", halved, single)


def test_a_budget_of_cache_bytes_is_met() -> None:
    axes = ["num_query_groups", "num_layers"]
    config = search(
        target_cache_bytes=cache_bytes(TEACHER) // 2, max_width_pruning=0.5, max_depth_pruning=0.5, axes=axes
    )
    found = candidates("s", config, TEACHER)
    assert all(cache_bytes(shape) <= cache_bytes(TEACHER) // 2 for shape in found)
    assert {(shape.num_layers, shape.num_query_groups) for shape in found} == {(6, 1), (5, 1), (4, 1), (3, 1), (3, 2)}
    tight = config.model_copy(update={"target_cache_bytes": 95})
    with pytest.raises(
        ValueError, match=r"the budget of 95 bytes of KV cache a token; .* 96 bytes of KV cache a token: r"
    ):
        candidates("s", tight, TEACHER)
    with pytest.raises(ValueError, match="a token: add num_query_groups to axes, raise the target"):
        candidates("s", tight.model_copy(update={"axes": ("num_layers",)}), TEACHER)
    whole = config.model_copy(update={"target_cache_bytes": cache_bytes(TEACHER)})
    with pytest.raises(
        ValueError, match="target_cache_bytes is 384 but the teacher's KV cache takes 384 bytes a token"
    ):
        candidates("s", whole, TEACHER)


MIXED = TEACHER.model_copy(update={"architecture": "qwen3_moe", "num_experts": 12, "experts_per_token": 4})


def test_experts_are_searched_where_they_are_named() -> None:
    """In multiples of the divisor, within the bound and never fewer than a token takes."""
    bounds: dict[str, object] = {"target_params": 0.99, "max_width_pruning": 0.9, "axes": ["num_experts"]}
    assert choices(search(target_params=0.99), MIXED)["num_experts"] == [12]
    assert choices(search(**bounds), MIXED)["num_experts"] == [8, 12]
    assert choices(search(**bounds, experts_divisor=2), MIXED)["num_experts"] == [4, 6, 8, 10, 12]
    assert "num_experts" not in choices(search(target_params=0.99), TEACHER)
    found = candidates("s", search(**bounds, experts_divisor=5), MIXED)
    assert [(sizes_of(shape, MIXED), describe(shape, MIXED)) for shape in found] == [
        ({"num_experts": 10}, "6 layers, hidden 64, ffn 192, 8 heads, 10 experts"),
        ({"num_experts": 5}, "6 layers, hidden 64, ffn 192, 8 heads, 5 experts"),
    ]
    with pytest.raises(
        ValueError, match=r"s\.axes has num_experts but the teacher is dense, with no experts; remove it"
    ):
        candidates("s", search(**bounds), TEACHER)
    with pytest.raises(ValueError, match=r"12 cannot be cut to a multiple of 12 within the bounds"):
        candidates("s", search(**bounds, experts_divisor=12), MIXED)


def test_a_budget_of_active_parameters_is_met() -> None:
    """Fewer experts are no help: a token takes as many; narrower ones are."""
    total = num_params(MIXED, active=True)
    axes = ["num_experts", "ffn_hidden_size"]
    config = search(target_active_params=0.8, max_width_pruning=0.5, ffn_divisor=32, experts_divisor=6, axes=axes)
    found = candidates("s", config, MIXED)
    sizes = {(shape.num_experts, shape.ffn_hidden_size) for shape in found}
    assert all(num_params(shape, active=True) <= 0.8 * total for shape in found)
    assert sizes == {(experts, width) for experts in (6, 12) for width in (96, 128)}
    counted = config.model_copy(update={"target_active_params": num_params(found[0], active=True)})
    assert candidates("s", counted, MIXED) == found, "a budget that is met exactly"
    with pytest.raises(ValueError, match=r"the budget of 100 active parameters; .* parameters, [\d,]+ active: raise"):
        candidates("s", config.model_copy(update={"target_active_params": 100}), MIXED)
    with pytest.raises(ValueError, match=f"target_active_params is 1 but the teacher has {total:,} active parameters"):
        candidates("s", config.model_copy(update={"target_active_params": 1}), MIXED)
    with pytest.raises(ValueError, match=r"s\.target_active_params is 0\.8 but the teacher is dense, .* target_params"):
        candidates("s", search(target_active_params=0.8), TEACHER)


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
    heads = SweepConfig(axes=("num_query_groups",), ratios=(0.9, 0.6, 0.5, 0.2), divisor=8)
    eight = TEACHER.model_copy(update={"num_query_groups": 8})
    assert [(ratio, shape.num_query_groups) for _, ratio, shape in points(heads, eight)] == [(0.6, 4), (0.2, 2)]
    with pytest.raises(
        ValueError, match="no ratio of the teacher's 1 gives a smaller divisor; remove num_query_groups"
    ):
        points(heads, TEACHER.model_copy(update={"num_query_groups": 1}))
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
