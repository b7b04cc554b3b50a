"""The section on score against throughput: which figures of imbik bench are shown, and what draws them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conf.report.benchmarks import BenchmarkRow
from conf.report.report import Report
from conf.report.speed import Speed
from tasks.report.plots import speed as plots
from tasks.report.report import refresh, with_speeds, write
from tasks.report.sections.speed import FOLDER, TITLE, drawn, read_speeds, section
from tests.fixtures.figures import keep_canvases
from tests.fixtures.report import report, row
from tests.tasks.report.sections.test_benchmarks import SCORE


def speed(model: str, rate: float, **fields: Any) -> Speed:
    values = {"model": model, "path": f"/store/{model}/model", "engine": "vLLM 0.32.0", "machine": "here"}
    values |= {"measured": "2026-01-01T00:00:00", "isl": 128, "osl": 32, "concurrency": 4}
    return Speed.model_validate(values | {"tokens_per_second": rate, "low": rate - 1, "high": rate + 1} | fields)


def asked(*models: str) -> tuple[BenchmarkRow, ...]:
    scores = SCORE | {"score": 0.5}
    return tuple(BenchmarkRow.model_validate({"benchmark": "gsm8k", "model": one, "scores": scores}) for one in models)


def measured(*speeds: Speed, models: tuple[str, ...] = ("teacher", "small")) -> Report:
    rows = [row("teacher", "teacher", bytes=4_000_000), row("small", bytes=2_000_000)]
    return report(*rows, benchmarks=asked(*models), speeds=speeds)


def kept(folder: Path, name: str, *speeds: Speed) -> None:
    (folder / FOLDER).mkdir(exist_ok=True, parents=True)
    (folder / FOLDER / name).write_text(json.dumps([one.model_dump() for one in speeds]))


def test_the_newest_figures_of_the_run_s_own_models_count(tmp_path: Path) -> None:
    old, new = speed("small", 10.0), speed("small", 20.0, measured="2026-02-01T00:00:00")
    kept(tmp_path, "b.json", old, speed("gone", 5.0), speed("teacher", 3.0, path="/store/another/model"))
    kept(tmp_path, "a.json", new, speed("teacher", 9.0, path="/moved/teacher/model"))
    found = read_speeds(tmp_path, measured().rows)
    assert [(one.model, one.tokens_per_second) for one in found] == [("teacher", 9.0), ("small", 20.0)]
    assert read_speeds(tmp_path / "nothing", measured().rows) == ()


def test_of_figures_of_one_time_the_last_count(tmp_path: Path) -> None:
    kept(tmp_path, "a.json", speed("small", 10.0), speed("small", 11.0))
    kept(tmp_path, "b.json", speed("small", 12.0))
    assert [one.tokens_per_second for one in read_speeds(tmp_path, measured().rows)] == [12.0]


def test_of_equal_points_the_longest_is_drawn() -> None:
    lengths = [(256, 512, 4), (1024, 32, 4), (1024, 128, 4), (2048, 512, 1)]
    speeds = [speed("small", 10.0, isl=isl, osl=osl, concurrency=count) for isl, osl, count in lengths]
    shown = drawn(measured(*speeds))["small"]
    assert (shown.isl, shown.osl, shown.concurrency) == (1024, 128, 4), "most at once, then prompts, then answers"


def test_the_figure_has_the_point_of_the_most_models() -> None:
    both = [speed(name, 10.0, concurrency=count) for name in ("teacher", "small") for count in (1, 4)]
    lone = speed("small", 90.0, concurrency=16)
    shown = drawn(measured(*both, lone))
    assert {(one.model, one.concurrency) for one in shown.values()} == {("teacher", 4), ("small", 4)}
    elsewhere = speed("teacher", 80.0, concurrency=16, machine="there")
    assert {one.concurrency for one in drawn(measured(*both, lone, elsewhere)).values()} == {4}
    assert set(drawn(measured(*both, models=("small",)))) == {"small"}, "a model without a score is not drawn"


def test_without_both_nothing_is_said() -> None:
    assert section(measured()) is None and plots.draw(measured()) == {}
    assert section(measured(speed("small", 1.0), models=())) is None


def test_points_are_drawn_against_throughput_and_size(monkeypatch: Any) -> None:
    keep_canvases(monkeypatch, plots)
    canvases: dict[str, Any] = plots.draw(measured(speed("teacher", 10.0), speed("small", 30.0)))
    for name, places in (("throughput", [10.0, 30.0]), ("score-size", [4.0, 2.0])):
        (axes,) = canvases[name].axes
        points = [line for line in axes.lines if line.get_marker() == "o"]
        assert [line.get_xdata()[0] for line in points] == places
        assert [line.get_ydata()[0] for line in points] == [50.0, 50.0]
        assert [list(line.get_ydata()) for line in axes.lines if line.get_marker() != "o"] == [[30.0, 70.0]] * 2
        assert axes.get_ylabel() == "gsm8k, % right"


def test_a_finished_report_gets_the_section_once(tmp_path: Path) -> None:
    folder = tmp_path / "store" / "runs" / "mine"
    folder.mkdir(parents=True)
    write(folder, measured(), {"size": "<svg>old</svg>"})
    assert "throughput" not in (folder / "report.md").read_text()
    here = [speed(name, 10.0, path=f"{tmp_path}/store/{name}/model") for name in ("teacher", "small")]
    kept(folder, "a.json", *here)
    for _ in range(2):
        again = refresh(folder)
        assert [one.title for one in again.sections] == [TITLE]
        assert again.sections[0].rows[0] == ("teacher", "vLLM 0.32.0", "128/32", "4", "10.0 (9.0 to 11.0)")
    page = (folder / "report.html").read_text()
    assert "<svg>old</svg>" in page and TITLE in page and "output tokens per second" in page
    assert sorted(file.stem for file in (folder / "plots").iterdir()) == ["score-size", "size", "throughput"]
    (folder / FOLDER / "a.json").unlink()
    assert with_speeds(folder, again).sections == ()
