"""Why a job ended: the reason of each error, its one sentence, and the first report that counts."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel, ValidationError

from conf.spec import ENDED, Reason
from jobs.runtime import exit as ending


class Sizes(BaseModel):
    width: int


def invalid() -> ValidationError:
    with pytest.raises(ValidationError) as raised:
        Sizes.model_validate({"width": "wide"})
    return raised.value


ALLOCATOR = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (ValueError("seq_length is\n  wrong"), "mistake", "seq_length is wrong"),
        (FileNotFoundError(2, "No such file", "a"), "mistake", "[Errno 2] No such file: 'a'"),
        (RuntimeError("shapes differ"), "fault", "RuntimeError: shapes differ"),
        (KeyError(), "fault", "KeyError: KeyError"),
        (MemoryError(), "memory", "out of memory (MemoryError); lower micro_batch"),
        (torch.OutOfMemoryError("CUDA out of memory"), "memory", "out of memory (CUDA out of memory)"),
        (RuntimeError(ALLOCATOR), "memory", f"out of memory ({ALLOCATOR})"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory", "out of memory ("),
        (OSError(errno.ENOSPC, "full"), "mistake", "the disk is full ([Errno 28] full); free space there"),
        (RuntimeError("I/O error: No space left on device"), "mistake", "the disk is full (I/O error"),
        (OSError(errno.EROFS, "Read-only file system"), "mistake", "the store is read-only ("),
        (invalid(), "mistake", "width: Input should be a valid integer"),
    ],
)
def test_each_error_has_its_reason_and_sentence(error: Exception, reason: Reason, words: str) -> None:
    assert ending.reason_of(error) == reason
    assert ending.sentence(error).startswith(words)
    assert "\n" not in ending.sentence(error)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("[gloo] Connection closed by peer [127.0.0.1]"), True),
        (RuntimeError("NCCL error: remote process exited or there was a network error"), True),
        (RuntimeError("shapes differ"), False),
        (ConnectionResetError("Connection reset by peer"), False),
    ],
)
def test_a_lost_peer_is_told_from_a_fault(error: Exception, lost: bool) -> None:
    assert ending.lost_a_peer(error) is lost


def test_the_first_report_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "3")
    assert ending.report_exit(tmp_path, "memory", "first") == 76
    assert ending.report_exit(tmp_path, "hang", "second", rank=0) == 77
    assert json.loads((tmp_path / ENDED).read_text()) == {"reason": "memory", "rank": 3, "sentence": "first"}
    assert [path.name for path in tmp_path.iterdir()] == [ENDED]
    assert capsys.readouterr().err == "imbik-error: first\nimbik-error: second\n"


def test_a_named_rank_counts_even_if_it_is_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    ending.report_exit(tmp_path, "hang", "it hangs", rank=0)
    assert json.loads((tmp_path / ENDED).read_text())["rank"] == 0


def test_without_a_folder_the_sentence_is_still_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ending.report_exit(tmp_path / "gone", "fault", "it broke") == 1
    assert capsys.readouterr().err == "imbik-error: it broke\n"


def test_secrets_are_masked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-0123456789")
    ending.report_exit(tmp_path, "mistake", "the key sk-planted-0123456789 is refused")
    assert "planted" not in capsys.readouterr().err + (tmp_path / ENDED).read_text()


def test_without_torchrun_the_rank_is_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert ending.this_rank() == 0
