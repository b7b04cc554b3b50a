"""Renders the report: table cells, Markdown, and one HTML page that needs no other file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from conf.report.report import Report
from conf.report.row import Row
from tasks.report import section as sections

if TYPE_CHECKING:
    from rich.table import Table

HEADER = ("model", "params", "size", "score", "Δ teacher", "val loss", "perplexity", "KL", "top-1", "tokens/s")
OPTIONAL = ("tokens/s", "perplexity", "top-1", "size", "params")
"""Columns that a narrow terminal goes without, the first to go first."""


def cells(rows: tuple[Row, ...]) -> list[tuple[str, ...]]:
    """Header and rows of the main table as text; '-' where nothing was measured."""
    return [HEADER, *(_cells(row) for row in rows)]


def _cells(row: Row) -> tuple[str, ...]:
    difference = row.against_teacher.mmlu if row.stage != "teacher" else None
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
    return f"{row.mmlu:.1%} ({low:.1f} to {high:.1f})"


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
    first = report.rows[0]
    score = ""
    if first.mmlu is not None:
        style = ", scored by the text of each choice (mmlu_continuation)" if first.mmlu_style == "continuation" else ""
        chance = "" if report.chance is None else f"; chance is {report.chance:.0%}"
        score = (
            f"Score: {first.mmlu_n} multiple-choice questions through lm-eval, {first.shots or 0}-shot{style}, with the"
            f" 95% interval (Wilson){chance}. Differences are paired over the same questions. "
        )
    return (
        f"{score}Loss in nats per token and perplexity on {first.val_tokens:,} tokens of the test split."
        " KL(teacher ‖ model) in nats per token. Top-1: share of tokens where model and teacher rank the same next"
        " token first. Tokens/s: greedy generation on this machine at batch size 1, while other stages of the run may"
        " share it."
    )


def table(report: Report, width: int) -> Table:
    """The main table for a terminal of `width` columns; optional columns are dropped where they do not fit."""
    from rich import box
    from rich.table import Table

    header, *lines = cells(report.rows)
    widths = [max(len(line[column]) for line in (header, *lines)) + 3 for column in range(len(header))]
    columns = list(range(len(header)))
    for column in map(header.index, OPTIONAL):
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
        rich_table.add_column(header[column], justify="left" if column == 0 else "right", no_wrap=True)
    for line in lines:
        rich_table.add_row(*(line[column] for column in columns))
    return rich_table


def markdown(report: Report, figures: dict[str, str]) -> str:
    """report.md; `figures` are SVG by name."""
    header, *rows = cells(report.rows)
    lines = [f"# {report.name}", "", report.description, ""]
    lines += [f"- {sentence}" for sentence in report.summary]
    if rows:
        lines += ["", "| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines += ["", about(report), ""]
    lines += [line for title in _main_figures(report, figures) for line in (f"![{title}](plots/{title}.svg)", "")]
    lines += sections.markdown(report.sections)
    lines += ["## How it was built", ""]
    lines += [f"- {entry.label}: {entry.seconds:.1f} s, `{entry.repeat}`" for entry in report.provenance]
    return "\n".join(lines) + "\n"


def html(report: Report, figures: dict[str, str]) -> str:
    """report.html; all text is escaped, as names and descriptions come from files. `figures` are SVG by name."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    template = environment.get_template("report.html.j2")
    # matplotlib draws the figures and escapes their texts.
    pictures = {title: Markup(svg) for title, svg in figures.items()}
    return template.render(
        report=report,
        header=HEADER,
        rows=list(zip(report.rows, cells(report.rows)[1:], strict=True)),
        about=about(report),
        pictures=pictures,
        main=_main_figures(report, figures),
    )


def _main_figures(report: Report, figures: dict[str, str]) -> list[str]:
    """The figures that belong to no section."""
    return [title for title in figures if not any(title in section.pictures for section in report.sections)]
