"""Muon: its formula against others', which matrices it steps, and the same training on two ranks and after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conf.estimate import memory
from conf.stages.teacher import TeacherConfig
from jobs.runtime.muon import COEFFICIENTS, Muon, orthogonal
from tests.fixtures.jobs import SHAPE, TRAINING, killed_after_a_checkpoint, last, ranks_all, run_job
from tests.fixtures.weights import cut_after, in_checkpoint, same, tensors

STEPS = 8
SHORT: dict[str, Any] = TRAINING | {"shape": SHAPE, "steps": STEPS, "checkpoint_every": 1, "checkpoints_kept": STEPS}
SHORT |= {"validate_every": 4, "global_batch": 4, "micro_batch": 2}
MUON = SHORT | {"optimizer": "muon"}
LAYOUTS: dict[str, dict[str, Any]] = {
    "tensor": {"processes": 2, "tensor": 2},
    "sequence": {"processes": 2, "tensor": 2, "sequence": True},
    "pipeline": {"processes": 2, "pipeline": 2},
    "data": {"processes": 2},
}


def random(*sizes: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("rows", "columns"), [(24, 24), (16, 48), (48, 16)])
def test_orthogonal_matches_the_svd(rows: int, columns: int) -> None:
    """The iteration is a polynomial of the singular values alone, which end near 1."""
    matrix = random(rows, columns).double()
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    a, b, c = COEFFICIENTS
    ended = values / values.square().sum().sqrt()
    for _ in range(5):
        ended = a * ended + b * ended**3 + c * ended**5
    torch.testing.assert_close(orthogonal(matrix, 5, torch.float64), left @ ended.diag() @ right)
    plain = values > 0.05 * values[0]  # the smallest singular value of a square matrix may be near zero
    assert (torch.linalg.svdvals(orthogonal(matrix, 5, torch.float32))[: plain.sum()] - 1).abs().max() < 0.35


def test_many_matrices_are_as_each_alone() -> None:
    matrices = random(3, 8, 20)
    torch.testing.assert_close(
        orthogonal(matrices, 5, torch.float32),
        torch.stack([orthogonal(matrix, 5, torch.float32) for matrix in matrices]),
    )


def test_zero_stays_zero() -> None:
    assert orthogonal(torch.zeros(4, 6), 5, torch.bfloat16).eq(0).all()


SETTINGS: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.1, "momentum": 0.9}


def stepped(
    optimizer: torch.optim.Optimizer, parameters: list[torch.Tensor], gradients: list[list[torch.Tensor]]
) -> None:
    """A step for each list of gradients."""
    for each in gradients:
        for parameter, gradient in zip(parameters, each, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()


def test_steps_are_those_of_torch() -> None:
    """torch's iterates in bf16, whose rounding is a hundredth of a step."""
    ours, theirs = (torch.nn.Parameter(random(16, 40, seed=9)) for _ in range(2))
    begun = ours.detach().clone()
    gradients = [[random(16, 40, seed=step)] for step in range(4)]
    stepped(Muon([{"params": [ours]}], iterations=5, dtype=torch.bfloat16, **SETTINGS), [ours], gradients)
    stepped(torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **SETTINGS), [theirs], gradients)
    moved = (theirs - begun).norm()
    assert (ours - theirs).norm() < 0.02 * moved
    exact = torch.nn.Parameter(begun.clone())
    stepped(Muon([{"params": [exact]}], iterations=5, dtype=torch.float32, **SETTINGS), [exact], gradients)
    assert (exact - theirs).norm() < 0.05 * moved


def test_a_step_has_the_size_of_adamws() -> None:
    parameter = torch.nn.Parameter(torch.zeros(64, 256))
    optimizer = Muon([{"params": [parameter]}], lr=1.0, weight_decay=0, momentum=0.9, iterations=5, dtype=torch.float32)
    stepped(optimizer, [parameter], [[random(64, 256)]])
    assert float(parameter.detach().square().mean().sqrt()) == pytest.approx(0.2, rel=0.2)


@pytest.mark.parametrize("per_head", [False, True])
def test_queries_keys_and_values_are_apart(per_head: bool) -> None:
    """Megatron's joint matrix of 4 heads in 2 groups, against matrices stored apart, or a matrix a head."""
    from jobs.megatron import optimizer, weights

    config = {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_size": 32,
        "head_dim": 8,
        "model_type": "llama",
    }
    megatron = SimpleNamespace(config=SimpleNamespace(kv_channels=8, num_attention_heads=4, num_query_groups=2))
    apart = [torch.nn.Parameter(random(rows, 32, seed=rows)) for rows in (32, 16, 17)]
    apart[2] = torch.nn.Parameter(random(16, 32, seed=3))
    joint = torch.nn.Parameter(weights.merged([part.detach() for part in apart], config, "qkv"))
    parts = [
        [random(part.shape[0], 32, seed=7 * step + index) for index, part in enumerate(apart)] for step in range(3)
    ]
    split = optimizer._queries_keys_values(megatron, per_head=per_head)
    common: dict[str, Any] = {"iterations": 5, "dtype": torch.float32, **SETTINGS}
    fused = [[weights.merged(list(each), config, "qkv")] for each in parts]
    stepped(Muon([{"params": [joint], "split": split}], **common), [joint], fused)
    if per_head:
        heads = [torch.nn.Parameter(head.clone()) for part in apart for head in part.detach().split(8)]
        stepped(Muon([{"params": heads}], **common), heads, [[h for g in each for h in g.split(8)] for each in parts])
        expected = torch.cat([head.detach() for head in heads]).split([32, 16, 16])
    else:
        stepped(Muon([{"params": apart}], **common), apart, parts)
        expected = tuple(part.detach() for part in apart)
    names = ("q", "k", "v")
    found = dict(weights._unmerge(joint.detach(), names, config, "qkv"))
    for name, part in zip(names, expected, strict=True):
        torch.testing.assert_close(found[name], part, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dim", [0, 1])
def test_a_rank_steps_its_part_of_the_whole(dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first step with Nesterov's momentum is along 1 - momentum squared of the gradient."""
    begun, gradient = random(8, 12, seed=1), random(8, 12, seed=2)
    whole_matrix = torch.nn.Parameter(begun.clone())
    common: dict[str, Any] = {"iterations": 5, "dtype": torch.float32, **SETTINGS}
    stepped(Muon([{"params": [whole_matrix]}], **common), [whole_matrix], [[gradient]])
    parts = gradient.chunk(2, dim)

    def gather(into: list[torch.Tensor], own: torch.Tensor, group: Any) -> None:
        torch.testing.assert_close(own, parts[group.rank()] * (1 - 0.9**2))
        for target, part in zip(into, parts, strict=True):
            target.copy_(part * (1 - 0.9**2))

    monkeypatch.setattr(torch.distributed, "all_gather", gather)
    for rank in range(2):
        ranks: Any = SimpleNamespace(rank=lambda rank=rank: rank, size=lambda: 2)
        own = torch.nn.Parameter(begun.chunk(2, dim)[rank].clone())
        stepped(Muon([{"params": [own], "dim": dim}], ranks=ranks, **common), [own], [[parts[rank]]])
        torch.testing.assert_close(own.detach(), whole_matrix.detach().chunk(2, dim)[rank], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("heads", [False, True])
def test_what_is_whole_on_its_rank_is_stepped_alone(heads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix that no ranks share, and a head of one that they do."""
    monkeypatch.setattr(torch.distributed, "all_gather", lambda *_, **__: pytest.fail("nothing is gathered"))
    group = {"split": lambda tensor: [tensor.unflatten(0, (1, 2, 4))]} if heads else {}
    ended = []
    for ranks in (None, SimpleNamespace(rank=lambda: 1, size=lambda: 2)):
        own = torch.nn.Parameter(random(8, 12, seed=1))
        shared = {"dim": 0} if heads and ranks else {}
        optimizer = Muon(
            [{"params": [own]} | group | shared],
            iterations=5,
            dtype=torch.float32,
            ranks=ranks,  # type: ignore[arg-type]
            **SETTINGS,
        )
        stepped(optimizer, [own], [[random(8, 12, seed=2)]])
        ended.append(own.detach())
    assert torch.equal(*ended)


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_job("teacher", MUON, {"data": corpus}, tmp_path_factory.mktemp("muon") / "teacher")


@pytest.mark.slow
def test_matrices_inside_layers_have_one_moment(whole: Path) -> None:
    """Embedding and norms are AdamW's, with two."""
    newest = whole / "checkpoints" / f"step-{STEPS:08}"
    weights, second = in_checkpoint(newest, "master"), in_checkpoint(newest, "exp_avg_sq")
    assert in_checkpoint(newest, "exp_avg").keys() == weights.keys()
    muons = {name for name in weights if name.endswith("_proj.weight")}
    assert len(muons) == 7 * SHAPE["num_layers"]  # type: ignore[operator]
    assert second.keys() == weights.keys() - muons
    assert "model.embed_tokens.weight" in second
    found = json.loads((whole / "model" / "config.json").read_text())
    config = TeacherConfig.model_validate(MUON | {"shape": SHAPE | {"vocab_size": found["vocab_size"]}})
    assert config.shape is not None
    size = sum(path.stat().st_size for path in newest.glob("*/*.safetensors"))
    assert size == pytest.approx(memory.copies(config.shape, config).checkpoint, rel=0.05), "but for the files' headers"


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", ["adamw", pytest.param("muon", marks=pytest.mark.drill), {"name": "muon", "per_head": True}]
)
def test_both_optimizers_learn(corpus: Path, tmp_path: Path, optimizer: Any) -> None:
    """From 5.9 nats a token, which is a uniform guess among 384 tokens, with the learning rate that AdamW has."""
    config = SHORT | {
        "micro_batch": 4,
        "steps": 40,
        "validate_every": 40,
        "checkpoint_every": 40,
        "optimizer": optimizer,
    }
    output = run_job("teacher", config, {"data": corpus}, tmp_path / "out")
    assert last(output, "val_loss") < 3.8


@pytest.mark.slow
@pytest.mark.parametrize("precision", [pytest.param("fp32", marks=pytest.mark.drill), "bf16"])
def test_a_killed_run_goes_on_bit_for_bit(corpus: Path, tmp_path: Path, precision: str) -> None:
    config = MUON | {"precision": precision, "steps": 20, "checkpoint_every": 4}
    undisturbed = run_job("teacher", config, {"data": corpus}, tmp_path / "undisturbed")
    output = tmp_path / "killed"
    killed_after_a_checkpoint("teacher", config, {"data": corpus}, output)
    run_job("teacher", config, {"data": corpus}, output)
    assert same(tensors(undisturbed / "model"), tensors(output / "model"))
    assert same(*(in_checkpoint(each / "checkpoints" / "step-00000020", "master") for each in (undisturbed, output)))


@pytest.mark.slow
def test_ranks_that_share_a_matrix_step_it_whole(corpus: Path, whole: Path, tmp_path: Path) -> None:
    """Losses are those of one process, in every layout and also for a run that began in one process."""
    inputs = {"data": corpus}
    jobs = [("teacher", MUON | {"parallel": layout}, inputs, tmp_path / name) for name, layout in LAYOUTS.items()]
    for name in ("tensor", "pipeline"):
        output = cut_after(4, whole, tmp_path / f"resumed {name}")
        jobs.append(("teacher", MUON | {"parallel": LAYOUTS[name]}, inputs, output))
    ranks_all(jobs, 2)
    for *_, output in jobs:
        for metric, rel in (("val_loss", 1e-5), ("train_loss", 1e-5), ("grad_norm", 1e-3)):
            assert last(output, metric) == pytest.approx(last(whole, metric), rel=rel), f"{output.name} {metric}"
    back = run_job("teacher", MUON, inputs, cut_after(4, tmp_path / "tensor", tmp_path / "back"))
    assert last(back, "val_loss") == pytest.approx(last(whole, "val_loss"), rel=1e-5)


@pytest.mark.slow
def test_embeddings_may_decay_apart(corpus: Path, tmp_path: Path) -> None:
    """A decay of 0 leaves a token that never occurs where it began; others' decay shrinks it."""
    config = SHORT | {"weight_decay": 1.0, "steps": 4, "warmup_steps": 0, "validate_every": 4}
    outputs = {
        name: run_job("teacher", config | {"optimizer": optimizer}, {"data": corpus}, tmp_path / name)
        for name, optimizer in {
            "adamw": {"name": "adamw"},
            "apart": {"name": "adamw", "embedding_weight_decay": 0},
            "muon": {"name": "muon", "embedding_weight_decay": 0},
        }.items()
    }
    norms = {name: tensors(output / "model")["model.embed_tokens.weight"].norm() for name, output in outputs.items()}
    assert norms["adamw"] < 0.995 * norms["apart"]
    assert norms["adamw"] < 0.995 * norms["muon"]


@pytest.mark.slow
def test_a_student_is_distilled_with_muon(corpus: Path, teacher: Path, importance: Path, tmp_path: Path) -> None:
    """Learned projections between layers of different widths are outside the layers: AdamW's."""
    cut = {"data": corpus, "teacher": teacher, "importance": importance}
    student = run_job("prune", {"hidden_size": 48}, cut, tmp_path / "student")
    config = {key: value for key, value in MUON.items() if key != "shape"} | {"lr": 3e-3, "steps": 20}
    config |= {"intermediate": [{"student_layer": 2, "teacher_layer": 2}]}
    inputs = {"data": corpus, "teacher": teacher, "student": student}
    output = run_job("distill", config, inputs, tmp_path / "out")
    second = in_checkpoint(output / "checkpoints" / "step-00000020", "exp_avg_sq")
    assert any("projection" in name for name in second)
    lines = [json.loads(line)["values"] for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["val_kl"] < 0.7 * lines[0]["val_kl"]
