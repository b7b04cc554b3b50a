"""`imbik nemo-commands`: print a recipe as commands of NeMo 2's documentation."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from conf.checks.recipe import teacher_shape
from conf.nemo import commands as documented
from conf.nemo.commands import Corpus, Machines
from conf.nemo.settings import NemoPrune
from conf.parallel import Parallel
from conf.recipe import Recipe
from conf.stages.training import Training


def nemo_commands(
    recipe: Annotated[str, typer.Argument(help="Preset or YAML file of a recipe with engine: nemo.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings as dotted.key=value.")] = None,
    folder: Annotated[Path, typer.Option(help="Folder for checkpoints and tokenized text.")] = Path("/workspace"),
    scripts: Annotated[str, typer.Option(help="Folder of NeMo's scripts/llm.")] = documented.SCRIPTS,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes of a training command; it runs with torchrun on each.")] = 1,
) -> None:
    """Print the NeMo 2 commands of a recipe with engine: nemo, to paste into NVIDIA's container."""
    from conf.load import load

    for command in commands(load(recipe, overrides), folder, scripts, nodes):
        typer.echo(shown(command) + "\n")


def commands(recipe: Recipe, folder: Path, scripts: str, nodes: int) -> list[list[str]]:
    """The commands in order, with checkpoints and `data/train.bin` under `folder`. Raises ValueError for other
    engines."""
    if recipe.engine != "nemo":
        raise ValueError("the recipe's engine is megatron, which has no NeMo commands; add engine=nemo")
    model, shape = recipe.teacher.model, teacher_shape(recipe)
    if model is None or shape is None:
        raise ValueError("the shape of teacher.model is unknown; use a local model or set teacher.reference")
    corpus = Corpus(paths=(f"{folder}/data/train",), index=f"{folder}/data/index")
    teacher = f"{folder}/teacher-nemo"
    result = [documented.importing(shape.architecture, model, teacher)]

    def training(config: Training, name: str, student: str, taught_by: str | None) -> list[str]:
        on = _machines(config.parallel, nodes)
        command = documented.train(
            config, on=on, name=name, model=student, teacher=taught_by, logs=str(folder), corpus=corpus, scripts=scripts
        )
        return documented.torchrun(command, on)

    if recipe.teacher.steps:
        result.append(training(recipe.teacher, "teacher-tuned", teacher, None))
        teacher = f"{folder}/teacher-tuned/checkpoints/LAST"
    for name, student in recipe.students.items():
        assert student.prune is not None, "engine nemo has students with prune only"
        cut, pruned = recipe.prune_stage(student.prune), f"{folder}/{name}-pruned-nemo"
        assert isinstance(cut, NemoPrune)
        on = Machines(devices=cut.parallel.processes)
        command = documented.prune(
            cut, on=on, restore=teacher, save=pruned, corpus=corpus, groups=shape.num_query_groups, scripts=scripts
        )
        result.append(documented.torchrun(command, on))
        model_path = pruned
        if config := recipe.distill_of(name):
            result.append(training(config, f"{name}-distilled", pruned, teacher))
            model_path = f"{folder}/{name}-distilled/checkpoints/{'BEST' if config.keep == 'best' else 'LAST'}"
        result.append(documented.exporting(model_path, f"{folder}/{name}"))
    return result


def _machines(parallel: Parallel, nodes: int) -> Machines:
    if parallel.processes % nodes:
        raise ValueError(
            f"{parallel.processes} processes cannot be spread evenly over {nodes} nodes; choose a --nodes value that"
            " divides parallel.processes"
        )
    return Machines(devices=parallel.processes // nodes, nodes=nodes)


def shown(command: list[str]) -> str:
    """A shell command with one option per line."""
    lines: list[str] = []
    for word in command:
        if (word.startswith("--") and word != "--nproc_per_node") or not lines:
            lines.append(shlex.quote(word))
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return " \\\n    ".join(lines)
