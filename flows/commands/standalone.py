"""`imbik quantize`, `evaluate`, `prepare` and `compare`: single stages, through the same flows as the Prefect UI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.console import (
    ClusterOption,
    Overrides,
    StoreOption,
    flow_run,
    root_of,
    show_report,
    split_overrides,
)

if TYPE_CHECKING:
    from conf.cluster import Cluster

MODEL = "RUN/MODEL of the store, a Hugging Face directory, or a hub id."
Name = Annotated[str | None, typer.Option("--name", help="Name of the run, a folder under the store's runs/.")]


def quantize(
    model: Annotated[str, typer.Argument(help=MODEL)],
    overrides: Overrides = None,
    forms: Annotated[list[str] | None, typer.Option("--format", help="Format, repeatable; default: fp8.")] = None,
    samples: Annotated[int | None, typer.Option(help="Calibration sequences; default: 512.")] = None,
    seq_length: Annotated[int | None, typer.Option(help="Tokens per calibration sequence; default: 512.")] = None,
    cluster: ClusterOption = "local",
    store: StoreOption = None,
    name: Name = None,
) -> None:
    """Quantize a model and measure the loss of each format."""
    from conf.load import override
    from conf.placement import place_settings_on_cluster
    from conf.standalone import Quantizing, validate_settings

    options = {"calibration_samples": samples, "seq_length": seq_length}
    changed = {key: value for key, value in options.items() if value is not None}
    values: dict[str, Any] = {"model": model, "quantize": [{"format": form} | changed for form in forms or ["fp8"]]}
    setting_overrides, on_cluster = _where(overrides, cluster)
    for text in setting_overrides:
        values = override(values, text)
    validated = place_settings_on_cluster(validate_settings(Quantizing, values), on_cluster)
    _run(
        store,
        cluster,
        lambda root: _flow("quantize")(name=name or "quantized", cluster=on_cluster, store=root, settings=validated),
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
    from conf.load import override
    from conf.placement import place_settings_on_cluster
    from conf.standalone import Evaluating, validate_settings

    values: dict[str, Any] = {"models": [text for text in named if "=" not in text], "teacher": teacher}
    setting_overrides, on_cluster = _where([text for text in named if "=" in text], cluster)
    for text in setting_overrides:
        values = override(values, text)
    validated = place_settings_on_cluster(validate_settings(Evaluating, values), on_cluster)
    _run(
        store,
        cluster,
        lambda root: _flow("evaluate")(name=name or "evaluated", cluster=on_cluster, store=root, settings=validated),
    )


def prepare(
    source: Annotated[str, typer.Argument(help="'world', a file, a glob or a hub dataset.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings of the data section, as key=value.")] = None,
    cluster: ClusterOption = "local",
    store: StoreOption = None,
    name: Name = None,
) -> None:
    """Tokenize a corpus and report its statistics."""
    from conf.load import override
    from conf.stages.data import DataConfig
    from conf.standalone import validate_settings

    values: dict[str, Any] = {"source": source}
    setting_overrides, on_cluster = _where(overrides, cluster)
    for text in setting_overrides:
        values = override(values, text)
    validated = validate_settings(DataConfig, values)
    _run(
        store,
        cluster,
        lambda root: _flow("prepare")(name=name or "corpus", cluster=on_cluster, store=root, data=validated),
    )


def compare(
    runs: Annotated[list[str], typer.Argument(help="Finished runs; the others are compared with the first.")],
    store: StoreOption = None,
    name: Name = None,
) -> None:
    """Compare finished runs: models, paired differences, and the settings that differ."""
    if len(set(runs)) < 2:
        raise ValueError(f"compare got {len(set(runs))} run; give at least two, for instance imbik compare demo again")
    _run(store, "local", lambda root: _flow("compare")(name=name or "compared", store=root, runs=runs))


def _flow(name: str) -> Any:
    import importlib

    return getattr(importlib.import_module(f"flows.{name}"), name)


def _where(overrides: list[str] | None, cluster: str) -> tuple[list[str], Cluster]:
    """Overrides of the settings, and the cluster with its overrides applied."""
    from conf.cluster import load_cluster

    setting_overrides, cluster_overrides = split_overrides(overrides)
    return setting_overrides, load_cluster(cluster, cluster_overrides)


def _run(store: Path | None, cluster: str, flow: Callable[[str], str]) -> None:
    """Run a flow and show its report."""
    root = root_of(store)
    with flow_run(root):
        from prefect import tags

        with tags(f"cluster:{Path(cluster).stem}"):
            folder = Path(flow(str(root)))
    show_report(folder)
