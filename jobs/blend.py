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
from jobs.tokens import passes

NOT_LINKED = ("train", "statistics", "quarantine", "blend", "artifact", "spec", "job", "metrics", "system")
"""First parts of names: of files that a blend has of its own, or that are no part of a corpus."""


def run(spec: Spec) -> None:
    """Inputs: data, and source-NAME for every further corpus. Writes blend.json, and copies tokenizer, validation and
    test from data."""
    config, output = BlendConfig.model_validate(spec.config), Path(spec.output)
    folders = {OWN: Path(spec.inputs["data"])} | {name: Path(spec.inputs[f"source-{name}"]) for name in config.sources}
    statistics = {name: json.loads((folder / "statistics.json").read_text()) for name, folder in folders.items()}
    _check_tokenizers(statistics)
    held = {name: int(of_corpus["splits"]["train"]["tokens"]) for name, of_corpus in statistics.items()}
    for name, tokens in held.items():
        if tokens == 0:
            raise ValueError(f"the corpus {name} has no training tokens; remove it from the blend or check its source")
    total = config.total or _all_tokens(config, held)
    stages = passes.stages_read(config, total, held)
    parts = [passes.plain_part(config, name, total, held[name]) for name in config.weights]
    _link_corpus_files(folders[OWN], output)
    sources = [part | {"path": os.path.relpath(folders[part["name"]], output)} for part in parts]
    content = {"tokens": total, "sources": sources} | ({"stages": _for_readers(stages)} if stages else {})
    (output / "blend.json").write_text(json.dumps(content, indent=2) + "\n")
    corpus_statistics = statistics[OWN]
    documents = sum(each["splits"]["train"]["documents"] for each in statistics.values())
    corpus_statistics["splits"]["train"] = {"documents": documents, "tokens": total}
    corpus_statistics |= {"blend": parts} | ({"blend_stages": stages} if stages else {})
    (output / "statistics.json").write_text(json.dumps(corpus_statistics, indent=2) + "\n")
    _tell(Metrics(output), total, parts, stages)


def _for_readers(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a reader of the blend needs to know of its stages."""
    return [
        {"until": stage["until"], "weights": {name: of["weight"] for name, of in stage["sources"].items()}}
        for stage in stages
    ]


def _tell(metrics: Metrics, total: int, parts: list[dict[str, Any]], stages: list[dict[str, Any]]) -> None:
    """Print and log how often each corpus is read: with stages a step each, passes so far and those of the stage."""
    metrics.rewind(-1)
    for number, stage in enumerate(stages, start=1):
        values = {f"passes_{name}": of["passes_so_far"] for name, of in stage["sources"].items()}
        values |= {f"stage_passes_{name}": of["passes"] for name, of in stage["sources"].items()}
        metrics.log(number, len(stages), train_tokens=stage["until_tokens"], **values)
        read = "; ".join(
            f"{name} {of['weight']:.2%}, {of['passes']:.2f} passes, {of['passes_so_far']:.2f} so far"
            for name, of in stage["sources"].items()
        )
        print(f"stage {number} of {len(stages)}, to {stage['until_tokens']:,} tokens: {read}")
    if not stages:
        metrics.log(1, 1, train_tokens=total, **{f"passes_{part['name']}": part["passes"] for part in parts})
    for part in parts:
        print(
            f"{part['name']}: {part['weight']:.2%} of {total:,} tokens, {part['passes']:.2f} passes over its"
            f" {part['held']:,}"
        )


def _all_tokens(config: BlendConfig, held: dict[str, int]) -> int:
    """Training tokens of a blend that states none: all that its corpora hold, or, where none may be repeated, as many
    as the weights allow until the first one runs out."""
    weights = {name: weight for name, weight in config.weights.items() if weight}
    if config.exhausted == "repeat":
        return sum(held[name] for name in weights)
    allowed = {name: int(round(held[name] / weight, 6)) for name, weight in weights.items()}
    first = min(allowed, key=lambda name: allowed[name])
    print(f"blend.tokens is not set: {allowed[first]:,}, at which {first} is the first corpus that runs out")
    return allowed[first]


def _check_tokenizers(statistics: dict[str, dict[str, Any]]) -> None:
    for name, corpus_statistics in statistics.items():
        for field in ("tokenizer_fingerprint", "eod_id", "dtype"):
            assert corpus_statistics[field] == statistics[OWN][field], f"{name} was tokenized with another {field}"


def _link_corpus_files(corpus: Path, output: Path) -> None:
    """Everything in the recipe's own corpus except its training tokens and what tells how it was made; hard links where
    the disk allows."""
    for path in sorted(corpus.rglob("*")):
        relative = path.relative_to(corpus)
        is_skipped = path.is_dir() or relative.parts[0].split(".")[0] in NOT_LINKED
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
