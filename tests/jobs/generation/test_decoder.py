"""Continuations made some rows at a time are those of each prompt alone."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from conf.families import FAMILIES
from jobs.generation.blocks import BLOCK
from jobs.generation.decoder import Decoder, Request, Sampling, stopping
from jobs.huggingface import model as hf
from jobs.runtime import interrupt
from tests.fixtures.decoding import OWN, SIZES, alone, continued, owner, prompts
from tests.fixtures.families import random_model
from tests.fixtures.scripted import small_model

FACTORS = {"short_factor": [1.0, 1.2, 1.5, 2.0], "long_factor": [1.5, 3.0, 6.0, 9.0]}
LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 24, **FACTORS}


@pytest.mark.parametrize("name", FAMILIES)
def test_tokens_are_those_of_each_prompt_alone(name: str, tmp_path: Path) -> None:
    random_model(name, tmp_path, torch.float32, **SIZES | OWN.get(name, {}))
    model = hf.load_model(tmp_path, torch.float32)
    asked = prompts([14, 3, 22, 1, 9, 9, 30])
    whole = [alone(model, prompt, 12) for prompt in asked]
    ends = frozenset({whole[0][3], whole[2][6]})
    expected = {number: alone(model, prompt, 12, ends) for number, prompt in enumerate(asked)}
    assert continued(model, 3, asked, ends=ends) == expected
    assert len({len(made) for made in expected.values()}) > 1, "rows end at different times"


@pytest.mark.slow
def test_a_simulated_cache_rounds_prompts_and_new_tokens(tmp_path: Path) -> None:
    """As without a cache, where ModelOpt rounds all keys and values at every token."""
    from jobs.quantization import quantizers

    random_model("llama", tmp_path, torch.float32, **SIZES)
    quantizers.prepare()
    model = hf.load_model(tmp_path, torch.float32)
    asked = prompts([4, 9, 20, 40], prompts([40])[0])
    plain = continued(model, 3, asked)
    quantizers.simulate_inputs(model, {}, "fp8")
    for layer in model.model.layers:
        for quantizer in (layer.self_attn.k_bmm_quantizer, layer.self_attn.v_bmm_quantizer):
            quantizer.amax = torch.tensor(0.5)
    expected = {number: alone(model, prompt, 12) for number, prompt in enumerate(asked)}
    assert continued(model, 3, asked) == expected != plain


def test_keys_are_computed_anew_where_frequencies_change(tmp_path: Path) -> None:
    """Prompts below, at and above longrope's switch, and continuations that pass it while others have not."""
    settings = SIZES | {"rope_parameters": LONGROPE, "original_max_position_embeddings": 24, "partial_rotary_factor": 1}
    random_model("phi3", tmp_path, torch.float32, **settings)
    model = hf.load_model(tmp_path, torch.float32)
    for asked in (prompts([4, 20, 23, 24, 25, 30]), prompts([1, 3, 8, 9], begin=prompts([18])[0])):
        assert continued(model, 3, asked) == {number: alone(model, prompt, 12) for number, prompt in enumerate(asked)}


@pytest.mark.parametrize("width", [1, 2, 5, 8, 40])
def test_the_number_of_rows_changes_nothing(llama: Any, width: int) -> None:
    asked = prompts([30, 24, 18, 12, 9, 7, 5, 3, 2])
    assert continued(llama, width, asked) == continued(llama, 4, asked)
    drawn = {"temperature": 1.0, "top_p": 0.9, "seed": 3}
    assert continued(llama, width, asked, **drawn) == continued(llama, 4, asked, **drawn)


def test_memory_is_that_of_the_rows_lengths(llama: Any) -> None:
    """Six rows, two at a time, of which one is long: no other is padded to it, and what ends is given up."""
    asked = prompts([3, 140, 5, 6, 2, 9])
    decoder = Decoder(llama, 2, Sampling(max_new_tokens=25))
    most, made = 0, {}
    for request, ids in decoder.run([Request(prompt=prompt, number=number) for number, prompt in enumerate(asked)]):
        made[request.number] = ids
        most = max(most, decoder.blocks.used)
    assert made == {number: alone(llama, prompt, 25) for number, prompt in enumerate(asked)}
    assert most <= (140 + 25) // BLOCK + 1 + 2


def test_draws_follow_the_model(llama: Any) -> None:
    """Shares of 4,000 draws of a first token, within four standard errors of softmax(logits / temperature)."""
    prompt, count = prompts([10])[0], 4000
    requests = [Request(prompt=prompt, number=number) for number in range(count)]
    drawn = Decoder(llama, 4000, Sampling(max_new_tokens=1, temperature=0.8)).run(requests)
    found = Counter(ids[0] for _, ids in drawn)
    shares = torch.softmax(llama(torch.tensor([prompt])).logits[0, -1] / 0.8, -1).tolist()
    for token, share in enumerate(shares):
        assert abs(found[token] / count - share) <= 4 * (share * (1 - share) / count) ** 0.5 + 1e-9


def test_only_the_likeliest_with_top_p_are_drawn(llama: Any) -> None:
    prompt = prompts([10])[0]
    shares = torch.softmax(llama(torch.tensor([prompt])).logits[0, -1], -1)
    ranked = shares.sort(descending=True)
    enough = int((ranked.values.cumsum(-1) < 0.5).sum()) + 1
    requests = [Request(prompt=prompt, number=number) for number in range(2000)]
    drawn = Decoder(llama, 2000, Sampling(max_new_tokens=1, temperature=1.0, top_p=0.5)).run(requests)
    assert {ids[0] for _, ids in drawn} == set(ranked.indices[:enough].tolist())
    tiny = Decoder(llama, 9, Sampling(max_new_tokens=1, temperature=1.0, top_p=1e-9)).run(requests[:9])
    assert {ids[0] for _, ids in tiny} == {int(ranked.indices[0])}


def test_where_a_continuation_ends(llama: Any) -> None:
    asked = prompts([5, 8])
    whole = continued(llama, 2, asked, max_new_tokens=9)
    assert [len(whole[number]) for number in (0, 1)] == [9, 9]
    end = whole[0][3]
    cut = continued(llama, 2, asked, max_new_tokens=9, ends=frozenset({end}))
    assert cut[0] == whole[0][: whole[0].index(end) + 1]
    stopped = continued(llama, 2, asked, max_new_tokens=9, stopped=lambda made: len(made) == 4)
    assert stopped == {number: made[:4] for number, made in whole.items()}


def test_a_row_that_ends_takes_the_next_prompt(llama: Any, meter: Any) -> None:
    """Ten prompts of which one is long, in two rows: no forward pass waits for it."""
    shapes = meter(llama)
    limits = {number: 40 if number == 0 else 4 for number in range(10)}
    decoder = Decoder(llama, 2, Sampling(max_new_tokens=40))
    decoder.sampling = Sampling(max_new_tokens=40, stopped=lambda made: len(made) == limits[owner(decoder, made)])
    list(decoder.run([Request(prompt=prompt, number=number) for number, prompt in enumerate(prompts([6] * 10))]))
    assert sum(tokens == 1 for _, tokens in shapes) == 39, "the nine others end beside it"


def test_free_rows_are_dropped_when_nothing_waits(llama: Any, meter: Any) -> None:
    asked = prompts([6, 6, 6, 6])
    whole = continued(llama, 4, asked)
    shapes = meter(llama)
    limits = {number: number * 3 + 1 for number in range(4)}
    decoder = Decoder(llama, 4, Sampling(max_new_tokens=12))
    decoder.sampling = Sampling(max_new_tokens=12, stopped=lambda made: len(made) == limits[owner(decoder, made)])
    ended = decoder.run([Request(prompt=prompt, number=number) for number, prompt in enumerate(asked)])
    assert {one.number: made for one, made in ended} == {n: made[: limits[n]] for n, made in whole.items()}
    assert [rows for rows, _ in shapes] == [4] + [3] * 3 + [2] * 3 + [1] * 3


@pytest.mark.parametrize(
    ("strings", "text", "expected"),
    [
        (("few",), "a few", True),
        (("few w",), "a few words", True),
        (("few",), "words to say", False),
        (("to", "say"), "a few to", True),
    ],
)
def test_stop_strings_are_found_across_tokens(
    strings: tuple[str, ...], text: str, expected: bool, tmp_path: Path
) -> None:
    words = hf.load_tokenizer(small_model(tmp_path))
    stopped = stopping(words, strings)
    ids = words(text, add_special_tokens=False).input_ids
    assert stopped and any(stopped(ids[: count + 1]) for count in range(len(ids))) == expected
    assert stopping(words, ()) is None


def test_a_stop_string_long_ago_does_not_end(tmp_path: Path) -> None:
    words = hf.load_tokenizer(small_model(tmp_path))
    stopped = stopping(words, ("z",))
    ids = words("z", add_special_tokens=False).input_ids
    more = words("q" * 9, add_special_tokens=False).input_ids
    assert stopped and stopped(ids) and not stopped(ids + more)


def test_a_job_that_is_to_stop_gives_up_within_a_token(llama: Any, meter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after the wave, which may take longer than a scheduler waits."""
    shapes = meter(llama)
    terminated = threading.Event()
    monkeypatch.setattr(interrupt._stop, "terminated", terminated)
    asked = [Request(prompt=prompt, number=number) for number, prompt in enumerate(prompts([6] * 9))]
    sampling = Sampling(max_new_tokens=40, stopped=lambda made: len(made) == 3 and not terminated.set())
    with interrupt.stoppable(lambda: "with 5 of 9"), pytest.raises(interrupt.Interrupted, match="stopped with 5 of 9"):
        list(Decoder(llama, 4, sampling).run(asked))
    assert len(shapes) == 3
    assert len(dict(Decoder(llama, 4, sampling).run(asked))) == 9, "outside of such a loop nothing is given up"
