"""The report's section on responses: how well each model answers the held-out prompts of the records, and what a
teacher added."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.recipe import Recipe
from tasks.analysis.statistics import Z95, mcnemar, paired_difference, wilson
from tasks.report.section import Section

if TYPE_CHECKING:
    from tasks.report.model import Measured

TEACHING = ("kd_weight", "teacher", "offline", "loss", "temperature", "scale_by_t2", "top_k", "rest_bucket")
"""Settings of sft that say how the teacher takes part."""

HEADER = ("model", "loss, nats", "perplexity", "right tokens", "responses reproduced", "95% interval")


def collect(recipe: Recipe, models: list[Measured], generated: str | None = None) -> dict[str, Any] | None:
    """What report.json holds: each model's figures, the pairs of students that differ in their fine-tuning alone, what
    was packed and what was generated (into the folder `generated`); None where the recipe has no records."""
    rows, each = [], {}
    packed = [
        json.loads(file.read_text())
        for model in models
        if model.training and (file := Path(model.training) / "packing.json").is_file()
    ]
    answers = json.loads((Path(generated) / "generate.json").read_text()) if generated else None
    for model in models:
        file = Path(model.scores) / "responses.json"
        if file.is_file():
            content = json.loads(file.read_text())
            rows.append({"model": model.model, "stage": model.stage, **content["summary"]})
            each[model.model] = content["records"]
    if not rows:
        return None
    more = {"packing": packed[0] if packed else None, "generated": answers}
    return more | {"rows": rows, "pairs": [_pair(recipe, one, other, each) for one, other in _comparable(recipe, each)]}


def _comparable(recipe: Recipe, each: dict[str, Any]) -> list[tuple[str, str]]:
    """Students of one shape and one distillation that were fine-tuned with different weights of the teacher, the
    smaller weight first."""
    found = []
    for one, other in itertools.combinations(recipe.students, 2):
        tuned = recipe.sft_of(one), recipe.sft_of(other)
        alike = _but_for_the_teacher(recipe, one) == _but_for_the_teacher(recipe, other)
        present = f"{one}-sft" in each and f"{other}-sft" in each
        if present and alike and tuned[0] and tuned[1] and tuned[0].kd_weight != tuned[1].kd_weight:
            found.append((one, other) if tuned[0].kd_weight < tuned[1].kd_weight else (other, one))
    return found


def _but_for_the_teacher(recipe: Recipe, name: str) -> dict[str, Any]:
    """All that decides a fine-tuned student, but whether and how a teacher stood beside it."""
    distill, sft = recipe.distill_of(name), recipe.sft_of(name)
    tuned = {key: value for key, value in (sft.identity() if sft else {}).items() if key not in TEACHING}
    return {"shape": recipe.students[name].origin, "distill": distill.identity() if distill else None, "sft": tuned}


def _pair(recipe: Recipe, without: str, beside: str, each: dict[str, Any]) -> dict[str, Any]:
    """Differences of two students, paired over the same responses: in nats a token (a mean over responses), and in
    those reproduced."""
    first, second = (each[f"{name}-sft"] for name in (without, beside))
    differences = [(b["loss"] - a["loss"]) / a["tokens"] for a, b in zip(first, second, strict=True)]
    mean = sum(differences) / len(differences)
    spread = (
        sum((value - mean) ** 2 for value in differences) / max(1, len(differences) - 1) / len(differences)
    ) ** 0.5
    exact = [record["exact"] for record in second], [record["exact"] for record in first]
    points, low, high = paired_difference(*exact)
    weights = [how.kd_weight for name in (without, beside) if (how := recipe.sft_of(name))]
    return {
        "without": without,
        "beside": beside,
        "kd_weights": weights,
        "loss": mean,
        "loss_ci95": [mean - Z95 * spread, mean + Z95 * spread],
        "exact": points,
        "exact_ci95": [low, high],
        "exact_p": mcnemar(*exact),
        "n": len(differences),
    }


def section(report: dict[str, Any]) -> Section | None:
    """The section, None where the recipe has no records."""
    found = report.get("responses")
    if not found:
        return None
    rows = found["rows"]
    by_model = {row["model"]: row for row in rows}
    sentences = [sentence for row in rows if row["stage"] == "sft" and (sentence := _tuned(row, by_model))]
    sentences += [_compared(pair) for pair in found["pairs"]]
    sentences += [_packed(found["packing"])] if found["packing"] else []
    sentences += [_generated(found["generated"])] if found["generated"] else []
    return Section(
        title="Responses",
        sentences=tuple(sentences),
        header=HEADER,
        rows=tuple(_row(row) for row in rows),
        notes=(
            (
                f"Over {rows[0]['records']} held-out records with {rows[0]['tokens']:,} response tokens, each by"
                " itself. Loss and right tokens: each token after the true ones before it. Reproduced: every token is"
                " the model's likeliest, so that greedy generation gives the very response (interval: Wilson)."
                " Intervals tell of the records held out, not of another seed of the training."
            ),
        ),
    )


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    low, high = wilson(row["exact"] * row["records"], row["records"])
    share = (f"{row['accuracy']:.1%}", f"{row['exact']:.1%}", f"{low:.1%} to {high:.1%}")
    return (row["model"], f"{row['loss']:.4f}", f"{row['perplexity']:.3g}", *share)


def _tuned(row: dict[str, Any], rows: dict[str, dict[str, Any]]) -> str | None:
    student = row["model"].removesuffix("-sft")
    before = rows.get(student) or rows.get(f"{student}-pruned")
    if before is None:
        return None
    return (
        f"Fine-tuning took {before['model']} from {before['loss']:.3f} to {row['loss']:.3f} nats a response token, and"
        f" from {before['exact']:.1%} to {row['exact']:.1%} of the responses reproduced."
    )


def _packed(packing: dict[str, Any]) -> str:
    return (
        f"{packing['records']:,} training records were packed into {packing['sequences']:,} sequences,"
        f" {packing['efficiency']:.1%} full, and read {packing['passes']:.1f} times."
    )


def _generated(made: dict[str, Any]) -> str:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in made["rejected"].items())
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in made["unusable_prompts"].items())
    told = f"{made['prompts']:,} prompts were asked; of {made['answers']:,} answers {made['kept']:,} became records"
    return (
        told
        + (f", rejected: {reasons}" if reasons else "")
        + (f"; prompts left out: {left_out}" if left_out else "")
        + "."
    )


def _compared(pair: dict[str, Any]) -> str:
    low, high = pair["loss_ci95"]
    verdict = "no difference is shown" if low <= 0 <= high else "it helped" if high < 0 else "it hurt"
    points = (
        f"{pair['exact'] * 100:+.1f} points reproduced ({pair['exact_ci95'][0] * 100:+.1f} to"
        f" {pair['exact_ci95'][1] * 100:+.1f})"
    )
    return (
        f"The teacher beside the responses (kd_weight {pair['kd_weights'][1]:g} against {pair['kd_weights'][0]:g},"
        f" {pair['beside']} against {pair['without']}): {pair['loss']:+.4f} nats a token ({low:+.4f} to {high:+.4f}),"
        f" {points} over the same {pair['n']} responses: {verdict}."
    )
