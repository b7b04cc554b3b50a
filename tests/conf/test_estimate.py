"""The plan's figures: against published ones, in the directions they must move, and the layout it names where something
does not fit."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from conf.checks.recipe import teacher_shape
from conf.cluster import load_cluster
from conf.estimate import flops as compute
from conf.estimate import memory
from conf.estimate.fit import misfit, nearest
from conf.estimate.memory import CAUSES, Memory
from conf.estimate.numbers import JobEstimate
from conf.estimate.passes import ForwardPass
from conf.load import load
from conf.parallel import Parallel
from conf.placement import place_on_cluster
from conf.shape import Shape
from conf.shapes import cut_to
from conf.stages.distill import DistillConfig
from flows.plan import plan
from flows.sizing import check_fits, sized
from tests.fixtures.flow import command
from tests.fixtures.plans import estimate_of

H100 = 989
LONG = ["distill.steps=28000", "distill.warmup_steps=100"]


@functools.cache
def qwen() -> Shape:
    shape = teacher_shape(load("qwen3-8b-depth-6b"))
    assert shape is not None
    return shape


def job_of(preset: str, label: str, *overrides: str) -> JobEstimate:
    job = estimate_of(load(preset, list(overrides)), label).job
    assert job is not None
    return job


def test_the_published_6b_takes_about_the_published_hours() -> None:
    """96 nodes of 8 H100 for 8 hours, 'about 6,000 H100 hours for 90 billion tokens' (ModelOpt,
    examples/nemo_run/prune_distill)."""
    numbers = estimate_of(load("qwen3-8b-depth-6b", LONG), "distill-depth")
    assert numbers.tokens and numbers.work
    assert numbers.tokens == pytest.approx(90e9, rel=0.03)
    assert numbers.work.gpu_hours(H100) == pytest.approx(6000, rel=0.05)
    assert numbers.work.gpu_hours(H100) == pytest.approx(96 * 8 * 8, rel=0.05)


def test_one_utilisation_predicts_published_runs() -> None:
    """30 layers of 3584 and 11776, 16,000 steps in about 3,000 hours (ModelOpt pull request 861); and 600 hours for 6.3
    billion tokens from 9B to 7B, whose Mamba layers only its parameters stand for."""
    student = cut_to(qwen(), {"num_layers": 30, "hidden_size": 3584, "ffn_hidden_size": 11776})
    both = compute.trained(student, 16_000 * 768 * 4096, 4096, teacher=qwen())
    assert both.gpu_hours(H100) == pytest.approx(3000, rel=0.2)
    nano = compute.Work(flops=6.3e9 * (6 * 7e9 + 2 * 9e9), utilisation=compute.DISTILLED)
    assert nano.gpu_hours(H100) == pytest.approx(600, rel=0.2)


def test_importance_takes_the_published_five_minutes() -> None:
    work = estimate_of(load("qwen3-8b-depth-6b"), "importance").work
    assert work
    assert work.gpu_hours(H100) * 60 == pytest.approx(5, rel=0.1)


def test_flops_match_matrix_and_causal_attention_formulas() -> None:
    shape, params = qwen(), 6_946_816_000 + 151936 * 4096  # the matrices of 36 layers and the output layer
    assert compute.forward_flops(shape, 0) == pytest.approx(2 * params, rel=1e-3)
    scores = (
        sum(2 * 2 * 32 * 128 * position for position in range(1, 4097)) / 4096
    )  # q k and the values, each query over what it sees
    assert compute.forward_flops(shape, 4096) - compute.forward_flops(shape, 0) == pytest.approx(36 * scores, rel=1e-3)


SIZES = st.sampled_from([1, 2, 4])
LAYOUTS = st.builds(
    lambda tensor, pipeline, context, sequence, recompute: Parallel(
        processes=tensor * pipeline * context,
        tensor=tensor,
        pipeline=pipeline,
        context=context,
        sequence=sequence and tensor > 1,
        recompute=recompute,
    ),
    SIZES,
    SIZES,
    SIZES,
    st.booleans(),
    st.booleans(),
)


@functools.cache
def distill() -> DistillConfig:
    config = load("qwen3-8b-depth-6b").distill
    assert config is not None
    return config


def peak(parallel: Parallel, micro_batch: int = 4) -> Memory:
    config = distill().model_copy(update={"parallel": parallel, "micro_batch": micro_batch})
    return memory.training(cut_to(qwen(), {"num_layers": 24}), config, "cuda", qwen())


@settings(max_examples=60, deadline=None)
@given(LAYOUTS, st.sampled_from([2, 4]), st.sampled_from(["tensor", "pipeline", "context"]))
def test_more_ranks_never_take_more_memory_each(parallel: Parallel, micro_batch: int, axis: str) -> None:
    size = getattr(parallel, axis)
    more = parallel.model_copy(update={axis: 2 * size, "processes": 2 * parallel.processes})
    one, other = peak(parallel, micro_batch), peak(more, micro_batch)
    assert other.weights <= 1.001 * one.weights, "the fullest rank may be another stage's, with a norm more"
    assume(axis != "pipeline")  # the first stage keeps as many micro-batches as there are stages
    assert other.total <= one.total


@settings(max_examples=40, deadline=None)
@given(LAYOUTS)
def test_layout_options_reduce_activation_memory(parallel: Parallel) -> None:
    assert peak(parallel, 2).total < peak(parallel, 4).total
    plain, again = (peak(parallel.model_copy(update={"recompute": value})) for value in (False, True))
    assert again.activations < plain.activations and again.total < plain.total
    if parallel.tensor > 1:
        whole, shared = (peak(parallel.model_copy(update={"sequence": value})) for value in (False, True))
        assert shared.activations < whole.activations


def test_ranks_of_all_stages_together_hold_the_model_once() -> None:
    from conf.shape import num_params

    for tied in (False, True):
        shape = qwen().model_copy(update={"tie_word_embeddings": tied})
        parallel = Parallel(processes=4, pipeline=4)
        held = sum(memory.rank_params(shape, parallel, stage) for stage in range(4))
        assert held == num_params(shape) + (tied and 151936 * 4096), (
            "the last stage has its own copy of a tied embedding"
        )
        assert memory.rank_params(shape, Parallel(), 0) == num_params(shape)


def test_what_does_not_fit_says_so_and_names_a_layout_that_does() -> None:
    job = job_of(
        "qwen3-8b-depth-6b", "distill-depth", "distill.parallel={processes: 8, tensor: 1}", "distill.micro_batch=8"
    )
    said = misfit("distill-depth", job, "H100 80GB SXM", 80e9, 8)
    assert (
        said
        and said.startswith("distill-depth needs ")
        and "per GPU but H100 80GB SXM has 80 GB; the nearest layout that" in said
    )
    settings_ = said.split("that fits is ")[1].rsplit(" (", 1)[0].split()
    fitting = job_of(
        "qwen3-8b-depth-6b",
        "distill-depth",
        "distill.parallel={processes: 8, tensor: 1}",
        "distill.micro_batch=8",
        *settings_,
    )
    assert misfit("distill-depth", fitting, "H100", 80e9, 8) is None, "what it names can be given as it stands"
    assert fitting.parallel.processes == 8, "and takes no more GPUs, since these are enough"


def test_the_nearest_layout_changes_least() -> None:
    job = job_of("qwen3-8b-depth-6b", "distill-depth")
    needed = job.peak("cuda").total
    found = nearest(job, needed - 1, 8)
    assert found and found.describe(job) == "distill.parallel.sequence=true", (
        "nothing is computed twice and no batch is cut"
    )
    assert nearest(job, needed, 8) is not None and misfit("x", job, "H100", needed, 8) is None
    assert nearest(job, 1e9, 8) is None
    assert "no layout on up to 512 GPUs fits" in str(misfit("distill-depth", job, "tiny", 1e9, 8))


def test_a_long_context_is_cut_where_nothing_else_helps() -> None:
    job = job_of(
        "llama31-8b-width-4b", "teacher", "teacher.seq_length=65536", "teacher.micro_batch=1", "teacher.global_batch=16"
    )
    found = nearest(job, 26e9, 8)
    assert found and found.parallel.context > 1 and found.parallel.recompute


def test_too_small_cluster_is_refused_before_submission(tmp_path: Path) -> None:
    cluster = load_cluster("slurm", ["gpu.memory_gb=24"])
    recipe = place_on_cluster(load("llama31-8b-width-4b"), cluster)
    with pytest.raises(
        ValueError, match=r"^teacher needs .* but H100 80GB SXM has 24 GB; the nearest layout that fits is teacher\."
    ):
        check_fits(recipe, cluster, plan(recipe, tmp_path))
    small = ("--cluster", "slurm", "cluster.gpu.memory_gb=24")
    done = command("run", "llama31-8b-width-4b", *small, store=tmp_path / "store")
    assert (
        done.returncode == 2 and done.stderr.startswith("imbik: teacher needs ") and not (tmp_path / "store").exists()
    )
    check_fits(recipe, load_cluster("slurm"), plan(recipe, tmp_path))
    check_fits(recipe, load_cluster("local"), plan(recipe, tmp_path))


def test_a_node_that_cannot_hold_a_checkpoints_copy_is_refused(tmp_path: Path) -> None:
    """Ranks hold fp32 weights and two moments in main memory until they are on the disk: 12 bytes a parameter."""
    recipe = place_on_cluster(load("qwen3-8b-depth-6b", ["distill.keep=best"]), load_cluster("slurm"))
    numbers = estimate_of(recipe, "distill-depth")
    assert numbers.params and numbers.copies.checkpoint == 16 * numbers.params, "the best weights are in it too"
    assert numbers.copies.best == 2 * numbers.params // 8, "an eighth of them on each rank, in bf16"
    last = estimate_of(place_on_cluster(load("qwen3-8b-depth-6b"), load_cluster("slurm")), "distill-depth")
    assert (last.copies.checkpoint, last.copies.best) == (12 * numbers.params, 0)
    needed = last.copies.of(8) / 1e9
    for memory_gb, fits in ((needed + 1, True), (needed - 1, False)):
        cluster = load_cluster("slurm", [f"stages.distill.memory_gb={memory_gb}"])
        recipe = place_on_cluster(load("qwen3-8b-depth-6b"), cluster)
        with (
            contextlib.nullcontext()
            if fits
            else pytest.raises(ValueError, match=r"of main memory .*raise the cluster's stages\.distill\.memory_gb")
        ):
            check_fits(recipe, cluster, plan(recipe, tmp_path))


def test_stages_without_gpus_are_not_held_against_them(tmp_path: Path) -> None:
    cluster = load_cluster("slurm")
    recipe = place_on_cluster(load("qwen3-8b-depth-6b"), cluster)
    by_label = {each.stage.label: each for each in sized(recipe, cluster, plan(recipe, tmp_path))}
    assert by_label["data"].memory is None and by_label["distill-depth"].gpus == 8
    assert by_label["distill-depth"].gpu_hours == pytest.approx(8.5, abs=0.5)


def test_the_command_shows_memory_by_cause_hours_and_disk(tmp_path: Path) -> None:
    done = command("plan", "qwen3-8b-depth-6b", "--cluster", "slurm", *LONG, store=tmp_path / "store")
    assert done.returncode == 0, done.stderr
    header = next(line for line in done.stdout.splitlines() if "GB on one GPU" in line)
    assert [cell.strip() for cell in header.split("┃")[2:9]] == list(CAUSES)
    row = next(line for line in done.stdout.split("GB on one GPU")[1].splitlines() if "distill-depth" in line)
    cells = [cell.strip() for cell in row.split("│")[1:-1]]
    assert sum(float(cell) for cell in cells[1:8]) == pytest.approx(float(cells[8]), abs=0.4)
    assert (cells[9], cells[10], cells[11]) == ("8", "5,923", "30.8 days")
    assert cells[12] == "75.3", "12 bytes a parameter, and eight times the libraries"
    assert "more for checkpoints" in " ".join(done.stdout.split())
    assert not (tmp_path / "store").exists()


def test_a_batch_is_counted_in_the_precision_it_runs_in() -> None:
    batch = ForwardPass(sequences=1, seq_length=8, precision="bf16", device="cpu")
    assert (batch.bytes, batch.exact) == (2, 4), "the CPU's attention and norms are fp32"
