"""The generate stage: answers of a real teacher and of a server that speaks OpenAI's protocol, filters, going on after
a kill."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.stages.generate import GenerateConfig
from jobs.generation.answers import Answer, AnswerFile
from jobs.generation.filters import RepeatFilter, fault, repeated_share
from tests.fixtures.jobs import refused, run_job

LOCAL = GenerateConfig(prompts="x")
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "seven",
    "grey",
    "geese",
    "sing",
    "old",
    "songs",
    "by",
    "the",
    "river",
    "bank",
    "at",
    "dawn",
]


def judged(text: str, **more: Any) -> str | None:
    return fault(
        Answer(prompt=0, sample=0, text=text, **{"finished": True, **more}), LOCAL.model_copy(update={"max_chars": 200})
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("A good answer.", None),
        ("42", None),
        ("caf\u00e9 \U0001f469\u200d\U0001f467 fine\n\ttabs too", None),
        ("an emoji of Unicode 15: \U0001fa77", None),
        ("a noncharacter: \ufdd0", "not text"),
        ("another: \U0001fffe", "not text"),
        ("of a private font: \ue000", "not text"),
        ("x " * 101, "too long"),
        ("broken \ufffd bytes", "not text"),
        ("bell \x07", "not text"),
        ("...!?", "not text"),
        ("no no no no " * 8, "repetitive"),
        ("abcdefgh" * 12, "repetitive"),
    ],
)
def test_answers_are_judged_by_themselves(text: str, reason: str | None) -> None:
    assert judged(text) == reason


def test_an_answer_that_did_not_end_is_unfinished() -> None:
    assert judged("A good ans", finished=False) == "unfinished"


@given(st.lists(st.sampled_from(WORDS), min_size=20, max_size=60))
def test_a_text_said_twice_is_half_repeats(words: list[str]) -> None:
    assert 0 <= repeated_share(" ".join(words)) < 1
    assert repeated_share(" ".join(words * 2)) >= 0.4


def test_repeats_of_prompt_and_answer() -> None:
    seen = RepeatFilter(None)
    assert seen.repeats("q", "An Answer") is None
    assert seen.repeats("q", "An Answer") == "exact repeat"
    assert seen.repeats("q", "an  answer") == "repeat up to case and spacing"
    assert seen.repeats("another", "An Answer") is None, "many prompts may have one answer"


def test_near_repeats_of_long_answers() -> None:
    text = " ".join(f"{word}{number}" for number in range(4) for word in WORDS)
    changed, other = (
        text.replace("fox2", "wolf"),
        " ".join(f"{word}{number}" for number in range(9, 13) for word in WORDS),
    )
    seen = RepeatFilter(0.7)
    assert seen.repeats("a", text) is None
    assert seen.repeats("b", changed) == "near repeat of another answer"
    assert seen.repeats("c", other) is None
    assert RepeatFilter(None).repeats("b", changed) is None


class Server:
    """A small server of chat completions: `script(n)` gives status, body and headers of the n-th request, or None for a
    good answer."""

    def __init__(self, script: Callable[[int], tuple[int, Any, dict[str, str]] | None]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        lock, outer = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.requests.append(body)
                    outer.keys.append(self.headers.get("Authorization"))
                    outer.paths.append(self.path)
                    number = len(outer.requests)
                answer = script(number)
                if answer is None:
                    said = f"You asked: {body['messages'][-1]['content']}"
                    choice = {"message": {"role": "assistant", "content": said}, "finish_reason": "stop", "index": 0}
                    answer = (200, {"choices": [choice], "usage": {"completion_tokens": 7}}, {})
                status, content, headers = answer
                payload = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(payload))}.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self.wfile.write(payload)
                except BrokenPipeError:
                    return

            def log_message(self, *arguments: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    running: list[Server] = []

    def start(script: Callable[[int], Any] = lambda number: None) -> Server:
        running.append(Server(script))
        return running[-1]

    yield start
    for server in running:
        server.close()


def prompts(folder: Path, count: int = 12) -> str:
    path = folder / "prompts.txt"
    path.write_text("".join(f"What is {number}?\n" for number in range(count)))
    return str(path)


def settings(server: Server, folder: Path, **more: Any) -> dict[str, Any]:
    base = {
        "prompts": prompts(folder),
        "endpoint": server.url,
        "endpoint_model": "big",
        "retry_seconds": 0.01,
        "concurrency": 3,
    }
    return base | more


def kept(output: Path) -> list[list[dict[str, str]]]:
    return [json.loads(line)["messages"] for line in (output / "records.jsonl").read_text().splitlines()]


def counts(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "generate.json").read_text())
    return found


def test_a_server_answers_every_prompt(
    serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "s3cret-value")
    server = serve()
    config = settings(server, tmp_path, api_key_env="SOME_KEY", system="Be brief.", stop=["\n\n"], max_new_tokens=9)
    output = run_job("generate", config, {}, tmp_path / "made")
    system = {"role": "system", "content": "Be brief."}
    assert kept(output) == [
        [
            system,
            {"role": "user", "content": f"What is {n}?"},
            {"role": "assistant", "content": f"You asked: What is {n}?"},
        ]
        for n in range(12)
    ]
    assert set(server.keys) == {"Bearer s3cret-value"} and set(server.paths) == {"/v1/chat/completions"}
    request = server.requests[0]
    assert (request["model"], request["max_tokens"], request["temperature"], request["stop"]) == ("big", 9, 0, ["\n\n"])
    assert len({request["seed"] for request in server.requests}) == 12
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "s3cret-value" not in written, "the key is written nowhere"
    assert counts(output)["kept"] == 12 and counts(output)["tokens"] == 84


@pytest.mark.parametrize(
    "trouble",
    [
        (429, {"error": {"message": "slow down"}}, {"Retry-After": "0"}),
        (500, b"oops", {}),
        (503, b"", {}),
        (200, b"<html>not json</html>", {}),
        (200, {"choices": []}, {}),
        (200, {"choices": [{"text": "completions, not chat"}]}, {}),
        (200, [], {}),
    ],
)
def test_failing_server_is_retried(
    serve: Callable[..., Server], tmp_path: Path, trouble: tuple[int, Any, dict[str, str]]
) -> None:
    server = serve(lambda number: trouble if number % 3 == 1 else None)
    output = run_job("generate", settings(server, tmp_path), {}, tmp_path / "made")
    assert len(kept(output)) == 12 and len(server.requests) > 12


def test_slow_server_is_retried(serve: Callable[..., Server], tmp_path: Path) -> None:
    held = threading.Event()

    def script(number: int) -> None:
        if number == 1:
            held.wait(5)

    server = serve(script)
    output = run_job("generate", settings(server, tmp_path, timeout_seconds=0.3), {}, tmp_path / "made")
    held.set()
    assert len(kept(output)) == 12 and len(server.requests) == 13


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((500, b"always", {}), "failed 3 times (status 500: always)"),
        ((401, {"error": "bad key"}, {}), 'refuses with status 401: {"error": "bad key"}'),
        (
            (404, b"no such model", {}),
            "refuses with status 404: no such model; check generate.endpoint, the model's name there",
        ),
    ],
)
def test_unavailable_server_is_one_sentence(
    serve: Callable[..., Server], tmp_path: Path, capfd: pytest.CaptureFixture[str], answer: Any, told: str
) -> None:
    server = serve(lambda number: answer)
    assert told in refused("generate", settings(server, tmp_path, retries=2), {}, tmp_path / "made", capfd)
    assert not (tmp_path / "made" / "generate.json").exists()


def test_no_server_and_no_key_are_one_sentence(
    serve: Callable[..., Server], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server = serve()
    server.close()
    config = settings(server, tmp_path, retries=1)
    assert "failed 2 times (no connection" in refused("generate", config, {}, tmp_path / "made", capfd)
    sentence = refused("generate", config | {"api_key_env": "NOT_SET_ANYWHERE"}, {}, tmp_path / "made", capfd)
    assert "NOT_SET_ANYWHERE, which is not set" in sentence


def test_resumed_run_asks_only_missing_answers(
    serve: Callable[..., Server], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    failing = serve(lambda number: (400, b"enough", {}) if number > 5 else None)
    refused("generate", settings(failing, tmp_path, concurrency=1), {}, tmp_path / "made", capfd)
    partial = tmp_path / "made" / "answers.jsonl"
    assert len(AnswerFile(partial).answers) == 5
    with partial.open("ab") as stream:
        stream.write(b'{"prompt": 7, "sam')  # as a kill in the middle of a line leaves it
    server = serve()
    output = run_job("generate", settings(server, tmp_path), {}, tmp_path / "made")
    assert "5 of 12 prompts already answered" in capfd.readouterr().out
    assert len(server.requests) == 7 and len(kept(output)) == 12
    assert counts(output)["tokens"] == 7 * 7 and 0 <= counts(output)["seconds"] < 300, "of this attempt"
    assert sorted(answer.prompt for answer in AnswerFile(partial).answers) == list(range(12))


def test_rejected_answers_are_counted_and_kept_apart(
    serve: Callable[..., Server], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def script(number: int) -> Any:
        text, reason = [("fine", "stop"), ("cut off", "length"), (None, "stop")][number % 3]
        return (200, {"choices": [{"message": {"content": text}, "finish_reason": reason}]}, {})

    server = serve(script)
    output = run_job("generate", settings(server, tmp_path, max_rejected_share=8 / 12), {}, tmp_path / "made")
    assert counts(output)["rejected"] == {"unfinished": 4, "empty": 4} and len(kept(output)) == 4
    reasons = [json.loads(line)["reason"] for line in (output / "rejected.jsonl").read_text().splitlines()]
    assert sorted(reasons) == ["empty"] * 4 + ["unfinished"] * 4
    sentence = refused("generate", settings(server, tmp_path), {}, tmp_path / "strict", capfd)
    assert "8 of 12 answers were rejected" in sentence and "above generate.max_rejected_share 50%" in sentence


def test_a_prompt_is_asked_once_and_none_kept_is_refused(
    serve: Callable[..., Server], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "asked.txt"
    source.write_text("What is one?\nWhat is two?\nWHAT  is one?\nWhat is one?\n")
    server = serve()
    output = run_job("generate", settings(server, tmp_path) | {"prompts": str(source)}, {}, tmp_path / "made")
    assert counts(output)["unusable_prompts"] == {"repeated prompt": 2} and len(server.requests) == 2
    cut = serve(lambda number: (200, {"choices": [{"message": {"content": "a"}, "finish_reason": "length"}]}, {}))
    given = settings(cut, tmp_path, max_rejected_share=1.0)
    assert "12 of 12 answers were rejected" in refused("generate", given, {}, tmp_path / "none", capfd)


def test_prompts_and_answers_with_benchmark_questions_go(serve: Callable[..., Server], tmp_path: Path) -> None:
    asked = "Which of the following rivers carries most water past the old harbour of the northern capital?"
    said = "What do people in the hills of the western province mostly grow on their small and stony fields?"
    (tmp_path / "mmlu" / "test").mkdir(parents=True)
    questions = "".join(f'"{question}",a,b,c,d,A\n' for question in (asked, said))
    (tmp_path / "mmlu" / "test" / "rivers_test.csv").write_text(questions)

    def script(number: int) -> Any:
        text = said if number == 1 else "fine"
        return (200, {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}, {})

    server, source = serve(script), tmp_path / "asked.txt"
    source.write_text(f"What is one?\nTell me. {asked}\nWhat is two?\n")
    more = {"prompts": str(source), "concurrency": 1, "decontaminate": {"mmlu": {"path": str(tmp_path / "mmlu")}}}
    config = settings(server, tmp_path) | more
    output = run_job("generate", config, {"mmlu": tmp_path / "mmlu"}, tmp_path / "made")
    found = counts(output)
    assert len(server.requests) == 2, "a prompt that is a question costs no answer"
    assert found["unusable_prompts"] == {"a benchmark question": 1}
    assert found["rejected"] == {"a benchmark question": 1} and len(kept(output)) == 1


def test_prompts_without_any_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"text": "no prompt"}\n')
    assert "has no usable prompt" in refused("generate", {"prompts": str(empty)}, {}, tmp_path / "made", capfd)


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.8, "top_p": 0.9, "samples": 2}])
def test_the_teacher_answers_alike_at_once_and_after_a_kill(
    teacher: Path, tmp_path: Path, sampling: dict[str, Any]
) -> None:
    config = {
        "prompts": prompts(tmp_path, 10),
        "max_new_tokens": 12,
        "batch": 4,
        "precision": "fp32",
        "max_rejected_share": 1.0,
    }
    config |= {"stop": ["."], **sampling}
    whole = run_job("generate", config, {"teacher": teacher}, tmp_path / "whole")
    lines = (whole / "answers.jsonl").read_bytes().splitlines(keepends=True)
    samples = sampling.get("samples", 1)
    assert len(lines) == 10 * samples
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "answers.jsonl").write_bytes(b"".join(lines[: 5 * samples]) + lines[-1][:9])
    cut = run_job("generate", config, {"teacher": teacher}, tmp_path / "cut")
    assert (cut / "records.jsonl").read_bytes() == (whole / "records.jsonl").read_bytes()
    assert all("." not in message[-1]["content"] for message in kept(whole)) and kept(whole)


@pytest.mark.slow
def test_greedy_answers_are_those_of_transformers_alone(teacher: Path, tmp_path: Path) -> None:
    """Batched and padded, each prompt still gets what the model says to it by itself."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config = {
        "prompts": prompts(tmp_path, 6),
        "max_new_tokens": 16,
        "batch": 6,
        "precision": "fp32",
        "max_rejected_share": 1.0,
        "stop": ["."],
    }
    output = run_job("generate", config, {"teacher": teacher}, tmp_path / "made")
    words = AutoTokenizer.from_pretrained(teacher / "model")
    model = AutoModelForCausalLM.from_pretrained(teacher / "model", dtype=torch.float32)
    for answer in AnswerFile(output / "answers.jsonl").answers:
        ids = words(
            f"User: What is {answer.prompt}?\nAssistant:", return_tensors="pt", add_special_tokens=False
        ).input_ids
        with torch.no_grad():
            alone = model.generate(ids, max_new_tokens=16, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
        assert words.decode(alone, skip_special_tokens=True).partition(".")[0].strip() == answer.text
