"""Renders the report: table cells, Markdown, and one HTML page that needs no other file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from conf.markdown import code, escape
from conf.report.report import Report
from conf.report.row import Row
from conf.report.run import RunInfo
from tasks.report import figure, words
from tasks.report import markdown as md

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("model", "params", "size", "score", "Δ {}", "test loss", "perplexity", "KL", "top-1", "tokens/s")
OPTIONAL = ("tokens/s", "perplexity", "top-1", "size", "params")
"""Columns that a narrow terminal goes without, the first to go first."""
LONGEST_REFERENCE = 20
"""Characters of a model's name in a column title; a longer one is called the first row."""


def header(rows: tuple[Row, ...]) -> tuple[str, ...]:
    """Titles of the main table's columns; the differences are titled by the model that they are against."""
    models = {row.against_teacher.model for row in rows}
    named = models.pop() if len(models) == 1 else "first of its run"
    named = named if len(named) <= LONGEST_REFERENCE else "first row"
    return tuple(title.format(named) for title in COLUMNS)


def cells(rows: tuple[Row, ...]) -> list[tuple[str, ...]]:
    """Header and rows of the main table as text; '-' where nothing was measured."""
    return [header(rows), *(_cells(row) for row in rows)]


def _cells(row: Row) -> tuple[str, ...]:
    difference = row.against_teacher.mmlu if row.model != row.against_teacher.model else None
    return (
        row.model,
        count(row.num_params),
        f"{row.bytes / 1e6:,.2f} MB",
        _score(row),
        _or_dash(None if difference is None else difference * 100, "+.1f"),
        f"{row.val_loss:.4f}",
        f"{row.perplexity:.3f}",
        _or_dash(row.kl_teacher, ".4f"),
        _or_dash(row.agreement_teacher, ".1%"),
        _or_dash(row.tokens_per_second, ",.0f"),
    )


def _score(row: Row) -> str:
    if row.mmlu is None or row.mmlu_ci95 is None:
        return "-"
    low, high = (bound * 100 for bound in row.mmlu_ci95)
    cut = f", {row.mmlu_truncated:,} cut" if row.mmlu_truncated else ""
    return f"{row.mmlu:.1%} ({low:.1f} to {high:.1f}){cut}"


def count(number: int) -> str:
    """A parameter count in thousands (K), millions (M) or billions (B), with two decimals."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= size:
            return f"{number / size:.2f}{unit}"
    return str(number)


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def about(report: Report) -> str:
    """The legend of the main table in one paragraph; empty without rows."""
    if not report.rows:
        return ""
    teacher = report.teacher or "the teacher of its run"
    tokens = sorted({row.val_tokens for row in report.rows})
    counted = f"{tokens[0]:,}" if len(tokens) == 1 else f"{tokens[0]:,} to {tokens[-1]:,}"
    return (
        f"{_about_scores(report)}Loss in nats per token and perplexity on {counted} tokens of the test split."
        f" KL({teacher} ‖ model) in nats per token. Top-1: share of tokens where model and {teacher} rank the same next"
        " token first. Tokens/s: greedy generation on this machine at batch size 1, while other stages of the run may"
        " share it."
    )


def _about_scores(report: Report) -> str:
    """The legend of the score and of the differences from the reference; empty where nothing was asked."""
    first, models = report.rows[0], {row.against_teacher.model for row in report.rows}
    if first.mmlu is None:
        return ""
    style = ", scored by the text of each choice (mmlu_continuation)" if first.mmlu_style == "continuation" else ""
    chance = "" if report.chance is None else f"; chance is {report.chance:.0%}"
    named = models.pop() if len(models) == 1 else "the first model of its run"
    truncated = " Cut: questions that lost their beginning, because they were longer than the model's context."
    return (
        f"Score: {first.mmlu_n} multiple-choice questions through lm-eval, {first.shots or 0}-shot{style}, with the"
        f" 95% interval (Wilson){chance}. Δ: points of score against {named}, paired over the same questions."
        f"{truncated if any(row.mmlu_truncated for row in report.rows) else ''} "
    )


def made(run: RunInfo) -> list[tuple[str, str]]:
    """How a run was made, as titles and values."""
    trained = sum(run.trained_tokens.values())
    computed = "; ".join(f"{precision}: {', '.join(stages)}" for precision, stages in run.precisions.items())
    corpus = "" if run.corpus_tokens is None else f", {run.corpus_tokens:,} training tokens"
    lines = [
        ("Started", f"{run.started[:16].replace('T', ' ')} UTC, in {run.folder}"),
        ("Command", run.command),
        ("Machine", f"{run.machine}; cluster {run.cluster}"),
        ("Time", f"{words.duration(run.seconds)} for {run.built} of {run.stages} stages; the rest were in the store"),
        ("All stages' jobs", words.duration(run.stage_seconds)),
        ("GPU hours", "no GPUs" if run.gpu_hours is None else f"{run.gpu_hours:,.2f}"),
        ("Teacher", run.teacher or ""),
        ("Data", f"{', '.join(run.data)}{corpus}" if run.data else ""),
        ("Trained on", f"{trained:,} tokens in {len(run.trained_tokens)} stages" if trained else ""),
        ("Computed in", computed),
    ]
    return [(title, value) for title, value in lines if value]


def table(report: Report, width: int) -> Table:
    """The main table for a terminal of `width` columns; optional columns are dropped where they do not fit."""
    from rich import box
    from rich.table import Table

    titles, *lines = cells(report.rows)
    widths = [max(len(line[column]) for line in (titles, *lines)) + 3 for column in range(len(titles))]
    columns = list(range(len(titles)))
    for column in map(titles.index, OPTIONAL):
        if sum(widths[position] for position in columns) > width:
            columns.remove(column)
    rich_table = Table(
        title=report.name,
        title_justify="left",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1),
    )
    for column in columns:
        rich_table.add_column(titles[column], justify="left" if column == 0 else "right", no_wrap=True)
    for line in lines:
        rich_table.add_row(*(line[column] for column in columns))
    return rich_table


def markdown(report: Report, figures: dict[str, str]) -> str:
    """report.md; `figures` are SVG by name."""
    lines = [f"# {escape(report.name)}", "", escape(report.description), ""]
    lines += [line for sentence in report.verdict for line in (f"**{escape(sentence)}**", "")]
    if report.rows:
        lines += [*md.table(*_split(cells(report.rows)), right=True), ""]
    lines += [f"- {escape(sentence)}" for sentence in report.summary]
    lines += ["", escape(about(report)), ""]
    lines += [line for title in _main_figures(report, figures) for line in (md.picture(title), "")]
    lines += md.sections(report.sections)
    lines += ["## How it was made", ""]
    lines += [f"- {title}: {code(value)}" for title, value in (made(report.run) if report.run else [])]
    lines += [f"- {escape(entry.label)}: {entry.seconds:.1f} s, {code(entry.repeat)}" for entry in report.provenance]
    return "\n".join(lines) + "\n"


def _split(lines: list[tuple[str, ...]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    return lines[0], lines[1:]


def html(report: Report, figures: dict[str, str]) -> str:
    """report.html; all text is escaped, as names and descriptions come from files. `figures` are SVG by name."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    template = environment.get_template("report.html.j2")
    # matplotlib draws the figures and escapes their texts.
    pictures = {title: Markup(figure.themed(svg)) for title, svg in figures.items()}
    return template.render(
        report=report,
        header=header(report.rows) if report.rows else (),
        rows=list(zip(report.rows, cells(report.rows)[1:], strict=True)),
        about=about(report),
        made=made(report.run) if report.run else [],
        colors=figure.DARK,
        pictures=pictures,
        main=_main_figures(report, figures),
    )


def _main_figures(report: Report, figures: dict[str, str]) -> list[str]:
    """The figures that belong to no section."""
    return [title for title in figures if not any(title in section.pictures for section in report.sections)]
