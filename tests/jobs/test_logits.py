"""Stored logits: what is kept of the teacher, that it is found by address, and that students learn from it as from the
teacher."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from conf.stages.logits import row_bytes
from jobs.tokens import logit_store
from jobs.tokens.logit_store import LogitStore, Rows
from jobs.tokens.windows import Windows
from tests.fixtures.flow import RECIPE, imbik, report_of
from tests.fixtures.jobs import TRAINING, first, last, refused, run_job

LOGITS = {"top_k": 24, "seq_length": 64, "precision": "fp32", "micro_batch": 4}
OFFLINE = {"steps": 12, **TRAINING, "lr": 1e-3, "top_k": 24}


@given(
    vocab_size=st.sampled_from([300, 65_536, 65_537, 128_256, 151_936, 300_000]),
    top_k=st.integers(1, 20),
    data=st.data(),
)
@settings(max_examples=25)
def test_rows_come_back_by_address_in_any_order(
    vocab_size: int, top_k: int, data: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("store")
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    lengths = np.array(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=6)))
    starts = np.cumsum([3, *lengths[:-1] + 2])
    count = int(lengths.sum())
    rows = Rows(
        ids=generator.integers(0, vocab_size, (count, top_k)),
        logits=-generator.random((count, top_k)).astype(np.float16),
        rest=generator.random(count).astype(np.float32),
        loss=generator.random(count).astype(np.float16),
    )
    half = len(lengths) // 2
    shards = []
    for name, part in (
        ("train-00001", slice(half, None)),
        ("train-00000", slice(0, half)),
    ):  # runs need not rise over shards
        here = slice(
            int(lengths[: part.start or 0].sum()), int(lengths[: part.stop].sum()) if part.stop is not None else count
        )
        if lengths[part].size:
            kept = Rows(ids=rows.ids[here], logits=rows.logits[here], rest=rows.rest[here], loss=rows.loss[here])
            logit_store.write_shard(folder, name, starts[part], lengths[part], kept, vocab_size)
            shards.append(name)
    logit_store.write_manifest(folder, {"top_k": top_k, "vocab_size": vocab_size}, {"train": shards})
    addresses = np.concatenate([start + np.arange(length) for start, length in zip(starts, lengths, strict=True)])
    order = generator.permutation(count)
    got = LogitStore(folder, "train").rows(addresses[order])
    for name in ("ids", "logits", "rest", "loss"):
        np.testing.assert_array_equal(getattr(got, name), getattr(rows, name)[order])
    with pytest.raises(ValueError, match="no logits for the train token at 2"):
        LogitStore(folder, "train").rows(np.array([2]))
    stored = sum((folder / f"{name}.safetensors").stat().st_size for name in shards)
    assert stored - count * row_bytes(top_k, vocab_size) < 2000 * len(shards), (
        "a row takes what the plan says, beside headers and runs"
    )


def test_a_row_of_a_hundred_takes_about_four_bytes_a_logit() -> None:
    assert row_bytes(100, 32_000) == 406
    assert row_bytes(100, 128_256) == 419
    assert row_bytes(100, 151_936) == 432


@pytest.fixture(scope="module")
def stored(corpus: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The logits of the whole corpus."""
    return run_job(
        "logits", LOGITS, {"data": corpus, "teacher": teacher}, tmp_path_factory.mktemp("artifacts") / "logits"
    )


@pytest.mark.slow
def test_stored_logits_are_the_teacher_s(corpus: Path, teacher: Path, stored: Path) -> None:
    from transformers import AutoModelForCausalLM

    windows = Windows(corpus / "validation", 64)
    tokens = torch.from_numpy(windows.tokens_at([2, 5]))
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(teacher / "model", dtype=torch.float64)(
            tokens[:, :-1]
        ).logits.flatten(0, 1)
    rows = LogitStore(stored, "validation").rows(windows.samples(np.array([2, 5])).addresses.flatten())
    values, ids = logits.topk(24)
    assert (torch.from_numpy(rows.ids) == ids).double().mean() > 0.999, "falling order, but for near ties"
    torch.testing.assert_close(torch.from_numpy(rows.logits).double(), values - values[:, :1], rtol=2e-3, atol=2e-3)
    rest = 1 - logits.softmax(-1).gather(1, ids).sum(-1)
    torch.testing.assert_close(torch.from_numpy(rows.rest).double(), rest, rtol=1e-4, atol=1e-6)
    loss = torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten(), reduction="none")
    torch.testing.assert_close(torch.from_numpy(rows.loss).double(), loss, rtol=2e-3, atol=2e-3)
    manifest = logit_store.read_manifest(stored)
    assert manifest["splits"]["validation"]["rows"] == len(windows.tokens) - 1, (
        "all tokens but the last, which nothing follows"
    )
    assert 0 < manifest["splits"]["train"]["left_out"] < 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    "choice",
    [
        pytest.param({}, marks=pytest.mark.drill),
        pytest.param({"rest_bucket": True}, marks=pytest.mark.drill),
        {"top_k": 10, "rest_bucket": True},
        {"temperature": 2.0, "loss": "reverse_kl"},
    ],
)
def test_offline_losses_are_the_online_ones_to_rounding(
    corpus: Path, teacher: Path, student: Path, stored: Path, tmp_path: Path, choice: dict[str, Any]
) -> None:
    inputs = {"data": corpus, "teacher": teacher, "student": student}
    online = run_job("distill", OFFLINE | choice, inputs, tmp_path / "online")
    offline = run_job(
        "distill",
        OFFLINE | choice | {"offline": True, "best_by": "val_divergence"},
        inputs | {"logits": stored},
        tmp_path / "off",
    )
    for mine, theirs in zip(_lines(offline), _lines(online), strict=True):
        shared = {"train_divergence", "val_divergence", "val_teacher_loss", "val_loss"} & theirs.keys()
        assert {name: mine[name] for name in shared} == pytest.approx({name: theirs[name] for name in shared}, rel=3e-3)
    assert last(offline, "val_divergence") < 0.8 * first(offline, "val_divergence")


@pytest.mark.slow
def test_stored_logits_saw_the_documents_that_students_see(
    corpus: Path, teacher: Path, student: Path, stored: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Kept apart, as beside a running teacher; those that were not are refused."""
    inputs = {"data": corpus, "teacher": teacher, "student": student}
    config = OFFLINE | {"document_mask": True, "steps": 3, "global_batch": 4}
    logits = LOGITS | {"document_mask": True, "sequences": 16, "validation_sequences": 8}
    apart = run_job("logits", logits, {"data": corpus, "teacher": teacher}, tmp_path / "stored")
    online = run_job("distill", config, inputs, tmp_path / "online")
    config |= {"offline": True, "best_by": "val_divergence"}
    offline = run_job("distill", config, inputs | {"logits": apart}, tmp_path / "offline")
    for mine, theirs in zip(_lines(offline), _lines(online), strict=True):
        shared = {"train_divergence", "val_divergence", "val_teacher_loss", "val_loss"} & theirs.keys()
        assert {name: mine[name] for name in shared} == pytest.approx({name: theirs[name] for name in shared}, rel=3e-3)
    sentence = refused("distill", config, inputs | {"logits": stored}, tmp_path / "refused", capfd)
    assert "stored with document_mask false but distill.document_mask is true; store them again" in sentence


def _lines(output: Path) -> list[dict[str, float]]:
    return [json.loads(line)["values"] for line in (output / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_batches_and_sequence_lengths_find_the_same_rows(
    corpus: Path, teacher: Path, student: Path, stored: Path, tmp_path: Path
) -> None:
    inputs = {"data": corpus, "teacher": teacher, "student": student, "logits": stored}
    config = OFFLINE | {"offline": True, "steps": 4, "warmup_steps": 0}
    alone = run_job("distill", config | {"micro_batch": 1}, inputs, tmp_path / "alone")
    larger = run_job("distill", config | {"micro_batch": 4}, inputs, tmp_path / "larger")
    for name in ("val_divergence", "val_loss"):
        assert last(larger, name) == pytest.approx(last(alone, name), rel=1e-3)
    shorter = run_job("distill", config | {"seq_length": 48, "validation_batches": 50}, inputs, tmp_path / "shorter")
    assert first(shorter, "val_divergence") > 0


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_next_shard(
    corpus: Path, teacher: Path, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.logits.SHARD_TOKENS", 20 * 64)
    written: list[str] = []
    write = logit_store.write_shard

    def die_after_three(folder: Path, name: str, *rest: Any) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(name)
        write(folder, name, *rest)

    monkeypatch.setattr(logit_store, "write_shard", die_after_three)
    with pytest.raises(KeyboardInterrupt):
        run_job("logits", LOGITS, {"data": corpus, "teacher": teacher}, tmp_path / "logits")
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "logits").glob("*.safetensors")}
    assert len(kept) == 3 and not (tmp_path / "logits" / "logits.json").exists()
    monkeypatch.setattr(logit_store, "write_shard", write)
    run_job("logits", LOGITS, {"data": corpus, "teacher": teacher}, tmp_path / "logits")
    assert all((tmp_path / "logits" / name).stat().st_mtime_ns == when for name, when in kept.items())
    addresses = np.arange(0, 4000, 7)
    got, expected = (LogitStore(folder, "train").rows(addresses) for folder in (tmp_path / "logits", stored))
    np.testing.assert_array_equal(got.ids, expected.ids)


@pytest.mark.slow
def test_logits_of_something_else_are_refused(
    corpus: Path, teacher: Path, student: Path, stored: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = OFFLINE | {"offline": True}
    inputs = {"data": corpus, "teacher": teacher, "student": student, "logits": stored}
    assert "from another teacher" in refused(
        "distill", config, inputs | {"teacher": student}, tmp_path / "teacher", capfd
    )
    assert "top_k is 30 but only 24 logits" in refused(
        "distill", config | {"top_k": 30}, inputs, tmp_path / "wide", capfd
    )
    for what, told in (("tokenizer", "come from another tokenizer"), ("data", "from other text")):
        other = tmp_path / what
        other.mkdir()
        for file in stored.iterdir():
            (other / file.name).symlink_to(file)
        manifest = logit_store.read_manifest(stored) | {what: "0" * 64}
        (other / "logits.json").unlink()
        (other / "logits.json").write_text(json.dumps(manifest))
        assert told in refused("distill", config, inputs | {"logits": other}, tmp_path / f"of-{what}", capfd)
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in stored.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    shard = broken / "train-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-8] + b"\0" * 8)
    assert "missing or damaged" in refused("distill", config, inputs | {"logits": broken}, tmp_path / "damaged", capfd)
    assert not any((tmp_path / name / "model").exists() for name in ("teacher", "wide", "damaged"))


@pytest.mark.slow
def test_sealed_teacher_is_never_loaded(
    corpus: Path, teacher: Path, student: Path, stored: Path, tmp_path: Path
) -> None:
    absent = tmp_path / "teacher"
    shutil.copytree(teacher, absent)
    weights = absent / "model" / "model.safetensors"
    sealed = {"model/model.safetensors": {"sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}}
    (absent / "artifact.json").write_text(json.dumps({"files": sealed}))
    weights.write_bytes(b"")
    inputs = {"data": corpus, "teacher": absent, "student": student, "logits": stored}
    taught = run_job("distill", OFFLINE | {"offline": True, "steps": 2, "warmup_steps": 0}, inputs, tmp_path / "taught")
    assert (taught / "model" / "model.safetensors").is_file()


@pytest.mark.drill
def test_logits_are_stored_once_for_all_offline_students(finished: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(finished, store, symlinks=True)
    before = {path.parent.name for path in store.glob("*/*/artifact.json")}
    store_them = (
        "seq_length: 64, top_k: 50, precision: fp32, micro_batch: 4, sequences: 24, validation_sequences: 4, parallel:"
        " {threads: 1}"
    )
    logits = f"logits={{{store_them}}}"
    changes = ["distill.offline=true", "distill.top_k=50", logits, "quantize=[]", "students.width.quantize=true"]
    planned = imbik("plan", str(RECIPE), *changes, store=store)
    assert "logits" in planned.stdout and planned.returncode == 0
    done = imbik("run", str(RECIPE), *changes, "--name", "offline", store=store)
    assert done.returncode == 0, done.stderr
    new = sorted(
        json.loads(path.read_text())["stage"]
        for path in store.glob("*/*/artifact.json")
        if path.parent.name not in before
    )
    assert new == ["distill", "distill", "evaluate", "evaluate", "logits"]
    report = report_of(store, "offline")
    assert report["logits"]["splits"]["train"]["rows"] == 24 * 64
    assert "Stored logits" in (store / "runs" / "offline" / "report.md").read_text()
    rows = {row["model"]: row for row in report["rows"]}
    assert rows["depth"]["kl_teacher"] < rows["depth-pruned"]["kl_teacher"]


@pytest.mark.slow
def test_small_disk_is_refused_before_the_teacher_runs(
    corpus: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    inputs = {"data": corpus, "teacher": teacher}
    with monkeypatch.context() as small:
        small.setattr("shutil.disk_usage", lambda path: SimpleNamespace(total=10**9, used=10**9 - 5000, free=5000))
        sentence = refused("logits", LOGITS, inputs, tmp_path / "small", capfd)
    assert "24 logits each take" in sentence and "lower logits.sequences or logits.top_k" in sentence
    assert not list((tmp_path / "small").glob("*.safetensors"))


@pytest.mark.slow
def test_teacher_no_better_than_chance_is_refused(
    corpus: Path, teacher: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    blank = tmp_path / "blank"
    shutil.copytree(teacher, blank)
    weights = load_file(blank / "model" / "model.safetensors")
    save_file(
        {name: torch.zeros_like(tensor) for name, tensor in weights.items()},
        blank / "model" / "model.safetensors",
        {"format": "pt"},
    )
    inputs = {"data": corpus, "teacher": blank}
    assert "its weights did not load" in refused("logits", LOGITS, inputs, tmp_path / "of-nothing", capfd)
    assert not (tmp_path / "of-nothing" / "logits.json").exists()


@pytest.mark.slow
def test_top_k_above_the_vocabulary_is_refused(
    corpus: Path, teacher: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    inputs = {"data": corpus, "teacher": teacher}
    assert "logits.top_k is 999" in refused("logits", LOGITS | {"top_k": 999}, inputs, tmp_path / "wide", capfd)
