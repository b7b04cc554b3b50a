"""A model against its namesake of another run: over what both were measured on, and nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from tasks.analysis.namesakes import Measured, pair
from tasks.store.store import Store
from tests.fixtures.artifacts import write_record
from tests.fixtures.report import row

OURS, THEIRS = [2.0, 2.5, 3.0, 3.5], [2.1, 2.9, 3.0, 3.9, 9.0, 9.0]
RIGHT = {("law", number): number < 3 for number in range(6)}


def measured(run: str, losses: list[float], **changes: Any) -> Measured:
    whole: dict[str, Any] = {
        "row": row(f"{run}/small", val_loss=sum(losses) / max(len(losses), 1)),
        "artifact": run,
        "text": ("digest", "128"),
        "questions": ("quiz", "choice", "0"),
        "answers": RIGHT,
        "losses": losses,
    }
    return Measured(**(whole | changes))


def test_losses_are_paired_over_the_first_sequences() -> None:
    found = pair(measured("two", OURS), measured("one", THEIRS))
    test = stats.ttest_rel(OURS, THEIRS[:4]).confidence_interval(0.95)
    assert (found.sequences, found.same, found.other_text, found.other_questions) == (4, False, False, False)
    assert found.difference.val_loss == pytest.approx(-0.225)
    assert found.difference.val_loss_ci95 == pytest.approx((test.low, test.high))
    assert (found.difference.mmlu, found.difference.mmlu_n) == (0.0, 6)


def test_other_text_leaves_the_scores() -> None:
    found = pair(measured("two", OURS, text=("another", "128")), measured("one", THEIRS))
    assert (found.sequences, found.other_text, found.other_questions) == (0, True, False)
    assert found.difference.val_loss_ci95 is None and found.difference.mmlu_n == 6


def test_other_questions_leave_the_losses() -> None:
    found = pair(measured("two", OURS, questions=("quiz", "choice", "5")), measured("one", THEIRS))
    assert (found.sequences, found.other_text, found.other_questions) == (4, False, True)
    assert found.difference.mmlu is None and found.difference.val_loss == pytest.approx(-0.225)


def test_one_artifact_is_the_same_model() -> None:
    assert pair(measured("two", OURS, artifact="k"), measured("one", OURS, artifact="k")).same


def test_without_sequences_only_the_means_differ() -> None:
    found = pair(measured("two", []), measured("one", []))
    assert (found.sequences, found.difference.val_loss_ci95) == (0, None)


def test_two_models_of_one_name_are_no_pair() -> None:
    with pytest.raises(AssertionError, match="told apart by their runs"):
        pair(measured("one", OURS), measured("one", THEIRS))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("corpus", "text"),
    [
        (("test.bin", "test.idx", "train.bin"), (digest("test.bin"), digest("test.idx"), "128")),
        (("test.bin",), (digest("test.bin"), "128")),
        (("train.bin",), ("d" * 32, "128")),
        (None, ("d" * 32, "128")),
    ],
    ids=["tokens", "without an index", "without test tokens", "no longer here"],
)
def test_what_was_scored_is_known_by_its_test_tokens(
    corpus: tuple[str, ...] | None, text: tuple[str, ...], tmp_path: Path
) -> None:
    store = Store(tmp_path)
    if corpus is not None:
        write_record(tmp_path / "data" / ("d" * 32), "data", "d" * 32, {}, {})
        file = tmp_path / "data" / ("d" * 32) / "artifact.json"
        files = {name: {"bytes": len(name), "sha256": digest(name)} for name in corpus}
        file.write_text(json.dumps(json.loads(file.read_text()) | {"files": files}))
        for name in corpus:
            file.with_name(name).write_text(name)
    config = {"seq_length": 128, "mmlu": {"style": "choice", "shots": 5}}
    write_record(tmp_path / "evaluate" / "e", "evaluate", "e", config, {"data": "d" * 32})
    found = Measured.read(row("small", path="/store/distill/k/model"), tmp_path / "evaluate" / "e", store)
    assert (found.text, found.artifact, found.questions) == (text, "k", ("d" * 32, "choice", "5"))
    write_record(tmp_path / "evaluate" / "f", "evaluate", "f", {"mmlu": None}, {"data": "d" * 32, "mmlu": "m"})
    other = Measured.read(row("small"), tmp_path / "evaluate" / "f", store)
    assert other.questions == ("m", "None", "None") and other.text[-1] == "None"
