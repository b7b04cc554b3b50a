"""The report as words: table cells, Markdown, and one HTML page that needs no other file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.report import section as sections
from tasks.report.section import Section

if TYPE_CHECKING:
    from rich.table import Table

HEADER = ("model", "params", "size", "score", "Δ teacher", "val loss", "perplexity", "KL", "top-1", "tokens/s")


def cells(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """Header and rows of the report's table, as text; '-' where nothing was measured."""
    return [HEADER, *(_cells(row) for row in report["rows"])]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    difference = row["against_teacher"]
    moved = difference["mmlu"] if row["stage"] != "teacher" else None
    return (
        row["model"],
        count(row["num_params"]),
        f"{row['bytes'] / 1e6:,.2f} MB",
        _score(row),
        "-" if moved is None else f"{moved * 100:+.1f}",
        _number(row["val_loss"], ".4f"),
        _number(row["perplexity"], ".3f"),
        _number(row["kl_teacher"], ".4f"),
        "-" if row["agreement_teacher"] is None else f"{row['agreement_teacher']:.1%}",
        "-" if row["tokens_per_second"] is None else f"{row['tokens_per_second']:,.0f}",
    )


def _score(row: dict[str, Any]) -> str:
    if row["mmlu"] is None:
        return "-"
    low, high = (bound * 100 for bound in row["mmlu_ci95"])
    return f"{row['mmlu']:.1%} ({low:.1f} to {high:.1f})"


def count(number: int) -> str:
    """A parameter count in thousands, millions or billions."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= size:
            return f"{number / size:.2f}{unit}"
    return str(number)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def about(report: dict[str, Any]) -> str:
    """What the columns are, in one paragraph."""
    if not report["rows"]:
        return ""
    teacher = report["rows"][0]
    asked = ""
    if teacher["mmlu"] is not None:
        shots = f"{teacher['shots']}-shot" if teacher["shots"] else "0-shot"
        style = {"continuation": ", the choices' own text scored (mmlu_continuation)"}.get(
            str(teacher.get("mmlu_style")), ""
        )
        asked = (
            f"Score: {teacher['mmlu_n']} multiple-choice questions through lm-eval, {shots}{style}; in brackets the 95%"
            " interval (Wilson); "
        )
        asked += f"chance is {report['chance']:.0%}. Differences are paired over the same questions. "
    return (
        f"{asked}Loss in nats per token and perplexity on {teacher['val_tokens']:,} tokens of the test split."
        " KL(teacher ‖ model) in nats per token, and top-1: the share of tokens whose likeliest successor is the"
        " teacher's too. Tokens per second: greedy generation here, one request at a time, while other stages of the"
        " run may share the machine."
    )


def table(report: dict[str, Any], width: int) -> Table:
    """The report's table for a terminal of `width` columns; what report.html tells too is left out where there is no
    room."""
    from rich import box
    from rich.table import Table

    header, *lines = cells(report)
    widths = [max(len(line[column]) for line in (header, *lines)) + 3 for column in range(len(header))]
    kept = list(range(len(header)))
    for column in (header.index(title) for title in ("tokens/s", "perplexity", "top-1", "size", "params")):
        if sum(widths[position] for position in kept) > width:
            kept.remove(column)
    shown = Table(
        title=report["name"],
        title_justify="left",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1),
    )
    for position in kept:
        shown.add_column(header[position], justify="left" if position == 0 else "right", no_wrap=True)
    for line in lines:
        shown.add_row(*(line[position] for position in kept))
    return shown


def markdown(report: dict[str, Any], drawings: dict[str, str]) -> str:
    """report.md."""
    table = cells(report)
    lines = [f"# {report['name']}", "", report["description"], ""]
    lines += [f"- {sentence}" for sentence in report["meaning"]]
    if report["rows"]:
        lines += ["", "| " + " | ".join(table[0]) + " |", "|---" + "|---:" * (len(table[0]) - 1) + "|"]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table[1:]]
    lines += ["", about(report), ""]
    more = _sections(report)
    lines += [line for title in _main(drawings, more) for line in (f"![{title}](plots/{title}.svg)", "")]
    lines += sections.markdown(more)
    lines += ["## How it was made", ""]
    lines += [f"- {entry['label']}: {entry['seconds']:.1f} s, `{entry['repeat']}`" for entry in report["made"]]
    return "\n".join(lines) + "\n"


def html(report: dict[str, Any], drawings: dict[str, str]) -> str:
    """report.html; everything that came from files is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    template = environment.get_template("report.html.j2")
    # The drawings are our own matplotlib's; its texts are escaped by it.
    pictures = {title: Markup(svg) for title, svg in drawings.items()}
    more = _sections(report)
    return template.render(
        report=report,
        header=HEADER,
        rows=list(zip(report["rows"], cells(report)[1:], strict=True)),
        about=about(report),
        pictures=pictures,
        main=_main(drawings, more),
        sections=more,
    )


def _sections(report: dict[str, Any]) -> list[Section]:
    return [Section.model_validate(section) for section in report["sections"]]


def _main(drawings: dict[str, str], more: list[Section]) -> list[str]:
    """The drawings that belong to no section."""
    return [title for title in drawings if not any(title in section.pictures for section in more)]
