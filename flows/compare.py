"""The compare flow: models with the same name side by side, and the settings that differ between runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field

from conf.base import RunName, StoreFolder, flat
from conf.report.report import Report
from conf.spec import Record
from flows import standalone as single
from tasks.report.standalone import write_comparison
from tasks.session import Session
from tasks.store.runs import folder_of, read_report
from tasks.store.store import RECORD, Store, StoreError

Runs = Annotated[
    list[RunName], Field(min_length=2, description="Names of finished runs; the others are compared with the first.")
]


@flow(name="compare", flow_run_name="{name}", persist_result=False, validate_parameters=False)
def compare(*, name: RunName = "compared", store: StoreFolder = ".imbik", runs: Runs) -> str:
    """Compare finished runs.

    Returns the folder of the report.

    Args:
        name: Name of the run, a folder under the store's runs/.
        store: Folder of all artifacts, as the worker sees it.
        runs: Names of finished runs; the others are compared with the first.
    """

    def work(session: Session, folder: Path) -> Report:
        reports = {run: read_report(folder_of(session.store.root, run)) for run in runs}
        if len(reports) < 2:
            raise StoreError(f"runs has {len(reports)} name; list at least two")
        differing = differences(session.store, list(reports))
        how = single.describe(session)
        return write_comparison(folder, name, reports, differing, session.store, how)

    return single.run(name, store, "local", {"runs": runs}, work)


def differences(store: Store, runs: list[str]) -> list[tuple[str, ...]]:
    """One line per differing setting: stage, setting, value in each run. Only stages that all runs have are
    compared."""
    folders = [store.root / "runs" / run for run in runs]
    shared = [
        label.name
        for label in sorted(folders[0].iterdir())
        if all((folder / label.name / RECORD).is_file() for folder in folders)
    ]
    lines: list[tuple[str, ...]] = []
    for label in shared:
        records = [Record.model_validate_json((folder / label / RECORD).read_text()) for folder in folders]
        if len({record.key for record in records}) == 1:
            continue
        settings = [flat(record.hashed) for record in records]
        names = sorted({name for settings_of_run in settings for name in settings_of_run})
        values = [
            (label, setting, *(str(settings_of_run.get(setting, "-")) for settings_of_run in settings))
            for setting in names
        ]
        differing = [line for line in values if len(set(line[2:])) > 1]
        lines += differing or [(label, "its inputs", *(record.key[:8] for record in records))]
    return lines
