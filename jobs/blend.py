"""Several tokenized corpora as one artifact: which to read in which proportions. Their tokens stay where they are."""

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
    """Inputs: data, and source-NAME of every further corpus. Writes blend.json, and the tokenizer, validation and test
    of data."""
    config, output = BlendConfig.model_validate(spec.config), Path(spec.output)
    folders = {OWN: Path(spec.inputs["data"])} | {name: Path(spec.inputs[f"source-{name}"]) for name in config.sources}
    statistics = {name: json.loads((folder / "statistics.json").read_text()) for name, folder in folders.items()}
    _check_tokenizers(statistics)
    held = {name: int(told["splits"]["train"]["tokens"]) for name, told in statistics.items()}
    total = config.tokens or sum(held.values())
    parts = [_part(config, name, weight, total, held[name]) for name, weight in config.weights.items()]
    _adopt(folders[OWN], output)
    sources = [part | {"path": os.path.relpath(folders[part["name"]], output)} for part in parts]
    (output / "blend.json").write_text(json.dumps({"tokens": total, "sources": sources}, indent=2) + "\n")
    told = statistics[OWN]
    documents = sum(each["splits"]["train"]["documents"] for each in statistics.values())
    told["splits"]["train"] = {"documents": documents, "tokens": total}
    (output / "statistics.json").write_text(json.dumps(told | {"blend": parts}, indent=2) + "\n")
    metrics = Metrics(output)
    metrics.rewind(-1)
    metrics.log(1, 1, train_tokens=total, **{f"passes_{part['name']}": part["passes"] for part in parts})
    for part in parts:
        print(
            f"{part['name']}: {part['weight']:.2%} of {total:,} tokens, {part['passes']:.2f} passes over its"
            f" {part['held']:,}"
        )


def _part(config: BlendConfig, name: str, weight: float, total: int, held: int) -> dict[str, Any]:
    """What a corpus gives; ValueError where it holds too little and may not be repeated."""
    given = weight * total
    if given > held and config.exhausted == "refuse":
        where = "blend.weight" if name == OWN else f"blend.sources.{name}.weight"
        raise ValueError(
            f"the corpus {name} holds {held:,} tokens but {weight:.1%} of the blend's {total:,} are {given:,.0f}; lower"
            f" {where} or blend.tokens, or read it again with blend.exhausted=repeat"
        )
    return {"name": name, "weight": weight, "tokens": round(given), "held": held, "passes": round(given / held, 4)}


def _check_tokenizers(statistics: dict[str, dict[str, Any]]) -> None:
    for name, told in statistics.items():
        for what in ("tokenizer_fingerprint", "eod_id", "dtype"):
            assert told[what] == statistics[OWN][what], f"{name} was tokenized with another {what}"


def _adopt(corpus: Path, output: Path) -> None:
    """Everything of the recipe's own corpus but its training tokens; linked where the disk can."""
    for path in sorted(corpus.rglob("*")):
        name = path.relative_to(corpus)
        left = path.is_dir() or name.parts[0].split(".")[0] in (
            "train",
            "statistics",
            "artifact",
            "metrics",
            "quarantine",
            "blend",
        )
        if left:
            continue
        target = output / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(path)
        except OSError:  # another disk, or one without links
            shutil.copyfile(path, target)


if __name__ == "__main__":
    main(run)
