"""A run in an unfriendly environment: proxies, an 8-bit locale, no home, empty variables, a path that needs quoting,
typed in another folder. And what it sends: nothing but to this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conf.environment import NO_TELEMETRY, settle
from tests.fixtures.flow import RECIPE, start

DEAD = "http://127.0.0.1:9"
"""A proxy that answers nobody: whoever asks it instead of this machine fails."""
WATCH = """
import os, sys
_file, _pid = open(os.environ["WATCHED"], "a", encoding="utf-8", buffering=1), os.getpid()
def _note(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        _file.write(f"{arguments[1][0]} {arguments[1][1]}\\n")
    elif event == "socket.getaddrinfo":
        _file.write(f"{arguments[0]} {arguments[1]}\\n")
_file.write("program " + " ".join(sys.orig_argv[1:]).replace("\\n", " ") + "\\n")
sys.addaudithook(_note)
"""
OWN = ("127.0.0.1", "localhost", "::1", "None", "0.0.0.0", "")
OF_CI = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "PYTEST_CURRENT_TEST", *NO_TELEMETRY)
"""Libraries that find one of these send nothing, whatever imbik does."""
TEXT = "".join(f"Geschichte {number}: Der Bär aß Möhren → und schlief {number} Tage.\n" for number in range(400))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str], Path]:
    """`imbik prepare geschichten.txt` in such an environment: its store, how it ended, and what every program of it
    connected to."""
    folder = tmp_path_factory.mktemp("environment")
    (folder / "watch").mkdir()
    (folder / "watch" / "sitecustomize.py").write_text(WATCH, encoding="utf-8")
    (folder / "wörk").mkdir()
    (folder / "wörk" / "geschichten.txt").write_text(TEXT, encoding="utf-8")
    store = folder / "ha#sh 50% o'clock"
    with pytest.MonkeyPatch.context() as patch:
        for name in OF_CI:
            patch.delenv(name, raising=False)
        more = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"), DEAD)
        more |= {"LC_ALL": "C", "PYTHONUTF8": "0", "HOME": "/dev/null/home", "MLFLOW_TRACKING_URI": ""}
        more |= {"PREFECT_API_URL": "", "WATCHED": str(folder / "watched.txt")}
        more |= {"PYTHONPATH": f"{folder / 'watch'}:{RECIPE.parents[2]}"}
        process = start(
            "prepare",
            "geschichten.txt",
            "vocab_size=300",
            store=store,
            more=more,
            cwd=folder / "wörk",
            encoding="latin-1",
        )
        out, err = process.communicate(timeout=600)
    ended = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    return store, ended, folder / "watched.txt"


Ran = tuple[Path, subprocess.CompletedProcess[str], Path]


@pytest.mark.slow
def test_it_reads_the_file_of_the_folder_where_it_was_typed(run: Ran) -> None:
    store, ended, _ = run
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = (store / "runs" / "corpus" / "report.md").read_text(encoding="utf-8")
    assert "400" in report
    texts = [
        json.loads(line)["text"]
        for path in (store / "runs" / "corpus" / "data").glob("t*.jsonl")  # train and test
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert set(texts) < set(TEXT.splitlines()) and len(texts) > 350


@pytest.mark.slow
def test_mlflow_has_it_in_this_store(run: Ran) -> None:
    store, ended, _ = run
    assert "MLflow" not in ended.stdout + ended.stderr, "everything was sent"
    assert list((store / "mlflow-artifacts").rglob("report.html"))
    assert sorted(path.name for path in store.parent.iterdir() if path.name.startswith("ha")) == [store.name]


@pytest.mark.slow
def test_nothing_is_sent_to_anyone_else(run: Ran) -> None:
    lines = run[2].read_text(encoding="utf-8").splitlines()
    programs = [line.removeprefix("program ") for line in lines if line.startswith("program ")]
    for part in ("flows.cli", "uvicorn", "jobs."):
        assert any(part in program for program in programs), f"{part} was not watched: {programs}"
    asked = {line for line in lines if not line.startswith("program ")}
    assert any(line.startswith("127.0.0.1 ") for line in asked), "the server was not asked"
    foreign = {
        line
        for line in asked
        if line.rpartition(" ")[0] not in ("127.0.0.1", "localhost", "::1", "None", "0.0.0.0", "")
    }
    assert foreign == set()
    assert not {line for line in asked if line.endswith(" 9")}, "a proxy was asked"


TOLD_SO = """
from conf.environment import settle
settle()
from huggingface_hub.constants import HF_HUB_DISABLE_TELEMETRY
from mlflow.telemetry.utils import is_telemetry_disabled
from prefect._internal.analytics.enabled import is_telemetry_enabled
from prefect.settings import get_current_settings
assert HF_HUB_DISABLE_TELEMETRY and is_telemetry_disabled() and not is_telemetry_enabled()
assert not get_current_settings().server.analytics_enabled
"""


@pytest.mark.slow
def test_libraries_are_told_to_send_nothing() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in OF_CI}
    environment |= {"PYTHONPATH": str(RECIPE.parents[2])}
    done = subprocess.run([sys.executable, "-c", TOLD_SO], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_names_without_a_proxy_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    os.environ |= {"no_proxy": "intern.example,[::1]", "NO_PROXY": "10.0.0.1", "MLFLOW_TRACKING_URI": " "}
    settle()
    settle()
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "intern.example,::1,10.0.0.1,127.0.0.1,localhost"
    assert "MLFLOW_TRACKING_URI" not in os.environ
    os.environ["no_proxy"] = "*"
    settle()
    assert os.environ["no_proxy"] == "*"


@pytest.mark.parametrize("locale", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "0"}, {}])
def test_files_are_utf8_in_every_locale(locale: dict[str, str]) -> None:
    program = (
        "from conf.environment import text_is_utf8; text_is_utf8()\n"
        "import locale, sys; open('/dev/null', 'w').write(chr(8594));"
        " print(chr(8594), locale.getpreferredencoding(False))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    environment |= {"PYTHONPATH": str(RECIPE.parents[2])} | locale
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1].lower() == b"utf-8"
