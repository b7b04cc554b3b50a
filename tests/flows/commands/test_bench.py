"""`imbik bench` against servers whose behaviour is known."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from conf.engines import vllm as vllm_here
from flows.cli import main
from flows.server import engine
from tasks.latency.result import Bench
from tests.fixtures.completions import Engine, serving

SMALL = ["--lengths", "16/2", "--concurrency", "1,2", "--requests", "3"]

NAMES = ("slow", "fast")


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """`imbik bench` with these arguments, in an empty folder: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def calling(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["imbik", "bench", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, " ".join(printed.err.split())

    return calling


def written(folder: Path) -> Bench:
    (file,) = folder.glob("bench-*.json")
    return Bench.model_validate_json(file.read_text())


@pytest.mark.slow
def test_two_servers_take_turns_and_are_compared(call: Any, tmp_path: Path) -> None:
    fast, slow = Engine(models=("fast",)), Engine(gap=0.02, models=("slow",))
    with serving(slow) as one, serving(fast) as other:
        code, printed, told = call(one, other, *SMALL)
    assert code == 0, told
    result = written(tmp_path)
    assert [(p.server, p.concurrency, p.repetition) for p in result.points[:6]] == [
        (name, 1, repetition) for repetition in (1, 2, 3) for name in NAMES
    ]
    found = {(one.figure, one.concurrency): one for one in result.ratios}
    whole = {name: [p.e2e_ms.p50 for p in result.points if (p.server, p.concurrency) == (name, 1)] for name in NAMES}
    assert min(whole["slow"]) >= 20
    quotients = [ours / theirs for ours, theirs in zip(whole["fast"], whole["slow"], strict=True)]
    assert found["e2e_ms.p50", 1].ratio == pytest.approx(statistics.geometric_mean(quotients))
    assert result.complete and len(result.points) == 12 and len(result.summary) == 4
    assert [(one.engine, one.version, one.prefix_cache, one.cache_tokens) for one in result.servers] == [
        ("vLLM", "0.0.1", False, 1600)
    ] * 2
    assert "slow: prefix cache off" in printed and "divided by slow" in printed
    assert "16/2 tokens, 2 at once, fast, 3 of 3" in told
    assert len(fast.asked) == 1 + 3 * ((2 + 3) + (4 + 3))  # the first answer; warm-up and requests


@pytest.mark.slow
def test_json_is_alone_on_stdout_and_in_the_file(call: Any, tmp_path: Path) -> None:
    with serving(Engine()) as url:
        code, printed, _ = call(url, *SMALL, "--json", "--output", "mine.json", "--seed", "5")
    assert code == 0
    assert json.loads(printed) == json.loads((tmp_path / "mine.json").read_text())
    assert json.loads(printed)["workload"]["seed"] == 5


def test_lengths_without_room_are_left_out_and_told(call: Any, tmp_path: Path) -> None:
    with serving(Engine(longest=300)) as url:
        code, printed, told = call(url, "--requests", "1", "--repetitions", "1", "--concurrency", "1")
        assert code == 0, told
        assert "1024/128, 1024/1024 left out: the server has room for 300 tokens" in printed
        assert written(tmp_path).workload.lengths == ((128, 128),)
        code, _, told = call(url, "--lengths", "200/128", "--output", "other.json")
    assert code == 2 and "200/128 needs more tokens than the 300" in told


@pytest.mark.slow
def test_a_warm_prefix_cache_is_told(call: Any, tmp_path: Path) -> None:
    with serving(Engine(prefix_cache="True", found_share=0.5)) as url:
        code, printed, told = call(url, *SMALL)
    assert code == 0, told
    assert "at most 50.0% of the prompts' tokens were found there; serve without the cache" in " ".join(printed.split())


def test_a_server_that_counts_other_prompt_tokens_is_told(call: Any) -> None:
    with serving(Engine(bos=1, prefix_cache=None)) as url:
        code, printed, told = call(url, *SMALL, "--repetitions", "1")
    assert code == 0, told
    words = " ".join(printed.split())
    assert "prompts of 16 tokens are 17 by the server's count" in words
    assert "perhaps on (the server does not tell)" in words and "is not known" in words


@pytest.mark.slow
def test_a_server_that_refuses_tokens_gets_text(call: Any, tmp_path: Path) -> None:
    words = {f"w{number}": number for number in range(500)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = Whitespace()
    (tmp_path / "model").mkdir()
    tokenizer.save(str(tmp_path / "model" / "tokenizer.json"))
    (tmp_path / "text.txt").write_text(" ".join(words))
    server = Engine(takes_ids=False)
    with serving(server) as url:
        code, printed, told = call(url, *SMALL, "--tokenizer", "model", "--text", "text.txt")
    assert code == 0, told
    assert "prompts are sent as text, since it refuses tokens" in printed
    assert {len(asked["prompt"].split()) for asked in server.asked[2:]} == {16}
    assert written(tmp_path).servers[0].prompts == "text"


@pytest.mark.parametrize(
    ("behaviour", "words", "told"),
    [
        ({"ends_after": 9}, (), "gave 1 of 1 answers another length than the 16 tokens asked for (9 to 9)"),
        ({"models": ("a", "b")}, (), "serves a, b; say which, as in"),
        ({"key": "s3cret"}, (), "wants a key (status 401)"),
        ({"key": "s3cret"}, ("--api-key-env", "NO_KEY"), "names NO_KEY, which is not set"),
        ({"tokenizes": False}, (), "does not tokenize"),
        ({"status": 422}, (), "refuses with status 422"),
        ({}, ("--lengths", "16"), "--lengths has 16; write tokens of prompt/answer"),
        ({}, ("--lengths", "4/4"), "--lengths has 4/4"),
        ({}, ("--concurrency", "1,0"), "--concurrency has 0; write whole numbers"),
        ({}, ("--concurrency", "1024,1025"), "--concurrency has 1025; write whole numbers of 1 to 1024"),
        ({}, ("--text", "none.txt"), "--text is none.txt, which cannot be read"),
        ({}, ("--output", "no/such.json"), "whose folder does not exist"),
        ({}, ("--tokenizer", "no"), "--tokenizer is no, which has no tokenizer.json"),
    ],
)
def test_a_mistake_is_one_sentence(
    behaviour: dict[str, Any], words: tuple[str, ...], told: str, call: Any, tmp_path: Path
) -> None:
    with serving(Engine(**behaviour)) as url:
        code, printed, said = call(url, *words)
    assert (code, printed) == (2, "")
    assert told in said and "Traceback" not in said
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize("repetitions", ["1", "2"])
def test_answers_cut_later_keep_what_was_measured(call: Any, tmp_path: Path, repetitions: str) -> None:
    """Also within the first concurrency, after its first repetition."""
    server = Engine()

    class Tiring(list[Any]):
        def append(self, body: Any) -> None:
            super().append(body)
            server.ends_after = 1 if len(self) > 8 else None

    server.asked = Tiring()
    with serving(server) as url:
        code, _, told = call(url, *SMALL, "--repetitions", repetitions)
    assert code == 2 and "answers another length than the 2 tokens" in told
    kept = written(tmp_path)
    assert not kept.complete and [one.concurrency for one in kept.points] == [1]


def test_another_model_than_the_one_named_is_told(call: Any) -> None:
    with serving(Engine(models=("tiny", "big"))) as url:
        code, _, told = call(f"{url}#large")
    assert code == 2 and "serves tiny, big, not large; name one of these" in told


def test_no_server_is_one_sentence(call: Any) -> None:
    code, _, told = call("http://127.0.0.1:9/v1")
    assert code == 2 and "no server answers at http://127.0.0.1:9/v1" in told and "serve-command" in told


def test_what_is_neither_server_nor_model_is_told(call: Any, tmp_path: Path) -> None:
    code, _, told = call("ftp://host/v1")
    assert code == 2 and "ftp://host/v1 is no address of a server" in told
    code, _, told = call(str(tmp_path))
    assert code == 2 and "is a folder without config.json" in told


CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 1,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "max_position_embeddings": 96,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
}


@pytest.fixture
def models(tmp_path: Path) -> None:
    """Folders of models, of which those called broken do not start."""
    for name in ("first", "second", "broken"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(CONFIG))
        save_file({"lm_head.weight": np.zeros((2, 2), np.float32)}, tmp_path / name / "model.safetensors")


@pytest.fixture
def vllm(models: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the Python of an environment with vLLM."""
    root = Path(__file__).parents[3]
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nshift 2\ncd {root} && exec {sys.executable} -m tests.fixtures.completions "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv(vllm_here.PYTHON, str(program))
    monkeypatch.setattr(vllm_here, "has_gpu", lambda: True)


@pytest.mark.slow
def test_vllm_is_started_for_models(vllm: None, call: Any, tmp_path: Path) -> None:
    with serving(Engine(models=("running",))) as url:
        code, _, told = call("first", url, "second", *SMALL, "--repetitions", "1", "--output", "mine.json")
    assert code == 0, told
    result = Bench.model_validate_json((tmp_path / "mine.json").read_text())
    assert [one.name for one in result.servers] == ["first", "running", "second"]
    assert [one.kernels for one in result.servers] == [("TorchFP8Kernel",), (), ("TorchFP8Kernel",)]
    assert result.workload.lengths == ((16, 2),) and result.servers[0].longest == 96
    log = (tmp_path / "mine.logs" / "vllm-2.log").read_text()
    assert f"--model {tmp_path / 'second'} --served-model-name second" in log
    assert "--no-enable-prefix-caching" in log and "--gpu-memory-utilization 0.45" in log
    for one in result.servers:
        with pytest.raises(requests.ConnectionError):
            requests.get(one.url, timeout=5)


def test_a_processor_gets_other_arguments(models: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_here, "has_gpu", lambda: False)
    words = engine.command(Path("/other/python"), tmp_path / "first", "mine", 81, 0.45)
    # Its own launcher, which gives vLLM the kernels that its build for processors lacks.
    assert words[:4] == ["/other/python", "-P", str(engine.ON_PROCESSORS), "--model"] and engine.ON_PROCESSORS.is_file()
    assert "--enforce-eager" in words and "--gpu-memory-utilization" not in words
    quantized = {"quantization": {"quant_algo": "W4A8_AWQ", "exclude_modules": []}}
    (tmp_path / "second" / "hf_quant_config.json").write_text(json.dumps(quantized))
    with pytest.raises(ValueError, match="second cannot be measured on vLLM: it refuses the algorithm"):
        engine.command(Path("/other/python"), tmp_path / "second", "second", 81, 0.45)


@pytest.mark.slow
def test_a_model_that_vllm_does_not_start_is_one_sentence(vllm: None, call: Any, tmp_path: Path) -> None:
    code, _, told = call("first", "broken", *SMALL, "--output", "mine.json")
    assert code == 2 and "ValueError: this model is broken" in told and "mine.logs/vllm-2.log" in told
    assert not (tmp_path / "mine.json").exists()


def test_a_model_without_vllm_is_one_sentence(models: None, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_here, "OWN", Path("/nowhere/python"))
    monkeypatch.delenv(vllm_here.PYTHON, raising=False)
    code, _, told = call("first")
    assert code == 2 and "first is a model, not a server, and vLLM is not installed to serve it" in told
    assert "make engine" in told and "imbik serve-command" in told
    monkeypatch.setenv(vllm_here.PYTHON, "/nowhere/else")
    code, _, told = call("first", "--output", "other.json")
    assert code == 2 and "IMBIK_VLLM_PYTHON is /nowhere/else, which is no program" in told
    code, _, told = call("nothing/here")
    assert code == 2 and "nothing" in told


def test_the_file_of_another_measurement_is_kept(call: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("mine")
    code, _, told = call("http://127.0.0.1:9", "--output", "mine.json")
    assert code == 2 and "--output is mine.json, which exists" in told
    assert (tmp_path / "mine.json").read_text() == "mine"
