"""NeMo's commands: what a recipe's settings and machines become beyond the published examples."""

from __future__ import annotations

import pytest

from conf.nemo import commands
from conf.nemo.commands import Corpus, Machines
from conf.nemo.settings import NemoPrune
from conf.stages.distill import DistillConfig

CORPUS = Corpus(paths=("/d/train",), index="/d/index")


def after(command: list[str], option: str) -> list[str]:
    """What follows an option, up to the next one."""
    words = command[command.index(option) + 1 :]
    end = next((place for place, word in enumerate(words) if word.startswith("--")), len(words))
    return words[:end]


def pruned(on: Machines) -> list[str]:
    config = NemoPrune.model_validate({"drop_layers": [3, 4]})
    return commands.prune(config, on=on, restore="/r", save="/s", corpus=CORPUS, groups=2)


def trained(on: Machines, **settings: object) -> list[str]:
    shape = {"seq_length": 64, "global_batch": 4, "micro_batch": 1, "lr": 1e-4, "min_lr": 1e-5, "warmup_steps": 2}
    config = DistillConfig.model_validate(shape | {"steps": 100} | settings)
    return commands.train(config, on=on, name="n", model="/m", teacher="/t", logs="/l", corpus=CORPUS)


def test_a_machine_is_one_node_unless_said() -> None:
    assert after(trained(Machines(devices=8)), "--num_nodes") == ["1"]
    assert "--num_nodes" not in pruned(Machines(devices=8))  # as in the tutorial


@pytest.mark.parametrize("nodes", [2, 3])
def test_pruning_on_several_nodes_names_them(nodes: int) -> None:
    assert after(pruned(Machines(devices=8, nodes=nodes)), "--num_nodes") == [str(nodes)]


@pytest.mark.parametrize(("every", "logged"), [(4, "4"), (50, "10")])
def test_losses_are_logged_with_validations_or_oftener(every: int, logged: str) -> None:
    command = trained(Machines(devices=8), validate_every=every)
    assert after(command, "--val_check_interval") == [str(every)]
    assert after(command, "--log_interval") == [logged]  # 10: gpt_train's own default


@pytest.mark.parametrize("context", [1, 2])
def test_context_parallelism_is_named_where_used(context: int) -> None:
    parallel = {"processes": 2, "context": context}
    command = trained(Machines(devices=2), parallel=parallel)
    assert (after(command, "--cp_size") if "--cp_size" in command else ["1"]) == [str(context)]
    assert ("--cp_size" in command) == (context == 2)


@pytest.mark.parametrize(("axis", "named"), [("num_attention_heads", ["4"]), ("hidden_size", None)])
def test_query_groups_are_named_where_heads_go(axis: str, named: list[str] | None) -> None:
    settings = {axis: 16, "calibration_samples": 8, "seq_length": 64}
    config = NemoPrune.model_validate({axis: 16, "importance": {"calibration_samples": 8, "seq_length": 64}})
    command = commands.prune(config, on=Machines(devices=1), restore="/r", save="/s", corpus=CORPUS, groups=4)
    assert after(command, f"--target_{axis}") == [str(settings[axis])]
    assert (after(command, "--target_num_query_groups") if "--target_num_query_groups" in command else None) == named
    assert after(command, "--data_paths") == ["/d/train"] and after(command, "--seq_length") == ["64"]
