"""`imbik doctor` and `imbik up`: exit codes, and when the servers end."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from flows.commands import server as module
from flows.doctor import machine
from flows.doctor.machine import Check


def check(ok: bool, required: bool) -> Check:
    return Check(name=f"{ok} {required}", found="f", ok=ok, required=required, remedy="r")


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([check(True, True), check(True, False)], 0),
        ([check(True, True), check(False, False)], 0),
        ([check(True, True), check(False, True)], 1),
        ([], 0),
    ],
)
def test_doctor_ends_with_1_where_something_required_is_wrong(
    found: list[Check], code: int, as_json: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(machine, "checks", lambda _: iter(found))
    monkeypatch.setattr(module, "print_json", told.append)
    monkeypatch.setattr(module.out, "print", told.append)
    with pytest.raises(typer.Exit) as ended:
        module.doctor(store=tmp_path, **({"as_json": True} if as_json else {}))  # a table unless JSON is asked for
    assert ended.value.exit_code == code
    if as_json:
        assert [each["name"] for each in told[0]] == [each.name for each in found]
    else:
        marks = {"True True": "ok", "True False": "ok", "False False": "--", "False True": "!!"}
        assert list(told[0].columns[0].cells) == [marks[each.name] for each in found]


@pytest.mark.parametrize("ends", ["mlflow", "prefect", "worker", None])
@pytest.mark.parametrize(("orphans", "told"), [(0, None), (1, "1 flow run ended"), (3, "3 flow runs ended")])
def test_servers_run_until_one_ends_or_a_person_ends_them(
    ends: str | None, orphans: int, told: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """None: Ctrl-C, which is no failure."""
    said: list[str] = []
    waited: list[float] = []
    asked: dict[str, Any] = {}

    def program(name: str) -> Any:
        return SimpleNamespace(poll=lambda: 1 if name == ends and waited else None)

    def opened(name: str) -> Any:
        one = SimpleNamespace(url=f"http://{name}/api", ready=lambda: f"http://{name}", process=program(name))
        return lambda *_, **given: asked.update({name: given}) or contextlib.nullcontext(one)

    def wait(_: Any, seconds: float) -> None:
        waited.append(seconds)
        if ends is None:
            raise KeyboardInterrupt

    monkeypatch.setenv("PREFECT_API_URL", "before")
    monkeypatch.setattr("flows.server.processes.mlflow", opened("mlflow"))
    monkeypatch.setattr("flows.server.processes.embedded_prefect", opened("prefect"))
    monkeypatch.setattr("flows.server.worker.worker", lambda *_, **__: contextlib.nullcontext(program("worker")))
    monkeypatch.setattr("tasks.tracking.servers.publish_addresses", lambda *_, **__: contextlib.nullcontext())
    for name, value in {"register": ["a"], "limit": None, "moved": "", "working_folders": {}, "shipped": []}.items():
        monkeypatch.setattr(f"flows.server.deployments.{name}", lambda *_, value=value: value)
    monkeypatch.setattr("flows.server.recovery.fail_orphaned_runs", lambda: orphans)
    monkeypatch.setattr(module.out, "print", lambda text, **_: said.append(text))
    monkeypatch.setattr(module.signal, "sigtimedwait", wait)
    failed: list[tuple[str, int]] = []
    monkeypatch.setattr(module, "fail", lambda *given: failed.append(given))
    module._serve(tmp_path, "127.0.0.1", 1, 2, 3)
    assert failed == ([("a server stopped unexpectedly; see its log in the store", 1)] if ends else [])
    assert asked == {"mlflow": {}, "prefect": {"user_interface": True, "host": "127.0.0.1"}}
    assert len(waited) == 1 and (told is None or any(line.startswith(told) for line in said))
    assert told or not [line for line in said if "Retry in the Prefect" in line]
