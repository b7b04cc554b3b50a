"""An engine's losses against others: the paired interval, the bounds, and what a failing engine last said."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from conf.engines import vllm
from conf.engines.verdict import Contents
from jobs.evaluation import engine


def test_the_difference_has_students_paired_interval() -> None:
    random = np.random.default_rng(3)
    ours = random.normal(2, 0.5, 12)
    theirs = ours + random.normal(0.01, 0.02, 12)
    found = engine.difference(theirs.tolist(), ours.tolist())
    expected = stats.ttest_rel(theirs, ours).confidence_interval(0.95)
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(
    ("mean", "half", "agrees"),
    [
        (0.019, 0.001, True),
        (-0.02, 0.001, True),
        (0.021, 0.001, False),
        (-0.021, 0.001, False),
        (0.03, 0.031, True),
        (-0.03, 0.029, False),
    ],
)
def test_a_difference_fails_if_shown_and_large(mean: float, half: float, agrees: bool) -> None:
    assert engine.Difference(mean=mean, half=half).agrees(0.02) is agrees


def test_losses_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the losses are not finite: nan in the engine, 2\.0 simulated"):
        engine.difference([float("nan"), 1.0], [2.0, 2.0])


@pytest.mark.parametrize(
    ("algorithms", "bound"),
    [
        ((), 0.003),
        (("FP8",), 0.02),
        (("fp8_pb_wo",), 0.02),
        (("NVFP4",), 0.05),
        (("FP8", "NVFP4"), 0.05),
        (("FP8_PER_CHANNEL_PER_TOKEN", "FP8"), 0.02),
    ],
)
def test_the_bound_follows_the_fewest_bits(algorithms: tuple[str, ...], bound: float) -> None:
    assert engine.bound(Contents(algorithms=algorithms)) == bound


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of the one that runs in vLLM's interpreter."""
    monkeypatch.setenv(vllm.PYTHON, sys.executable)
    monkeypatch.setattr(engine, "PROGRAM", tmp_path / "program.py")
    return tmp_path / "program.py"


def test_an_engine_gets_no_secrets_and_one_process(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "planted")
    program.write_text(
        "import json, os, sys; print('Selected SomeKernel for X');"
        "asked = json.load(open(sys.argv[1])); assert asked['tokens'] == [[1, 2, 3]];"
        "json.dump({'version': os.environ.get('HF_TOKEN', 'none'),"
        " 'losses': [float(os.environ['VLLM_ENABLE_V1_MULTIPROCESSING'])]}, open(sys.argv[2], 'w'))"
    )
    scored = engine.losses(tmp_path, [[1, 2, 3]], tmp_path)
    assert (scored.version, scored.losses, scored.kernels) == ("none", [0.0], ("SomeKernel",))
    assert json.loads((tmp_path / "vllm-request.json").read_text())["model"] == str(tmp_path)
    assert os.environ["HF_TOKEN"] == "planted"


def test_a_failing_engine_is_quoted(program: Path, tmp_path: Path) -> None:
    program.write_text("try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise RuntimeError('no such kernel')")
    with pytest.raises(ValueError, match=r"vLLM did not score .*: RuntimeError: no such kernel; its whole output"):
        engine.losses(tmp_path, [[1, 2]], tmp_path)


def test_a_killed_engine_is_told(program: Path, tmp_path: Path) -> None:
    program.write_text("import os; print('loading', flush=True); os.kill(os.getpid(), 9)")
    with pytest.raises(ValueError, match="it was ended by SIGKILL"):
        engine.losses(tmp_path, [[1, 2]], tmp_path)


def test_an_answer_of_an_earlier_attempt_is_not_taken(program: Path, tmp_path: Path) -> None:
    (tmp_path / "vllm-answer.json").write_text('{"version": "0", "losses": [1.0]}')
    program.write_text("")
    with pytest.raises(ValueError, match="vLLM did not score"):
        engine.losses(tmp_path, [[1, 2]], tmp_path)


def test_an_engine_that_says_nothing_is_told(program: Path, tmp_path: Path) -> None:
    program.write_text("")
    with pytest.raises(ValueError, match="it printed nothing"):
        engine.losses(tmp_path, [[1, 2]], tmp_path)


def test_the_program_of_the_engine_is_there() -> None:
    assert engine.PROGRAM.is_file()
    assert engine.PROGRAM.name == "vllm_losses.py"


def test_the_last_exception_of_a_log_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("ValueError: first\n RuntimeError: second \nbye: Error\nshutting down\n\n")
    assert engine.last_words(log) == "RuntimeError: second"
    log.write_text("one\ntwo\n")
    assert engine.last_words(log) == "two"
    log.write_text("x" * 600)
    assert len(engine.last_words(log)) == 500


@pytest.mark.parametrize("algorithms", [(), ("NVFP4", "FP8")])
def test_bits_are_the_fewest(algorithms: tuple[str, ...]) -> None:
    assert engine.bits(Contents(algorithms=algorithms)) == (4 if algorithms else 16)
