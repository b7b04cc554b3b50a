"""The plan's memory, cause by cause, against what the jobs' own tensors take."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from conf.estimate import capping, memory, passes, teacher_weights
from conf.estimate.passes import Device
from conf.families import FAMILIES
from conf.parallel import Parallel
from conf.shape import Shape
from jobs.runtime.exit import reason_of, sentence
from tests.fixtures.memory import Case, RandomTokens, run
from tests.fixtures.meter import Kept, Meter

STATIC, LAYERS, PEAK = 0.005, 0.02, (-0.05, 0.15)
"""How far the estimate may be from what is measured: of what stays, of what layers keep, and of a step's peak (below,
above)."""


def shape(architecture: Any = "qwen3", **sizes: Any) -> Shape:
    heads = {"num_attention_heads": 8, "num_query_groups": 4, "head_dim": 32}
    if FAMILIES[architecture].experts:
        sizes = {"num_experts": 8, "experts_per_token": 2} | sizes
    return Shape(
        architecture=architecture,
        tie_word_embeddings=False,
        **{"num_layers": 4, "hidden_size": 256, "ffn_hidden_size": 768, "vocab_size": 2048} | heads | sizes,
    )


CASES = {
    "llama, bf16": Case(shape=shape("llama")),
    "qwen3, fp32": Case(shape=shape(num_layers=2), precision="fp32", micro_batch=4),
    "llama, bf16, muon": Case(shape=shape("llama"), optimizer="muon"),
    "experts, bf16": Case(shape=shape("qwen3_moe")),
    "experts, fp32, muon": Case(shape=shape("mixtral", num_layers=2), precision="fp32", optimizer="muon"),
    "experts, taught, recomputed": Case(
        shape=shape("qwen3_moe", num_experts=4), taught=True, parallel=Parallel(recompute=True)
    ),
    "capped, bf16": Case(shape=shape("gemma2")),
    "capped, fp32, long": Case(shape=shape("gemma2", num_layers=2, vocab_size=512), precision="fp32", seq_length=512),
    "capped, taught, recomputed": Case(
        shape=shape("gemma2", vocab_size=512), taught=True, micro_batch=4, parallel=Parallel(recompute=True)
    ),
    "two heads, bf16": Case(shape=shape("llama", num_layers=2), heads=2),
    "a head, taught, fp32, muon": Case(shape=shape(), taught=True, heads=1, precision="fp32", optimizer="muon"),
    "taught, bf16": Case(shape=shape(), taught=True),
    "taught by fp8, bf16": Case(shape=shape(), taught=True, teacher_weights="fp8"),
    "taught by fp8, fp32, experts": Case(
        shape=shape("qwen3_moe", num_experts=4, num_layers=2), taught=True, precision="fp32", teacher_weights="fp8"
    ),
    "taught by fp8, few tokens": Case(
        shape=shape(num_layers=2), taught=True, precision="fp32", teacher_weights="fp8", seq_length=8, micro_batch=1
    ),
    "taught, fp32, a large vocabulary": Case(
        shape=shape(num_layers=2, vocab_size=16384), taught=True, precision="fp32"
    ),
    "wide MLP, small vocabulary": Case(
        shape=shape(hidden_size=64, ffn_hidden_size=1024, num_layers=6, vocab_size=256), micro_batch=4
    ),
    "recomputed, taught": Case(
        shape=shape(num_layers=8, vocab_size=512), taught=True, micro_batch=4, parallel=Parallel(recompute=True)
    ),
}

SELDOM = (
    "experts, fp32, muon",
    "capped, fp32, long",
    "taught, fp32, a large vocabulary",
    "experts, taught, recomputed",
    "taught by fp8, bf16",
    "taught by fp8, fp32, experts",
    "a head, taught, fp32, muon",
    "recomputed, taught",
)
"""Cases that join what other ones have each: drills."""
STEPS = [pytest.param(name, marks=pytest.mark.drill if name in SELDOM else ()) for name in CASES]
OFTEN = ("llama", "qwen3_moe", "gemma2")
LAYERS_OF = [
    pytest.param(name, precision, marks=() if precision == "bf16" or name in OFTEN else pytest.mark.drill)
    for name in FAMILIES
    for precision in ("bf16", "fp32")
]
"""Every family's layers in bf16, those with a formula of their own in fp32 too; the rest are drills."""


def check(case: Case, found: dict[str, int], device: Device) -> None:
    """Compare what was found on the fullest rank with what the plan says of it."""
    said, config = memory.training(case.shape, case.config, device, case.teacher), case.config
    batch, last = passes.batch_of(config, config.micro_batch, device), config.parallel.pipeline - 1
    teacher = batch.bytes * memory.rank_params(case.teacher, config.parallel, last) if case.teacher else 0
    if case.teacher and config.teacher_weights == "fp8":
        teacher -= teacher_weights.saved(case.teacher, batch, config.parallel)
    assert said.weights == pytest.approx(found["weights"], rel=STATIC)
    assert said.gradients + said.optimizer == pytest.approx(found["gradients and optimizer"], rel=STATIC)
    if case.teacher:
        assert teacher == pytest.approx(found["teacher"], rel=STATIC)
    passing = said.activations + said.logits + said.teacher - teacher
    below, above = PEAK
    assert 1 + below < passing / found["passing"] < 1 + above, f"{passing:,} said, {found['passing']:,} found"


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_step_memory_matches_the_plan(name: str) -> None:
    from jobs.megatron.device import machine

    case = CASES[name]
    with machine(case.parallel, seed=0) as device, Meter() as meter:
        check(case, run(case, device, meter), "cpu")


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "precision"), LAYERS_OF)
def test_layer_memory_matches_the_plan(architecture: Any, precision: Any) -> None:
    from jobs.megatron import fused_loss as head
    from jobs.megatron import model
    from jobs.megatron.device import machine

    one, alone = shape(architecture), Parallel()
    batch = passes.ForwardPass(sequences=2, seq_length=128, precision=precision, device="cpu")
    with machine(alone, seed=0) as device:
        built = model.build(model.config_of_shape(one, 2048, 0), alone, precision, device)
        head.defer(built)
        tokens, places = torch.zeros(2, 128, dtype=torch.long), torch.arange(128).expand(2, 128)
        with Kept(built) as kept:
            built(tokens, places, None)
    final_norm = 2 * 128 * (8 * one.hidden_size + 4)
    assert one.num_layers * passes.layer_bytes(one, batch, alone) + final_norm == pytest.approx(kept.bytes, rel=LAYERS)


@pytest.mark.slow
@pytest.mark.parametrize("ffn", [1024, 128])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_memory_of_muons_step_matches_the_plan(precision: Any, ffn: int) -> None:
    """Of a model so wide, on tokens so few, that the step takes more than the passes."""
    from jobs.megatron.device import machine

    wide = shape("llama", num_layers=1, hidden_size=512, vocab_size=64, ffn_hidden_size=ffn)
    case = Case(shape=wide, precision=precision, optimizer="muon", seq_length=8, micro_batch=1, accumulate=1)
    with machine(case.parallel, seed=0) as device, Meter() as meter:
        found = run(case, device, meter)
    said = memory.training(wide, case.config, "cpu")
    assert said.activations + said.logits + said.other - memory.resident("cpu") == pytest.approx(
        found["passing"], rel=0.05
    )


@pytest.mark.slow
def test_checkpoint_copy_takes_the_planned_memory(tmp_path: Path) -> None:
    from jobs.megatron import checkpoint, model, training, weights
    from jobs.megatron import fused_loss as head
    from jobs.megatron.device import machine

    case = Case(shape=shape(vocab_size=32768), precision="fp32")
    said = memory.copies(case.shape, case.config)
    hf_config = model.config_of_shape(case.shape, 32768, 0)
    with machine(case.parallel, seed=0) as device, checkpoint.Saver(tmp_path, 2) as saver:
        built = model.build(hf_config, case.parallel, "fp32", device)
        weights.initialize(built, hf_config, seed=1)
        head.defer(built)
        tokens = RandomTokens(case.seq_length, 32768)
        run = training._Run(built, case.config, training.language_model(), tokens, tokens)
        run.step(0)
        ctypes.CDLL(None).malloc_trim(0)  # else what the step has freed is used again, and does not show
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = resident_peak()
        saver.save(1, built, run.optimizer, hf_config)
        saver.wait()
        assert resident_peak() - before == pytest.approx(said.checkpoint, rel=0.1)
    (written,) = tmp_path.iterdir()
    assert sum(path.stat().st_size for path in written.rglob("*") if path.is_file()) == pytest.approx(
        said.checkpoint, rel=0.01
    )


@pytest.mark.slow
def test_out_of_memory_is_not_reported_as_a_fault() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert reason_of(caught.value) == "memory", str(caught.value)
    assert sentence(caught.value).startswith("out of memory (")


def resident_peak() -> int:
    """The most main memory that this process had at a time, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


@pytest.mark.slow
def test_the_head_is_the_one_that_jobs_have() -> None:
    from jobs.megatron import fused_loss as head

    ours = passes.GROUP_ELEMENTS, passes.GROUP_TOKENS, passes.CHUNK_ELEMENTS
    assert ours == (head.GROUP_ELEMENTS, head.GROUP_TOKENS, head.CHUNK_ELEMENTS)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_whole_scores_of_transformers_match_the_plan(precision: Any) -> None:
    """Where a family caps them: in a pass without gradients, and what a pass with them keeps (quantize.qad)."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from jobs.megatron.model import DTYPES, config_of_shape

    one = shape("gemma2", vocab_size=64)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config_of_shape(one, 64, 0))).to(DTYPES[precision])
    tokens = torch.zeros(2, 512, dtype=torch.long)
    batch = passes.ForwardPass(sequences=2, seq_length=512, precision=precision, device="cpu")
    with torch.no_grad(), Meter() as meter:
        model(tokens, use_cache=False)
    said = passes.forward_bytes(one, batch, Parallel()) + capping.whole_bytes(one, batch)
    assert said == pytest.approx(meter.peak, rel=0.1)
    with Kept(model) as kept, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        model(tokens, use_cache=False)
    layers = one.num_layers * passes.layer_bytes(one, batch, Parallel())
    assert layers + capping.kept_bytes(one, batch) == pytest.approx(kept.bytes, rel=0.1)


@pytest.mark.slow
def test_capped_attention_is_the_one_that_jobs_have() -> None:
    from jobs.megatron import capping as ours

    assert capping.CHUNK_ELEMENTS == ours.CHUNK_ELEMENTS


@pytest.mark.drill
@pytest.mark.parametrize("layout", [{"tensor": 2}, {"pipeline": 2}])
def test_memory_of_two_ranks_matches_the_plan(layout: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    parallel = Parallel(processes=2, **layout).model_dump_json()
    done = subprocess.run(
        [*command, "-m", "tests.jobs.test_memory", parallel], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


class Gpu:
    """A GPU's own counters, under a Meter's names."""

    @property
    def now(self) -> int:
        return torch.cuda.memory_allocated()

    @property
    def peak(self) -> int:
        return torch.cuda.max_memory_allocated()

    def reset(self) -> int:
        torch.cuda.reset_peak_memory_stats()
        return self.now


@pytest.mark.gpu
@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize("recompute", [False, True])
def test_gpu_memory_matches_the_plan(taught: bool, recompute: bool) -> None:
    from jobs.megatron.device import machine

    sizes = {"num_layers": 8, "hidden_size": 1024, "ffn_hidden_size": 3072, "vocab_size": 32000, "head_dim": 128}
    case = Case(
        shape=shape(**sizes), taught=taught, seq_length=2048, micro_batch=4, parallel=Parallel(recompute=recompute)
    )
    with machine(case.parallel, seed=0) as device:
        check(case, run(case, device, Gpu()), "cuda")


def main() -> None:
    """One rank of the drill: the fullest of them is compared."""
    from jobs.megatron.device import machine

    parallel = Parallel.model_validate_json(sys.argv[1])
    case = Case(shape=shape(), taught=parallel.pipeline == 1, parallel=parallel)
    with machine(case.parallel, seed=0) as device, Meter() as meter:
        mine = run(case, device, meter)
        everyone: list[Any] = [None, None]
        torch.distributed.all_gather_object(everyone, mine)
        check(case, max(everyone, key=lambda found: sum(found.values())), "cpu")


if __name__ == "__main__":
    main()
