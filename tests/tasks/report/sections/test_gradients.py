"""The section on gradients while training: norms, clipped steps, skipped ones, and the figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf.spec import Record
from tasks.report.model import ReportModel
from tasks.report.plots.gradients import draw
from tasks.report.sections.gradients import POINTS, read, read_gradients, section

REASON = "its loss 9 is more than 2 times 3, the median of the 50 steps before"


def trained(
    folder: Path, norms: list[float | None], skipped: list[int] | None = None, logits: dict[int, float] | None = None
) -> Path:
    """A sealed training of 4 x 8 tokens a step, clipped to 1; a norm that is None was no number. With `logits` by step,
    attention is bounded to 50."""
    folder.mkdir()
    empty: dict[str, Any] = {"hashed": {}, "inputs": {}, "files": {}, "versions": {}}
    config: dict[str, Any] = {"global_batch": 4, "seq_length": 8, "clip_grad": 1.0}
    config |= {"optimizer": {"name": "muon", "qk_clip": 50}} if logits else {}
    record = Record(
        stage="distill", key="k", revision=1, config=config, seconds=1.0, created="2026-01-01T00:00:00", **empty
    )
    (folder / "artifact.json").write_text(record.model_dump_json())
    lines: list[dict[str, Any]] = [{"step": 0, "values": {"val_loss": 1.0}}]
    lines += [
        {"step": step, "values": {} if norm is None else {"grad_norm": norm}} for step, norm in enumerate(norms, 1)
    ]
    for step, logit in (logits or {}).items():
        lines[step]["values"]["max_attention_logit"] = logit
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if skipped is not None:
        steps = [{"step": step, "reason": REASON} for step in skipped]
        (folder / "spikes.json").write_text(json.dumps({"steps": len(norms), "skipped": steps, "window": 50}))
    return folder


def test_norms_and_clipped_steps_are_counted(tmp_path: Path) -> None:
    gradients = read(trained(tmp_path / "d", [0.5, 2.0, None, 0.7, 1.0, 3.0]))
    assert gradients is not None
    assert gradients.clipped == pytest.approx(0.4)
    assert (gradients.median, gradients.highest, gradients.steps) == (1.0, 3.0, 6)
    assert gradients.tokens == (32, 64, 128, 160, 192)
    assert gradients.spikes is None


def test_the_figure_keeps_the_highest_of_many_steps(tmp_path: Path) -> None:
    gradients = read(trained(tmp_path / "d", [0.1] * 300 + [7.0] + [0.1] * 699))
    assert gradients is not None
    assert len(gradients.norm) == POINTS and max(gradients.norm) == 7.0
    assert gradients.tokens[-1] == 1000 * 32


def test_skipped_steps_are_told(tmp_path: Path) -> None:
    told = {
        "depth": read(trained(tmp_path / "one", [0.5] * 6, [5])),
        "width": read(trained(tmp_path / "many", [0.5] * 60, [51, 52, 53, 54, 55])),
        "calm": read(trained(tmp_path / "calm", [0.5] * 6, [])),
        "plain": read(trained(tmp_path / "plain", [0.5] * 6)),
    }
    made = section({name: each for name, each in told.items() if each})
    assert made is not None
    one, many = made.sentences
    assert one == f"Left out as spikes while depth was trained: 1 of 6 steps, step 5 because {REASON}."
    assert many.startswith("Left out as spikes while width was trained: 5 of 60 steps, step 51 because")
    assert many.endswith("; 2 more are in its spikes.json.")
    assert [row[-1] for row in made.rows] == ["1", "5", "0", "not looked for"]


def test_only_trained_models_have_gradients(tmp_path: Path) -> None:
    folders = {"teacher": trained(tmp_path / "t", []), "small": trained(tmp_path / "d", [0.5])}
    (tmp_path / "p").mkdir()
    models = [
        ReportModel(
            model=name, stage=stage, student=None, format=None, path=f"{folder}/model", scores="", training=None
        )
        for name, stage, folder in (
            ("teacher", "teacher", folders["teacher"]),
            ("small-pruned", "prune", tmp_path / "p"),
            ("small", "distill", folders["small"]),
        )
    ]
    assert list(read_gradients(models)) == ["small"]
    assert section({}) is None


def test_the_figure_marks_skipped_steps(tmp_path: Path) -> None:
    plain, hit = read(trained(tmp_path / "a", [0.5, 2.0, 0.7])), read(trained(tmp_path / "b", [0.5, 2.0, 0.7], [2]))
    assert plain and hit
    before, after = draw({"small": plain}), draw({"small": hit})
    assert before.startswith("<svg") and "clipped above" in before
    assert after.count("<use") > before.count("<use")


def test_where_training_went_back_is_told() -> None:
    from conf.report.gradients import Gradients, Skipped

    went = [{"step": 7, "to": 4, "left_out": 3, "reason": "its loss is nan"}]
    spikes = Skipped.model_validate({"skipped": [], "rewound": went})
    gradients = Gradients(
        steps=9, clip_grad=1.0, clipped=0.5, median=1.0, highest=2.0, tokens=(9,), norm=(2.0,), spikes=spikes
    )
    text = section({"teacher": gradients})
    assert text and text.sentences == (
        "Went back from spikes while teacher was trained: 1 time, 3 batches left out, from step 7 to 4 because its loss"
        " is nan.",
    )


def test_the_largest_logits_are_drawn_beside(tmp_path: Path) -> None:
    """Where a step was skipped, the point shows the one before."""
    watched = read(trained(tmp_path / "a", [0.5, 2.0, 0.7], [2], {1: 40.0, 3: 60.0}))
    plain = read(trained(tmp_path / "b", [0.5, 2.0, 0.7]))
    assert watched and plain
    assert (watched.attention_logit, watched.bound) == ((40.0, 40.0, 60.0), 50)
    assert (plain.attention_logit, plain.bound) == ((), None)
    for gradients, beside in (({"a": watched, "b": plain}, True), ({"b": plain}, False)):
        told, figure = section(gradients), draw(gradients)
        assert ("largest attention logit" in figure) == beside and (">bound<" in figure) == beside
        assert told and ("Below it, the largest attention logit" in told.pictures["gradients"]) == beside


def test_many_steps_keep_their_largest_logit(tmp_path: Path) -> None:
    many = read(
        trained(tmp_path / "d", [0.1] * 1000, None, {step: -1.0 if step != 7 else 3.0 for step in range(2, 1001)})
    )
    assert many and len(many.attention_logit) == len(many.tokens) == POINTS
    assert many.attention_logit[:3] == (-1.0, 3.0, -1.0)
    assert draw({"d": many}).startswith("<svg"), "logits below 0 have no logarithm"
