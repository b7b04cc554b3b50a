"""`imbik quantize`, `evaluate`, `prepare` and `compare`: single stages, through the same flows as the Prefect UI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.console import (
    ClusterOption,
    CsvOption,
    JsonOption,
    Overrides,
    StoreOption,
    complete_runs,
    err,
    flow_run,
    new_or_folder,
    out,
    root_of,
    show_report,
    split_overrides,
)
from flows.commands.forms import columns, one_form, print_csv, print_json

if TYPE_CHECKING:
    from conf.cluster import Cluster
    from conf.standalone import Single

MODEL = "RUN/MODEL of the store, a Hugging Face directory, or a hub id."
Name = Annotated[str | None, typer.Option("--name", help="Name of the run, a folder under the store's runs/.")]


def quantize(
    model: Annotated[str, typer.Argument(help=MODEL)],
    overrides: Overrides = None,
    forms: Annotated[list[str] | None, typer.Option("--format", help="Format, repeatable; default: fp8.")] = None,
    samples: Annotated[int | None, typer.Option(help="Calibration sequences; default: 512.")] = None,
    seq_length: Annotated[int | None, typer.Option(help="Tokens per calibration sequence; default: 512.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="Engine that must load them: vllm, tensorrt_llm or sglang; default: any.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="With --engine: its GPU, for instance H100.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Let vLLM score each format too; stop if it computes something else.")
    ] = False,
    cluster: ClusterOption = "local",
    store: StoreOption = None,
    name: Name = None,
) -> None:
    """Quantize a model and measure the loss of each format."""
    from conf.base import run_name
    from conf.checks.serve import told
    from conf.hf_model import mixes_experts, read_json
    from conf.load import override
    from conf.placement import place_settings_on_cluster
    from conf.standalone import Quantizing, validate_settings

    options = {"calibration_samples": samples, "seq_length": seq_length}
    changed = {key: value for key, value in options.items() if value is not None}
    values: dict[str, Any] = {"model": model, "quantize": [{"format": form} | changed for form in forms or ["fp8"]]}
    if engine or device:
        values["serve"] = {"engine": engine, "device": device}
    if verify:
        values["verify"] = {}
    setting_overrides, on_cluster = _where(overrides, cluster)
    for text in setting_overrides:
        values = override(values, text)
    validated = place_settings_on_cluster(validate_settings(Quantizing, values), on_cluster)
    name = run_name(name or "quantized")
    _check(store, [validated.model], validated)
    directory = Path(validated.model)
    family = str(read_json(directory / "config.json", missing={}).get("model_type", ""))
    for line in told(validated.serve, validated.quantize, experts=mixes_experts(directory), family=family):
        err.print(line, highlight=False, markup=False, soft_wrap=True, style="dim")
    _run(
        store,
        cluster,
        lambda root: _flow("quantize")(name=name, cluster=on_cluster, store=root, settings=validated),
    )


def evaluate(
    named: Annotated[
        list[str],
        typer.Argument(metavar="MODEL... [KEY=VALUE...]", help=MODEL + " Then settings, as dotted.key=value."),
    ],
    teacher: Annotated[
        str | None, typer.Option(help="Teacher for KL; default: the run's, else the first model.")
    ] = None,
    cluster: ClusterOption = "local",
    store: StoreOption = None,
    name: Name = None,
) -> None:
    """Evaluate models side by side."""
    from conf.base import run_name
    from conf.load import override
    from conf.placement import place_settings_on_cluster
    from conf.standalone import Evaluating, validate_settings

    values: dict[str, Any] = {"models": [text for text in named if "=" not in text], "teacher": teacher}
    setting_overrides, on_cluster = _where([text for text in named if "=" in text], cluster)
    for text in setting_overrides:
        values = override(values, text)
    validated = place_settings_on_cluster(validate_settings(Evaluating, values), on_cluster)
    name = run_name(name or "evaluated")
    _check(store, [*validated.models, *([validated.teacher] if validated.teacher else [])], validated)
    _run(
        store,
        cluster,
        lambda root: _flow("evaluate")(name=name, cluster=on_cluster, store=root, settings=validated),
    )


def prepare(
    source: Annotated[str, typer.Argument(help="'world', a file, a glob or a hub dataset.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings of the data section, as key=value.")] = None,
    cluster: ClusterOption = "local",
    store: StoreOption = None,
    name: Name = None,
) -> None:
    """Tokenize a corpus and report its statistics."""
    from conf.base import run_name
    from conf.checks.recipe import check_source
    from conf.load import override
    from conf.stages.data import DataConfig
    from conf.standalone import validate_settings

    values: dict[str, Any] = {"source": source}
    setting_overrides, on_cluster = _where(overrides, cluster)
    for text in setting_overrides:
        values = override(values, text)
    validated = validate_settings(DataConfig, values)
    name = run_name(name or "corpus")
    check_source("source", validated.source)
    _run(
        store,
        cluster,
        lambda root: _flow("prepare")(name=name, cluster=on_cluster, store=root, data=validated),
    )


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Finished runs; the others are compared with the first.",
            autocompletion=complete_runs,
        ),
    ],
    store: StoreOption = None,
    name: Name = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Compare finished runs: models, paired differences, and the settings that differ."""
    from conf.base import run_name
    from tasks.store.runs import folder_of, read_report
    from tasks.store.store import RECORD, StoreError

    one_form(as_json, as_csv)
    if len(set(runs)) < 2:
        raise ValueError(f"compare got {len(set(runs))} run; give at least two, for instance imbik compare demo again")
    name = run_name(name or "compared")
    for run in runs:
        for made in read_report(folder_of(root_of(store), run)).provenance:
            if made.stage == "evaluate" and not (root_of(store) / made.stage / made.key / RECORD).is_file():
                raise StoreError(f"the scores of run {run} are no longer in the store; run its recipe again")
    folder = _run(
        store,
        "local",
        lambda root: _flow("compare")(name=name, store=root, runs=runs),
        show=not (as_json or as_csv),
    )
    report = read_report(folder)
    if as_json:
        print_json(report.model_dump(mode="json"))
    if as_csv:
        print_csv(*columns([row.model_dump(mode="json", exclude={"mmlu_subjects"}) for row in report.rows]))


def _flow(name: str) -> Any:
    import importlib

    return getattr(importlib.import_module(f"flows.{name}"), name)


def _where(overrides: list[str] | None, cluster: str) -> tuple[list[str], Cluster]:
    """Overrides of the settings, and the cluster with its overrides applied."""
    from conf.cluster import load_cluster

    setting_overrides, cluster_overrides = split_overrides(overrides)
    return setting_overrides, load_cluster(cluster, cluster_overrides)


def _check(store: Path | None, references: list[str], settings: Single) -> None:
    """Check the names of models and text before any server starts."""
    from conf.checks.recipe import check_source
    from tasks.handover.models import check_reference

    if settings.data:
        check_source("data.source", settings.data.source)
    for reference in references:
        check_reference(root_of(store), reference, has_text=settings.data is not None)


def _run(store: Path | None, cluster: str, flow: Callable[[str], str], *, show: bool = True) -> Path:
    """Run a flow and show its report; without `show`, only its progress, on stderr. Returns the report's folder."""
    root = new_or_folder(store)
    with flow_run(root, view=out if show else err):
        from prefect import tags

        with tags(f"cluster:{Path(cluster).stem}"):
            folder = Path(flow(str(root)))
    if show:
        show_report(folder)
    return folder
