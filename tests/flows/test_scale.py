"""`imbik scale`: the back-test first, then what it supports; mistakes in one sentence."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.cli import main
from tests.fixtures.ladders import SHORT, finished, law, rows, write_csv

Printed = tuple[int, str, str]
Scale = Callable[..., Printed]
WRONG = [
    (("few.csv",), "the ladder is too short to fit: points 4, sizes 1, lengths 4; at least 5 points"),
    (("missing.csv",), "missing.csv cannot be read as a CSV file"),
    (("points.csv", "demo"), "points are CSV files or names of runs, not both"),
    (("demo",), "there is no finished run demo"),
    (("points.csv", "--loss", "-1"), "--loss is -1; it must be a finite number above 0"),
    (("points.csv", "--floor", "nan"), "--floor is nan; it must be a loss of 0 or above"),
    (("points.csv", "--floor", "2.5"), "is not above the floor 2.5"),
    (("points.csv", "--tokens", "1e9"), "--tokens alone asks nothing"),
    (("points.csv", "--flops", "1e20", "--gpu-hours", "3"), "two budgets; give one"),
    (("points.csv", "--loss", "2", "--params", "1e9", "--tokens", "1e9"), "leave nothing to answer"),
    (("points.csv", "--flops", "1e20", "--tokens", "1e9"), "a budget decides the tokens"),
    (("points.csv", "--gpu-hours", "3", "--cluster", "local"), "the cluster local names none"),
    (("points.csv", "--kind", "models"), "--kind"),
]


@pytest.fixture
def scale(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Scale:
    """`imbik scale ...` in a folder with points.csv (the published law), short.csv and few.csv: exit code, stdout,
    stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMBIK_STORE", raising=False)
    write_csv(tmp_path / "points.csv", rows(noise=0.003))
    write_csv(tmp_path / "short.csv", [("", float(n), float(d), loss) for n, d, loss in SHORT])
    write_csv(tmp_path / "few.csv", rows()[:4])

    def call(*words: str) -> Printed:
        monkeypatch.setattr(sys, "argv", ["imbik", "scale", *words])
        before = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            signal.signal(signal.SIGTERM, before)
        printed = capfd.readouterr()
        return int(ended.value.code or 0), " ".join(printed.out.split()), printed.err

    return call


def value(told: str, pattern: str) -> float:
    """The number that a pattern's group finds."""
    found = re.search(pattern, told)
    assert found, told
    return float(found[1])


@pytest.mark.slow
def test_the_back_test_comes_before_the_law_and_the_answers(scale: Scale, tmp_path: Path) -> None:
    code, told, wrong = scale("points.csv", "--params", "5e10", "--tokens", "1e12")
    assert (code, wrong) == (0, ""), told
    places = [told.index(text) for text in ("Back-test", "chosen: law", "supported:", "figure:", "reach loss")]
    assert places == sorted(places)
    assert value(told, r"50 B parameters on 1 T tokens reach loss ([\d.]+)") == pytest.approx(law(5e10, 1e12), rel=0.01)
    assert (tmp_path / "points.scaling.svg").read_text().startswith("<svg")
    assert not (tmp_path / ".imbik").exists()


@pytest.mark.slow
def test_every_question_has_an_answer(scale: Scale) -> None:
    loss = f"{law(3e9, 5e10):.4f}"
    tokens = scale("points.csv", "--loss", loss, "--params", "3e9", "--flops", "1e21")[1]
    assert value(tokens, r"3 B parameters reach loss [\d.]+ after ([\d.]+) B") == pytest.approx(50, rel=0.2)
    assert "1e+21 FLOPs buy 55.6 B tokens: 3 B parameters on 55.6 B tokens reach loss" in tokens
    size = scale("points.csv", "--loss", loss, "--tokens", "5e10")[1]
    assert value(size, r"on 50 B tokens takes ([\d.]+) B \(95%") == pytest.approx(3, rel=0.2)
    both = scale("points.csv", "--loss", loss, "--gpu-hours", "1000", "--plot", "here.svg")[1]
    assert "1000 GPU-hours of H100 80GB SXM at 40% of 989 TFLOP/s: 1.42e+21 FLOPs" in both
    assert "1.42e+21 FLOPs are best spent on" in both
    assert f"loss {float(loss):g} is cheapest with" in both
    assert Path("here.svg").exists()


@pytest.mark.slow
def test_a_teacher_beside_takes_its_share_of_a_budget(scale: Scale) -> None:
    told = scale("points.csv", "--flops", "1e21", "--params", "3e9", "--teacher-params", "9e9")[1]
    assert "1e+21 FLOPs buy 27.8 B tokens" in told


@pytest.mark.slow
def test_what_is_beyond_is_refused_after_what_is_not(scale: Scale, tmp_path: Path) -> None:
    code, told, wrong = scale("points.csv", "--loss", "1.2", "--flops", "1e21")
    assert code == 2
    assert "1e+21 FLOPs are best spent on" in told
    assert wrong.startswith("imbik: loss 1.2 is beyond what the back-test supports")
    assert len(wrong.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_short_ladder_answers_for_other_sizes_only(scale: Scale) -> None:
    code, told, wrong = scale("short.csv", "--params", "2e6")
    assert (code, wrong) == (0, "")
    assert "power law in size" in told and "2 M parameters on 231,424 tokens reach loss 2.5" in told
    code, told, wrong = scale("short.csv", "--loss", "2.5", "--params", "2e6")
    assert code == 2 and "no form predicted the ladder's largest points within 2%" in wrong
    code, told, wrong = scale("short.csv", "--params", "2e6", "--tolerance", "0.1")
    assert code == 2 and "Back-test" in told and "chosen" not in told
    assert "within 0.1%: the best, the power law, was off by 3.0%; add larger points" in wrong


@pytest.mark.slow
def test_a_floor_brings_its_own_form(scale: Scale) -> None:
    told = scale("points.csv", "--floor", "1.8", "--flops", "1e21")[1]
    assert "law at the floor" in told and "are best spent on" in told


@pytest.mark.parametrize(("words", "told"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_a_mistake_is_one_sentence(words: tuple[str, ...], told: str, scale: Scale, tmp_path: Path) -> None:
    code, printed, wrong = scale(*words)
    assert code == 2 and printed == ""
    assert told in wrong and wrong.startswith("imbik: ")
    assert len(wrong.strip().splitlines()) == 1
    assert not list(tmp_path.glob("*.svg"))


@pytest.mark.slow
def test_a_figure_that_cannot_be_written_is_told(scale: Scale) -> None:
    code, _, wrong = scale("points.csv", "--plot", "nowhere/figure.svg")
    assert code == 2 and "nowhere/figure.svg cannot be written: No such file or directory" in wrong


@pytest.mark.slow
def test_runs_of_a_store_are_a_ladder(scale: Scale, tmp_path: Path) -> None:
    """Four runs of three students each, above their teacher's loss."""
    root = tmp_path / "store"
    for number, tokens in enumerate((1e9, 1e10, 1e11, 1e12)):
        finished(root, f"run-{number}", {n: (tokens, law(n, tokens)) for n in (1e8, 1e9, 1e10)})
    names = [f"run-{number}" for number in range(4)]
    code, told, wrong = scale(*names, "--store", str(root), "--params", "3e9", "--tolerance", "5")
    assert (code, wrong) == (0, ""), told
    assert "law at the floor" in told
    assert value(told, r"3 B parameters on 1 T tokens reach loss ([\d.]+)") == pytest.approx(law(3e9, 1e12), rel=0.05)
    assert (root / "runs" / "run-0" / "scaling.svg").exists()
