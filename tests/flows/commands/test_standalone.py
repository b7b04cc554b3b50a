"""`imbik quantize`, `evaluate`, `prepare` and `compare`: what reaches their flows."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from flows.commands import standalone
from tests.fixtures.report import report, row

TEXT = ["data.source=world"]


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the last flow was given, with the folders whose report was shown."""
    given: dict[str, Any] = {"shown": []}

    def flow(name: str) -> Any:
        return lambda **values: given.update(values, flow=name) or str(tmp_path / "report")

    monkeypatch.setenv("IMBIK_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(standalone, "_flow", flow)
    monkeypatch.setattr(standalone, "flow_run", lambda root, view: contextlib.nullcontext())
    monkeypatch.setattr(standalone, "show_report", given["shown"].append)
    return given


def test_a_model_is_quantized_to_fp8_unless_said(started: dict[str, Any], tmp_path: Path) -> None:
    standalone.quantize(str(tmp_path), TEXT)
    settings = started["settings"]
    assert (started["flow"], started["name"], started["store"]) == ("quantize", "quantized", str(tmp_path / "store"))
    assert [entry.format for entry in settings.quantize] == ["fp8"]
    assert (settings.serve, settings.verify, started["cluster"].kind) == (None, None, "local")
    assert started["shown"] == [tmp_path / "report"]


def test_options_hold_for_every_format(started: dict[str, Any], tmp_path: Path) -> None:
    changed: dict[str, Any] = {"forms": ["fp8", "nvfp4"], "samples": 4, "seq_length": 16, "name": "mine"}
    standalone.quantize(str(tmp_path), [*TEXT, "cluster.retries=7"], verify=True, **changed)
    entries = [(one.format, one.calibration_samples, one.seq_length) for one in started["settings"].quantize]
    assert entries == [("fp8", 4, 16), ("nvfp4", 4, 16)]
    assert started["settings"].verify is not None
    assert (started["name"], started["cluster"].retries) == ("mine", 7)


def test_an_engine_needs_no_device(started: dict[str, Any], tmp_path: Path) -> None:
    standalone.quantize(str(tmp_path), TEXT, engine="vllm")
    assert (started["settings"].serve.engine, started["settings"].serve.device) == ("vllm", None)
    with pytest.raises(ValueError, match=r"serve\.engine"):
        standalone.quantize(str(tmp_path), TEXT, device="H100")


def test_words_with_an_equals_sign_are_settings(started: dict[str, Any], tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    standalone.evaluate([str(folders[0]), *TEXT, "evaluate.sequences=3", str(folders[1])], teacher=str(folders[1]))
    settings = started["settings"]
    assert (started["flow"], started["name"]) == ("evaluate", "evaluated")
    assert settings.models == tuple(map(str, folders)) and settings.teacher == str(folders[1])
    assert settings.evaluate.sequences == 3
    with pytest.raises(ValueError, match=r"the model .*/none is neither RUN/MODEL"):
        standalone.evaluate([str(folders[0]), *TEXT], teacher=str(tmp_path / "none"))


def test_a_corpus_is_prepared_with_its_settings(started: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    standalone.prepare(str(tmp_path / "a.txt"), ["join=line"])
    assert (started["flow"], started["name"], started["data"].join) == ("prepare", "corpus", "line")
    with pytest.raises(ValueError, match=r"source names .*, which does not exist"):
        standalone.prepare(str(tmp_path / "none.txt"))


@pytest.mark.parametrize("runs", [["one"], ["one", "one"]])
def test_a_run_is_not_compared_with_itself(runs: list[str], started: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="compare got 1 run; give at least two"):
        standalone.compare(runs)
    assert "flow" not in started


@pytest.mark.parametrize("form", [{}, {"as_json": True}, {"as_csv": True}])
def test_a_comparison_is_shown_or_given_to_other_programs(
    form: dict[str, bool],
    started: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for folder in (tmp_path / "store" / "runs" / "one", tmp_path / "store" / "runs" / "two", tmp_path / "report"):
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(report(row("small"), name=folder.name).model_dump_json())
    standalone.compare(["one", "two"], **form)
    assert (started["flow"], started["name"], started["runs"]) == ("compare", "compared", ["one", "two"])
    assert started["shown"] == ([] if form else [tmp_path / "report"])
    printed = capsys.readouterr().out
    assert ('"name": "report"' in printed, printed.startswith("model,")) == ("as_json" in form, "as_csv" in form)


def test_scores_that_are_gone_cannot_be_compared(started: dict[str, Any], tmp_path: Path) -> None:
    made = {"label": "small (scores)", "stage": "evaluate", "key": "abc", "seconds": 1, "created": "then"}
    made |= {"versions": {}, "repeat": "imbik run"}
    for name in ("one", "two"):
        folder = tmp_path / "store" / "runs" / name
        folder.mkdir(parents=True)
        content = json.loads(report(row("small"), name=name).model_dump_json()) | {"provenance": [made]}
        (folder / "report.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="the scores of run one are no longer in the store"):
        standalone.compare(["one", "two"])
