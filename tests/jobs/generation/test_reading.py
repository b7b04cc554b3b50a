"""Which prompts are read together, in what parts, and what they have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from conf.families import FAMILIES
from jobs.generation.decoder import READ, Decoder, Request, Sampling
from jobs.huggingface import model as hf
from tests.fixtures.decoding import OWN, SIZES, alone, continued, owner, prompts
from tests.fixtures.families import random_model


def test_unlike_remainders_after_a_common_beginning_are_read_apart(llama: Any, meter: Any) -> None:
    shapes = meter(llama)
    continued(llama, 3, prompts([8, 30, 29], prompts([200])[0]), max_new_tokens=1)
    assert shapes == [(1, 200), (2, 30), (1, 8)]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_common_beginning_changes_no_token(name: str, tmp_path: Path) -> None:
    """Longer than the windows and than a block."""
    random_model(name, tmp_path, torch.float32, **SIZES | OWN.get(name, {}))
    model = hf.load_model(tmp_path, torch.float32)
    asked = prompts([4, 1, 9, 20], prompts([40])[0])
    assert continued(model, 3, asked) == {number: alone(model, prompt, 12) for number, prompt in enumerate(asked)}


def test_a_common_beginning_is_read_once(llama: Any, meter: Any) -> None:
    begin = prompts([20])[0]
    asked = prompts([4, 3, 3], begin)
    expected = {number: alone(llama, prompt, 12) for number, prompt in enumerate(asked)}
    shapes = meter(llama)
    assert continued(llama, 3, asked) == expected
    assert shapes[:2] == [(1, 20), (3, 4)] and set(shapes[2:]) <= {(3, 1), (1, 1)}


@pytest.mark.parametrize(("common", "read"), [(15, [(3, 17)]), (16, [(1, 16), (3, 2)])])
def test_a_short_beginning_is_not_read_apart(llama: Any, meter: Any, common: int, read: list[tuple[int, int]]) -> None:
    begin = prompts([common])[0]
    asked = [(*begin, 1, 5), (*begin, 2, 5), (*begin, 3, 5)]
    shapes = meter(llama)
    continued(llama, 3, asked, max_new_tokens=2)
    assert shapes[: len(read)] == read


def test_prompts_of_unlike_lengths_are_read_apart(llama: Any, meter: Any) -> None:
    shapes = meter(llama)
    continued(llama, 8, prompts([15, 40, 10, 30, 29, 12]), max_new_tokens=1)
    assert shapes == [(2, 40), (1, 29), (2, 15), (1, 10)]


def test_what_follows_a_beginning_says_how_unlike_prompts_are(llama: Any, meter: Any) -> None:
    """Three quarters of the longest are not too short."""
    begin = prompts([20])[0]
    shapes = meter(llama)
    continued(llama, 8, prompts([8, 4, 6, 5], begin), max_new_tokens=1)
    assert shapes == [(1, 20), (2, 8), (2, 5)]


def test_prompts_wait_until_an_eighth_of_the_rows_is_free(llama: Any, meter: Any) -> None:
    shapes = meter(llama)
    limits = {0: 2, 1: 3}
    decoder = Decoder(llama, 16, Sampling(max_new_tokens=4))
    decoder.sampling = Sampling(max_new_tokens=4, stopped=lambda made: len(made) == limits.get(owner(decoder, made)))
    list(decoder.run([Request(prompt=prompt, number=number) for number, prompt in enumerate(prompts([6] * 18))]))
    assert shapes[:5] == [(16, 6), (16, 1), (15, 1), (2, 6), (16, 1)]


def test_many_prompts_are_read_in_parts(llama: Any, meter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt that is longer than a part is read alone, and one with several samples counts once."""
    monkeypatch.setitem(READ, "cpu", 40)
    asked = prompts([50, 20, 19, 18])
    expected = {number: alone(llama, prompt, 4) for number, prompt in enumerate(asked)}
    shapes = meter(llama)
    requests = [Request(prompt=prompt, number=n, sample=m) for n, prompt in enumerate(asked) for m in range(2)]
    made = dict(Decoder(llama, 8, Sampling(max_new_tokens=4)).run(requests))
    assert shapes[:3] == [(1, 50), (2, 20), (1, 18)]
    assert all(ids == expected[request.number] for request, ids in made.items()) and len(made) == 8


def test_a_prompt_that_begins_another_keeps_its_last_token(llama: Any) -> None:
    begin = prompts([20])[0]
    asked = [begin, (*begin, 7, 9), begin]
    assert continued(llama, 3, asked) == {number: alone(llama, prompt, 12) for number, prompt in enumerate(asked)}


def test_samples_of_a_prompt_are_read_once_and_differ(llama: Any, meter: Any) -> None:
    prompt = prompts([10])[0]
    shapes = meter(llama)
    requests = [Request(prompt=prompt, number=4, sample=sample) for sample in range(6)]
    made = dict(Decoder(llama, 6, Sampling(max_new_tokens=8, temperature=1.5)).run(requests))
    assert shapes[0] == (1, 10) and len({tuple(ids) for ids in made.values()}) == 6
    later = [Request(prompt=(5,), number=0), *reversed(requests)]
    again = dict(Decoder(llama, 2, Sampling(max_new_tokens=8, temperature=1.5)).run(later))
    assert all(again[request] == made[request] for request in requests), "whatever is drawn beside them"
    other = dict(Decoder(llama, 6, Sampling(max_new_tokens=8, temperature=1.5, seed=2)).run(requests))
    assert other != made
