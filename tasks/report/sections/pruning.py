"""The report's sections on pruning: what each cut kept, how a search was played, what rounds left, what each axis costs
by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conf.recipe import Recipe
from tasks.analysis.halving import HalvingResult
from tasks.report.section import Section

LONGEST = 60
"""Characters of a list of kept channels; the whole list is in kept.json."""

NOUNS = {
    "num_layers": "layers",
    "hidden_size": "hidden channels",
    "ffn_hidden_size": "ffn channels",
    "num_attention_heads": "query heads",
}


def facts(
    recipe: Recipe, pruned: dict[str, str], searches: dict[str, HalvingResult], sweep: str | None
) -> dict[str, Any]:
    """What report.json holds of pruning: `pruned` are the model folders of the cuts by row name, `sweep` the folder of
    that stage."""
    kept = {}
    for model, path in pruned.items():
        file = Path(path).parent / "kept.json"
        if file.is_file():
            kept[model] = json.loads(file.read_text()) | {"path": str(file)}
    rounds = {name: len(student.rounds) for name, student in recipe.students.items() if student.rounds}
    swept = json.loads((Path(sweep) / "sweep.json").read_text()) if sweep else None
    return {
        "kept": kept,
        "sweep": swept,
        "rounds": rounds,
        "searches": {name: ranked(played) for name, played in searches.items()},
    }


def ranked(played: HalvingResult) -> dict[str, Any]:
    """A search as played, with the ranks of each candidate among those that were taught: as cut, and after each round
    it reached."""
    content: dict[str, Any] = played.model_dump(mode="json", exclude={"pruned", "model"})
    for place, candidate in enumerate(content["candidates"], start=1):
        entered = candidate["losses"] or candidate["number"] == played.winner
        candidate["ranks"] = [place] if entered else []
        for number, loss in enumerate(candidate["losses"]):
            rivals = [
                (other["losses"][number], other["number"])
                for other in content["candidates"]
                if len(other["losses"]) > number
            ]
            candidate["ranks"].append(1 + sorted(rivals).index((loss, candidate["number"])))
    return content


def sections(report: dict[str, Any]) -> list[Section]:
    """The sections that have something to say."""
    found = [_search(student, played) for student, played in report["searches"].items()]
    found += [_rounds(report, student, count) for student, count in report["rounds"].items()]
    if report["sweep"]:
        found.append(_sweep(report["sweep"]))
    if report["kept"]:
        found.append(_kept(report["kept"]))
    return found


def _search(student: str, played: dict[str, Any]) -> Section:
    candidates, rounds = played["candidates"], played["rounds"]
    by_number = {candidate["number"]: candidate for candidate in candidates}
    best, winner = candidates[0], by_number[played["winner"]]
    header: tuple[str, ...] = ("candidate", "shape", "params", "memory", "loss as cut", "KL as cut")
    header += tuple(
        f"round {number}: {entry['steps']} steps, {entry['tokens']:,} tokens"
        for number, entry in enumerate(rounds, start=1)
    )
    rows = tuple(
        (
            f"c{candidate['number']}{' (winner)' if candidate is winner else ''}",
            _shape(candidate["shape"]),
            f"{candidate['params']:,}",
            f"{candidate['memory_mb']:,.1f} MB",
            f"{candidate['val_loss']:.4f}",
            f"{candidate['kl']:.4f}",
            *(f"{loss:.4f}" for loss in candidate["losses"]),
            *[""] * (len(rounds) - len(candidate["losses"])),
        )
        for candidate in candidates
    )
    return Section(
        title=f"Search for {student}",
        sentences=(*_outcome(played, best, winner), *_reordered(candidates)),
        header=header,
        rows=rows,
        notes=(
            (
                "Losses in nats per token on the validation split: as cut on the search's own sequences, after a round"
                " as the distillation logs them. Each round the better half goes on from where it was, with twice the"
                " steps; the student's full distillation starts from the winner as the last round left it."
            ),
        ),
        pictures=(
            {
                f"ranks-{student}": (
                    "Ranks by validation loss among the candidates that were taught; the winner is the thick line."
                )
            }
            if rounds
            else {}
        ),
    )


def _outcome(played: dict[str, Any], best: dict[str, Any], winner: dict[str, Any]) -> list[str]:
    count, teacher = len(played["candidates"]), played["teacher"]
    share = f"{winner['params'] / teacher['params']:.0%} of the parameters"
    told = f"c{winner['number']} ({_shape(winner['shape'])}, {share}) won"
    if not played["rounds"]:
        return [f"{told} of {count} shapes by its score as cut; none was taught."]
    spent = sum(entry["tokens"] * entry["entrants"] for entry in played["rounds"])
    field = " -> ".join(str(entry["entrants"]) for entry in played["rounds"])
    first = (
        f"{told}: {count} shapes were scored, {field} -> 1 taught over {len(played['rounds'])} rounds, {spent:,} tokens"
        " in all."
    )
    if winner is best:
        return [first, "It was also the best as cut: the teaching confirmed the score."]
    return [first, f"The best as cut was c{best['number']} ({_shape(best['shape'])}); teaching turned the order."]


def _reordered(candidates: list[dict[str, Any]]) -> list[str]:
    """How many pairs of the first round's field changed their order."""
    field = [candidate for candidate in candidates if candidate["losses"]]
    pairs = [(one, other) for index, one in enumerate(field) for other in field[index + 1 :]]
    if not pairs:
        return []
    turned = sum((one["losses"][0], one["number"]) > (other["losses"][0], other["number"]) for one, other in pairs)
    return [f"The first round turned the order of {turned} of the {len(pairs)} pairs of candidates."]


def _shape(shape: dict[str, int]) -> str:
    return (
        f"{shape['num_layers']} layers, hidden {shape['hidden_size']}, ffn {shape['ffn_hidden_size']},"
        f" {shape['num_attention_heads']} heads"
    )


def _rounds(report: dict[str, Any], student: str, count: int) -> Section:
    rows = {row["model"]: row for row in report["rows"]}
    teacher, told, last = rows["teacher"], [], None
    for number in range(1, count + 1):
        name = student if number == count else f"{student}-r{number}"
        cut, taught = rows.get(f"{name}-pruned"), rows.get(name)
        if cut is None:
            break
        told.append(
            (
                str(number),
                _axes(report["kept"].get(f"{name}-pruned")),
                f"{cut['num_params']:,} ({cut['num_params'] / teacher['num_params']:.0%})",
                f"{cut['val_loss']:.4f}",
                f"{taught['val_loss']:.4f}" if taught else "-",
                f"{taught['kl_teacher']:.4f}" if taught and taught["kl_teacher"] is not None else "-",
            )
        )
        last = taught or cut
    gap = (
        f"{student} ends {last['val_loss'] - teacher['val_loss']:+.3f} nats from the teacher."
        if last
        else "No round was made."
    )
    return Section(
        title=f"Rounds of {student}",
        sentences=(gap,),
        header=("round", "kept", "params", "loss as cut", "loss taught", "KL(teacher ‖ model)"),
        rows=tuple(told),
        notes=(
            (
                "Each round cuts the student of the round before, by importance measured on it anew. Losses on the test"
                " split."
            ),
        ),
    )


def _axes(kept: dict[str, Any] | None) -> str:
    """What a cut left, in short."""
    parts = []
    for axis, entry in (kept["axes"] if kept else {}).items():
        one = entry if "of" in entry else next(iter(entry.values()))
        parts.append(f"{one['count']} of {one['of']} {NOUNS[axis]}")
    return ", ".join(parts) or "-"


def _sweep(swept: dict[str, Any]) -> Section:
    whole = swept["teacher"]
    rows = tuple(
        (
            point["axis"],
            f"{point['size']} of {point['of']}",
            f"{point['params']:,} ({point['params'] / whole['params']:.0%})",
            f"{point['val_loss']:.4f}",
            f"{point['val_loss'] - whole['val_loss']:+.4f}",
            f"{point['kl']:.4f}",
        )
        for point in swept["points"]
    )
    return Section(
        title="What each axis costs",
        sentences=tuple(_dearest(swept)),
        header=("axis", "kept", "params", "loss as cut", "Δ teacher", "KL(teacher ‖ cut)"),
        rows=rows,
        notes=(
            "Each row is the teacher cut along that one axis and not taught; nats per token on the validation split.",
        ),
        pictures={
            "sweep": (
                "Validation loss of the teacher cut along one axis at a time and not taught, against what is left"
                " of it."
            )
        },
    )


def _dearest(swept: dict[str, Any]) -> list[str]:
    """Which axis costs most and least for each percent of parameters it saves, at its deepest cut."""
    whole, price = swept["teacher"], {}
    for point in swept["points"]:  # each axis' last point is its deepest
        saved = 100 * (1 - point["params"] / whole["params"])
        price[point["axis"]] = (point["val_loss"] - whole["val_loss"]) / saved
    if len(price) < 2:
        return []
    order = sorted(price, key=lambda axis: price[axis])
    return [
        f"At the deepest cut measured, {NOUNS[order[0]]} cost least, {price[order[0]]:+.4f} nats for each percent of"
        f" parameters saved, and {NOUNS[order[-1]]} most, {price[order[-1]]:+.4f}."
    ]


def _kept(kept: dict[str, Any]) -> Section:
    rows = []
    for model, content in kept.items():
        for axis, entry in content["axes"].items():
            one = "of" in entry
            rows.append(
                (model, content["ranking"] or "named", NOUNS[axis], *(_whole(entry) if one else _by_layer(entry)))
            )
    return Section(
        title="What the cuts kept",
        header=("cut", "ranked by", "axis", "kept", "which", "importance kept", "Gini"),
        rows=tuple(rows),
        notes=(
            (
                "Layers by the number in what was cut, from 1; channels and heads from 0. Importance kept: their share"
                " of all that was measured along the axis. Gini: how unevenly the kept ones' importance is spread, 0"
                " where all weigh the same. Where each layer cuts its own, the range over layers; every layer's list is"
                " in the cut's kept.json."
            ),
        ),
    )


def _whole(entry: dict[str, Any]) -> tuple[str, ...]:
    which = (
        entry["ranges"] if len(entry["ranges"]) <= LONGEST else entry["ranges"][:LONGEST].rsplit(",", 1)[0] + ", ..."
    )
    share = "-" if entry["share"] is None else f"{entry['share']:.1%}"
    return f"{entry['count']} of {entry['of']}", which, share, "-" if entry["gini"] is None else f"{entry['gini']:.2f}"


def _by_layer(entries: dict[str, Any]) -> tuple[str, ...]:
    one = next(iter(entries.values()))
    shares, ginis = [entry["share"] for entry in entries.values()], [entry["gini"] for entry in entries.values()]
    share = "-" if None in shares else f"{min(shares):.1%} to {max(shares):.1%}"
    return (
        f"{one['count']} of {one['of']}",
        f"differs in {len(entries)} layers",
        share,
        f"{min(ginis):.2f} to {max(ginis):.2f}",
    )
