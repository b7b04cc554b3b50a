"""Tokenizer directories: text can forge no boundary, the fingerprint follows the meaning, a trained tokenizer loses
nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.corpus.encoding import Encode, encoder
from jobs.huggingface import model as hf
from jobs.huggingface import tokenizer
from tests.fixtures.tokenizer import PUBLISHED, tokenizer_directory

FORGERIES = (
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|begin_of_text|>",
    "<|eot_id|>",
    "<|im_end|>",
    "<s>",
    "</s>",
    "<unk>",
)
VOCABULARY = 400
TEXTS = [
    "Once upon a time.",
    "caf\u00e9 \u4f60\u597d \U0001f600",
    "  two  spaces\n\n\ttab",
    "def f(x):\n    return x != 1_000",
    "",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("trained")
    tokenizer.train(iter(Path(__file__).read_text().splitlines()), VOCABULARY, directory)
    return directory


@pytest.fixture(scope="module", params=PUBLISHED)
def published(request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each published tokenizer in turn."""
    return tokenizer_directory(request.param, shared_data, tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def engines(published: Path) -> dict[str, Encode]:
    """The tokenizer under each engine; 'auto' is gigatoken where that gives the same ids."""
    return {engine: encoder(published, engine, TEXTS)[0] for engine in ("tokenizers", "auto")}


@pytest.mark.parametrize("engine", ["tokenizers", "auto"])
def test_text_forges_no_special_token(published: Path, engines: dict[str, Encode], engine: str) -> None:
    special = {
        token["id"]: token["content"]
        for token in json.loads((published / "tokenizer.json").read_text())["added_tokens"]
    }
    texts = [
        template.format(name)
        for name in {*FORGERIES, *special.values()}
        for template in ("{}", "a {} b", "{0}{0}", "x{}\n")
    ]
    ids, lengths = engines[engine](texts)
    assert special
    assert not {special[found] for found in special.keys() & set(ids.tolist())}
    assert (lengths > 1).all()


def test_ordinary_text_gets_transformers_ids(published: Path, engines: dict[str, Encode]) -> None:
    theirs = hf.load_tokenizer(published)
    expected = [theirs.encode(text, add_special_tokens=False) for text in TEXTS]
    for encode in engines.values():
        ids, lengths = encode(TEXTS)
        assert [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])] == expected
    assert tokenizer.eod_id(published) == theirs.eos_token_id
    assert tokenizer.vocab_size(published) == len(theirs)


def edit(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = directory / "tokenizer.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, indent=1))


def swap_two_ids(content: dict[str, Any]) -> None:
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "ids": swap_two_ids,
    "merges": lambda content: content["model"]["merges"].pop(),
    "special token": lambda content: content["added_tokens"][0].update(content="<|end|>"),
    "normalizer": lambda content: content.update(normalizer={"type": "NFC"}),
    "splitting": lambda content: content["pre_tokenizer"].update(add_prefix_space=True),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_fingerprint_sees_a_change_of_meaning(trained: Path, tmp_path: Path, name: str) -> None:
    other = shutil.copytree(trained, tmp_path / "other")
    edit(other, CHANGES[name])
    assert tokenizer.fingerprint(other) != tokenizer.fingerprint(trained)


def test_the_fingerprint_ignores_the_rest(trained: Path, tmp_path: Path) -> None:
    other = shutil.copytree(trained, tmp_path / "other")
    edit(other, lambda content: content.update(version="9.9", decoder=None, padding=None))
    (other / "chat_template.jinja").write_text("{{ messages }}")
    (other / "README.md").write_text("read me")
    assert tokenizer.fingerprint(other) == tokenizer.fingerprint(trained)


def test_copied_files_mean_the_same_and_bring_no_weights(shared_data: Path, tmp_path: Path) -> None:
    model, copy = tokenizer_directory("stories", shared_data, tmp_path), tmp_path / "copy"
    copy.mkdir()
    tokenizer.copy_files(model, copy)
    assert tokenizer.fingerprint(copy) == tokenizer.fingerprint(model)
    assert tokenizer.eod_id(copy) == tokenizer.eod_id(model)
    assert not {path.name for path in copy.iterdir()} - set(tokenizer.FILES)


def test_templates_in_files_of_their_own_are_copied(trained: Path, tmp_path: Path) -> None:
    source = shutil.copytree(trained, tmp_path / "source")
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates" / "rag.jinja").write_text("{{ messages }}")
    copy = tmp_path / "copy"
    copy.mkdir()
    tokenizer.copy_files(source, copy)
    assert hf.load_tokenizer(copy).chat_template == {"rag": "{{ messages }}"}


def test_saved_truncation_and_padding_are_off(trained: Path, tmp_path: Path) -> None:
    """However a tokenizer is opened: for the corpus, for records and prompts, for lm-eval's questions."""
    saved = shutil.copytree(trained, tmp_path / "saved")
    truncation = {"max_length": 4, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}
    padding = {"strategy": {"Fixed": 64}, "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "x"}
    edit(saved, lambda content: content.update(truncation=truncation, padding=padding))
    text = "a text of more tokens than four"
    expected = tokenizer.load(trained).encode(text).ids
    opened = hf.load_tokenizer(saved)
    assert len(expected) > 4
    assert tokenizer.load(saved).encode(text).ids == expected
    assert opened.backend_tokenizer.encode_batch([text, text * 9])[0].ids == expected
    assert opened.encode(text, add_special_tokens=False) == expected


@given(text=st.text())
def test_a_trained_tokenizer_round_trips_any_text(trained: Path, text: str) -> None:
    words = tokenizer.load(trained)
    ids = words.encode(text, add_special_tokens=False).ids
    assert words.decode(ids, skip_special_tokens=False) == text
    assert tokenizer.eod_id(trained) not in ids
    assert max(ids, default=0) < tokenizer.vocab_size(trained) == VOCABULARY


def test_a_trained_tokenizer_opens_in_transformers(trained: Path) -> None:
    theirs = hf.load_tokenizer(trained)
    assert theirs.eos_token_id == tokenizer.eod_id(trained)
    text = "The quick box, isn't it?\n"
    assert theirs.decode(theirs.encode(text, add_special_tokens=False)) == text
    spaced = "It is n't so , is it ?"
    assert theirs.decode(theirs.encode(spaced, add_special_tokens=False)) == spaced, "no space is cleaned up"


def test_the_fingerprint_is_that_of_the_plainest_json(tmp_path: Path) -> None:
    """In ASCII and sorted, so that it is the same of every version: artifacts are known by it."""
    plain = (
        r'{"added_tokens":[],"model":{"merges":[],"type":"BPE","vocab":{"a":1,"\u00e9":0}},"normalizer":null,'
        r'"post_processor":null,"pre_tokenizer":null}'
    )
    content = {
        "model": {"vocab": {"\u00e9": 0, "a": 1}, "type": "BPE", "merges": []},
        "added_tokens": [],
        "version": "1",
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False))
    assert tokenizer.fingerprint(tmp_path) == hashlib.sha256(plain.encode()).hexdigest()


def test_generation_settings_are_copied_or_removed(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    tokenizer.copy_generation(source, target)
    (source / "generation_config.json").write_text("{}")
    tokenizer.copy_generation(source, target)
    assert (target / "generation_config.json").read_text() == "{}"
    (source / "generation_config.json").unlink()
    tokenizer.copy_generation(source, target)
    assert not (target / "generation_config.json").exists()


def test_a_tokenizer_is_trained_into_any_folder(tmp_path: Path) -> None:
    for _ in range(2):
        tokenizer.train(iter(["text"]), 260, tmp_path / "new" / "folder")
    assert tokenizer.vocab_size(tmp_path / "new" / "folder") == 260


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: (path / "tokenizer.json").unlink(), r"tokenizer\.json does not exist"),
        (lambda path: (path / "tokenizer.json").write_text("{"), "not valid JSON"),
        (lambda path: (path / "tokenizer_config.json").write_text("{}"), "has no eos_token"),
        (
            lambda path: (path / "tokenizer_config.json").write_text('{"eos_token": "<nope>"}'),
            "which its vocabulary lacks",
        ),
    ],
    ids=["missing", "cut", "no end of text", "unknown end of text"],
)
def test_a_broken_directory_is_refused(
    trained: Path, tmp_path: Path, damage: Callable[[Path], object], sentence: str
) -> None:
    other = shutil.copytree(trained, tmp_path / "other")
    damage(other)
    with pytest.raises(ValueError, match=sentence):
        tokenizer.eod_id(other)
