"""Secrets: recognised by name and by shape, refused in recipes, kept from jobs that do not need them, masked in what is
written."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.cluster import load_cluster
from conf.parallel import Parallel
from conf.paths import check_allowed, check_links
from conf.secrets import is_secret, mask_file, masker, needed, values, without
from conf.spec import Spec
from conf.standalone import Evaluating, validate_settings
from flows.server import auth as access
from tasks.launch.errors import JobFailed
from tasks.launch.local import LocalLauncher
from tasks.store.store import Store
from tests.fixtures.flow import COMMAND, RECIPE, told

SECRETS = [
    "HF_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "AWS_SECRET_ACCESS_KEY",
    "PREFECT_API_AUTH_STRING",
    "OPENAI_API_KEY",
    "PGPASSWORD",
]
PLAIN = [
    "PATH",
    "HOME",
    "TOKENIZERS_PARALLELISM",
    "OMP_NUM_THREADS",
    "PREFECT_API_URL",
    "MLFLOW_TRACKING_USERNAME",
    "KEYBOARD",
    "MONKEY",
]
KEY = "sk-ThisIsNoRealKeyAtAll0123456789"


def test_a_secret_is_known_by_its_variables_name() -> None:
    assert all(is_secret(name) for name in SECRETS)
    assert not any(is_secret(name) for name in PLAIN)


def test_passwords_inside_urls_and_logins_are_secrets_too() -> None:
    found = values(
        {
            "DATABASE": "postgresql://imbik:p%40ssword@host/db",
            "PREFECT_API_AUTH_STRING": "admin:correct horse",
            "SHORT_KEY": "abc",
        }
    )
    assert set(found) == {"p%40ssword", "p@ssword", "admin:correct horse", "correct horse"}


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="*"), min_size=6, max_size=30)


@settings(max_examples=30)
@given(st.lists(TEXT, min_size=1, max_size=4), TEXT, st.sampled_from(["{}", "x{}y", "export A={}", "{0}{0}", "a\n{}"]))
def test_no_value_survives_masking(secrets: list[str], around: str, form: str) -> None:
    environment = {f"N{number}_TOKEN": secret for number, secret in enumerate(secrets)}
    text = masker(environment)(around.join(form.format(secret) for secret in secrets))
    assert not any(secret in text for secret in secrets)


def test_only_secrets_are_masked_in_logs(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.write_bytes(b"plain \xff bytes\r\nand more\n")
    before = log.stat().st_ino
    mask_file(log, {"HF_TOKEN": "planted-value"})
    assert log.stat().st_ino == before
    log.write_bytes(b"plain \xff bytes\r\nHF_TOKEN=planted-value and https://me:pw@host/x\n")
    mask_file(log, {"HF_TOKEN": "planted-value"})
    assert log.read_bytes() == b"plain \xff bytes\r\nHF_TOKEN=*** and https://***@host/x\n"
    assert [path.name for path in tmp_path.iterdir()] == ["job.log"]


def test_a_job_sees_the_secrets_it_needs_and_no_others() -> None:
    environment = dict.fromkeys(SECRETS, "planted-value") | {"PATH": "/bin", "MLFLOW_TRACKING_URI": "http://me:pw@host"}
    assert without(environment) == {"PATH": "/bin"}
    assert needed(False, {}, environment) == {}
    assert set(needed(True, {}, environment)) == {"HF_TOKEN"}
    assert set(needed(True, {"api_key_env": "OPENAI_API_KEY"}, environment)) == {"HF_TOKEN", "OPENAI_API_KEY"}


ASKED = "generate={prompts: world, endpoint: http://host/v1, endpoint_model: m%s}"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (ASKED % f", api_key: {KEY}", "generate.api_key is not a setting; the nearest known key is api_key_env"),
        (ASKED % f", api_key_env: {KEY}", "generate.api_key_env is not the name of an environment variable"),
        (ASKED % ", api_key_env: hf_lookslikeaname", "generate.api_key_env is not the name of an environment variable"),
        (ASKED.replace("host", "me:planted-pw@host") % "", "generate.endpoint is 'http://***@host/v1'"),
        (f"description=use {KEY} here", "description contains what looks like an API key"),
        ("data.source=https://me:planted-pw@host/text.txt", "data.source contains a URL with a login"),
        ("description=mine is planted-value", "description contains the value of the environment variable HF_TOKEN"),
        (f"evaluate.mmlu.style={KEY}", "evaluate.mmlu.style is '***'"),
    ],
)
def test_a_recipe_with_a_secret_is_refused_without_repeating_it(
    override: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "planted-value")
    said = told(override)
    assert sentence in said
    assert not any(secret in said for secret in (KEY, "planted", "hf_looks"))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "defaults.environment.HF_TOKEN=planted-value",
            "defaults.environment sets HF_TOKEN, which would be stored with the run",
        ),
        (
            "defaults.environment.ADDRESS=redis://me:planted-pw@host",
            "defaults.environment.ADDRESS contains a URL with a login",
        ),
    ],
)
def test_cluster_with_secret_is_refused_without_quoting_it(override: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        load_cluster("slurm", [override])
    assert sentence in str(caught.value) and "planted" not in str(caught.value)


class Heard:
    """What a launcher says of a job while it runs."""

    def __init__(self) -> None:
        self.text = ""

    def state(self, text: str) -> None:
        self.text += text

    def line(self, text: str) -> None:
        self.text += text


def test_single_stage_with_secret_is_refused_without_quoting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ValueError, match=r"models\.1 contains") as refused:
        validate_settings(Evaluating, {"models": [KEY]})
    assert KEY not in str(refused.value)


def test_failing_job_that_prints_environment_leaks_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = (
        "import os, sys\nif '--spec' in sys.orig_argv:\n    print(*sorted(os.environ.items(), key=lambda item:"
        " 'planted' in item[1]), sep='\\n', flush=True)\n    os._exit(9)\n"
    )
    (tmp_path / "sitecustomize.py").write_text(fault)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{RECIPE.parents[2]}")
    for name in ("HF_TOKEN", "MLFLOW_TRACKING_PASSWORD", "MY_KEY"):
        monkeypatch.setenv(name, f"planted-{name.lower()}")
    config = {"api_key_env": "MY_KEY"}
    spec = Spec(stage="generate", key="k", config=config, output=str(tmp_path))
    told_of_it = Heard()
    with pytest.raises(JobFailed) as caught:
        LocalLauncher(warm=False).run(spec, Parallel(threads=1), lambda line: None, lambda: None, told_of_it)
    log = (tmp_path / "job.log").read_text()
    assert "('HF_TOKEN', '***')" in log and "('MY_KEY', '***')" in log, "the job did print them"
    assert "MLFLOW_TRACKING_PASSWORD" not in log
    assert "MY_KEY" in told_of_it.text, "its lines were passed on while it ran"
    assert "planted-" not in told_of_it.text + log + str(caught.value) + (tmp_path / "spec.json").read_text()


def test_links_out_of_input_folder_are_refused_except_hub_cache(tmp_path: Path) -> None:
    cache = tmp_path / "models--owner--name"
    snapshot, blobs = cache / "snapshots" / "abc", cache / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "1").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/1")
    check_links(snapshot)
    private = tmp_path / "private"
    private.write_text("-----BEGIN")
    (snapshot / "tokenizer.json").symlink_to(private)
    with pytest.raises(
        ValueError, match=r"tokenizer.json is a link to a file outside .*replace it with the file itself"
    ):
        check_links(snapshot)


def test_a_worker_keeps_runs_in_the_folders_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = tmp_path / "data", tmp_path / "elsewhere"
    inside.mkdir()
    outside.mkdir()
    (outside / "text.txt").write_text("private")
    (inside / "link.txt").symlink_to(outside / "text.txt")
    (inside / "own.txt").write_text("public")
    monkeypatch.setenv("IMBIK_ROOTS", f"{inside}:{tmp_path / 'store'}")
    store = Store(tmp_path / "store")
    store.create()
    assert store.digest(inside / "own.txt").startswith("sha256:")
    for path in (outside / "text.txt", inside / "link.txt", inside / ".." / "elsewhere" / "text.txt", inside):
        with pytest.raises(ValueError, match="is outside the folders that IMBIK_ROOTS allows"):
            store.digest(path)
    with pytest.raises(ValueError, match="is outside"):
        Store(outside).create()
    monkeypatch.delenv("IMBIK_ROOTS")
    check_allowed(outside)


@pytest.mark.parametrize(
    ("host", "prefect", "mlflow", "missing"),
    [
        ("127.0.0.1", "", "", None),
        ("localhost", "", "", None),
        ("0.0.0.0", "", "", "PREFECT_SERVER_API_AUTH_STRING"),
        ("10.1.2.3", "only-a-password", "long-enough-password", "PREFECT_SERVER_API_AUTH_STRING"),
        ("imbik.example", "admin:short", "long-enough-password", "PREFECT_SERVER_API_AUTH_STRING"),
        ("0.0.0.0", "admin:long-enough-password", "short", "MLFLOW_AUTH_ADMIN_PASSWORD"),
        ("0.0.0.0", "admin:long-enough-password", "long-enough-password", None),
    ],
)
def test_servers_that_others_can_reach_need_passwords(
    host: str, prefect: str, mlflow: str, missing: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", prefect)
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", mlflow)
    if missing is None:
        access.check(host)
        return
    with pytest.raises(ValueError) as caught:
        access.check(host)
    said = str(caught.value)
    assert said.startswith(
        f"--host {host} allows other machines but {missing} has no password of at least 12 characters"
    )
    assert "short" not in said.replace("shorter", "") and "only-a" not in said


def test_up_refuses_open_host_without_password(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "MLFLOW"))}
    command = [*COMMAND, "up", "--host", "0.0.0.0", "--store", str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("imbik: --host 0.0.0.0 allows other machines")
    assert not (tmp_path / "store").exists()


def test_prefect_form_refuses_api_key_and_login() -> None:
    """What the server stores before anything of ours runs is judged by the schema alone."""
    import jsonschema

    from conf.stages.generate import GenerateConfig

    schema = json.loads(json.dumps(GenerateConfig.model_json_schema()))
    judge = jsonschema.Draft202012Validator(schema)
    good = {"prompts": "world", "endpoint": "https://host/v1", "endpoint_model": "m", "api_key_env": "MY_KEY"}
    assert judge.is_valid(good)
    for wrong in (
        {"api_key": KEY},
        {"api_key_env": KEY},
        {"api_key_env": "hf_abc"},
        {"endpoint": "https://me:pw@host/v1"},
    ):
        assert not judge.is_valid(good | wrong), wrong
