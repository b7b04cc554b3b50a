"""What a command does where nothing else is said: no switch is on, and numbers are those that its help names."""

from __future__ import annotations

from typing import Any

import typer

from flows.cli import app
from flows.commands import bench

NUMBERS = {
    ("bench", "repetitions"): 3,
    ("bench", "timeout"): 300,
    ("chat", "max_new_tokens"): 256,
    ("chat", "temperature"): 0,  # greedy decoding
    ("nemo-commands", "nodes"): 1,
    ("scale", "tolerance"): 2,
    ("serve-command", "gpus"): 1,
    ("up", "at_once"): 2,
    ("up", "mlflow_port"): 5000,  # MLflow's own
    ("up", "prefect_port"): 4200,  # Prefect's own
}


def options() -> dict[tuple[str, str], Any]:
    """Every option with a default that is a number or a truth value, by command."""
    whole: Any = typer.main.get_command(app)
    commands = {"": whole} | whole.commands
    assert "quantize" in commands
    return {
        (name, option.name): option.default
        for name, command in commands.items()
        for option in command.params
        if isinstance(option.default, bool | int | float)
    }


def test_switches_are_off_unless_given() -> None:
    switches = {name: default for name, default in options().items() if isinstance(default, bool)}
    assert ("clean", "yes") in switches and ("promote", "force") in switches
    assert [name for name, default in switches.items() if default] == []


def test_numbers_are_those_of_the_help() -> None:
    assert {name: default for name, default in options().items() if not isinstance(default, bool)} == NUMBERS


def test_what_bench_measures_is_what_its_help_says() -> None:
    whole: Any = typer.main.get_command(app)
    told = {option.name: option.help for option in whole.commands["bench"].params if getattr(option, "help", None)}
    lengths = ",".join(f"{prompt}/{answer}" for prompt, answer in bench.LENGTHS)
    assert f"default: {lengths}, as far as they fit" in told["lengths"]
    assert f"default: {','.join(map(str, bench.CONCURRENCY))}, up to where" in told["concurrency"]
