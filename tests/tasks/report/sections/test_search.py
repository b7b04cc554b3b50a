"""The section on a search for a shape."""

from __future__ import annotations

from typing import Any

from conf.report.pruning import Search
from tasks.report.sections.search import sections

SHAPE = {"num_layers": 3, "hidden_size": 64, "ffn_hidden_size": 128, "num_attention_heads": 4}
TEXT = "3 layers, hidden 64, FFN 128, 4 heads"


def candidate(number: int, *losses: float, **fields: Any) -> dict[str, Any]:
    scores = {"shape": SHAPE, "params": 1500, "memory_mb": 1234.56, "val_loss": 2.00004, "kl": 0.12345}
    return scores | {"number": number, "losses": losses} | fields


def search(winner: int, *candidates: dict[str, Any], rounds: list[tuple[int, int, int]]) -> Search:
    teacher = {"shape": SHAPE, "params": 2000, "memory_mb": 1.0, "val_loss": 1.0, "kl": 0.0}
    entries = [dict(zip(("steps", "tokens", "candidates"), each, strict=True)) for each in rounds]
    content = {"winner": winner, "candidates": candidates, "rounds": entries, "teacher": teacher}
    return Search.model_validate(content)


ROUNDS = [(3, 768, 3), (6, 1536, 2)]
REVERSED = search(2, candidate(1, 1.2, 1.15), candidate(2, 1.1, 1.0), candidate(3, 1.3), candidate(4), rounds=ROUNDS)


def test_every_candidate_has_a_row_with_its_rounds() -> None:
    (text,) = sections({"small": REVERSED})
    assert text.header[-2:] == ("round 1: 3 steps, 768 tokens", "round 2: 6 steps, 1,536 tokens")
    cells = (TEXT, "1,500", "1,234.6 MB", "2.0000", "0.1235")
    assert text.rows == (
        ("c1", *cells, "1.2000", "1.1500"),
        ("c2 (winner)", *cells, "1.1000", "1.0000"),
        ("c3", *cells, "1.3000", ""),
        ("c4", *cells, "", ""),
    )
    assert list(text.pictures) == ["ranks-small"]


def test_the_outcome_has_counts_and_tokens() -> None:
    (text,) = sections({"small": REVERSED})
    assert text.sentences == (
        f"c2 ({TEXT}, 75% of the parameters) won: 4 shapes were scored and 3 -> 2 -> 1 distilled over 2 rounds,"
        " 5,376 tokens in total.",  # 3 x 768 + 2 x 1,536
        f"c1 ({TEXT}) had the best score after the cut; distillation reversed it.",
        "The first round reversed the order of 1 of 3 pairs of candidates.",
    )


def test_merged_heads_are_told_where_there_are_any() -> None:
    merged = candidate(1) | {"shape": SHAPE | {"num_query_groups": 2}}
    content = search(1, merged, candidate(2) | {"shape": SHAPE | {"num_query_groups": 4}}, rounds=[]).model_dump()
    content["teacher"]["shape"]["num_query_groups"] = 4
    (text,) = sections({"small": Search.model_validate(content)})
    assert [row[1] for row in text.rows] == [f"{TEXT}, 2 key-value heads", TEXT]
    assert text.sentences[0].startswith(f"c1 ({TEXT}, 2 key-value heads, 75%")


def test_a_confirmed_score_is_called_that() -> None:
    confirmed = search(1, candidate(1, 1.0), candidate(2, 1.0), rounds=[(3, 768, 2)])
    (text,) = sections({"small": confirmed})
    assert text.sentences[1] == "It also had the best score after the cut: distillation confirmed it."
    assert text.sentences[2] == "The first round reversed the order of 0 of 1 pairs of candidates."


def test_without_rounds_the_score_decides() -> None:
    (text,) = sections({"small": search(1, candidate(1), candidate(2), rounds=[])})
    assert text.sentences == (
        f"c1 ({TEXT}, 75% of the parameters) has the best score after the cut of 2 shapes; none was distilled.",
    )
    assert text.pictures == {}
