"""The section on the cuts, and the ranks of a search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf.report.pruning import CacheBytes, Cut, ScoredShape, SearchCandidate, SearchRound
from tasks.analysis.halving import HalvingResult
from tasks.report.sections.pruning import ranked_search, read_cuts, read_sweep, section
from tasks.store.store import Artifact

SHAPE: dict[str, Any] = {
    "shape": {"num_layers": 4, "hidden_size": 64, "ffn_hidden_size": 128, "num_attention_heads": 4},
    "params": 100,
    "memory_mb": 1.0,
    "val_loss": 2.0,
    "kl": 0.1,
}


def result(winner: int, losses: dict[int, tuple[float, ...]]) -> HalvingResult:
    """A search whose candidates, best after the cut first, had these losses by round."""
    candidates = tuple(
        SearchCandidate.model_validate(SHAPE | {"number": number, "losses": each}) for number, each in losses.items()
    )
    model = Artifact(stage="distill", key="k", path="p")
    rounds = (SearchRound(steps=1, tokens=2, candidates=3),)
    teacher = ScoredShape.model_validate(SHAPE)
    return HalvingResult(
        winner=winner, pruned=model, model=model, candidates=candidates, rounds=rounds, teacher=teacher
    )


def test_candidates_are_ranked_after_cut_and_round() -> None:
    search = ranked_search(result(3, {2: (1.1, 1.05), 4: (1.4,), 3: (1.2, 1.0), 1: (1.3,), 5: ()}))
    assert {each.number: each.ranks for each in search.candidates} == {
        2: (1, 1, 2),
        4: (2, 4),
        3: (3, 2, 1),
        1: (4, 3),
        5: (),
    }
    assert (search.winner, len(search.rounds), search.teacher.params) == (3, 1, 100)


def test_of_equal_losses_the_lower_number_ranks_first() -> None:
    search = ranked_search(result(1, {2: (1.0,), 1: (1.0,)}))
    assert [each.ranks for each in search.candidates] == [(1, 2), (2, 1)]


def test_a_winner_without_rounds_has_one_rank() -> None:
    search = ranked_search(result(2, {2: (), 1: ()}))
    assert [each.ranks for each in search.candidates] == [(1,), ()]


PART: dict[str, Any] = {"of": 96, "count": 64, "ranges": "0-63", "share": 0.7512, "gini": 0.256}


def cut(**axes: Any) -> Cut:
    return Cut.model_validate({"ranking": "activation", "axes": axes, "path": "kept.json"})


def test_a_cut_of_all_layers_alike() -> None:
    text = section({"small-pruned": cut(ffn_hidden_size=PART)})
    assert text and text.rows == (("small-pruned", "activation", "FFN channels", "64 of 96", "0-63", "75.1%", "0.26"),)


def test_merged_heads_and_the_cache_they_save() -> None:
    """A cut that leaves the cache as it was has no row of it, nor has one that does not tell."""
    told = cut(num_query_groups={"1": PART | {"of": 4, "count": 2, "ranges": "0+2, 1+3", "gini": None}})
    told = told.model_copy(update={"cache_bytes": CacheBytes(before=1280, after=640)})
    text = section({"small": told})
    assert text and text.rows == (
        ("small", "-", "key-value heads", "2 of 4", "differs in 1 layers", "75.1% to 75.1%", "-"),
        ("small", "-", "KV cache, bytes a token", "640 of 1,280", "50% saved", "-", "-"),
    )
    same = section({"small": told.model_copy(update={"cache_bytes": CacheBytes(before=640, after=640)})})
    assert same and len(same.rows) == 1


def test_layers_that_were_cut_separately_show_a_range() -> None:
    parts = {"1": PART, "2": PART | {"share": 0.9, "gini": 0.1}}
    text = section({"small-pruned": cut(ffn_hidden_size=parts)})
    assert text and text.rows[0][3:] == ("64 of 96", "differs in 2 layers", "75.1% to 90.0%", "0.10 to 0.26")
    missing = {"1": PART, "2": PART | {"share": None, "gini": None}}
    unmeasured = section({"small-pruned": cut(ffn_hidden_size=missing)})
    assert unmeasured and unmeasured.rows[0][5:] == ("-", "-")


def test_named_layers_have_no_importance() -> None:
    named = Cut.model_validate(
        {"ranking": None, "axes": {"num_layers": PART | {"share": None, "gini": None}}, "path": "p"}
    )
    text = section({"small-pruned": named})
    assert text and text.rows[0][1:3] == ("named layers", "layers") and text.rows[0][5:] == ("-", "-")


@pytest.mark.parametrize(("length", "shortened"), [(60, False), (61, True)])
def test_long_lists_are_shortened(length: int, shortened: bool) -> None:
    ranges = ("10, " * 20)[:length].ljust(length, "9")
    text = section({"small-pruned": cut(hidden_size=PART | {"ranges": ranges})})
    assert text
    assert (text.rows[0][4] == ranges) != shortened
    assert text.rows[0][4].endswith(", ...") == shortened


def test_cuts_and_sweeps_are_read_from_their_files(tmp_path: Path) -> None:
    assert read_cuts({"small-pruned": str(tmp_path / "model")}) == {}
    (tmp_path / "kept.json").write_text(json.dumps({"ranking": "activation", "axes": {"hidden_size": PART}, "more": 1}))
    cuts = read_cuts({"small-pruned": str(tmp_path / "model")})
    assert cuts["small-pruned"].path == str(tmp_path / "kept.json")
    assert read_sweep(None) is None


def test_without_cuts_there_is_no_section() -> None:
    assert section({}) is None
