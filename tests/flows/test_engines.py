"""Engines that answer benchmarks: their version is read before the first job, and what they cannot do is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from conf.cluster import Cluster, load_cluster
from conf.engines import vllm
from conf.engines.asked import AnsweredBy
from conf.spec import Record
from conf.stages.answer import AnswerConfig
from conf.stages.evaluate import EvaluateConfig, Mmlu
from flows import engines
from tasks.store.store import Store
from tests.fixtures.answering import Served, serving

HERE = Path(sys.executable)
LOCAL = load_cluster("local")


def asks(engine: Any, name: str = "gsm8k") -> EvaluateConfig:
    return EvaluateConfig.model_validate({"benchmarks": {name: {}}, "engine": engine, "mmlu": None})


def answered(store: Path, by: AnsweredBy | None, created: str) -> None:
    """An answer in the store."""
    config = AnswerConfig(engine=by)
    folder = store / "answer" / created
    folder.mkdir(parents=True)
    record = Record(
        stage="answer",
        key=created,
        revision=1,
        config=config.model_dump(mode="json"),
        hashed=config.identity(),
        inputs={},
        files={},
        seconds=1.0,
        created=created,
        versions={},
    )
    (folder / "artifact.json").write_text(record.model_dump_json())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", writes=False)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """This interpreter has a vLLM."""
    monkeypatch.setenv(vllm.PYTHON, sys.executable)
    monkeypatch.setattr(vllm, "version", lambda python: {HERE: "0.32.0"}[python])


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No interpreter has one."""
    monkeypatch.delenv(vllm.PYTHON, raising=False)
    monkeypatch.setattr(vllm, "OWN", tmp_path / "nowhere")


def test_the_version_is_read_and_kept(store: Store, installed: None) -> None:
    assert engines.versioned(asks("vllm"), store).engine.version == "0.32.0"
    assert engines.versioned(asks("vllm==0.31.0"), store).engine.version == "0.31.0"


def test_nothing_is_read_where_no_engine_is_asked(store: Store, absent: None) -> None:
    for evaluate in (asks("simulate"), EvaluateConfig.model_validate({"engine": "vllm", "mmlu": None})):
        assert engines.versioned(evaluate, store) is evaluate


def test_a_missing_engine_is_told_with_the_next_step(store: Store, absent: None) -> None:
    with pytest.raises(ValueError, match=r"evaluate\.engine vllm needs vLLM where its jobs run; run make engine there"):
        engines.versioned(asks("vllm"), store)


def test_answers_that_are_there_need_no_engine(store: Store, absent: None) -> None:
    answered(store.root, None, "2026-04")
    answered(store.root, AnsweredBy(name="vllm", version="0.32.0"), "2026-03")
    answered(store.root, AnsweredBy(name="endpoint", version="SGLang 1", endpoint="http://a", model="m"), "2026-02")
    answered(store.root, AnsweredBy(name="vllm", version="0.31.0"), "2026-01")
    assert engines.versioned(asks("vllm"), store).engine.version == "0.32.0"
    assert engines.versioned(asks({"endpoint": "http://a", "model": "m"}), store).engine.version == "SGLang 1"
    with pytest.raises(ValueError, match="no server answers at http://b/v1"):
        engines.versioned(asks({"endpoint": "http://b", "model": "m"}), store)


def test_a_server_says_what_it_is(store: Store) -> None:
    for served, version in (
        (Served(), "vLLM 0.32.0"),
        (Served(owner="somebody", version=None), "somebody"),
        (Served(owner="", version=None), "an engine that does not tell its name"),
    ):
        with serving(served) as url:
            assert engines.versioned(asks({"endpoint": url, "model": "tiny"}), store).engine.version == version


def test_every_name_must_be_served(store: Store) -> None:
    with serving(Served(models=("tiny", "other"))) as url:
        known = engines.versioned(asks({"endpoint": url, "model": {"depth": "tiny", "width": "other"}}), store)
        assert known.engine.version == "vLLM 0.32.0"
        with pytest.raises(ValueError, match=r"serves tiny, other, not missing; set evaluate\.engine\.model to a name"):
            engines.versioned(asks({"endpoint": url, "model": {"depth": "tiny", "width": "missing"}}), store)


def test_a_key_comes_from_the_environment(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Served(key="opensesame")) as url:
        served = {"endpoint": url, "model": "tiny"}
        with pytest.raises(
            ValueError, match=r"wants a key \(status 401\).* name that with evaluate\.engine\.api_key_env"
        ):
            engines.versioned(asks(served), store)
        with pytest.raises(ValueError, match="api_key_env names SOME_KEY, which is not set"):
            engines.versioned(asks(served | {"api_key_env": "SOME_KEY"}), store)
        monkeypatch.setenv("SOME_KEY", "opensesame")
        known = engines.versioned(asks(served | {"api_key_env": "SOME_KEY"}), store)
        assert known.engine.version == "vLLM 0.32.0" and "opensesame" not in known.model_dump_json()


def test_a_command_s_names_become_those_of_the_report() -> None:
    from flows.standalone import as_reported

    names = {"run/depth": "run/depth", "owner/model": "model"}
    asked = asks({"endpoint": "http://a", "model": {"owner/model": "tiny"}})
    known = as_reported(asked, names)
    assert known and known.engine.by("owner/model") is None
    by = known.engine.by("model")
    assert by and by.model == "tiny"
    plain = asks({"endpoint": "http://a", "model": "tiny"})
    assert as_reported(plain, names) is plain and as_reported(None, names) is None


def test_single_stages_check_their_engine_first(installed: None, store: Store) -> None:
    class Here:
        cluster = LOCAL

    here: Any = Here()
    here.store = store
    assert engines.ready(asks("vllm"), ["a/b"], here).engine.version == "0.32.0"
    with pytest.raises(ValueError, match=r"has version 0\.31\.0"):
        engines.ready(asks("vllm==0.31.0"), ["a/b"], here)
    with_mmlu = asks("vllm==0.31.0").model_copy(update={"benchmarks": {}, "mmlu": Mmlu()})
    with pytest.raises(ValueError, match=r"has version 0\.31\.0"):
        engines.ready(with_mmlu, ["a/b"], here)


def check(evaluate: EvaluateConfig, cluster: Cluster = LOCAL, model: str = "depth") -> None:
    answers = [one.answer("bf16", evaluate.engine.by(model)) for one in evaluate.benchmarks.values()]
    engines.check(evaluate, cluster, answers)


def test_another_version_is_told_before_any_job(installed: None) -> None:
    check(asks("vllm==0.32.0"))
    with pytest.raises(ValueError, match=r"evaluate\.engine has version 0\.31\.0, but .* has vLLM 0\.32\.0; leave the"):
        check(asks("vllm==0.31.0"))


def test_an_engine_that_is_gone_is_told_before_any_job(absent: None) -> None:
    with pytest.raises(ValueError, match="run make engine there"):
        check(asks("vllm==0.32.0"))
    check(asks("simulate"))


def elsewhere(kind: str, *, image: str | None, **environment: str) -> Cluster:
    cluster = load_cluster(kind)
    defaults = cluster.defaults.model_copy(update={"image": image, "environment": environment})
    return cluster.model_copy(update={"defaults": defaults})


NAMED = {vllm.PYTHON: "/opt/vllm/bin/python"}


@pytest.mark.parametrize(("kind", "image"), [("slurm", None), ("slurm", "worker"), ("kubernetes", "worker")])
def test_the_engine_s_python_is_named_for_other_machines(
    kind: str, image: str | None, absent: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm, "OWN", Path("/nowhere/python"))
    where = "in the image worker" if image else "there"
    sentence = (
        f"^evaluate.engine is vllm, but its jobs run on {kind}, and nothing names a Python with vLLM {where}; name it"
        " in the cluster file, as in defaults.environment.IMBIK_VLLM_PYTHON=/opt/vllm/bin/python, or set"
        " evaluate.engine to simulate$"
    )
    with pytest.raises(ValueError, match=sentence):
        check(asks("vllm==0.32.0"), elsewhere(kind, image=image))
    check(asks("vllm==0.32.0"), elsewhere(kind, image=image, **NAMED))
    check(asks("simulate"), elsewhere(kind, image=image))


def test_jobs_without_a_container_have_this_checkouts_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "OWN", HERE)
    check(asks("vllm==0.32.0"), elsewhere("slurm", image=None))
    for kind, image in (("slurm", "worker"), ("kubernetes", "worker"), ("docker", None)):
        with pytest.raises(ValueError, match="nothing names a Python with vLLM in"):
            check(asks("vllm==0.32.0"), elsewhere(kind, image=image))


def test_a_stage_of_its_own_python_is_enough(absent: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "OWN", Path("/nowhere/python"))
    cluster = elsewhere("slurm", image=None)
    own = cluster.defaults.model_copy(update={"environment": NAMED})
    engines.named(cluster.model_copy(update={"stages": {"answer": own}}), "answer", "a", "b")
    with pytest.raises(ValueError, match=r"^verify needs vLLM, but its jobs .* or set verify to null$"):
        engines.named(cluster, "verify", "verify needs vLLM", "set verify to null")


def test_a_server_must_give_scores_where_choices_are_scored(store: Store) -> None:
    with serving(Served(echoes=False)) as url:
        served = {"endpoint": url, "model": {"depth": "tiny"}}
        check(engines.versioned(asks(served, "gsm8k"), store))
        with pytest.raises(ValueError, match="gives no log probabilities of a prompt's tokens"):
            check(engines.versioned(asks(served, "arc_easy"), store))
        check(engines.versioned(asks(served, "arc_easy"), store), model="teacher")  # is not asked there
    with serving(Served()) as url:
        check(engines.versioned(asks({"endpoint": url, "model": "tiny"}, "arc_easy"), store))


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(500, r"refuses to score a prompt \(status 500: .*told so.*see the server's log"), (404, r"\(status 404: ")],
)
def test_a_server_that_refuses_scores_is_told(store: Store, status: int, sentence: str) -> None:
    with serving(Served(fails=[status])) as url, pytest.raises(ValueError, match=sentence):
        check(engines.versioned(asks({"endpoint": url, "model": "tiny"}, "arc_easy"), store))


def test_the_probe_sends_ids_and_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "opensesame")
    served = Served(key="opensesame")
    with serving(served) as url:
        engines.probe(AnsweredBy(name="endpoint", endpoint=url, model="tiny", api_key_env="SOME_KEY"))
    (asked,) = served.asked
    assert (asked["prompt"], asked["echo"], asked["key"]) == ([1, 2], True, "Bearer opensesame")


def test_a_plan_knows_the_keys_of_the_engine_s_answers(tmp_path: Path, installed: None) -> None:
    from conf.load import load
    from flows.plan import plan
    from tests.fixtures.flow import RECIPE

    (tmp_path / "gsm8k.jsonl").write_text(json.dumps({"question": "1 + 1?", "answer": "#### 2"}) + "\n")
    asked = [f"evaluate.benchmarks={{gsm8k: {{path: {tmp_path / 'gsm8k.jsonl'}}}}}", "evaluate.precision=bf16"]
    here, there = (
        {stage.label: stage for stage in plan(load(str(RECIPE), [*asked, f"evaluate.engine={engine}"]), tmp_path / "s")}
        for engine in ("simulate", "vllm")
    )
    changed = {label for label, stage in here.items() if there[label].key != stage.key}
    assert changed == {label for label in here if label.startswith(("answer-", "judge-", "evaluate-"))}
    evaluated = there["evaluate-depth-fp8"].config
    assert isinstance(evaluated, EvaluateConfig) and evaluated.engine.name == "simulate", "loss is measured here"
    assert evaluated.mmlu_by == AnsweredBy(name="vllm", version="0.32.0")
    config = there["answer-depth-fp8-gsm8k"].config
    assert isinstance(config, AnswerConfig) and config.engine == AnsweredBy(name="vllm", version="0.32.0")
