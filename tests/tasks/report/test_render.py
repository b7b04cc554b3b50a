"""The report as table, Markdown and page."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from conf.report.report import Provenance
from conf.report.row import Difference, Row
from conf.report.section import Section
from tasks.report import render
from tests.fixtures.report import report, row

TEACHER = row("teacher", "teacher", mmlu=0.9, mmlu_n=200, mmlu_ci95=(0.85, 0.93), mmlu_chance=0.25, shots=5)
LOST = Difference(model="teacher", val_loss=0.2, bytes_ratio=0.5, mmlu=-0.081, mmlu_ci95=(-0.1, -0.06))
STUDENT = row(
    "small",
    num_params=2_820_000,
    bytes=1_234_567_890,
    mmlu=0.819,
    mmlu_ci95=(0.7601, 0.8666),
    val_loss=1.23456,
    perplexity=3.43567,
    kl_teacher=0.12345,
    agreement_teacher=0.9012,
    tokens_per_second=1234.5,
    against_teacher=LOST,
)


def test_a_row_prints_every_figure_with_its_unit() -> None:
    header, _, cells = render.cells((TEACHER, STUDENT))
    assert dict(zip(header, cells, strict=True)) == {
        "model": "small",
        "params": "2.82M",
        "size": "1,234.57 MB",
        "score": "81.9% (76.0 to 86.7)",
        "Δ teacher": "-8.1",
        "test loss": "1.2346",
        "perplexity": "3.436",
        "KL": "0.1235",
        "top-1": "90.1%",
        "tokens/s": "1,234",
    }


def test_the_teacher_has_no_difference_from_itself() -> None:
    same = TEACHER.model_copy(update={"against_teacher": LOST.model_copy(update={"mmlu": 0.0})})
    assert render.cells((same,))[1][4] == "-"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (999, "999"),
        (1000, "1.00K"),
        (999_994, "999.99K"),
        (1_000_000, "1.00M"),
        (1_000_000_000, "1.00B"),
        (70_553_706_496, "70.55B"),
    ],
)
def test_counts_have_their_unit(number: int, text: str) -> None:
    assert render.count(number) == text


def test_the_legend_names_questions_shots_and_chance() -> None:
    legend = render.about(report(TEACHER, chance=0.25))
    assert "Score: 200 multiple-choice questions through lm-eval, 5-shot, with the 95% interval (Wilson)" in legend
    assert "; chance is 25%." in legend
    assert "on 512 tokens of the test split" in legend
    continuation = report(TEACHER.model_copy(update={"mmlu_style": "continuation", "shots": None}), chance=0.25)
    assert "0-shot, scored by the text of each choice (mmlu_continuation)" in render.about(continuation)


def against(*models: str) -> tuple[Row, ...]:
    """A row compared with each of these models."""
    named = (LOST.model_copy(update={"model": model}) for model in models)
    return tuple(STUDENT.model_copy(update={"against_teacher": one}) for one in named)


@pytest.mark.parametrize(
    ("models", "title", "legend"),
    [
        (("x" * 20,), "x" * 20, "x" * 20),
        (("x" * 21,), "first row", "x" * 21),  # too long for a column
        (("x", "x"), "x", "x"),
        (("x", "y"), "first of its run", "the first model of its run"),
    ],
)
def test_differences_are_named_by_what_they_are_from(models: tuple[str, ...], title: str, legend: str) -> None:
    rows = against(*models)
    assert render.header(rows)[4] == f"Δ {title}"
    asked = TEACHER.model_copy(update={"against_teacher": rows[0].against_teacher})
    assert f"points of score against {legend}, paired" in render.about(report(asked, *rows))


def test_the_legend_tells_other_lengths_and_cut_questions() -> None:
    short, cut = STUDENT.model_copy(update={"val_tokens": 80}), STUDENT.model_copy(update={"mmlu_truncated": 1234})
    assert "on 80 to 512 tokens of the test split" in render.about(report(TEACHER, short))
    assert "Cut: questions that lost their beginning" not in render.about(report(TEACHER, short))
    assert "Cut: questions that lost their beginning" in render.about(report(TEACHER, cut))
    assert render.cells((cut,))[1][3] == "81.9% (76.0 to 86.7), 1,234 cut"


def test_the_legend_without_questions_or_rows() -> None:
    assert render.about(report(row("teacher", "teacher"))).startswith("Loss in nats per token")
    assert render.about(report()) == ""


def widths(width: int) -> list[str]:
    table = render.table(report(TEACHER, STUDENT), width)
    return [str(column.header) for column in table.columns]


def test_a_narrow_terminal_drops_columns_in_order() -> None:
    lengths = [max(map(len, column)) + 3 for column in zip(*render.cells((TEACHER, STUDENT)), strict=True)]
    full = sum(lengths)
    assert widths(full) == list(render.header((TEACHER, STUDENT)))
    assert widths(full - 1) == [title for title in render.header((TEACHER, STUDENT)) if title != "tokens/s"]
    assert widths(1) == ["model", "score", "Δ teacher", "test loss", "KL"]


def test_a_terminal_shows_a_line_for_every_model() -> None:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(render.table(report(TEACHER, STUDENT), 200))
    lines = captured.get().splitlines()
    assert lines[0].strip() == "mine"
    assert all(any(line.strip().startswith(f"{name} ") for line in lines) for name in ("teacher", "small"))


def test_markdown_has_all_parts_in_order() -> None:
    made: dict[str, Any] = {"stage": "distill", "key": "k", "created": "2026-01-01T00:00:00", "versions": {}}
    entry = Provenance(label="small", seconds=61.25, repeat="python -m jobs.distill --spec s", **made)
    text = render.markdown(
        report(TEACHER, summary=("It is so.",), verdict=("Take small.",), provenance=(entry,)), {"size": "<svg/>"}
    )
    parts = [
        "# mine\n\nmade up\n\n**Take small.**\n\n| model |",
        "|---|---:|---:|",
        "| teacher | 1.00K |",
        "- It is so.",
        "Score: 200",
        "![size](plots/size.svg)",
        "## How it was made\n\n- small: 61.2 s, `python -m jobs.distill --spec s`",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


SECTION = Section(
    title="More",
    sentences=("So it is.",),
    header=("what", "how"),
    rows=(("x", "a|b<img src=x>"),),
    notes=("Note.",),
    pictures={"extra": "Shown."},
)
FIGURES = {"size": "<svg>1</svg>", "extra": "<svg>2</svg>"}


def test_a_section_stands_in_markdown() -> None:
    text = render.markdown(report(TEACHER, sections=(SECTION,)), FIGURES)
    table = "| what | how |\n|---|---|\n| x | a\\|b&lt;img src=x&gt; |"
    assert f"## More\n\n- So it is.\n\n{table}\n\nNote.\n\n![extra](plots/extra.svg)" in text
    assert text.count("plots/extra.svg") == 1


def test_a_section_stands_in_the_page_without_markup() -> None:
    page = render.html(report(TEACHER, sections=(SECTION,)), FIGURES)
    assert "<td>a|b&lt;img src=x&gt;</td>" in page
    assert "<figcaption>Shown.</figcaption>" in page
    assert page.count("<svg>2</svg>") == page.count("<svg>1</svg>") == 1


def test_the_page_marks_score_and_chance() -> None:
    page = render.html(report(TEACHER, chance=0.25), {})
    assert "width: calc(0.90 * (100% - .8rem))" in page
    assert "left: calc(.4rem + 0.25 * (100% - .8rem))" in page
    assert "The mark below a score is chance." in page
