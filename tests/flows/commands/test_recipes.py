"""`imbik init` and `schema`: what is kept, what is removed, what is printed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

import conf.starter
from flows.commands import recipes


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("One line.\n")
    return tmp_path


@pytest.mark.parametrize("name", ["mine.yaml", "mine.yml"])
def test_an_existing_file_is_refused_and_kept(name: str, here: Path) -> None:
    (here / name).write_text("of the user\n")
    with pytest.raises(ValueError, match=f"^{name} exists already; choose another --output$"):
        recipes.init("owner/name", "text.txt", Path(name))
    assert (here / name).read_text() == "of the user\n"


def test_a_recipe_that_does_not_load_is_removed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf.starter, "starter", lambda model, source: "teacher: {unknown_key: 1}\n")
    with pytest.raises(ValueError, match="unknown_key"):
        recipes.init("owner/name", "text.txt", Path("mine.yaml"))
    assert [path.name for path in here.iterdir()] == ["text.txt"]


@pytest.mark.parametrize("name", ["mine", "mine.json", "mine.yaml.txt"])
def test_a_recipe_has_the_name_of_one(name: str, here: Path) -> None:
    with pytest.raises(ValueError, match=f"--output is {name}; use a name that ends with .yaml"):
        recipes.init("owner/name", "text.txt", Path(name))
    assert not (here / name).exists()


@pytest.mark.parametrize(("of", "key"), [("recipe", "students"), ("report", "rows")])
def test_a_schema_is_that_of_what_is_named(of: str, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    recipes.schema(of)
    schema = json.loads(capsys.readouterr().out)
    assert key in schema["properties"] and ({"students", "rows"} - {key}).isdisjoint(schema["properties"])


def test_a_section_has_its_keys_only(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.StringIO()
    monkeypatch.setattr(recipes.out, "_file", printed)
    recipes.schema("distill.parallel")
    text = printed.getvalue()
    assert text.startswith("Lengths are in tokens, sizes in bytes and times in seconds, unless a key says otherwise.\n")
    lines = text.splitlines()
    assert any(line.startswith("  tensor: ") and "default 1" in line for line in lines)
    assert not any(line.startswith("  num_layers: ") for line in lines)
    assert max(map(len, lines)) <= 120
    assert all(line.startswith("      ") for line in lines if line.startswith("   "))
