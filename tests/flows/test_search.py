"""Search to a budget: which shapes are found, what they are scored, who wins, and what is refused."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from conf.budgets import memory_mb
from conf.cuts import prune_of, round_of
from conf.load import load
from conf.shape import Shape, num_params
from conf.shapes import candidates
from conf.spec import Record
from conf.stages.distill import DistillConfig
from conf.stages.search import Halving, SearchConfig
from flows.plan import PlannedStage, plan
from tests.fixtures.flow import imbik, report_of
from tests.fixtures.jobs import run_job

RECIPE = str(Path(__file__).parents[1] / "recipes" / "search.yaml")
LARGE = Shape(
    num_layers=8, hidden_size=128, ffn_hidden_size=512, num_attention_heads=8, num_query_groups=2, vocab_size=1000
)
BOUNDS = {
    "layers_divisor": 1,
    "hidden_divisor": 16,
    "ffn_divisor": 64,
    "max_width_pruning": 0.5,
    "max_depth_pruning": 0.5,
}
SCORING = {"sequences": 8, "seq_length": 64, "micro_batch": 4, "precision": "fp32"}
SEARCH = SCORING | BOUNDS | {"target_params": 0.8, "ffn_divisor": 16, "candidates": 4}


def sizes(shape: Shape) -> tuple[int, int, int, int]:
    return shape.num_layers, shape.hidden_size, shape.ffn_hidden_size, shape.num_attention_heads


@given(st.floats(0.2, 0.99), st.integers(1, 4), st.sampled_from([8, 16, 48]), st.floats(0, 0.7), st.floats(0, 0.7))
def test_the_largest_shapes_within_budget_and_bounds_are_found(
    target: float, layers: int, hidden: int, width: float, depth: float
) -> None:
    settings = {"layers_divisor": layers, "hidden_divisor": hidden, "ffn_divisor": 64, "candidates": 7}
    config = SearchConfig.model_validate(
        {"target_params": target, "max_width_pruning": width, "max_depth_pruning": depth} | settings
    )
    try:
        found = candidates("search", config, LARGE)
    except ValueError as refused:
        assert "nearest" in str(refused) or "can cut no axis" in str(refused)
        found = []
    allowed = {
        (n, h, f, a)
        for n, h, f, a in itertools.product(range(1, 9), range(8, 129, 8), range(64, 513, 64), range(2, 9, 2))
        if (n == 8 or (n % layers == 0 and n >= 8 * (1 - depth)))
        and (h == 128 or (h % hidden == 0 and h >= 128 * (1 - width)))
        and f >= 512 * (1 - width)
        and a >= 8 * (1 - width)
        and h % a == 0  # transformers opens no other Llama
    }
    weights = {
        shape: num_params(LARGE.model_copy(update=dict(zip(AXES, shape, strict=True), head_dim=16)))
        for shape in allowed - {sizes(LARGE)}
    }
    fitting = sorted((weight for weight in weights.values() if weight <= target * num_params(LARGE)), reverse=True)
    assert [num_params(shape) for shape in found] == fitting[:7]
    assert all(sizes(shape) in weights and shape.head_dim == 16 for shape in found)


AXES = ("num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads")


@given(st.floats(0.3, 0.95), st.integers(1, 8), st.integers(64, 4096))
def test_a_memory_target_counts_weights_and_cache(share: float, batch: int, length: int) -> None:
    target = share * memory_mb(LARGE, batch, length)
    config = SearchConfig.model_validate(
        BOUNDS | {"target_memory_mb": target, "memory_batch": batch, "memory_length": length}
    )
    try:
        found = candidates("search", config, LARGE)
    except ValueError as refused:
        assume("nearest" not in str(refused))
        raise
    for shape in found:
        cache = 2 * shape.num_layers * 2 * 16 * batch * length  # keys and values of two groups of heads, 16 wide
        assert 2 * (num_params(shape) + cache) <= target * 1e6
    assert memory_mb(LARGE, batch, length) == pytest.approx(
        2e-6 * (num_params(LARGE) + 2 * 8 * 2 * 16 * batch * length)
    )


@given(st.integers(1, 64), st.integers(1, 80), st.one_of(st.none(), st.integers(1, 6)))
def test_the_field_halves_until_one_is_left(top_k: int, found: int, rounds: int | None) -> None:
    assume(rounds is None or rounds <= math.ceil(math.log2(top_k)))
    fields = Halving(top_k=top_k, rounds=rounds).sizes(found)
    assert all(after == math.ceil(before / 2) for before, after in itertools.pairwise(fields))
    assert fields[:1] == ([min(top_k, found)] if min(top_k, found) > 1 else [])
    assert fields == [] or rounds == len(fields) or fields[-1] == 2


@given(st.integers(1, 400), st.integers(0, 300), st.one_of(st.none(), st.integers(1, 50)))
def test_every_round_has_twice_the_steps_and_other_samples(steps: int, warmup: int, first: int | None) -> None:
    assume(warmup < steps)
    base = {"seq_length": 64, "global_batch": 8, "micro_batch": 4, "lr": 1e-4, "min_lr": 1e-5}
    how = DistillConfig.model_validate(base | {"steps": steps, "warmup_steps": warmup, "loss": "reverse_kl"})
    taught = [round_of(how, Halving(top_k=16, steps=first), number) for number in range(4)]
    assert [one.steps for one in taught] == [(first or max(1, steps // 10)) * 2**number for number in range(4)]
    assert len({one.seed for one in taught}) == 4
    for one in taught:
        assert one.model_dump(exclude={"steps", "warmup_steps", "seed"}) == how.model_dump(
            exclude={"steps", "warmup_steps", "seed"}
        )


def test_a_candidate_is_the_prune_that_names_its_sizes() -> None:
    config = SearchConfig(target_params=0.5)
    sizes = {"num_layers": 4, "hidden_size": 128, "ffn_hidden_size": 256, "num_attention_heads": 8}
    assert prune_of(config, sizes, dict(zip(AXES, (8, 128, 512, 8), strict=True))).ranked == {
        "num_layers": 4,
        "ffn_hidden_size": 256,
    }


SMALL = "students.small.search"
REFUSED: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "no budget": ([f"{SMALL}.target_params=null"], ("search has no budget", "set target_params")),
    "above the teacher": (
        [f"{SMALL}.target_params=60000"],
        (f"{SMALL}.target_params is 60000", "the teacher has 49,888", "choose less"),
    ),
    "all of the teacher": ([f"{SMALL}.target_params=1"], (f"{SMALL}.target_params is 1", "the teacher has 49,888")),
    "more memory than the teacher": (
        [f"{SMALL}.target_memory_mb=99"],
        ("target_memory_mb is 99", "the teacher takes", "choose less"),
    ),
    "nothing so small": (
        [f"{SMALL}.target_params=0.1"],
        (
            f"{SMALL}: no shape",
            "4,989 parameters",
            "the nearest is 2 layers, hidden 16, ffn 48, 2 heads with 13,136",
            "max_width_pruning 0.5",
        ),
    ),
    "an axis of one size": (
        [f"{SMALL}.axes=[hidden_size]", f"{SMALL}.hidden_divisor=64"],
        (f"{SMALL}.axes has hidden_size", "the teacher's 32", "a multiple of 64", "lower the divisor"),
    ),
    "nothing to cut": (
        [f"{SMALL}.max_width_pruning=0", f"{SMALL}.max_depth_pruning=0"],
        (f"{SMALL} can cut no axis", "3 layers, hidden 32", "raise the bounds"),
    ),
    "two shapes": (["students.small.prune.num_layers=2"], ("students.small", "prune and search", "exactly one")),
    "more than were scored": (
        [f"{SMALL}.halving.top_k=6"],
        ("halving.top_k is 6", "search.candidates is 5", "choose at most 5"),
    ),
    "rounds without rivals": (
        [f"{SMALL}.halving.rounds=3"],
        ("halving.rounds is 3", "4 candidates need only 2", "choose at most 2"),
    ),
    "no teaching": (["distill=null"], (f"{SMALL}.halving compares 4 candidates", "set distill", "halving.top_k=1")),
    "longer than the model": ([f"{SMALL}.seq_length=512"], (f"{SMALL}.seq_length is 512", "256", "choose at most 256")),
    "spread over tensors": (
        [f"{SMALL}.parallel={{processes: 2, tensor: 2}}"],
        ("data- and context-parallel size 1", "parallel.pipeline"),
    ),
    "a format's block": (
        ["students.small.quantize=[nvfp4]", f"{SMALL}.hidden_divisor=8", f"{SMALL}.candidates=40"],
        ("students.small has hidden_size 24", "multiple of 16"),
    ),
    "a candidate's name": (
        ["students.small-c1={prune: {num_layers: 2}}"],
        ("students.small-c1", "a candidate of students.small"),
    ),
    "a round's name": (
        ["students.twice-r1={prune: {num_layers: 2}}"],
        ("students.twice-r1", "a round of students.twice"),
    ),
    "one round": (["students.twice.rounds=[{prune: {num_layers: 2}}]"], ("a single round", "use prune")),
    "a layer beyond the round's student": (
        ["students.twice.rounds=[{prune: {num_layers: 2}}, {prune: {drop_layers: [3]}}]"],
        ("students.twice.rounds.2.prune.drop_layers names layer 3", "the student of round 1 has 2 layers"),
    ),
    "a round that adds": (
        ["students.twice.rounds=[{prune: {num_layers: 2}}, {prune: {num_layers: 3}}]"],
        ("rounds.2.prune.num_layers is 3", "the student of round 1 has 2", "choose at most that"),
    ),
    "nobody before": (
        ["students.twice.rounds=[{prune: {num_layers: 2}, teacher: previous}, {prune: {num_layers: 1}}]"],
        ("rounds.1.teacher is previous", "there is no previous round"),
    ),
    "a pipeline that a round's student has no layers for": (
        ["importance.parallel={processes: 3, pipeline: 3}"],
        ("importance.parallel.pipeline is 3", "2 layers", "students.twice.rounds.2.prune"),
    ),
    "an axis without a smaller size": (
        ["sweep.axes=[num_attention_heads]", "sweep.ratios=[0.9]"],
        ("sweep.axes has num_attention_heads", "the teacher's 4", "a smaller multiple of 2"),
    ),
    "a ratio of everything": (["sweep.ratios=[1.0]"], ("sweep.ratios is [1.0]", "between 0 and 1")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_before_anything_runs(case: str) -> None:
    overrides, parts = REFUSED[case]
    with pytest.raises(ValueError) as caught:
        load(RECIPE, overrides)
    sentence = str(caught.value)
    assert all(part in sentence for part in parts), sentence
    assert len(sentence.splitlines()) == 1


def test_a_plan_says_what_hangs_on_an_outcome(tmp_path: Path) -> None:
    stages = {stage.label: stage for stage in plan(load(RECIPE), tmp_path)}
    waits = {label: stage.waits for label, stage in stages.items() if stage.waits}
    assert waits == {
        "prune-small-c*": "the best 4, chosen by search-small",
        "distill-small-c*-r1": "the best 4, chosen by search-small",
        "distill-small-c*-r2": "the best 2, chosen by round 1 of small",
    }
    assert list(tmp_path.iterdir()) == []
    rounds = ["prune-twice-r1", "distill-twice-r1", "importance-twice-r2", "prune-twice", "distill-twice"]
    assert [label for label in stages if "twice" in label and not label.startswith("evaluate")] == rounds
    assert "sweep" in stages
    changed = {stage.label: stage for stage in plan(load(RECIPE, [f"{SMALL}.halving.steps=9"]), tmp_path)}
    assert changed["search-small"].key == stages["search-small"].key, "how candidates are played off changes no score"


@pytest.mark.slow
def test_candidate_score_equals_score_of_pruned_student(
    corpus: Path, teacher: Path, importance: Path, tmp_path: Path
) -> None:
    inputs = {"data": corpus, "teacher": teacher, "importance": importance}
    found = json.loads((run_job("search", SEARCH, inputs, tmp_path / "search") / "search.json").read_text())
    assert [entry["params"] for entry in found["candidates"]] == sorted(
        (entry["params"] for entry in found["candidates"]), reverse=True
    )
    for entry in (found["teacher"], found["candidates"][0], found["candidates"][2]):
        model = teacher
        if entry is not found["teacher"]:
            model = run_job(
                "prune",
                {a: n for a, n in entry["shape"].items() if n != found["teacher"]["shape"][a]},
                inputs,
                tmp_path / "cut",
            )
        loss, divergence = by_hand(model, teacher, corpus)
        assert entry["val_loss"] == pytest.approx(loss, abs=1e-4)
        assert entry["kl"] == pytest.approx(divergence, abs=1e-4)


def by_hand(model: Path, teacher: Path, corpus: Path) -> tuple[float, float]:
    """Loss and KL to the teacher on the first validation windows, through transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    from jobs.tokens.windows import Windows

    tokens = torch.from_numpy(Windows(corpus / "validation", 64).tokens_at(range(8)))
    with torch.no_grad():
        ours, theirs = (
            AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)(tokens[:, :-1])
            .logits.double()
            .log_softmax(-1)
            for folder in (model, teacher)
        )
    loss = -ours.gather(-1, tokens[:, 1:, None]).mean()
    return float(loss), float((theirs.exp() * (theirs - ours)).sum(-1).mean())


@pytest.mark.slow
def test_the_grid_is_modelopt_s_own_where_it_has_one(teacher: Path) -> None:
    import modelopt.torch.nas as mtn
    from modelopt.torch.opt.utils import named_hparams
    from modelopt.torch.prune.pruning import PruneModeRegistry

    from conf.hf_model import shape_of
    from conf.parallel import Parallel
    from jobs.megatron import dynamic_layers, model
    from jobs.megatron.device import machine
    from jobs.megatron.modelopt_minitron import MCoreMinitronSearcher, get_mcore_minitron_config

    dynamic_layers.register()
    from modelopt.torch.nas.plugins.megatron_model_stats import mcore_param_count

    theirs: dict[tuple[int, ...], float] = {}
    with machine(Parallel(), seed=0) as device:
        hf_config = model.read_config(teacher / "model")
        tied = hf_config["tie_word_embeddings"]
        mode = get_mcore_minitron_config(hidden_size_divisor=16, ffn_hidden_size_divisor=16, num_layers_divisor=4)
        built = model.build(hf_config, Parallel(), "fp32", device)
        dynamic = mtn.convert(built, [("mcore_minitron", mode)], registry=PruneModeRegistry)
        grid = {name.split(".")[-1]: hparam.choices for name, hparam in named_hparams(dynamic, configurable=True)}
        # A bound just past a size leaves it in: ModelOpt leaves the size on a bound out.
        for combination in MCoreMinitronSearcher._generate_search_space_combos(
            grid, max_width_pruning=0.51, max_depth_pruning=0.0
        ):
            total, _ = mcore_param_count(built.config, hf_config["vocab_size"], tied, **combination)
            theirs[(4, *(combination[axis] for axis in AXES[1:]))] = total
    shape = shape_of(teacher / "model")
    bounds = {
        "max_width_pruning": 0.5,
        "max_depth_pruning": 0.0,
        "hidden_divisor": 16,
        "ffn_divisor": 16,
        "candidates": 999,
    }
    ours = candidates("search", SearchConfig.model_validate(bounds | {"target_params": num_params(shape) - 1}), shape)
    assert len(ours) > 10
    assert {sizes(cut): num_params(cut) for cut in ours} == {
        key: count for key, count in theirs.items() if key != sizes(shape)
    }


@pytest.mark.slow
def test_scores_known_before_a_kill_are_not_measured_again(
    corpus: Path, teacher: Path, importance: Path, tmp_path: Path
) -> None:
    inputs = {"data": corpus, "teacher": teacher, "importance": importance}
    sweep = SCORING | {"axes": ["num_layers", "num_attention_heads"], "ratios": [0.75, 0.5]}
    output = run_job("sweep", sweep, inputs, tmp_path / "sweep")
    whole = json.loads((output / "sweep.json").read_text())
    assert [(point["axis"], point["size"]) for point in whole["points"]] == [
        ("num_layers", 3),
        ("num_layers", 2),
        ("num_attention_heads", 2),
    ], "four heads in two groups have one smaller size"
    lines = (output / "scored.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 4, "the teacher and three cuts"
    first = json.loads(lines[1])
    first["scores"]["kl"] = 7.0  # a mark by which to know it again
    (output / "scored.jsonl").write_text(lines[0] + json.dumps(first) + "\n" + lines[2][:20])
    (output / "sweep.json").unlink()
    again = json.loads((run_job("sweep", sweep, inputs, output) / "sweep.json").read_text())
    assert [point["kl"] for point in again["points"]] == [7.0, whole["points"][1]["kl"], whole["points"][2]["kl"]]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the search recipe has run to its end."""
    store = tmp_path_factory.mktemp("searched") / "store"
    done = imbik("run", RECIPE, "--name", "it", store=store)
    assert done.returncode == 0, done.stderr
    return store


def record(store: Path, label: str) -> Record:
    return Record.model_validate_json((store / "runs" / "it" / label / "artifact.json").read_text())


@pytest.mark.slow
def test_halving_continues_from_the_winner(searched: Path) -> None:
    played = report_of(searched, "it")["searches"]["small"]
    scored = {candidate["number"]: candidate for candidate in played["candidates"]}
    assert len(scored) == 5
    field = [candidate["number"] for candidate in sorted(scored.values(), key=lambda one: one["val_loss"])][:4]
    assert {number for number in scored if scored[number]["losses"]} == set(field)
    for number in field:
        first = record(searched, f"distill-small-c{number}-r1")
        assert first.inputs["student"] == record(searched, f"prune-small-c{number}").key
        assert first.hashed["steps"] == 3
    second = sorted(field, key=lambda number: scored[number]["losses"][0])[:2]
    assert {number for number in scored if len(scored[number]["losses"]) == 2} == set(second)
    for number in second:
        taught = record(searched, f"distill-small-c{number}-r2")
        assert taught.inputs["student"] == record(searched, f"distill-small-c{number}-r1").key
        assert (taught.hashed["steps"], taught.hashed["seed"]) == (6, 2)
    winner = min(second, key=lambda number: scored[number]["losses"][1])
    assert played["winner"] == winner
    full = record(searched, "distill-small")
    assert full.inputs["student"] == record(searched, f"distill-small-c{winner}-r2").key
    assert (full.hashed["steps"], full.hashed["seed"]) == (6, 1)
    assert record(searched, "quantize-small-fp8").inputs["model"] == full.key
    assert played["rounds"] == [
        {"steps": 3, "tokens": 768, "candidates": 4},
        {"steps": 6, "tokens": 1536, "candidates": 2},
    ]


@pytest.mark.slow
def test_round_prunes_student_of_previous_round(searched: Path) -> None:
    first, measured, second, taught = (
        record(searched, label) for label in ("distill-twice-r1", "importance-twice-r2", "prune-twice", "distill-twice")
    )
    assert measured.inputs["teacher"] == second.inputs["teacher"] == first.key
    assert second.inputs["importance"] == measured.key
    assert taught.inputs["teacher"] == first.inputs["teacher"] == record(searched, "teacher").key, (
        "the original teaches"
    )
    shape = json.loads((searched / "runs" / "it" / "distill-twice" / "model" / "config.json").read_text())
    assert (shape["num_hidden_layers"], shape["intermediate_size"]) == (2, 64)


@pytest.mark.slow
def test_report_covers_search_rounds_and_sweep(searched: Path) -> None:
    report = report_of(searched, "it")
    sections = {section["title"]: section for section in report["sections"]}
    assert {"Search for small", "Pruning rounds of twice", "Cost of each axis", "What the cuts kept"} <= sections.keys()
    assert {"twice-r1-pruned", "twice-r1", "twice-pruned", "twice", "small-fp8"} <= {
        row["model"] for row in report["rows"]
    }
    page = (searched / "runs" / "it" / "report.html").read_text()
    pictures = {picture for section in report["sections"] for picture in section["pictures"]}
    assert {name for name in pictures if name.startswith(("ranks", "sweep"))}, pictures
    assert page.count("<figure>") == 3 + len(pictures), "losses, sizes, layers, and each section's own"
    (kept,) = [row for row in sections["What the cuts kept"]["rows"] if row[0] == "twice-pruned"]
    assert kept[1:5] == ["activation", "FFN channels", "64 of 96", "differs in 2 layers"]
    winner = next(
        one
        for one in report["searches"]["small"]["candidates"]
        if one["number"] == report["searches"]["small"]["winner"]
    )
    assert winner["ranks"][-1] == 1
    assert next(row for row in report["rows"] if row["model"] == "small")["num_params"] == winner["params"]


@pytest.mark.slow
def test_second_run_builds_nothing_and_plans_partial_search(searched: Path, tmp_path: Path) -> None:
    assert all(stage.cached for stage in plan(load(RECIPE), searched))
    more = stages(searched, [f"{SMALL}.halving.steps=4"])
    assert {label for label in more if not more[label].cached and not label.startswith("evaluate")} == {
        *(
            f"distill-small-c{number}-r1"
            for number in sorted(int(label[13:]) for label in more if label.startswith("prune-small-c"))
        ),
        "distill-small-c*-r2",
        "distill-small",
        "quantize-small-fp8",
    }
    assert all(more[label].cached for label in more if label.startswith("prune-"))
    # The winner by name is the winner by search: a plain student of its shape shares the cut.
    played = report_of(searched, "it")["searches"]["small"]
    shape = next(one["shape"] for one in played["candidates"] if one["number"] == played["winner"])
    named: dict[str, Any] = {axis: size for axis, size in shape.items() if size != played["teacher"]["shape"][axis]}
    alike = stages(searched, [f"students.alike={{prune: {json.dumps(named)}}}"])
    assert alike["prune-alike"].cached


def stages(store: Path, overrides: list[str]) -> dict[str, PlannedStage]:
    return {stage.label: stage for stage in plan(load(RECIPE, overrides), store)}
