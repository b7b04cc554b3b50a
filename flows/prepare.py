"""The prepare flow: tokenize a corpus and count rejected records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from conf.base import RunName, StoreFolder
from conf.placement import place_settings_on_cluster
from conf.report.report import Report
from conf.stages.data import DataConfig
from conf.stages.decontaminate import Decontaminate
from conf.stages.evaluate import EvaluateConfig
from conf.standalone import validate_settings
from flows import benchmarks
from flows import standalone as single
from flows.running import Running
from flows.session import Where, resolve_cluster
from tasks import hub
from tasks import inputs as external
from tasks.monitor import prefect_pages
from tasks.report.standalone import write_corpus
from tasks.session import Session
from tasks.stage import THREADS
from tasks.store.store import Store


@flow(name="prepare", flow_run_name="{name}", persist_result=False, validate_parameters=False, task_runner=THREADS)
def prepare(
    *, name: RunName = "corpus", cluster: Where = "local", store: StoreFolder = ".imbik", data: DataConfig
) -> str:
    """Tokenize a corpus for recipes with the same data section, which find it in the store.

    Returns the folder of the report.

    Args:
        name: Name of the run, a folder under the store's runs/.
        cluster: Where to run: local, docker, slurm, kubernetes, or a YAML file there.
        store: Folder of all artifacts, as the worker sees it.
        data: The data section of a recipe.
    """
    try:
        config = place_settings_on_cluster(validate_settings(DataConfig, data), resolve_cluster(cluster))
    except ValueError as error:
        return prefect_pages.failed(error)

    def work(session: Session, folder: Path) -> Report:
        text = hub.pinned(config, session.store)
        source, tokenizer = external.text(text, session.store), external.tokenizer_of(text, session.store, None)
        run, taken = Running(), config.decontaminate
        asked = _questions(run, taken, session.store) if taken else {}
        corpus = run.made(run("data", text, source=source, tokenizer=tokenizer, **asked))
        return write_corpus(folder, name, corpus, single.describe(session))

    return single.run(name, store, cluster, config, work)


def _questions(run: Running, taken: Decontaminate, store: Store) -> dict[str, Any]:
    """The questions to take out, by role of the data stage's inputs."""
    files = external.benchmarks_of({name: one.path for name, one in taken.benchmarks.items()}, store)
    mmlu = external.questions_of(EvaluateConfig(mmlu=taken.mmlu), store)
    return benchmarks.roles(benchmarks.read(run, taken, files)) | {"mmlu": mmlu}
