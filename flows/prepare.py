"""The prepare flow: tokenize a corpus and count rejected records."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from conf.base import RunName, StoreFolder
from conf.report.report import Report
from conf.stages.data import DataConfig
from conf.stages.evaluate import EvaluateConfig
from conf.standalone import validate_settings
from flows import standalone as single
from flows.running import Running
from flows.session import Where
from tasks import hub
from tasks import inputs as external
from tasks.monitor import prefect_pages
from tasks.report.standalone import write_corpus
from tasks.session import Session
from tasks.stage import THREADS


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
        config = validate_settings(DataConfig, data)
    except ValueError as error:
        return prefect_pages.failed(error)

    def work(session: Session, folder: Path) -> Report:
        text = hub.pinned(config, session.store)
        source, tokenizer = external.text(text, session.store), external.tokenizer_of(text, session.store, None)
        taken = config.decontaminate
        mmlu = external.questions_of(EvaluateConfig(mmlu=taken.mmlu), session.store) if taken else None
        corpus = Running()("data", text, source=source, tokenizer=tokenizer, mmlu=mmlu).result()
        return write_corpus(folder, name, corpus, single.describe(session))

    return single.run(name, store, cluster, config, work)
