"""Files and splits of a dataset's local copy, as its card names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from conf.dataset_card import files

NAMES = ("a.jsonl", "b.jsonl", "test.jsonl", "other/c.jsonl")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def found(folder: Path, configs: Any, subset: str | None = None) -> list[tuple[str, str | None]] | None:
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs}, sort_keys=False)}---\n# Card\n")
    listed = files(folder, subset, "data.subset")
    return None if listed is None else [(str(path.relative_to(folder)), split) for path, split in listed]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("a.jsonl", [("a.jsonl", None)]),
        ("./?.jsonl", [("a.jsonl", None), ("b.jsonl", None)]),
        (["a.jsonl", "test.jsonl"], [("a.jsonl", None), ("test.jsonl", None)]),
        ({"train": ["b.jsonl"], "test": "test.jsonl"}, [("b.jsonl", "train"), ("test.jsonl", "test")]),
        (
            [{"split": "train", "path": "a.jsonl"}, {"path": ["other/*"]}, {"split": "none"}, 3],
            [("a.jsonl", "train"), ("other/c.jsonl", None)],
        ),
        ("other", None),
        ("none*", None),
    ],
)
def test_files_are_read_in_every_form(folder: Path, declared: Any, expected: Any) -> None:
    assert found(folder, [{"config_name": "x", "data_files": declared}]) == expected


ONE, TWO = {"config_name": "one", "data_files": "a.jsonl"}, {"config_name": "two", "data_files": "b.jsonl"}


@pytest.mark.parametrize(
    ("configs", "subset", "name"),
    [
        ([ONE, TWO], "two", "b.jsonl"),
        ([ONE, TWO | {"default": True}], None, "b.jsonl"),
        ([ONE, TWO | {"config_name": "default"}], None, "b.jsonl"),
        ([ONE, {"config_name": "empty"}, "text"], None, "a.jsonl"),
    ],
)
def test_the_named_or_default_configuration_is_read(folder: Path, configs: Any, subset: str | None, name: str) -> None:
    assert found(folder, configs, subset) == [(name, None)]


@pytest.mark.parametrize(("subset", "said"), [(None, "is not set"), ("three", "is three")])
def test_of_several_one_must_be_chosen(folder: Path, subset: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=f"^data.subset {said}, but the card of .* configurations one, two; choose"):
        found(folder, [ONE, TWO], subset)


def test_a_folder_may_be_named_beside_the_card(folder: Path) -> None:
    assert found(folder, [ONE, TWO], "other") is None


@pytest.mark.parametrize("card", [None, "# Card\n", "---\n: [\n---\n", "---\n- a\n---\n", "---\nconfigs:\n---\n"])
def test_a_card_that_names_no_files_says_nothing(folder: Path, card: str | None) -> None:
    if card is not None:
        (folder / "README.md").write_text(card)
    assert files(folder, "any", "data.subset") is None
