"""The write stage: documents of a teacher, whole or begun by a training document, alike after a kill; the data stage
reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.generation.answers import AnswerFile
from jobs.huggingface import tokenizer
from tests.fixtures.data import TEXTS, prepare, texts
from tests.fixtures.jobs import refused, run_job

SETTINGS = {"documents": 7, "max_new_tokens": 9, "batch": 1, "precision": "fp32"}


@pytest.fixture(scope="module")
def inputs(words: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A corpus, and a teacher of one layer with random weights and its tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    root = tmp_path_factory.mktemp("written")
    (root / "texts.txt").write_text("\n".join(TEXTS))
    data = prepare(str(root / "texts.txt"), words, root / "data", join="line")
    model = root / "teacher" / "model"
    model.mkdir(parents=True)
    tokenizer.copy_files(words, model)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size(words), max_position_embeddings=64, **sizes, architectures=["LlamaForCausalLM"]
    )
    LlamaForCausalLM(config).save_pretrained(model)
    return {"teacher": root / "teacher", "data": data}


def documents(output: Path) -> list[str]:
    return [json.loads(line)["text"] for line in (output / "documents.jsonl").read_text().splitlines()]


def counts(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "write.json").read_text())
    return found


def test_documents_are_written_and_read_as_a_corpus(inputs: dict[str, Path], words: Path, tmp_path: Path) -> None:
    output = run_job("write", SETTINGS, inputs, tmp_path / "made")
    assert len(documents(output)) == 7 == len(set(documents(output))) == counts(output)["documents"]
    assert counts(output)["tokens"] == 7 * 9 == 9 * counts(output)["cut"], "random weights hardly ever end"
    assert 0 <= counts(output)["seconds"] < 300, "since it began"
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["total"]) for line in lines] == [(4, 7), (7, 7)], "four documents at once"
    source = {"source": "written", "validation_share": 0, "test_share": 0}
    read = run_job("data", source, {"tokenizer": words, "written": output}, tmp_path / "read")
    assert sorted(texts(read)) == sorted(documents(output))


def test_ranks_read_what_was_written(inputs: dict[str, Path], words: Path, tmp_path: Path) -> None:
    output = run_job("write", SETTINGS, inputs, tmp_path / "made")
    given = {"tokenizer": words, "written": output}
    shares = {"source": "written", "validation_share": 0, "test_share": 0}
    alone = run_job("data", shares, given, tmp_path / "alone")
    run_job("curate", shares | {"ranks": 2}, given, tmp_path / "together")
    together = run_job("data", shares | {"ranks": 2}, given, tmp_path / "together")
    assert (together / "train.bin").read_bytes() == (alone / "train.bin").read_bytes()


def test_what_is_written_depends_on_the_seed(inputs: dict[str, Path], tmp_path: Path) -> None:
    written = [documents(run_job("write", SETTINGS | {"seed": s}, inputs, tmp_path / str(s))) for s in (1, 2)]
    assert not set(written[0]) & set(written[1])


def test_a_killed_job_writes_what_an_undisturbed_one_does(inputs: dict[str, Path], tmp_path: Path) -> None:
    whole = run_job("write", SETTINGS, inputs, tmp_path / "whole")
    lines = (whole / "drafts.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "drafts.jsonl").write_bytes(b"".join(lines[:5]) + lines[5][:8])
    cut = run_job("write", SETTINGS, inputs, tmp_path / "cut")
    assert (cut / "documents.jsonl").read_bytes() == (whole / "documents.jsonl").read_bytes()
    again = [draft.prompt for draft in AnswerFile(cut / "drafts.jsonl").answers]
    assert again == [0, 1, 2, 3, 4, 4, 5, 6], "four documents are written together, and two such waves were not whole"


def test_documents_begin_as_training_documents_do(inputs: dict[str, Path], words: Path, tmp_path: Path) -> None:
    config = SETTINGS | {"prompt_tokens": 3, "max_new_tokens": 1}
    load = tokenizer.load(words)
    beginnings = {load.decode(load.encode(text, add_special_tokens=False).ids[:3]) for text in TEXTS}
    written = documents(run_job("write", config, inputs, tmp_path / "made"))
    assert all(any(text.startswith(beginning) for beginning in beginnings) for text in written)


def test_documents_that_end_at_once_are_left_out(
    inputs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A teacher whose every weight is zero draws each token equally often: of 300 two-token documents some end."""
    from safetensors.torch import load_file, save_file

    flat = tmp_path / "flat" / "model"
    flat.mkdir(parents=True)
    for file in (inputs["teacher"] / "model").iterdir():
        (flat / file.name).write_bytes(file.read_bytes())
    zeros = {name: torch.zeros_like(weight) for name, weight in load_file(flat / "model.safetensors").items()}
    save_file(zeros, flat / "model.safetensors", {"format": "pt"})
    config = SETTINGS | {"documents": 1200, "max_new_tokens": 1, "batch": 300}
    output = run_job("write", config, inputs | {"teacher": flat.parent}, tmp_path / "made")
    found = counts(output)
    ended = sum(draft.finished for draft in AnswerFile(output / "drafts.jsonl").answers)
    assert 0 < ended <= found["empty"], "a document of nothing but its end is empty"
    assert found["documents"] + found["empty"] == 1200 and len(documents(output)) == found["documents"]
    assert found["repeated"] == found["documents"] - len(set(documents(output)))


def test_what_cannot_be_written_is_one_sentence(
    inputs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    long = refused("write", SETTINGS | {"max_new_tokens": 64}, inputs, tmp_path / "long", capfd)
    assert "max_new_tokens 64 make documents of 65 tokens with the one before them, but the teacher's longest" in long
    run_job("write", SETTINGS | {"max_new_tokens": 63, "documents": 1}, inputs, tmp_path / "just")
    most = max(len(tokenizer.load(inputs["data"] / "tokenizer").encode(text).ids) for text in TEXTS)
    short = refused("write", SETTINGS | {"prompt_tokens": most + 1, "max_new_tokens": 1}, inputs, tmp_path / "b", capfd)
    assert f"write.prompt_tokens is {most + 1} but no training document has more tokens (at most {most + 1})" in short
