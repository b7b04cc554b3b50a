"""Decays that branch from a stable phase which goes over phases of several lengths: each is the run of its steps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from conf.stages.distill import DistillConfig
from conf.stages.trunk import stable_trunk
from jobs.megatron import training
from jobs.megatron.parts import Part
from jobs.tokens.phased import splits_of
from tests.fixtures.data import corpora_and_mix
from tests.jobs.megatron.test_phases import SETTINGS, made

pytestmark = pytest.mark.usefixtures("one_rank", "nothing_beside")

EDGE, END = 3 * 64, 12 * 64
CONFIG: dict[str, Any] = {key: value for key, value in SETTINGS.items() if key != "model"} | {
    "steps": 12,
    "schedule": {"name": "wsd", "decay_share": 0.25},
    "best_by": "val_loss",
    "phases": [{"until": EDGE}, {"until": END, "seq_length": 16, "rope_theta": 40000}],
}
MIX = [{"until": 4 * 64, "weights": {"c0": 1.0}}, {"until": END, "weights": {"c0": 0.5, "c1": 0.5}}]


@pytest.fixture(scope="module", params=["a text", "a mix"])
def text(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Alone, or two of them in stages that end at tokens."""
    folder = corpora_and_mix(tmp_path_factory.mktemp("text"), 900, MIX)
    return folder / ("c0" if request.param == "a text" else "mixed")


def trained(
    output: Path, text: Path, config: DistillConfig, trunk: Path | None = None, until: int | None = None
) -> Any:
    """Weights, the model's config and what was logged, of a run or of a part of one."""
    model, hf_config = made()
    output.mkdir(exist_ok=True)
    part, splits = Part(trunk=trunk, until=until), splits_of(text, config)
    objective = training.language_model()
    training.train(model, hf_config, config, objective, splits=splits, output=output, part=part)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [each.detach() for each in model.parameters()], hf_config, [(each["step"], each["values"]) for each in lines]


def equal(one: Any, other: Any) -> bool:
    return one[1:] == other[1:] and all(torch.equal(*pair) for pair in zip(one[0], other[0], strict=True))


def test_branches_equal_undivided_runs(text: Path, tmp_path: Path) -> None:
    """Of 12 and 8 steps, from a trunk of 6; and of 3, whose decay ends where the first phase does."""
    base, short, least = (DistillConfig.model_validate(CONFIG | {"steps": steps}) for steps in (12, 8, 3))
    whole, whole_short, whole_least = (
        trained(tmp_path / f"whole-{config.steps}", text, config) for config in (base, short, least)
    )
    assert [line for line in whole[2] if line[0] <= 6] == [line for line in whole_short[2] if line[0] <= 6]
    trunks = [stable_trunk(config, 2) for config in (base, short, least)]
    assert trunks[0].identity() == trunks[1].identity() == trunks[2].identity(), "one key"
    trained(tmp_path / "trunk-2", text, trunks[0], until=2)
    first = tmp_path / "trunk-2"
    onward = stable_trunk(base, 6).model_copy(update={"begun": 2})
    trained(tmp_path / "trunk-6", text, onward, first, until=6)
    for config, trunk, undivided in (
        (base, "trunk-6", whole),
        (short, "trunk-6", whole_short),
        (least, "trunk-2", whole_least),
    ):
        again = config.model_copy(update={"begun": int(trunk[-1])})
        assert equal(trained(tmp_path / f"branch-{config.steps}", text, again, tmp_path / trunk), undivided)
    assert whole_least[1]["rope_theta"] == 10000.0 and whole[1]["rope_theta"] == 40000


def test_a_branch_killed_on_its_way_ends_the_same(text: Path, tmp_path: Path) -> None:
    """The trunk before the edge, and the branch in its decay."""
    short = DistillConfig.model_validate(CONFIG | {"steps": 8})
    whole = trained(tmp_path / "whole", text, short)
    _left(tmp_path / "whole", tmp_path / "trunk", 2)
    trained(tmp_path / "trunk", text, stable_trunk(short, 6), until=6)
    branch = short.model_copy(update={"begun": 6})
    _left(tmp_path / "whole", tmp_path / "branch", 7)
    assert equal(trained(tmp_path / "branch", text, branch, tmp_path / "trunk"), whole)


def _left(output: Path, killed: Path, step: int) -> None:
    """What a run under `output` that was killed after `step` would have left."""
    name = f"step-{step:08}"
    shutil.copytree(output / "checkpoints" / name, killed / "checkpoints" / name)
    lines = (output / "metrics.jsonl").read_text().splitlines(keepends=True)
    (killed / "metrics.jsonl").write_text("".join(line for line in lines if json.loads(line)["step"] <= step))
