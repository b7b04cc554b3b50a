"""The READMEs: their commands run, quoted output is what is printed, links lead somewhere, and no setting, command or
preset is missing.

Commands that build for minutes are planned instead; those whose block names what they need (`needs=`) are parsed."""

from __future__ import annotations

import collections
import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from conf.base import Config
from conf.cluster import load_cluster
from conf.hf_model import shape_of
from conf.hf_weights import needed
from conf.load import load, names
from conf.recipe import Recipe
from conf.stages import stages
from conf.student import Student
from flows.cli import app, main
from tests.fixtures.documents import page as web_page
from tests.fixtures.flow import FLOWS, RECIPE, prefect_server
from tests.fixtures.readmes import (
    IMBIK,
    PAGES,
    PYTHON,
    READMES,
    ROOT,
    Command,
    anchors,
    blocks,
    commands,
    links,
    quoted,
    section,
)

COMMANDS = [command for page in READMES for command in commands(page)]
HERE = [one for one in COMMANDS if not one.needs and "store" not in one.block.marks]
INTERNAL = {"fetch", "sensitivity", "questions", "answer", "judge", "trunk"}
"""Stages that have no section of their own in a recipe."""
NEEDS = {"install", "cluster", "gpu", "server", "services"}
MY_LLAMA = "/models/my-llama"
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 5,
    "hidden_size": 64,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
}


SHORTER = ["--seq-length", "64", "--samples", "8"]
"""What `quantize` needs besides for the tiny model, whose sequences are shorter than the demo's."""


def name(one: Any) -> str:
    """A test's id: where a command stands."""
    return f"{one.block.where}-{one.called or one.words[0]}" if isinstance(one, Command) else str(one)


def page_name(page: Path) -> str:
    """A test's id: a page."""
    return str(page.relative_to(ROOT))


def workplace(page: Path, folder: Path) -> Path:
    """A folder with the files that a page's commands name."""
    model = folder / "my-llama"
    for directory, ffn in ((model, 256), (folder / "stories260K-hf", 172)):
        directory.mkdir()
        (directory / "config.json").write_text(json.dumps(CONFIG | {"intermediate_size": ffn}))
        Tokenizer(WordLevel({"</s>": 0, "<s>": 1}, unk_token="</s>")).save(str(directory / "tokenizer.json"))
        tensors = {name: np.zeros(shape, np.float16) for name, shape in needed(shape_of(directory)).items()}
        save_file(tensors, directory / "model.safetensors")
    for corpus in ("corpus", "crawl", "reports", "corpora/code", "corpora/math", "mmlu/dev", "mmlu/test"):
        (folder / corpus).mkdir(parents=True)
    (folder / "pages").mkdir()
    for number in range(20):
        (folder / "pages" / f"{number}.html").write_text(
            web_page(f"The mill of the year {1900 + number} stands by a river.")
        )
    for file in (
        "corpus/a.jsonl",
        "crawl/a.warc.gz",
        "reports/a.pdf",
        "corpora/code/a.jsonl",
        "corpora/math/a.parquet",
        "more.parquet",
        "tinystories.txt",
        "corpus.jsonl",
        "prompts.txt",
        "lima.json",
    ):
        (folder / file).write_text(
            "".join(
                json.dumps({"text": f"Text number {each}.", "prompt": f"{each}?", "response": "Yes."}) + "\n"
                for each in range(2000)
            )
        )
    for split in ("dev", "test"):
        (folder / "mmlu" / split / f"anatomy_{split}.csv").write_text("What is one and one?,1,2,3,4,B\n" * 12)
    for block in blocks(page):
        if file := block.marks.get("file"):
            (folder / file).write_text(block.text.replace(MY_LLAMA, str(model)))
    return folder


def called(words: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """`imbik` with these arguments in this process: its exit code, and what it printed."""
    monkeypatch.setattr(sys, "argv", ["imbik", *words])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    printed = capfd.readouterr()
    return int(ended.value.code or 0), printed.out + printed.err


def planned(words: list[str]) -> list[str]:
    """The plan of what `imbik run` would do."""
    at = words.index("--name") if "--name" in words else len(words)
    return ["plan", *words[1:at], *words[at + 2 :]]


@pytest.mark.parametrize("command", HERE, ids=name)
def test_a_command_does_what_is_said(
    command: Command, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command.called, f"{command.block.where}: only imbik runs here; say what {command.words[0]} needs"
    monkeypatch.chdir(workplace(command.block.page, tmp_path))
    monkeypatch.delenv("IMBIK_STORE", raising=False)
    for variable, value in {"HF_HUB_OFFLINE": "1", **command.environment}.items():
        monkeypatch.setenv(variable, value)
    words = list(command.words[1:])
    code, printed = called(planned(words) if words[0] == "run" else words, capfd, monkeypatch)
    refused = command.output is not None and (
        command.output.startswith("imbik: ") or "does not fit: " in command.output
    )
    assert code == (2 if refused else 0), printed
    assert not (tmp_path / ".imbik").exists(), "it says that it touches nothing"
    if command.output is not None:
        missing = quoted(command.output, printed)
        assert missing is None, f"{command.block.where} quotes what is not printed: {missing}\n{printed}"


@pytest.mark.parametrize("command", [one for one in COMMANDS if one not in HERE], ids=name)
def test_a_command_that_needs_more_can_be_given(command: Command) -> None:
    program, *rest = command.words
    assert command.needs in (None, *NEEDS)
    if command.called:
        parsed = typer.main.get_command(app).commands[command.called]
        if "--help" not in rest:
            parsed.make_context(command.called, rest[1:])
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program == PYTHON and rest[1].startswith(("tests.", "jobs.")):
        assert importlib.util.find_spec(rest[1])
    for word in rest:
        if re.match(r"(deploy|tests|conf)/", word) and not word.startswith("deploy/.env"):
            assert (ROOT / word.partition("::")[0]).exists(), f"{command.block.where} names {word}"


def test_what_cannot_run_here_says_why() -> None:
    """How many commands of each kind are only parsed: raise a number knowingly."""
    counted = collections.Counter(one.needs for one in COMMANDS if one.needs)
    assert dict(counted) == {"install": 11, "cluster": 7, "gpu": 3, "server": 10, "services": 19}
    assert len(COMMANDS) - counted.total() > 30


@pytest.mark.parametrize("page", READMES, ids=page_name)
def test_every_yaml_block_is_valid(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "a key of a server")
    monkeypatch.chdir(workplace(page, tmp_path))
    for number, block in enumerate(one for one in blocks(page) if one.language == "yaml"):
        values = yaml.safe_load(block.text.replace(MY_LLAMA, str(tmp_path / "my-llama")))
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump({"extends": block.marks.get("over") or "demo"} | values))
        assert load_cluster(str(path)) if "cluster" in block.marks else load(str(path)), block.where
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, block.where, "exec")


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_link_and_every_named_file_is_there(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page_name(page)} links to {target}"
        if anchor:
            assert anchor in anchors(there), f"{page_name(page)} links to {target}"
    for named in re.findall(r"`((?:conf|flows|tasks|jobs|tests|deploy)/[\w./-]+)`", page.read_text()):
        if "NAME" not in named:
            assert (ROOT / named).exists(), f"{page_name(page)} names {named}"


def test_every_command_every_preset_and_every_stage_is_told() -> None:
    told = (ROOT / "README.md").read_text()
    for command in typer.main.get_command(app).commands:
        assert f"`{command}`" in section(ROOT / "README.md", "Commands"), command
    presets = (ROOT / "conf" / "presets" / "README.md").read_text()
    assert {preset for preset in names() if f"[{preset}]({preset}.yaml)" not in presets} == set()
    assert {stage for stage in stages() if f"[{stage}](conf/README.md#{stage})" not in told} == INTERNAL
    assert 150 <= len(told.splitlines()) <= 250


SETTINGS: list[tuple[str, type[Config]]] = [
    *((stage, config) for stage, config in stages().items() if stage not in INTERNAL),
    ("students", Student),
]


@pytest.mark.parametrize(("heading", "config"), SETTINGS, ids=[heading for heading, _ in SETTINGS])
def test_every_setting_of_a_stage_is_told(heading: str, config: type[Config]) -> None:
    page = ROOT / "conf" / "README.md"
    shared = [section(page, "Training settings"), section(page, "While a student learns")]
    linked = {"generate": ["records"], "records": ["data"], "sft": ["distill"], "sweep": ["search"]}.get(heading, [])
    told = "\n".join([section(page, heading), *shared, *(section(page, other) for other in linked)])
    words = set(re.findall(r"\w+", told))
    assert set(config.model_fields) - words - {"engine"} == set()


def test_every_section_of_a_recipe_is_told() -> None:
    words = set(re.findall(r"\w+", (ROOT / "conf" / "README.md").read_text()))
    assert set(Recipe.model_fields) - words == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "left_out", [("prepare", "evaluate", "run"), pytest.param((), marks=pytest.mark.drill)], ids=len
)
def test_commands_on_a_finished_run(
    left_out: tuple[str, ...],
    finished: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the order of the pages; the tiny recipe stands for the demo. Flows and jobs are processes of their own."""
    folder = workplace(ROOT / "flows" / "README.md", tmp_path)
    shutil.copytree(finished, folder / ".imbik", symlinks=True)
    own = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT", "MLFLOW", "IMBIK"))}
    own |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    own["PREFECT_API_URL"] = prefect_server()
    monkeypatch.chdir(folder)

    def run(words: list[str]) -> str:
        if words[0] == IMBIK and words[1] not in FLOWS:
            with environment(own):
                code, printed = called(words[1:], capfd, monkeypatch)
        else:
            program = {IMBIK: [sys.executable, "-m", "flows.cli"], PYTHON: [sys.executable]}[words[0]]
            done = subprocess.run(
                [*program, *words[1:]], env=own, capture_output=True, text=True, timeout=300, check=False
            )
            code, printed = done.returncode, done.stdout + done.stderr
        assert code == 0, f"{words}: {printed}"
        return printed

    run([IMBIK, "run", str(RECIPE), "--name", "demo"])
    run([IMBIK, "rename", "tiny", "other"])
    asked = [one for one in COMMANDS if one.block.marks.get("store") == "demo"]
    ran = [one for one in asked if one.called not in left_out]
    for command in ran:
        printed = run([*command.words, *(SHORTER if command.called == "quantize" else [])])
        missing = quoted(command.output or "", printed)
        assert missing is None, f"{command.block.where} quotes what is not printed: {missing}\n{printed}"
    assert len(ran) > 10


@contextlib.contextmanager
def environment(own: dict[str, str]) -> Iterator[None]:
    """This process with another environment, which is put back, whatever a command sets in it."""
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(own)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
