"""Run by an interpreter that has NeMo: what the scripts' parsers and `nemo.collections.llm`'s own make of commands, as JSON.

`python parsers.py SCRIPTS` reads a JSON list of argv lists (script first) on stdin. SCRIPTS may be empty: then only NeMo's functions are
asked, through NeMo-Run's command-line parser, as `nemo llm prune ...` does.
"""

from __future__ import annotations

import argparse
import json
import runpy
import sys
from pathlib import Path
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
    """What NeMo-Run's command line makes of `nemo llm NAME key=value ...`: values by parameter, refused where there is no such one or its
    type is another. Settings under `pruning_config.` are parsed as a PruningConfig, which is then made."""
    import fiddle
    from nemo.collections import llm
    from nemo.collections.llm.modelopt.prune import PruningConfig
    from nemo_run.cli.cli_parser import parse_cli_args
    from nemo_run.config import Config

    own = {key: value for key, value in settings.items() if "." not in key}
    nested = {key.removeprefix("pruning_config."): value for key, value in settings.items() if "." in key}
    parsed = parse_cli_args(getattr(llm, name), _words(own))
    answer = {key: getattr(parsed, key) for key in own}
    if nested:
        made = fiddle.build(parse_cli_args(PruningConfig, _words(nested), output_type=Config))
        answer["pruning_config"] = {key: value for key, value in vars(made).items() if value is not None}
    return answer


def _words(settings: dict[str, Any]) -> list[str]:
    return [f"{key}={value!r}" for key, value in settings.items()]


def main() -> None:
    """Answer every question of stdin, in order."""
    scripts = sys.argv[1]
    answers = []
    for question in json.load(sys.stdin):
        if "script" in question:
            answers.append(by_script(Path(scripts) / question["script"], question["words"]) if scripts else None)
        else:
            answers.append(by_function(question["function"], question["settings"]))
    print("ANSWERS " + json.dumps(answers))


if __name__ == "__main__":
    main()
