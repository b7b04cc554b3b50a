"""Run by an interpreter that has NeMo: what the scripts' parsers and `nemo.collections.llm`'s own make of commands, as
JSON.

`python parsers.py SCRIPTS` reads a JSON list of argv lists (script first) on stdin. SCRIPTS may be empty: then only
NeMo's functions are asked, through NeMo-Run's command-line parser, as `nemo llm prune ...` does."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def by_script(script: Path, words: list[str]) -> dict[str, Any]:
    """The namespace that a script's own parser makes; the script goes no further."""
    real = argparse.ArgumentParser.parse_args
    seen: dict[str, Any] = {}

    class Parsed(BaseException):
        pass

    def parse(self: argparse.ArgumentParser, *arguments: Any, **named: Any) -> Any:
        seen.update(vars(real(self, *arguments, **named)))
        raise Parsed

    argparse.ArgumentParser.parse_args = parse  # type: ignore[assignment]
    sys.argv = [str(script), *words]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except Parsed:
        pass
    finally:
        argparse.ArgumentParser.parse_args = real  # type: ignore[method-assign]
    return seen


def by_function(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What a function of `nemo.collections.llm` makes of settings. prune's go through NeMo-Run's command line, as `nemo
    llm prune key=value` would, those under `pruning_config.` through PruningConfig; the conversions' are bound to their
    signatures."""
    from nemo.collections import llm
    from nemo.collections.llm.modelopt.prune import PruningConfig
    from nemo_run.cli.cli_parser import parse_cli_args

    if name != "prune":
        return dict(inspect.signature(getattr(llm, name)).bind(**settings).arguments)
    own = {key: value for key, value in settings.items() if "." not in key}
    nested = {key.removeprefix("pruning_config."): value for key, value in settings.items() if "." in key}
    parsed = parse_cli_args(llm.prune, [f"{key}={value!r}" for key, value in own.items()])
    made = {key: value for key, value in vars(PruningConfig(**nested)).items() if value is not None}
    return {key: getattr(parsed, key) for key in own} | {"pruning_config": made}


def printed(step: int, total: int, metrics: dict[str, float]) -> str:
    """The line that NeMo's ProgressPrinter prints after a step."""
    from nemo.lightning.pytorch.callbacks.progress_printer import ProgressPrinter

    printer = ProgressPrinter(log_interval=1)
    printer.get_metrics = lambda *_: metrics  # type: ignore[method-assign]
    printer.total = total
    trainer = SimpleNamespace(strategy=SimpleNamespace(current_epoch_step=step, timers=None), current_epoch=0)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        printer.on_train_batch_end(trainer, None)
    return said.getvalue()


def written(folder: str, losses: dict[str, float]) -> list[str]:
    """Validation losses as Lightning's TensorBoard logger writes them; the files' names."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as writer:
        for step, loss in losses.items():
            writer.add_scalar("val_loss", loss, int(step))
            writer.add_scalar("lr", 0.1, int(step))
    return [path.name for path in Path(folder).iterdir()]


def main() -> None:
    """Answer every question of stdin, in order."""
    scripts = sys.argv[1]
    answers = []
    for question in json.load(sys.stdin):
        if "script" in question:
            answers.append(by_script(Path(scripts) / question["script"], question["words"]) if scripts else None)
        elif "function" in question:
            answers.append(by_function(question["function"], question["settings"]))
        elif "events" in question:
            answers.append(written(question["events"], question["losses"]))
        else:
            answers.append(printed(question["step"], question["total"], question["metrics"]))
    print("ANSWERS " + json.dumps(answers))


if __name__ == "__main__":
    main()
