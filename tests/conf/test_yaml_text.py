"""YAML as recipes and cluster files hold it: what is read, what is refused, and that refusing takes no time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from conf import yaml_text
from conf.cluster import load_cluster
from conf.load import load
from tests.fixtures.flow import RECIPE

LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGED = "a: &a {x0: 1, x1: 1, x2: 1}\n" + "".join(
    f"b{n}: &b{n} {{<<: [{', '.join(['*' + ('a' if n == 0 else f'b{n - 1}')] * 10)}]}}\n" for n in range(9)
)
CHAIN = "x0: &x0 [1]\n" + "".join(f"x{n}: &x{n} [*x{n - 1}]\n" for n in range(1, 2000))
BOMBS = {
    "laughs": (LAUGHS, "it has more than 12,000 values, aliases written out"),
    "merged laughs": (MERGED, "it has more than 12,000 values, aliases written out"),
    "aliases": ("a: &a 1\nb:\n" + "- *a\n" * 150_000, "it has more than 12,000 values"),
    "values": ("a: [" + "1," * 400_000 + "]", "it has more than 12,000 values"),
    "nested": ("a: " + "[" * 400_000, "it is nested more than 30 deep"),
    "nested sections": ("".join(f"{' ' * depth}a:\n" for depth in range(1000)), "it is nested more than 30 deep"),
    "nested aliases": (CHAIN, "it is nested more than 30 deep"),
    "in itself": ("a: &a [*a]\n", "the value in line 1 contains itself"),
    "long": ("a: " + "x" * 1_100_000, "it has more than 1,000,000 characters"),
    "number": ("a: " + "9" * 5000, "line 1 has a number of 5000 digits"),
    "tag": ("a: !!python/name:os.system\n", "line 1 has the tag"),
    "date": ("a: 1\nb: !!timestamp 2001-99-99\n", "line 2 has the tag"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_would_not_end_is_refused_at_once(bomb: str, tmp_path: Path) -> None:
    text, told = BOMBS[bomb]
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    started = time.process_time()
    with pytest.raises(ValueError) as recipe:
        load(str(file))
    with pytest.raises(ValueError) as cluster:
        load_cluster(str(file))
    assert time.process_time() - started < 20, "it was read"
    assert told in str(recipe.value) and told in str(cluster.value)
    assert str(file) in str(recipe.value)
    assert len(str(recipe.value)) < 400


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("[" * 100_000, "teacher: it is nested more than 30 deep"),
        ("{a: &a [" + "1," * 6000 + "], b: [*a, *a, *a]}", "teacher: it has more than 12,000 values"),
        ("{lr: 1, lr: 2}", "teacher: lr is written twice, in line 1; remove one"),
    ],
)
def test_an_override_is_bounded_like_a_file(value: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        load(str(RECIPE), [f"teacher={value}"])
    with pytest.raises(ValueError, match=told.replace("teacher", "defaults")):
        load_cluster("local", [f"defaults={value}"])


def test_an_override_of_many_dots_is_refused() -> None:
    with pytest.raises(ValueError, match="nested more than 30 deep"):
        load(str(RECIPE), [".".join(["a"] * 50_000) + "=1"])


TWICE = [
    ("teacher: {lr: 1}\nx: 1\nteacher: {steps: 2}\n", "teacher is written twice, in lines 1 and 3; remove one"),
    ("students:\n  a: {}\n  b: {}\n  a: {}\n", "students.a is written twice, in lines 2 and 4"),
    ("quantize:\n  - format: fp8\n    format: nvfp4\n", "quantize.1.format is written twice, in lines 2 and 3"),
    ("'a': 1\na: 2\n", "a is written twice, in lines 1 and 2"),
    ("a: {<<: {b: 1}, <<: {b: 2}}\n", "a.<< is written twice, in line 1"),
]


@pytest.mark.parametrize(("text", "told"), TWICE, ids=[told.split(" is ")[0] for _, told in TWICE])
def test_a_key_written_twice_is_named_with_its_lines(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    for read in (load, load_cluster):
        with pytest.raises(ValueError) as refused:
            read(str(file))
        assert str(refused.value).startswith(f"{file}: {told}")


def test_a_key_twice_in_an_extended_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("extends: demo\ndistill: {steps: 3}\ndistill: {lr: 1}\n")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\n")
    with pytest.raises(ValueError, match=r"base\.yaml: distill is written twice, in lines 2 and 3"):
        load(str(tmp_path / "mine.yaml"))


def test_a_merge_key_may_be_overridden() -> None:
    assert yaml_text.parse("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n") == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}}


VALUES: list[tuple[str, Any]] = [
    ("010", 10),
    ("0x10", 16),
    ("0o10", 8),
    ("1_000", 1000),
    ("-5", -5),
    ("1e-4", 1e-4),
    ("+.5", 0.5),
    ("1.5e3", 1500.0),
    ("1:30", "1:30"),
    ("2026-11-28", "2026-11-28"),
    ("no", "no"),
    ("on", "on"),
    ("true", True),
    ("~", None),
    ("", None),
    ("'1'", "1"),
    ("1.2.3", "1.2.3"),
    ("-", "-"),
]


@pytest.mark.parametrize(("text", "value"), VALUES[:-1])
def test_a_value_is_what_it_seems(text: str, value: Any) -> None:
    found = yaml_text.parse(f"a: {text}")["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("key", ["1", "1.5", "true", "null", "[a]"])
def test_a_key_that_is_not_text_is_refused(key: str) -> None:
    with pytest.raises(yaml_text.Refused, match=r"in line 2 is not text; put it in quotes"):
        yaml_text.parse(f"a: 1\n? {key}\n: 2\n")


WORD = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, width=32) | WORD
SCALARS |= st.sampled_from([text for text, _ in VALUES])
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3))


@given(st.dictionaries(WORD, TREES, max_size=4))
def test_what_is_written_is_read_back(values: dict[str, Any]) -> None:
    assert yaml_text.parse(yaml_text.dump(values)) == values


def test_what_is_written_keeps_its_order() -> None:
    assert yaml_text.dump({"teacher": {"b": 1, "a": 2}, "data": "x"}) == "teacher:\n  b: 1\n  a: 2\ndata: x\n"


@pytest.mark.parametrize(("items", "taken"), [(38, True), (39, False)])
def test_values_are_counted_with_their_aliases_written_out(
    items: int, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole, a list and its items, and another list of the same twice: 3 n + 5 values."""
    monkeypatch.setattr(yaml_text, "MAX_VALUES", 120)
    text = f"a: &a [{', '.join(['1'] * items)}]\nb: [*a, *a]\n"
    if taken:
        assert yaml_text.parse(text)["b"][1] == [1] * items
    else:
        with pytest.raises(yaml_text.Refused, match="more than 120 values"):
            yaml_text.parse(text)


@pytest.mark.parametrize(("around", "taken"), [(14, True), (15, False)])
def test_depth_is_counted_through_aliases(around: int, taken: bool) -> None:
    """The whole, lists around it, and 15 lists in one another."""
    text = f"a: &a {'[' * 15}{']' * 15}\nb: {'[' * around}*a{']' * around}\n"
    if taken:
        assert yaml_text.parse(text)["b"]
    else:
        with pytest.raises(yaml_text.Refused, match="nested more than 30 deep"):
            yaml_text.parse(text)


def test_what_is_no_yaml_is_told_with_its_line() -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        yaml_text.parse("a: [1\nb: 2\n")
    assert yaml_text.problem(caught.value) == "line 2: expected ',' or ']', but got ':'"
    assert yaml_text.problem(yaml.YAMLError("odd")) == "odd"
