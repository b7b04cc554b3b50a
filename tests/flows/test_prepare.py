"""The questions that `imbik prepare` takes out of a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conf.stages.data import DataConfig
from conf.stages.questions import QuestionsConfig
from conf.standalone import validate_settings
from flows.prepare import _questions
from tasks.store.store import Store


def test_prepare_reads_the_benchmarks_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "gsm8k.jsonl").write_text('{"question": "How many?", "answer": "#### 3"}\n')
    named = {"gsm8k": {"path": str(tmp_path / "gsm8k.jsonl"), "limit": 1}, "humaneval": {}}
    data = validate_settings(DataConfig, {"source": "world", "decontaminate": {"benchmarks": named}})
    submitted: list[tuple[str, QuestionsConfig, str]] = []

    def stage(label: str, config: QuestionsConfig, *, questions: Any) -> str:
        submitted.append((label, config, questions.key))
        return label

    assert data.decontaminate
    store = Store(tmp_path / "store")
    roles = _questions(stage, data.decontaminate, store)  # type: ignore[arg-type]
    assert roles == {"questions-gsm8k": "questions-gsm8k", "questions-humaneval": "questions-humaneval", "mmlu": None}
    (_, gsm8k, key), (_, humaneval, hub) = submitted
    assert (gsm8k.benchmark, gsm8k.path, gsm8k.limit, gsm8k.shots) == ("gsm8k", named["gsm8k"]["path"], 1, 0)
    assert key == store.digest(tmp_path / "gsm8k.jsonl")
    assert (humaneval.path, hub) == (None, "hub:humaneval")
