"""`imbik show`, `init` and `schema`: recipes before they run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conf import yaml_text
from conf.load import load, names, validate_recipe
from flows.commands import recipes
from tests.conf.test_inherit import model
from tests.fixtures.flow import RECIPE


@pytest.mark.parametrize("preset", [str(RECIPE), *names()])
def test_a_shown_recipe_is_the_recipe(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    recipes.show(preset)
    assert validate_recipe(yaml_text.parse(capsys.readouterr().out)) == load(preset)


def test_overrides_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    recipes.show(str(RECIPE), ["students.depth.distill.steps=9"])
    shown = yaml_text.parse(capsys.readouterr().out)
    assert shown["students"]["depth"]["distill"]["steps"] == 9
    assert shown["students"]["depth"]["distill"]["lr"] == 1e-3


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model and texts."""
    monkeypatch.chdir(tmp_path)
    model(tmp_path / "my model")
    (tmp_path / "text.txt").write_text("One line.\n")
    (tmp_path / "q: a#.txt").write_text("One line.\n")
    (tmp_path / "body.jsonl").write_text(json.dumps({"id": "1", "body": "A longer text."}) + "\n")
    return tmp_path


@pytest.mark.parametrize("source", ["text.txt", "q: a#.txt", "*.txt", "body.jsonl", "owner/texts"])
@pytest.mark.parametrize("teacher", ["my model", "owner/name"])
def test_a_written_recipe_loads(teacher: str, source: str, here: Path) -> None:
    recipes.init(teacher, source, Path("mine.yaml"))
    recipe = load("mine.yaml")
    named = (str(recipe.teacher.model), str(recipe.data.source))
    assert [path.removeprefix(f"{here}/") for path in named] == [teacher, source]
    assert recipe.teacher.steps == 0
    assert recipe.data.text_field == ("body" if source == "body.jsonl" else "text")
    assert recipe.distill is not None and recipe.distill.steps == 300
    if teacher == "my model":
        assert {name: student.prune.ranked for name, student in recipe.students.items() if student.prune} == {
            "depth": {"num_layers": 3},
            "width": {"ffn_hidden_size": 96},
        }
        assert recipe.distill.seq_length == 80, "the model's longest sequence"
    assert (here / "mine.yaml").read_text().count("#") > 8, "commented"


@pytest.mark.parametrize(
    ("teacher", "source", "output", "told"),
    [
        ("nope", "text.txt", "mine.yaml", "nope is neither a model directory nor a hub id"),
        ("my model", "nope.txt", "mine.yaml", "the text names nope.txt, which does not exist"),
        ("my model", "text.txt", "text.txt", "--output is text.txt; use a name that ends with .yaml"),
        ("my model", "text.txt", "there.yaml", "there.yaml exists already; choose another --output"),
    ],
)
def test_what_cannot_be_started_from_is_told(teacher: str, source: str, output: str, told: str, here: Path) -> None:
    (here / "there.yaml").write_text("mine")
    with pytest.raises(ValueError, match=told):
        recipes.init(teacher, source, Path(output))
    assert (here / "there.yaml").read_text() == "mine" and not (here / "mine.yaml").exists()


def test_the_page_of_keys_has_every_section(capsys: pytest.CaptureFixture[str]) -> None:
    recipes.schema("distill")
    page = capsys.readouterr().out
    assert page.startswith(recipes.UNITS) and "\ndistill\n" in page
    assert "  lr: number, above 0; must be set. Peak learning rate." in page
    assert all(len(line) <= 120 for line in page.splitlines())
    recipes.schema("")
    page = capsys.readouterr().out
    assert all(f"\n{section}\n" in page for section in ("A recipe", "data", "students.NAME.prune", "quantize[].qad"))
