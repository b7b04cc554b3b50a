"""Losses by position of handmade models, and facts planted in long text: where they stand, and who finds them."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from conf.stages.long_text import LongText
from jobs.evaluation import long_text
from jobs.huggingface import model as hf
from jobs.huggingface import tokenizer

NUMBERS = [f"The number of Abel {n} is {n * 97 % 90000 + 10000}." for n in range(100, 160)]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("words")
    lines = [long_text.FILLER.format(name="Cato", home="Arbeck", work="baker", food="figs", music="harp"), *NUMBERS]
    tokenizer.train(iter(lines), 320, folder)
    return hf.load_tokenizer(folder)


def copier(vocabulary: int, sees: int = 10**6) -> Any:
    """A model that predicts what followed the longest earlier repetition of its last tokens, of those it sees."""

    def model(tokens: torch.Tensor, use_cache: bool) -> Any:
        ids = tokens[0].tolist()
        hidden = torch.zeros(1, len(ids), vocabulary)
        for place in range(max(0, len(ids) - 12), len(ids)):
            best, guess = 0, 0
            for earlier in range(max(0, place - sees), place):
                length = 0
                while length < 40 and length <= earlier and ids[earlier - length] == ids[place - length]:
                    length += 1
                if length >= best:
                    best, guess = length, ids[earlier + 1]
            hidden[0, place, guess] = 9.0
        return SimpleNamespace(last_hidden_state=hidden)

    return SimpleNamespace(
        device="cpu",
        config=SimpleNamespace(vocab_size=vocabulary, model_type="llama"),
        model=model,
        lm_head=lambda hidden: hidden,
    )


@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_a_fact_stands_at_its_depth(words: Any, depth: float) -> None:
    text, answer = long_text.prompt(words, LongText(lengths=(256,)), 256, depth, 0)
    told = words.decode(text + answer)
    assert 180 < len(text + answer) <= 256, "a sentence less at most"
    body, question = told.rsplit("\n", 1)
    assert body.count("The number of") == 1 and body.count(question) == 1
    sentences = body.split(". ")
    place = next(number for number, sentence in enumerate(sentences) if "The number of" in sentence)
    assert place == pytest.approx(depth * (len(sentences) - 1), abs=1)
    assert question == words.decode(text).rsplit("\n", 1)[1] + words.decode(answer)
    assert words.decode(answer).strip().isdigit() and len(words.decode(answer).strip()) == 5


def test_facts_and_texts_differ_and_repeat(words: Any) -> None:
    asked = LongText(lengths=(256,))
    one, other, again = (long_text.prompt(words, asked, 256, 0.5, number) for number in (0, 1, 0))
    assert one == again and one != other
    assert one != long_text.prompt(words, LongText(lengths=(256,), seed=2), 256, 0.5, 0)
    answers = [tuple(long_text.prompt(words, asked, 256, depth, 0)[1]) for depth in (0.0, 0.25, 0.251, 1.0)]
    assert len(set(answers)) == 4, "each depth asks for facts of its own"


def test_a_length_that_holds_no_fact_is_refused(words: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^evaluate.long_text.lengths has 16, but a fact and its question take \d+ tok"
    ):
        long_text.prompt(words, LongText(lengths=(128,)), 16, 0.5, 0)


def test_who_sees_the_fact_finds_it(words: Any) -> None:
    """One that sees 120 tokens finds those right before the question."""
    asked = LongText(lengths=(256,), depths=(1.0, 0.0), facts=3, sequences=1)
    windows, done = np.zeros((1, 257), np.int64), list[int]()
    for sees, right in ((10**6, [3, 3]), (120, [0, 3])):
        found = long_text.measure(copier(len(words), sees), words, windows, asked, done.append)["found"]
        assert [(each["depth"], each["right"], each["n"]) for each in found] == [(0.0, right[0], 3), (1.0, right[1], 3)]
    assert found[0]["ci95"][0] == 0 and found[1]["ci95"][1] == 1
    assert sum(done) == 2 * long_text.count(asked, 1) == 14


def test_every_token_of_the_answer_counts(words: Any) -> None:
    text, answer = long_text.prompt(words, LongText(lengths=(256,)), 256, 0.5, 0)
    model = copier(len(words))
    assert long_text.answered(model, text, answer)
    for place in range(len(answer)):
        wrong = [*answer]
        wrong[place] = (wrong[place] + 1) % len(words)
        assert not long_text.answered(model, text, wrong)


def test_losses_by_position() -> None:
    losses = np.stack([np.arange(300.0), np.arange(300.0) + 2])
    rows = long_text.by_position(losses)
    assert [(row["start"], row["end"]) for row in rows] == [(0, 64), (64, 128), (128, 256), (256, 300)]
    assert [row["loss"] for row in rows] == [32.5, 96.5, 192.5, 278.5]
    assert rows[0]["ci95"] == pytest.approx([32.5 - 1.959964, 32.5 + 1.959964])
    assert long_text.by_position(losses[:1, :40]) == [{"start": 0, "end": 40, "loss": 19.5, "ci95": None, "n": 1}]


@pytest.mark.parametrize("at_once", [1, 8, 2**27])
def test_the_loss_of_each_target(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_text, "LOGITS_AT_ONCE", at_once)
    rows = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
    model: Any = SimpleNamespace(
        device="cpu",
        config=SimpleNamespace(vocab_size=4, model_type="llama"),
        model=lambda tokens, use_cache: SimpleNamespace(last_hidden_state=rows[tokens]),
        lm_head=lambda hidden: hidden,
    )
    found = long_text._losses(model, np.array([0, 1, 2, 3, 1]))
    table = rows.double().softmax(-1)
    assert found == pytest.approx([-math.log(table[a, b]) for a, b in ((0, 1), (1, 2), (2, 3), (3, 1))], rel=1e-6)


def test_a_text_begins_as_the_tokenizer_begins(words: Any, tmp_path: Path) -> None:
    assert long_text._start(words) == []
    other = SimpleNamespace(bos_token_id=7, encode=lambda text: [7])
    assert long_text._start(other) == [7]  # type: ignore[arg-type]
    quiet = SimpleNamespace(bos_token_id=7, encode=lambda text: [])
    assert long_text._start(quiet) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(("length", "sentences"), [(66, 0), (70, 0), (71, 1), (75, 1), (76, 2)])
def test_a_text_is_filled_as_far_as_sentences_go(length: int, sentences: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token a letter, after one that begins the text: the fact takes 33, the line's end 1 and the question 31."""
    monkeypatch.setattr(long_text, "NAMES", ("Abel",))
    monkeypatch.setattr(long_text, "FILLER", "x y.")
    begun = 1

    def encode(text: str, add_special_tokens: bool = True) -> list[int]:
        return [begun] * add_special_tokens + [ord(letter) for letter in text]

    letters: Any = SimpleNamespace(bos_token_id=begun, encode=encode)
    text, answer = long_text.prompt(letters, LongText(lengths=(128,)), length, 1.0, 0)
    first, *rest = text
    said = "".join(map(chr, rest))
    assert first == begun and chr(begun) not in said
    assert said.startswith(" x y." * sentences + " The number of Abel ")
    assert said.endswith("is") and len(answer) == 6, "a space and five digits"
    assert len(text + answer) == 66 + 5 * sentences
    with pytest.raises(ValueError, match="has 65, but a fact and its question take 66 tokens"):
        long_text.prompt(letters, LongText(lengths=(128,)), 65, 1.0, 0)
