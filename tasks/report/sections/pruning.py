"""The report's section on the cuts, and what report.json holds of pruning."""

from __future__ import annotations

import json
from pathlib import Path

from conf.report.pruning import Cut, KeptPart, Search, SearchCandidate, Sweep
from conf.report.section import Section
from conf.stages.prune import CutAxis
from tasks.analysis.halving import HalvingResult

MAX_RANGES = 60
"""Characters of a list of kept channels in the table; the full list is in kept.json."""

AXIS_NAMES: dict[CutAxis, str] = {
    "num_layers": "layers",
    "hidden_size": "hidden channels",
    "ffn_hidden_size": "FFN channels",
    "num_attention_heads": "query heads",
    "num_experts": "experts",
    "num_query_groups": "key-value heads",
}


def read_cuts(pruned: dict[str, str]) -> dict[str, Cut]:
    """What each pruned model kept; `pruned` is its model directory by name."""
    cuts = {}
    for model, path in pruned.items():
        file = Path(path).parent / "kept.json"
        if file.is_file():
            cuts[model] = Cut.model_validate(json.loads(file.read_text()) | {"path": str(file)})
    return cuts


def read_sweep(folder: str | None) -> Sweep | None:
    """The result of the sweep stage; None where the run has none."""
    return Sweep.model_validate_json((Path(folder) / "sweep.json").read_text()) if folder else None


def ranked_search(result: HalvingResult) -> Search:
    """A search with the rank of each distilled candidate: after the cut, and after each round that it reached."""
    candidates = []
    for place, candidate in enumerate(result.candidates, start=1):
        distilled = candidate.losses or candidate.number == result.winner
        ranks = [place] if distilled else []
        ranks += [_rank(candidate, index, result.candidates) for index in range(len(candidate.losses))]
        candidates.append(candidate.model_copy(update={"ranks": tuple(ranks)}))
    return Search(winner=result.winner, candidates=tuple(candidates), rounds=result.rounds, teacher=result.teacher)


def _rank(candidate: SearchCandidate, index: int, candidates: tuple[SearchCandidate, ...]) -> int:
    """Rank by loss in one round, from 1; of equal losses the lower number goes first."""
    losses = sorted((other.losses[index], other.number) for other in candidates if len(other.losses) > index)
    return 1 + losses.index((candidate.losses[index], candidate.number))


def one_layer(part: KeptPart | dict[str, KeptPart]) -> KeptPart:
    """What was kept along an axis; if each layer was cut separately, of the first one."""
    return part if isinstance(part, KeptPart) else next(iter(part.values()))


def section(cuts: dict[str, Cut]) -> Section | None:
    """A row for each axis of each cut; None where nothing was cut."""
    if not cuts:
        return None
    rows = [row for model, cut in cuts.items() for row in _rows(model, cut)]
    return Section(
        title="What the cuts kept",
        header=("cut", "ranked by", "axis", "kept", "which", "importance kept", "Gini"),
        rows=tuple(rows),
        notes=(
            (
                "Layers are numbered from 1, as in the model that was cut; channels and heads from 0. Importance kept:"
                " share of the total importance along the axis. Gini: inequality of the importance of what was kept, 0"
                " if all parts are equally important. If each layer was cut separately, the range over layers; the"
                " lists for all layers are in the cut's kept.json. Key-value heads are merged in groups by their own"
                " weights: their importance kept is the share of the squares of these weights that the merged heads"
                " hold. KV cache: in bf16, without windows."
            ),
        ),
    )


def _rows(model: str, cut: Cut) -> list[tuple[str, ...]]:
    """A row for each axis, and one for the cache where the cut makes it smaller."""
    rows = [
        (
            model,
            "-" if axis == "num_query_groups" else cut.ranking or "named layers",
            AXIS_NAMES[axis],
            *(_whole_model(part) if isinstance(part, KeptPart) else _per_layer(part)),
        )
        for axis, part in cut.axes.items()
    ]
    if (cache := cut.cache_bytes) and cache.saved > 0:
        kept = f"{cache.after:,} of {cache.before:,}"
        rows.append((model, "-", "KV cache, bytes a token", kept, f"{cache.saved:.0%} saved", "-", "-"))
    return rows


def _whole_model(part: KeptPart) -> tuple[str, ...]:
    ranges = part.ranges
    if len(ranges) > MAX_RANGES:
        ranges = ranges[:MAX_RANGES].rsplit(",", 1)[0] + ", ..."
    share = "-" if part.share is None else f"{part.share:.1%}"
    return f"{part.count} of {part.of}", ranges, share, "-" if part.gini is None else f"{part.gini:.2f}"


def _per_layer(parts: dict[str, KeptPart]) -> tuple[str, ...]:
    first = one_layer(parts)
    shares = [part.share for part in parts.values() if part.share is not None]
    ginis = [part.gini for part in parts.values() if part.gini is not None]
    return (
        f"{first.count} of {first.of}",
        f"differs in {len(parts)} layers",
        f"{min(shares):.1%} to {max(shares):.1%}" if len(shares) == len(parts) else "-",
        f"{min(ginis):.2f} to {max(ginis):.2f}" if len(ginis) == len(parts) else "-",
    )
