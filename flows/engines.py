"""Engines that answer benchmarks. Their version is a part of the answers' keys, so it is read before the first job; and
what an engine could not do is refused then."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import requests

from conf.base import StageConfig
from conf.benchmarks import SCORED_CHOICES
from conf.cluster import Cluster
from conf.engines import completions, vllm
from conf.engines.asked import UNKNOWN, AnsweredBy, EngineConfig
from conf.recipe import Recipe
from conf.stages.answer import AnswerConfig
from conf.stages.evaluate import EvaluateConfig
from tasks.latency import endpoint
from tasks.latency.client import brief
from tasks.latency.endpoint import PATIENCE
from tasks.store.store import Store

if TYPE_CHECKING:
    from tasks.session import Session

SETTING = "evaluate.engine"
KEY = f"{SETTING}.api_key_env"
ELSEWHERE = "where jobs run on other machines, say their version, as in evaluate.engine=vllm==0.32.0"


def pinned(recipe: Recipe, store: Store) -> Recipe:
    """The recipe with the version of the engine of its benchmarks. Raises ValueError where it cannot be known."""
    return recipe.model_copy(update={"evaluate": versioned(recipe.evaluate, store)})


def versioned(evaluate: EvaluateConfig, store: Store) -> EvaluateConfig:
    """The same for the settings of an evaluation. Where the engine is away, its version is that of its newest answers
    in the store: a run whose answers are all there needs no engine."""
    engine = evaluate.engine
    if engine.name == "simulate" or engine.version or not (evaluate.benchmarks or evaluate.mmlu):
        return evaluate
    try:
        version = _vllm_here() if engine.name == "vllm" else _server(engine)
    except ValueError:
        known = _newest(store, lambda by: by.name == engine.name and by.endpoint == engine.endpoint)
        if known is None:
            raise
        version = known
    return evaluate.model_copy(update={"engine": engine.model_copy(update={"version": version})})


def _vllm_here() -> str:
    return vllm.version(vllm.required(f"{SETTING} vllm", ELSEWHERE))


def _server(engine: EngineConfig) -> str:
    names = engine.model.values() if isinstance(engine.model, dict) else [str(engine.model)]
    return [_told(str(engine.endpoint), name, engine.api_key_env) for name in names][-1]


def _told(address: str, name: str, variable: str | None) -> str:
    """What the server of a model says it is. Raises ValueError where it is away or does not serve the model."""
    url, key = endpoint.base_of(address), key_in(variable)
    served = endpoint.served_by(url, key, KEY)
    if name not in served:
        raise ValueError(
            f"{url} serves {', '.join(served)}, not {name}; set {SETTING}.model to a name that it serves, or serve the"
            " model under this one"
        )
    found = endpoint.described(url, served[name], key)
    return " ".join(filter(None, (found.engine or UNKNOWN, found.version)))


def key_in(variable: str | None) -> str | None:
    """The server's key. Raises ValueError where the variable is not set."""
    if variable is None:
        return None
    if not os.environ.get(variable):
        raise ValueError(f"{KEY} names {variable}, which is not set; set it in this environment")
    return os.environ[variable]


def _newest(store: Store, same: Callable[[AnsweredBy], bool]) -> str | None:
    """The version of the newest answers in the store that an engine gave."""
    found = [(record, "engine") for record in store.records(AnswerConfig.stage)]
    found += [(record, "mmlu_by") for record in store.records(EvaluateConfig.stage)]
    for record, field in sorted(found, key=lambda one: one[0].created, reverse=True):
        if record.config.get(field):
            by = AnsweredBy.model_validate(record.config[field])
            if same(by):
                return by.version
    return None


def asked_by(config: StageConfig) -> AnsweredBy | None:
    """The engine that a stage asks."""
    if isinstance(config, AnswerConfig):
        return config.engine
    return config.mmlu_by if isinstance(config, EvaluateConfig) else None


def check(evaluate: EvaluateConfig, cluster: Cluster, pending: Iterable[StageConfig]) -> None:
    """Raise ValueError where the engine of a stage that must run is away, of another version, or cannot do what is
    asked. Where jobs run on other machines than this one, they check it themselves; vLLM's Python must be named."""
    pending = list(pending)
    if cluster.kind != "local":
        for one in pending:
            if (by := asked_by(one)) and by.name == "vllm":
                named(cluster, one.stage, f"{SETTING} is vllm", f"set {SETTING} to simulate")
        return
    for by in dict.fromkeys(by for one in pending if (by := asked_by(one))):
        if by.name == "vllm":
            python = vllm.required(f"{SETTING} vllm", ELSEWHERE)
            _check_version(by, f"{python} has vLLM", vllm.version(python))
        else:
            _check_version(by, f"{by.endpoint} is", _told(str(by.endpoint), str(by.model), by.api_key_env))
            if evaluate.mmlu or set(evaluate.benchmarks) & set(SCORED_CHOICES):
                probe(by)


def named(cluster: Cluster, stage: str, asks: str, otherwise: str) -> None:
    """Raise ValueError where jobs of `stage` need vLLM on other machines, and its Python there is neither named in the
    cluster file nor that of this checkout, which jobs without a container share."""
    resources = cluster.resources(stage)
    in_container = cluster.kind != "slurm" or resources.image is not None
    if vllm.PYTHON in resources.environment or (not in_container and vllm.OWN.is_file()):
        return
    where = f"in {f'the image {resources.image}' if resources.image else 'containers'}" if in_container else "there"
    raise ValueError(
        f"{asks}, but its jobs run on {cluster.kind}, and nothing names a Python with vLLM {where}; name it in the"
        f" cluster file, as in defaults.environment.{vllm.PYTHON}=/opt/vllm/bin/python, or {otherwise}"
    )


def ready(evaluate: EvaluateConfig, models: Iterable[str], session: Session) -> EvaluateConfig:
    """The settings with the engine's version, after `check`, for these models of a report."""
    known = versioned(evaluate, session.store)
    names = list(models)
    asked: list[StageConfig] = [known.measured_for(name) for name in names]
    for benchmark in known.benchmarks.values():
        asked += [benchmark.answer(known.precision, known.engine.by(name)) for name in names]
    check(known, session.cluster, asked)
    return known


def _check_version(by: AnsweredBy, who: str, found: str) -> None:
    if by.version != found:
        raise ValueError(
            f"{SETTING} has version {by.version}, but {who} {found}; leave the version out, or use an engine of version"
            f" {by.version}"
        )


def probe(by: AnsweredBy) -> None:
    """Raise ValueError where a server does not give the log probabilities of a prompt's tokens."""
    url, key = endpoint.base_of(str(by.endpoint)), key_in(by.api_key_env)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = completions.score_body(str(by.model), completions.PROBE)
    try:
        response = requests.post(f"{url}/completions", json=body, headers=headers, timeout=PATIENCE)
        if response.status_code != 200:
            raise ValueError(
                f"{url} refuses to score a prompt (status {response.status_code}: {brief(response.text)}), which"
                " benchmarks with choices need; see the server's log, or leave them out"
            )
        answer: Any = response.json()
    except requests.RequestException as error:  # also JSON that is none
        raise ValueError(
            f"{url} does not answer a completion ({type(error).__name__}); see the server's log"
        ) from error
    try:
        completions.read_score(answer, len(completions.PROBE), 1)
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{url} does not answer with completions; check {SETTING}.endpoint") from error
    except ValueError as error:
        raise ValueError(f"{url} {error}") from None
