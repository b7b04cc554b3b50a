"""`imbik nemo-commands`: nodes of a training, refusals, and paths from one command to the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.load import load
from conf.nemo.commands import Machines
from conf.parallel import Parallel
from flows.commands.nemo import _machines, commands, shown

PRESET, FOLDER = "qwen3-8b-depth-6b-nemo", Path("/w")


def after(command: list[str], option: str) -> str:
    """The value of an option."""
    return command[command.index(option) + 1]


@pytest.mark.parametrize(("processes", "nodes", "devices"), [(8, 1, 8), (8, 2, 4), (8, 8, 1), (12, 3, 4)])
def test_ranks_are_spread_evenly_over_nodes(processes: int, nodes: int, devices: int) -> None:
    assert _machines(Parallel(processes=processes), nodes) == Machines(devices=devices, nodes=nodes)


@pytest.mark.parametrize(("processes", "nodes"), [(8, 3), (4, 8)])
def test_nodes_that_do_not_divide_the_ranks_are_refused(processes: int, nodes: int) -> None:
    with pytest.raises(ValueError, match=f"^{processes} processes cannot be spread evenly over {nodes} nodes"):
        _machines(Parallel(processes=processes), nodes)


def test_only_trainings_run_on_several_nodes() -> None:
    overrides = [f"distill.parallel.{name}=8" for name in ("processes", "tensor")]
    made = commands(load(PRESET, overrides), FOLDER, "/s", 2)
    by_script = {Path(word).name: command for command in made for word in command if word.endswith(".py")}
    train, prune = by_script["gpt_train.py"], by_script["gpt_prune.py"]
    assert (after(train, "--devices"), after(train, "--num_nodes"), after(train, "--nproc_per_node")) == ("4", "2", "4")
    assert "--num_nodes" not in prune
    assert "/s/gpt_train.py" in train and "/s/gpt_prune.py" in prune


@pytest.mark.parametrize(("keep", "place"), [("last", "LAST"), ("best", "BEST")])
def test_the_checkpoint_that_is_kept_is_exported(keep: str, place: str) -> None:
    made = commands(load(PRESET, [f"distill.keep={keep}", "distill.best_by=val_loss"]), FOLDER, "/s", 1)
    train = next(command for command in made if "/s/gpt_train.py" in command)
    assert (after(train, "--model_path"), after(train, "--teacher_path")) == ("/w/depth-pruned-nemo", "/w/teacher-nemo")
    prune = next(command for command in made if "/s/gpt_prune.py" in command)
    assert (after(prune, "--restore_path"), after(prune, "--save_path")) == ("/w/teacher-nemo", "/w/depth-pruned-nemo")
    assert any(f"/w/depth-distilled/checkpoints/{place}" in word for word in made[-1])


def test_a_shape_is_known_from_the_reference_only() -> None:
    recipe = load(PRESET)
    assert recipe.teacher.reference and not Path(str(recipe.teacher.model)).exists()
    assert commands(recipe, FOLDER, "/s", 1)
    unknown = recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"reference": None})})
    with pytest.raises(ValueError, match=r"the shape of teacher\.model is unknown; .* or set teacher\.reference"):
        commands(unknown, FOLDER, "/s", 1)


def test_another_engine_has_no_commands() -> None:
    with pytest.raises(ValueError, match="engine is megatron, which has no NeMo commands; add engine=nemo"):
        commands(load("qwen3-8b-depth-6b"), FOLDER, "/s", 1)


def test_a_shown_command_has_an_option_a_line() -> None:
    assert shown(["torchrun", "--nproc_per_node", "4", "a b.py", "--x", "1", "2", "--y"]) == (
        "torchrun --nproc_per_node 4 'a b.py' \\\n    --x 1 2 \\\n    --y"
    )
