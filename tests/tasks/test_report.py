"""The report of made-up scores: every row, every difference, and the truth about what the numbers do not say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from conf.load import load
from conf.spec import Attempt, Record
from tasks.report import render as page
from tasks.report.model import Beside, Measured
from tasks.report.report import make_report, write_report
from tasks.report.section import Section

ASKED = 200
# What others read report.json by: these fields in every row, null where nothing was measured.
CONTRACT = {
    "model": str,
    "stage": str,
    "path": str,
    "num_params": int,
    "bytes": int,
    "val_loss": float,
    "perplexity": float,
}
CONTRACT_OR_NULL = {
    "mmlu": float,
    "mmlu_n": int,
    "mmlu_ci95": list,
    "kl_teacher": float,
    "agreement_teacher": float,
    "tokens_per_second": float,
}
UNASKED = dict.fromkeys(("mmlu", "mmlu_n", "mmlu_ci95", "mmlu_chance", "shots"))


def scores(correct: int, loss: float, **more: Any) -> dict[str, Any]:
    base = {
        "num_params": 1000,
        "bytes": 2000,
        "val_loss": loss,
        "perplexity": 2.7182818**loss,
        "val_tokens": 512,
        "kl_teacher": 0.1,
    }
    asked = {
        "mmlu": correct / ASKED,
        "mmlu_n": ASKED,
        "mmlu_ci95": [correct / ASKED - 0.05, correct / ASKED + 0.05],
        "mmlu_chance": 0.25,
    }
    return base | asked | {"shots": 0, "agreement_teacher": 0.9, "tokens_per_second": 10.0, "simulated": False} | more


def artifact(folder: Path, stage: str, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    record = Record(
        stage=stage,
        key=folder.name,
        revision=1,
        config={"global_batch": 2, "seq_length": 8, "warmup_steps": 1},
        hashed={},
        inputs={},
        files={},
        seconds=1.5,
        created="2026-01-01T00:00:00",
        versions={"torch": "1"},
    )
    (folder / "artifact.json").write_text(record.model_dump_json())
    return folder


def quantized(worst: float) -> dict[str, Any]:
    """What a quantize stage leaves beside its model: two layers of a mix, the second worse."""
    seen = {"samples": 3, "tokens": 192}
    layers = {
        "model.layers.0.mlp.down_proj": {"format": "FP8", "weights_db": 31.4, "outputs_db": None, **seen},
        "model.layers.1.self_attn.q_proj": {"format": "NVFP4", "weights_db": 20.3, "outputs_db": 10 * worst, **seen},
    }
    scores = {"nvfp4": 4.5, "fp8": 0.25, "none": 0.0}
    groups = [
        {"layers": ["model.layers.0.mlp.down_proj"], "format": "fp8", "scores": scores},
        {"layers": [f"model.layers.1.self_attn.{name}_proj" for name in "qkv"], "format": "nvfp4", "scores": scores},
        {"layers": ["lm_head"], "format": "none", "scores": {"none": 0.0}},
    ]
    auto = {"method": "gradient", "asked_bits": 7.0, "effective_bits": 6.5, "least_bits": 5.0, "groups": groups}
    return {"layers": layers, "kv_cache": {}, "auto": auto, **seen}


def measured(root: Path, model: str, stage: str, correct: int, loss: float, **more: Any) -> Measured:
    """A model whose first `correct` answers are right."""
    items = [json.dumps({"subject": "s", "index": index, "correct": index < correct}) for index in range(ASKED)]
    curve = [
        {"step": step, "total": 10, "time": 0, "values": {"val_loss": loss + 1 / (step + 1), "val_kl": 1.0}}
        for step in (0, 5, 5, 10)
    ]
    files = {"metrics.jsonl": "\n".join(map(json.dumps, curve)) + "\n"}
    if stage == "quantize":
        files["quantize.json"] = json.dumps(quantized(loss))
    made = artifact(root / f"made-{model}", stage, files)
    told = artifact(
        root / f"scores-{model}",
        "evaluate",
        {"scores.json": json.dumps(scores(correct, loss, **more)), "items.jsonl": "\n".join(items)},
    )
    student = None if stage == "teacher" else model.split("-")[0]
    return Measured(
        model=model,
        stage=stage,
        student=student,
        format=model.split("-")[1] if stage == "quantize" else None,
        path=f"{made}/model",
        scores=str(told),
        training=str(made) if stage == "distill" else None,
    )


@pytest.fixture
def models(tmp_path: Path) -> list[Measured]:
    return [
        measured(tmp_path, "teacher", "teacher", 180, 1.0),
        measured(tmp_path, "small-pruned", "prune", 100, 2.0, num_params=500),
        measured(tmp_path, "small", "distill", 164, 1.2, num_params=500),
        measured(tmp_path, "small-fp8", "quantize", 163, 1.21, num_params=500, simulated=True, tokens_per_second=None),
        measured(
            tmp_path,
            "small-nvfp4",
            "quantize",
            140,
            1.5,
            num_params=500,
            bytes=600,
            simulated=True,
            tokens_per_second=None,
        ),
    ]


def test_the_contract_of_report_json(models: list[Measured], tmp_path: Path) -> None:
    write_report(tmp_path / "run", "mine", load("demo"), models)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["name"] == "mine"
    assert [row["model"] for row in report["rows"]] == [model.model for model in models]
    for row, model in zip(report["rows"], models, strict=True):
        assert all(type(row[field]) is kind for field, kind in CONTRACT.items())
        assert all(row[field] is None or type(row[field]) is kind for field, kind in CONTRACT_OR_NULL.items())
        assert (row["stage"], row["path"]) == (model.stage, model.path)
        low, high = row["mmlu_ci95"]
        assert low <= row["mmlu"] <= high
    assert [row["tokens_per_second"] for row in report["rows"]] == [10.0, 10.0, 10.0, None, None]
    assert not [path.name for path in (tmp_path / "run").rglob(".*")], "no half-written file is left"


def test_what_was_not_measured_is_null_and_a_dash(tmp_path: Path) -> None:
    bare = measured(tmp_path, "teacher", "teacher", 0, 1.0)
    told = {"num_params": 1, "bytes": 2, "val_loss": 1.0, "perplexity": 2.7, "val_tokens": 64, "simulated": False}
    (Path(bare.scores) / "scores.json").write_text(json.dumps(told))
    (Path(bare.scores) / "items.jsonl").unlink()
    report = write_report(tmp_path / "run", "bare", load("demo"), [bare])
    assert {report["rows"][0][field] for field in CONTRACT_OR_NULL} == {None}
    line = next(
        line for line in (tmp_path / "run" / "report.md").read_text().splitlines() if line.startswith("| teacher |")
    )
    assert line == "| teacher | 1 | 0.00 MB | - | - | 1.0000 | 2.700 | - | - | - |"
    assert "<td>-</td>" in (tmp_path / "run" / "report.html").read_text()


def test_differences_are_paired_over_the_questions_both_answered(models: list[Measured], tmp_path: Path) -> None:
    rows = {row["model"]: row for row in write_report(tmp_path / "run", "mine", load("demo"), models)["rows"]}
    assert rows["teacher"]["against_teacher"]["mmlu"] == 0
    assert rows["teacher"]["against_student"] is None
    against = rows["small-nvfp4"]["against_student"]
    assert (against["model"], against["mmlu_n"]) == ("small", ASKED)
    assert against["mmlu"] == pytest.approx((140 - 164) / ASKED)
    assert against["mmlu_ci95"][0] < against["mmlu"] < against["mmlu_ci95"][1] < 0
    assert against["mmlu_p"] == pytest.approx(2 * 0.5**24), "24 lost, none won"
    assert against["bytes_ratio"] == pytest.approx(0.3)
    items = Path(models[1].scores) / "items.jsonl"
    items.write_text("\n".join(items.read_text().splitlines()[:150]))
    rows = {row["model"]: row for row in write_report(tmp_path / "run", "mine", load("demo"), models)["rows"]}
    assert rows["small-pruned"]["against_teacher"]["mmlu_n"] == 150
    assert rows["small-pruned"]["against_teacher"]["mmlu"] == pytest.approx(-50 / 150)


def test_a_student_that_was_not_taught_is_quantized_from_the_pruned_one(models: list[Measured], tmp_path: Path) -> None:
    rows = {
        row["model"]: row
        for row in write_report(tmp_path / "run", "mine", load("demo"), [*models[:2], models[3]])["rows"]
    }
    assert rows["small-fp8"]["against_student"]["model"] == "small-pruned"
    assert rows["small-pruned"]["recovered"] is None


def test_nothing_is_won_back_where_nothing_was_lost(tmp_path: Path) -> None:
    same = [measured(tmp_path, "teacher", "teacher", 180, 1.0), measured(tmp_path, "small-pruned", "prune", 180, 1.0)]
    report = write_report(
        tmp_path / "run", "mine", load("demo"), [*same, measured(tmp_path, "small", "distill", 181, 0.9)]
    )
    assert report["rows"][2]["recovered"] == {"nats": None, "points": None}
    assert "won back" not in " ".join(report["meaning"])


def test_the_same_scores_make_the_same_report(models: list[Measured], tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_report(tmp_path / name, "mine", load("demo"), models)
    written = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    drawn = [f"plots/{name}.svg" for name in ("chosen-formats", "quantization-error", "size", "validation-loss")]
    assert [str(path) for path in written] == [*drawn, "report.html", "report.json", "report.md"]
    assert all((tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes() for path in written)


def test_a_terminal_gets_a_line_for_every_model(models: list[Measured], tmp_path: Path) -> None:
    report = write_report(tmp_path / "run", "mine", load("demo"), models)
    console = Console(width=160)
    with console.capture() as captured:
        console.print(page.table(report, 200))
    lines = captured.get().splitlines()
    assert all(any(f" {model.model} " in line for line in lines) for model in models)


def test_rows_differences_and_what_was_won_back(models: list[Measured], tmp_path: Path) -> None:
    report = write_report(tmp_path / "run", "mine", load("demo"), models)
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == report
    rows = {row["model"]: row for row in report["rows"]}
    assert list(rows) == ["teacher", "small-pruned", "small", "small-fp8", "small-nvfp4"]
    assert rows["small-pruned"]["against_teacher"]["mmlu"] == pytest.approx(-0.4)
    assert rows["small-pruned"]["against_teacher"]["mmlu_ci95"][1] < -0.3
    assert rows["small"]["recovered"] == {"nats": pytest.approx(0.8), "points": pytest.approx(0.8)}
    assert rows["small-fp8"]["against_student"]["model"] == "small"
    assert rows["small-fp8"]["against_student"]["val_loss"] == pytest.approx(0.01)
    assert rows["small-fp8"]["tokens_per_second"] is None
    assert report["curves"]["small"]["step"] == [0.0, 5.0, 10.0], "a step that was repeated after a restart counts once"
    told = " ".join(report["meaning"])
    assert "won back 80% of the lost nats and 80% of the lost points" in told
    assert "no shown difference in score" in told
    assert "simulated by ModelOpt" in told


def test_a_score_at_chance_is_called_that(models: list[Measured], tmp_path: Path) -> None:
    guessing = [measured(tmp_path, "teacher2", "teacher", 52, 1.0).model_copy(update={"model": "teacher"}), *models[1:]]
    report = write_report(tmp_path / "run", "mine", load("demo"), guessing)
    assert "is at chance (25%)" in report["meaning"][0]
    assert "noise" in report["meaning"][0]


def test_a_run_without_questions_judges_by_loss(tmp_path: Path) -> None:
    both = [
        measured(tmp_path, "teacher", "teacher", 0, 1.0, **UNASKED),
        measured(tmp_path, "small-pruned", "prune", 0, 2.0, **UNASKED),
    ]
    for model in both:
        (Path(model.scores) / "items.jsonl").unlink()
    report = write_report(tmp_path / "run", "mine", load("demo"), both)
    assert report["rows"][1]["against_teacher"]["mmlu"] is None
    assert report["rows"][1]["mmlu"] is None
    assert "+1.000 nats" in " ".join(report["meaning"])


def test_the_page_needs_no_other_file_and_believes_no_name(models: list[Measured], tmp_path: Path) -> None:
    write_report(tmp_path / "run", "<script>alert(1)</script>", load("demo"), models)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    links = [link for link in re.findall(r"""(?:src|href)=["']([^"']+)""", page) if not link.startswith("#")]
    assert links == []
    assert not re.findall(r"@import|url\((?!#)|<(?:script|link|iframe|object|embed|img|base)\b", page)
    assert page.count("<svg") == 4
    markdown = (tmp_path / "run" / "report.md").read_text()
    assert all(f"| {model.model} |" in markdown for model in models)


def test_no_text_of_a_recipe_or_record_becomes_markup(models: list[Measured], tmp_path: Path) -> None:
    hostile = "</title><img src=x onerror=alert(1)>"
    recipe = load("demo").model_copy(update={"description": hostile})
    record = json.loads((Path(models[0].scores) / "artifact.json").read_text()) | {
        "commit": hostile,
        "versions": {hostile: hostile},
    }
    (Path(models[0].scores) / "artifact.json").write_text(json.dumps(record))
    write_report(tmp_path / "run", f"a|b{hostile}", recipe, models)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<img" not in page
    assert page.count("</title>") == 1
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 3


def test_attempts_of_a_stage_that_is_no_model_are_told_too(models: list[Measured], tmp_path: Path) -> None:
    stages = {}
    for label, ends in {"logits": ("time", "preempted", "done"), "data": ("done",)}.items():
        folder = artifact(tmp_path / label, label, {})
        record = Record.model_validate_json((folder / "artifact.json").read_text())
        tried = tuple(Attempt.model_validate({"reason": reason, "seconds": 9.0, "steps": 4}) for reason in ends)
        (folder / "artifact.json").write_text(record.model_copy(update={"attempts": tried}).model_dump_json())
        stages[label] = str(folder)
    report = make_report("r", load("demo"), models, Beside(stages=stages))
    (section,) = [section for section in report["sections"] if section["title"] == "Attempts"]
    assert [row[:3] for row in section["rows"]] == [
        ["logits", "1", "its time was up"],
        ["logits", "2", "preempted"],
        ["logits", "3", "done"],
    ]
    assert "data" not in [entry["label"] for entry in report["made"]]


def test_a_baseline_is_called_one(models: list[Measured], tmp_path: Path) -> None:
    pruned = {"num_layers": 3}
    for settings, told in (
        ({"ranking": "random"}, "ranked by random as a baseline"),
        ({"reinitialize": True}, "small, the same shape from random weights, ends at +0.200 nats"),
    ):
        recipe = load("demo", ["students.width=null", f"students.small={json.dumps({'prune': pruned | settings})}"])
        assert told in " ".join(write_report(tmp_path / "run", "mine", recipe, models)["meaning"])


def test_layer_importance_is_drawn_where_it_was_measured(models: list[Measured], tmp_path: Path) -> None:
    scores = artifact(
        tmp_path / "importance", "importance", {"importance.json": json.dumps({"layer_scores": {"1": 0.8, "2": 0.01}})}
    )
    report = write_report(tmp_path / "run", "mine", load("demo"), models, Beside(importance=str(scores)))
    assert report["layer_importance"] == {"1": 0.8, "2": 0.01}
    assert (tmp_path / "run" / "plots" / "layer-importance.svg").is_file()
    assert (tmp_path / "run" / "report.html").read_text().count("<svg") == 5


def test_a_section_stands_in_both_pages_and_its_texts_are_no_markup(models: list[Measured], tmp_path: Path) -> None:
    report = make_report("mine", load("demo"), models)
    drawings = {"size": "<svg>1</svg>", "extra": "<svg>2</svg>"}
    cell = "a|b<img src=x>"
    section = Section(
        title="More",
        sentences=("So it is.",),
        header=("what", "how"),
        rows=(("x", cell),),
        notes=("Note.",),
        pictures={"extra": "Shown."},
    )
    report["sections"] = [section.model_dump(mode="json")]
    text, markup = page.markdown(report, drawings), page.html(report, drawings)
    assert (
        "## More\n\n- So it is.\n\n| what | how |\n|---|---|\n| x | a\\|b<img src=x>"
        " |\n\nNote.\n\n![extra](plots/extra.svg)" in text
    )
    assert text.count("plots/extra.svg") == markup.count("<svg>2</svg>") == 1
    assert "<td>a|b&lt;img src=x&gt;</td>" in markup
    assert "<figcaption>Shown.</figcaption>" in markup


def test_the_worst_layers_and_the_chosen_formats_are_shown(models: list[Measured], tmp_path: Path) -> None:
    report = write_report(tmp_path / "run", "test", load("demo"), models)
    errors, choices = (
        next(s for s in report["sections"] if s["title"].startswith(title))
        for title in ("What quantization", "A format")
    )
    assert [row[:2] for row in errors["rows"][:2]] == [
        ["small-fp8", "model.layers.1.self_attn.q_proj"],
        ["small-nvfp4", "model.layers.1.self_attn.q_proj"],
    ]
    assert [row[4] for row in errors["rows"]] == ["12.1 dB", "15.0 dB", "exact", "exact"]
    assert "small-nvfp4: model.layers.1.self_attn.q_proj loses most, 15.0 dB" in errors["sentences"][1]
    assert (
        "6.50 bits a weight of 7 allowed (5.00 is the least), by gradient: of 5 layers 1 in fp8, 1 as they are, 3 in"
        " nvfp4" in (choices["sentences"][0])
    )
    assert ["small-fp8", "model.layers.1.self_attn.{q,k,v}_proj", "nvfp4", "nvfp4 4.5, fp8 0.25"] in choices["rows"]
    for picture in ("quantization-error", "chosen-formats"):
        assert (tmp_path / "run" / "plots" / f"{picture}.svg").read_text().startswith("<svg")
