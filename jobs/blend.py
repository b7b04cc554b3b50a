"""Several tokenized corpora as one artifact: which to read, and in which proportions. Their tokens stay where they
are."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from conf.spec import Spec
from conf.stages.blend import OWN, BlendConfig
from jobs.runtime.entry import Metrics, main


def run(spec: Spec) -> None:
    """Inputs: data, and source-NAME for every further corpus. Writes blend.json, and copies tokenizer, validation and
    test from data."""
    config, output = BlendConfig.model_validate(spec.config), Path(spec.output)
    folders = {OWN: Path(spec.inputs["data"])} | {name: Path(spec.inputs[f"source-{name}"]) for name in config.sources}
    statistics = {name: json.loads((folder / "statistics.json").read_text()) for name, folder in folders.items()}
    _check_tokenizers(statistics)
    available_tokens = {
        name: int(corpus_statistics["splits"]["train"]["tokens"]) for name, corpus_statistics in statistics.items()
    }
    for name, held in available_tokens.items():
        if held == 0:
            raise ValueError(f"the corpus {name} has no training tokens; remove it from the blend or check its source")
    total = config.tokens or _all_tokens(config, available_tokens)
    parts = [_part(config, name, weight, total, available_tokens[name]) for name, weight in config.weights.items()]
    _link_corpus_files(folders[OWN], output)
    sources = [part | {"path": os.path.relpath(folders[part["name"]], output)} for part in parts]
    (output / "blend.json").write_text(json.dumps({"tokens": total, "sources": sources}, indent=2) + "\n")
    corpus_statistics = statistics[OWN]
    documents = sum(each["splits"]["train"]["documents"] for each in statistics.values())
    corpus_statistics["splits"]["train"] = {"documents": documents, "tokens": total}
    (output / "statistics.json").write_text(json.dumps(corpus_statistics | {"blend": parts}, indent=2) + "\n")
    metrics = Metrics(output)
    metrics.rewind(-1)
    metrics.log(1, 1, train_tokens=total, **{f"passes_{part['name']}": part["passes"] for part in parts})
    for part in parts:
        print(
            f"{part['name']}: {part['weight']:.2%} of {total:,} tokens, {part['passes']:.2f} passes over its"
            f" {part['held']:,}"
        )


def _all_tokens(config: BlendConfig, available_tokens: dict[str, int]) -> int:
    """Training tokens of a blend that states none: all that its corpora hold, or, where none may be repeated, as many
    as the weights allow until the first one runs out."""
    if config.exhausted == "repeat":
        return sum(available_tokens.values())
    allowed = {name: int(round(available_tokens[name] / weight, 6)) for name, weight in config.weights.items()}
    first = min(allowed, key=lambda name: allowed[name])
    print(f"blend.tokens is not set: {allowed[first]:,}, at which {first} is the first corpus that runs out")
    return allowed[first]


def _part(config: BlendConfig, name: str, weight: float, total: int, available_tokens: int) -> dict[str, Any]:
    """A corpus's share; raises ValueError where it holds too few tokens and may not be repeated."""
    requested_tokens = weight * total
    if abs(requested_tokens - available_tokens) < 1:  # the weights are fractions that no float holds exactly
        requested_tokens = available_tokens
    if requested_tokens > available_tokens and config.exhausted == "refuse":
        setting = "blend.weight" if name == OWN else f"blend.sources.{name}.weight"
        raise ValueError(
            f"the corpus {name} holds {available_tokens:,} tokens but {weight:.1%} of the blend's {total:,} are"
            f" {requested_tokens:,.0f}; lower {setting} or blend.tokens, or repeat it with blend.exhausted=repeat"
        )
    return {
        "name": name,
        "weight": weight,
        "tokens": round(requested_tokens),
        "held": available_tokens,
        "passes": round(requested_tokens / available_tokens, 4),
    }


def _check_tokenizers(statistics: dict[str, dict[str, Any]]) -> None:
    for name, corpus_statistics in statistics.items():
        for field in ("tokenizer_fingerprint", "eod_id", "dtype"):
            assert corpus_statistics[field] == statistics[OWN][field], f"{name} was tokenized with another {field}"


def _link_corpus_files(corpus: Path, output: Path) -> None:
    """Everything in the recipe's own corpus except its training tokens; hard links where the disk allows."""
    for path in sorted(corpus.rglob("*")):
        relative = path.relative_to(corpus)
        is_skipped = path.is_dir() or relative.parts[0].split(".")[0] in (
            "train",
            "statistics",
            "artifact",
            "metrics",
            "quarantine",
            "blend",
        )
        if is_skipped:
            continue
        target = output / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(path)
        except OSError:  # another disk, or one without links
            shutil.copyfile(path, target)


if __name__ == "__main__":
    main(run)
