"""Paths in settings mean the folder where the command was typed; what is no path stays, and addresses are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.paths import BUILT_IN, check_links, in_home, located
from tests.fixtures.flow import RECIPE, told


@pytest.fixture
def typed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, whose name would be a pattern, with a text in a folder of its own."""
    folder = tmp_path / "here [1]"
    (folder / "corpus").mkdir(parents=True)
    (folder / "corpus" / "a.txt").write_text("a text\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", ["corpus/a.txt", "./corpus/a.txt", "corpus", "../here [1]/corpus/a.txt"])
def test_relative_path_starts_at_current_folder(typed_in: Path, name: str) -> None:
    absolute = located(name)
    assert Path(absolute).is_absolute() and Path(absolute).samefile(typed_in / name)


def test_glob_starts_at_current_folder_whatever_its_name(typed_in: Path) -> None:
    import glob

    assert glob.glob(located("corpus/*.txt")) == [str(typed_in / "corpus" / "a.txt")]  # noqa: PTH207


@pytest.mark.parametrize("name", ["owner/name", "wikitext", "owner/name@0123abc", *BUILT_IN, "/data/x"])
def test_what_is_no_relative_path_stays(typed_in: Path, name: str) -> None:
    """Not even where a folder has the name of what imbik makes."""
    for built_in in BUILT_IN:
        (typed_in / built_in).mkdir(exist_ok=True)
    assert located(name) == name


def test_home_is_resolved(typed_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(typed_in))
    assert located("~/corpus/a.txt") == str(typed_in / "corpus" / "a.txt")


def test_home_of_a_stranger_is_refused() -> None:
    assert "names a home folder that is not known here; write the whole path" in told(
        "data.source=~nobody-of-this-name/a.txt"
    )


@pytest.mark.parametrize(
    ("address", "advice"),
    [
        ("s3://bucket/a.txt", "copy it here first, for instance with aws s3 cp"),
        ("https://example.org/a.txt", "copy it here first, for instance with curl"),
        ("hf://datasets/owner/name", "write the hub id alone: owner/name"),
        ("file:///data/a.txt", "write the path alone: /data/a.txt"),
        ("abfs://container/a.txt", "copy it here first and name the copy"),
    ],
)
@pytest.mark.parametrize("setting", ["data.source", "data.tokenizer", "evaluate.mmlu.path"])
def test_address_is_refused_with_what_to_do(setting: str, address: str, advice: str) -> None:
    sentence = told(f"{setting}={address}")
    assert sentence.startswith(f"{setting}: {address}") and advice in sentence


def test_a_recipe_has_absolute_paths(typed_in: Path) -> None:
    from conf.load import load

    recipe = load(str(RECIPE), ["data.source=[corpus/a.txt, world]"])
    assert recipe.data.source == (str(typed_in / "corpus" / "a.txt"), "world")


@pytest.mark.parametrize("kind", ["hf", "file", "s3"])
def test_an_address_with_a_login_is_not_repeated(kind: str) -> None:
    """It is left to the search for secrets, whose sentence does not say it."""
    address = f"{kind}://someone:secret@host/data"
    assert in_home(address) == address
    with pytest.raises(ValueError, match="is an address"):
        in_home(f"{kind}://host/data@main")


def test_links_may_lead_into_the_folder_or_its_own_hub_cache(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "model" / "snapshots" / "main", tmp_path / "model" / "blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
        (folder / "weights").write_text("w")
    (snapshot / "inside").symlink_to(snapshot / "weights")
    (snapshot / "cached").symlink_to(blobs / "weights")
    check_links(snapshot)
    (tmp_path / "elsewhere").write_text("secret")
    (snapshot / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="out is a link to a file outside"):
        check_links(snapshot)
