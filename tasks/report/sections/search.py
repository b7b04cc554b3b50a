"""The report's sections on searches for a shape: the candidates, the rounds of distillation, and the winner."""

from __future__ import annotations

from itertools import combinations

from conf.report.pruning import Search, SearchCandidate, Sizes
from conf.report.section import Section


def sections(searches: dict[str, Search]) -> list[Section]:
    """One section per search, by student."""
    return [_section(student, search) for student, search in searches.items()]


def _section(student: str, search: Search) -> Section:
    header: tuple[str, ...] = ("candidate", "shape", "params", "memory", "loss after cut", "KL after cut")
    header += tuple(
        f"round {number}: {entry.steps} steps, {entry.tokens:,} tokens"
        for number, entry in enumerate(search.rounds, start=1)
    )
    caption = "Ranks by validation loss of the distilled candidates; the thick line is the winner."
    return Section(
        title=f"Search for {student}",
        sentences=(*_outcome(search), *_reordered(search.candidates)),
        header=header,
        rows=tuple(_row(search, candidate) for candidate in search.candidates),
        notes=(
            (
                "Losses in nats per token on the validation split: after the cut on the search's own sequences, after a"
                " round as the distillation measured them. In each round the better half continues from its weights"
                " with twice the steps; the student's full distillation starts from the winner's weights after the"
                " last round."
            ),
        ),
        pictures={f"ranks-{student}": caption} if search.rounds else {},
    )


def _row(search: Search, candidate: SearchCandidate) -> tuple[str, ...]:
    return (
        f"c{candidate.number}{' (winner)' if candidate.number == search.winner else ''}",
        _shape(candidate.shape, search.teacher.shape),
        f"{candidate.params:,}{f', {candidate.active:,} active' if candidate.active else ''}",
        f"{candidate.memory_mb:,.1f} MB",
        f"{candidate.val_loss:.4f}",
        f"{candidate.kl:.4f}",
        *(f"{loss:.4f}" for loss in candidate.losses),
        *[""] * (len(search.rounds) - len(candidate.losses)),
    )


def _outcome(search: Search) -> list[str]:
    best = search.candidates[0]
    winner = next(candidate for candidate in search.candidates if candidate.number == search.winner)
    share = f"{winner.params / search.teacher.params:.0%} of the parameters"
    name = f"c{winner.number} ({_shape(winner.shape, search.teacher.shape)}, {share})"
    count = len(search.candidates)
    if not search.rounds:
        return [f"{name} has the best score after the cut of {count} shapes; none was distilled."]
    tokens = sum(entry.tokens * entry.candidates for entry in search.rounds)
    sizes = " -> ".join(str(entry.candidates) for entry in search.rounds)
    won = (
        f"{name} won: {count} shapes were scored and {sizes} -> 1 distilled over {len(search.rounds)} rounds,"
        f" {tokens:,} tokens in total."
    )
    if winner is best:
        return [won, "It also had the best score after the cut: distillation confirmed it."]
    return [
        won,
        f"c{best.number} ({_shape(best.shape, search.teacher.shape)}) had the best score after the cut; distillation"
        " reversed it.",
    ]


def _reordered(candidates: tuple[SearchCandidate, ...]) -> list[str]:
    """How many pairs of candidates changed their order in the first round."""
    distilled = [candidate for candidate in candidates if candidate.losses]
    pairs = list(combinations(distilled, 2))
    if not pairs:
        return []
    swapped = sum((one.losses[0], one.number) > (other.losses[0], other.number) for one, other in pairs)
    return [f"The first round reversed the order of {swapped} of {len(pairs)} pairs of candidates."]


def _shape(shape: Sizes, teacher: Sizes) -> str:
    merged = shape.num_query_groups if shape.num_query_groups != teacher.num_query_groups else None
    groups = f", {merged} key-value head{'s' * (merged > 1)}" if merged else ""
    experts = f", {shape.num_experts} experts" if shape.num_experts != teacher.num_experts else ""
    return (
        f"{shape.num_layers} layers, hidden {shape.hidden_size}, FFN {shape.ffn_hidden_size},"
        f" {shape.num_attention_heads} heads{groups}{experts}"
    )
