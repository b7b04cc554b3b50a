"""The report's section on responses: how well each model answers the held-out prompts of the records, and the effect of
a teacher during fine-tuning."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, cast

from conf.recipe import Recipe
from conf.report.responses import Generated, Packing, ResponsePair, Responses, ResponseScores
from conf.report.section import Section
from tasks.analysis.statistics import finite, mcnemar, mean_interval, paired_difference, wilson
from tasks.report.model import ReportModel

TEACHER_SETTINGS = ("kd_weight", "teacher", "offline", "loss", "temperature", "scale_by_t2", "top_k", "rest_bucket")
"""Settings of sft that configure the teacher."""

HEADER = ("model", "loss, nats", "perplexity", "correct tokens", "reproduced", "95% interval")

Records = dict[str, list[dict[str, Any]]]
"""The scored records of each model, as responses.json lists them."""


def read_responses(recipe: Recipe, models: list[ReportModel], generated: str | None = None) -> Responses | None:
    """Each model's scores, the pairs of students that differ only in kd_weight, and what was packed and generated (into
    the folder `generated`); None where the recipe has no records."""
    rows, records = [], Records()
    for model in models:
        file = Path(model.scores) / "responses.json"
        if file.is_file():
            content = json.loads(file.read_text())
            rows.append(ResponseScores(model=model.model, stage=model.stage, **content["summary"]))
            records[model.model] = content["records"]
    if not rows:
        return None
    packings = [Path(model.training) / "packing.json" for model in models if model.training]
    packing = next((Packing.model_validate_json(file.read_text()) for file in packings if file.is_file()), None)
    answers = (Path(generated) / "generate.json").read_text() if generated else None
    return Responses(
        packing=packing,
        generated=Generated.model_validate_json(answers) if answers else None,
        rows=tuple(rows),
        pairs=tuple(compare_pair(recipe, *pair, records) for pair in _pairs(recipe, records)),
    )


def _pairs(recipe: Recipe, records: Records) -> list[tuple[str, str]]:
    """Students of one shape and one distillation that were fine-tuned with different kd_weight, the lower one first."""
    pairs = []
    for one, other in itertools.combinations(recipe.students, 2):
        sft_one, sft_other = recipe.sft_of(one), recipe.sft_of(other)
        scored = f"{one}-sft" in records and f"{other}-sft" in records
        if not scored or sft_one is None or sft_other is None or sft_one.kd_weight == sft_other.kd_weight:
            continue
        if _without_teacher(recipe, one) == _without_teacher(recipe, other):
            pairs.append((one, other) if sft_one.kd_weight < sft_other.kd_weight else (other, one))
    return pairs


def _without_teacher(recipe: Recipe, name: str) -> dict[str, Any]:
    """All settings that determine a fine-tuned student, except those of its teacher."""
    distill, sft = recipe.distill_of(name), recipe.sft_of(name)
    settings = {key: value for key, value in (sft.identity() if sft else {}).items() if key not in TEACHER_SETTINGS}
    return {
        "shape": recipe.students[name].origin,
        "distill": distill.identity() if distill else None,
        "sft": settings,
    }


def compare_pair(recipe: Recipe, lower_kd: str, higher_kd: str, records: Records) -> ResponsePair:
    """Differences between two students, paired over the same responses: in nats per token (a mean over responses), and
    in the share of responses reproduced."""
    lower, higher = records[f"{lower_kd}-sft"], records[f"{higher_kd}-sft"]
    losses = [(b["loss"] - a["loss"]) / a["tokens"] for a, b in zip(lower, higher, strict=True)]
    loss, *loss_interval = mean_interval(losses)
    exact = [record["exact"] for record in higher], [record["exact"] for record in lower]
    share, *share_interval = paired_difference(*exact)
    weights = [sft.kd_weight for name in (lower_kd, higher_kd) if (sft := recipe.sft_of(name))]
    return ResponsePair(
        lower_kd=lower_kd,
        higher_kd=higher_kd,
        kd_weights=cast("tuple[float, float]", tuple(weights)),
        loss=loss,
        loss_ci95=finite(loss_interval[0], loss_interval[1]),
        exact=share,
        exact_ci95=(share_interval[0], share_interval[1]),
        exact_p=mcnemar(*exact),
        n=len(losses),
    )


def section(responses: Responses | None) -> Section | None:
    """The section, None where the recipe has no records."""
    if responses is None:
        return None
    rows = responses.rows
    by_model = {row.model: row for row in rows}
    sentences = [sentence for row in rows if row.stage == "sft" and (sentence := _fine_tuned(row, by_model))]
    sentences += [_difference(pair) for pair in responses.pairs]
    sentences += [_packed(responses.packing)] if responses.packing else []
    sentences += [_generated(responses.generated)] if responses.generated else []
    return Section(
        title="Responses",
        sentences=tuple(sentences),
        header=HEADER,
        rows=tuple(_row(row) for row in rows),
        notes=(
            (
                f"Measured on {rows[0].records} held-out records with {rows[0].tokens:,} response tokens. Loss and"
                " correct tokens: each token is predicted from the true tokens before it. Reproduced: the model ranks"
                " every token of the response first, so greedy decoding returns exactly this response (interval:"
                " Wilson). The intervals cover the choice of held-out records, not the random seed of training."
            ),
        ),
    )


def _row(row: ResponseScores) -> tuple[str, ...]:
    low, high = wilson(row.exact * row.records, row.records)
    shares = (f"{row.accuracy:.1%}", f"{row.exact:.1%}", f"{low:.1%} to {high:.1%}")
    return (row.model, f"{row.loss:.4f}", f"{row.perplexity:.3g}", *shares)


def _fine_tuned(row: ResponseScores, by_model: dict[str, ResponseScores]) -> str | None:
    student = row.model.removesuffix("-sft")
    before = by_model.get(student) or by_model.get(f"{student}-pruned")
    if before is None:
        return None
    return (
        f"Fine-tuning changed {before.model} from {before.loss:.3f} to {row.loss:.3f} nats per response token, and from"
        f" {before.exact:.1%} to {row.exact:.1%} of the responses reproduced."
    )


def _packed(packing: Packing) -> str:
    return (
        f"{packing.records:,} training records were packed into {packing.sequences:,} sequences,"
        f" {packing.efficiency:.1%} full, and read {packing.passes:.1f} times."
    )


def _generated(generated: Generated) -> str:
    rejected = ", ".join(f"{count:,} {reason}" for reason, count in generated.rejected.items())
    skipped = ", ".join(f"{count:,} {reason}" for reason, count in generated.unusable_prompts.items())
    return (
        f"The teacher answered {generated.prompts:,} prompts; of {generated.answers:,} answers {generated.kept:,}"
        " became records"
        + (f"; rejected: {rejected}" if rejected else "")
        + (f"; prompts skipped: {skipped}" if skipped else "")
        + "."
    )


def _difference(pair: ResponsePair) -> str:
    interval, verdict = "no interval from one response", "no difference is shown"
    if pair.loss_ci95:
        low, high = pair.loss_ci95
        interval = f"95% {low:+.4f} to {high:+.4f}"
        verdict = (
            "no difference is shown" if low <= 0 <= high else "the teacher helped" if high < 0 else "the teacher hurt"
        )
    low, high = pair.exact_ci95
    return (
        f"Teacher during fine-tuning (kd_weight {pair.kd_weights[1]:g} instead of {pair.kd_weights[0]:g},"
        f" {pair.higher_kd} against {pair.lower_kd}): {pair.loss:+.4f} nats per token ({interval}) and"
        f" {pair.exact * 100:+.1f} points of responses reproduced (95% {low * 100:+.1f} to {high * 100:+.1f}), paired"
        f" over {pair.n} responses: {verdict}."
    )
