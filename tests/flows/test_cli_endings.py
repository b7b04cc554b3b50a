"""How the command line ends: one sentence and an exit code for each kind of error, a traceback only for a fault."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from flows import cli
from tasks.launch.errors import JobFailed

STOPPED = "imbik: stopped; run the same command to continue\n"


@pytest.fixture(autouse=True)
def process_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the command line sets in its process is not set in this one."""
    for name in ("settle", "text_is_utf8"):
        monkeypatch.setattr(cli, name, lambda: None)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[Any], tuple[Any, str]]:
    """The exit code and what is said where the commands raise an error, or return."""

    def of(what: Any) -> tuple[Any, str]:
        def app(**_: Any) -> Any:
            if isinstance(what, BaseException):
                raise what
            return what

        monkeypatch.setattr(cli, "app", app)
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return caught.value.code, capsys.readouterr().err

    return of


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ValueError("the rate is\n  too high"), 2, "imbik: the rate is too high\n"),
        (JobFailed("the data has no text", "mistake"), 2, "imbik: the data has no text\n"),
        (JobFailed("the job was lost", "node"), 1, "imbik: the job was lost\n"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/store"),
            2,
            "imbik: /store: Permission denied; check the path, its permissions and free space\n",
        ),
        (SystemExit(143), 143, STOPPED),
        (typer.Abort(), 130, STOPPED),
        (KeyboardInterrupt(), 130, STOPPED),
        (130, 130, STOPPED),
    ],
)
def test_an_error_is_one_sentence_and_a_code(error: Any, code: int, sentence: str, ended: Any) -> None:
    assert ended(error) == (code, sentence)


@pytest.mark.parametrize(("returned", "code"), [(0, 0), (None, 0), (3, 3), (SystemExit(5), 5)])
def test_other_codes_are_handed_on(returned: Any, code: int, ended: Any) -> None:
    assert ended(returned) == (code, "")


@pytest.mark.parametrize("fault", [RuntimeError("a fault"), OSError(errno.EIO, "Input/output error")])
def test_a_fault_keeps_its_traceback(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def app(**_: Any) -> None:
        raise fault

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(type(fault)):
        cli.main()


def test_a_signal_ends_it_as_a_shell_expects() -> None:
    with pytest.raises(SystemExit) as caught:
        cli._terminated(signal.SIGTERM, None)
    assert caught.value.code == 128 + signal.SIGTERM
    assert cli.CTRL_C == 128 + signal.SIGINT


def test_without_a_command_help_is_shown() -> None:
    shown = CliRunner().invoke(cli.app, [])
    assert shown.exit_code == 2 and "Usage: " in shown.output and "Missing" not in shown.output
