"""`imbik presets`, `show`, `init` and `schema`: recipes before they run."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from flows.commands.console import Overrides, Preset, out
from flows.commands.forms import print_json

if TYPE_CHECKING:
    from conf.reference import KeySection

UNITS = "Lengths are in tokens, sizes in bytes and times in seconds, unless a key says otherwise."


def presets() -> None:
    """List the shipped presets."""
    from conf.load import names, read

    table = Table("preset", "what it does", header_style="bold")
    for name in names():
        table.add_row(name, read(name).get("description", ""))
    out.print(table)


def show(preset: Preset, overrides: Overrides = None) -> None:
    """Print a recipe as it is resolved, as YAML: with what it extends, overrides and defaults."""
    from conf.load import load
    from conf.yaml_text import dump

    out.file.write(dump(load(preset, overrides).model_dump(mode="json")))


def init(
    model: Annotated[str, typer.Argument(help="The model to compress: a Hugging Face directory or a hub id.")],
    source: Annotated[str, typer.Argument(metavar="TEXT", help="Files, a glob, or a dataset of the hub.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("recipe.yaml"),
) -> None:
    """Write a commented recipe for a model and a text, to start from."""
    from conf.load import FILES, load
    from conf.starter import starter

    if output.suffix not in FILES:
        raise ValueError(f"--output is {output}; use a name that ends with .yaml")
    text = starter(model, source)
    try:
        with output.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise ValueError(f"{output} exists already; choose another --output") from error
    try:
        load(str(output))
    except ValueError:
        output.unlink()
        raise
    out.print(f"wrote {output}; next: imbik plan {output}", markup=False, highlight=False, soft_wrap=True)


def schema(
    of: Annotated[
        str,
        typer.Argument(
            metavar="[SECTION]",
            help="A section, for instance distill or students.NAME.prune: its keys. recipe, report: its JSON schema.",
        ),
    ] = "",
) -> None:
    """Print all keys of a recipe with type, bounds, default and meaning; or the JSON schema of a recipe, for editors,
    or of report.json."""
    from conf.reference import editor_schema, sections
    from conf.report.report import Report

    if of in ("recipe", "report"):
        print_json(editor_schema() if of == "recipe" else Report.model_json_schema())
        return
    found = sections(of)
    out.file.write(UNITS + "\n")
    for section in found:
        out.file.write("\n" + "\n".join(_page(section)) + "\n")


def _page(section: KeySection) -> list[str]:
    """One section as lines of text."""
    width = min(out.width, 120)
    lines = [section.where or "A recipe", *textwrap.wrap(section.meaning, width), ""]
    for key in section.keys:
        default = "must be set" if key.default is None else f"default {key.default}" if key.default else ""
        about = "; ".join(part for part in (key.kind, default) if part)
        text = f"{about}. {key.meaning}"
        lines += textwrap.wrap(f"{key.name}: {text}", width, initial_indent="  ", subsequent_indent="      ")
    return lines
