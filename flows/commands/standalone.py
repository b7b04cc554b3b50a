"""`imbik quantize`, `evaluate`, `prepare` and `compare`: single stages by themselves, through the flows that the pages
run too."""

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
    forms: Annotated[list[str] | None, typer.Option("--format", help="A format, may be repeated; default fp8.")] = None,
    samples: Annotated[int | None, typer.Option(help="Sequences run to calibrate; default 512.")] = None,
    seq_length: Annotated[int | None, typer.Option(help="Tokens of each; default 512.")] = None,
    cluster: ClusterOption = "local",
    store: StoreOption = None,
    name: Name = None,
) -> None:
    """Quantize a model and measure what each format costs."""
    from conf.load import override
    from conf.placement import place_settings_on_cluster
    from conf.standalone import Quantizing, validate_settings

    given = {"calibration_samples": samples, "seq_length": seq_length}
    same = {key: value for key, value in given.items() if value is not None}
    values: dict[str, Any] = {"model": model, "quantize": [{"format": form} | same for form in forms or ["fp8"]]}
    own, where = _where(overrides, cluster)
    for text in own:
        values = override(values, text)
    wanted = place_settings_on_cluster(validate_settings(Quantizing, values), where)
    _run(
        store,
        cluster,
        lambda root: _flow("quantize")(name=name or "quantized", cluster=where, store=root, settings=wanted),
    )


def evaluate(
    named: Annotated[
        list[str],
        typer.Argument(metavar="MODEL... [KEY=VALUE...]", help=MODEL + " Then settings, as dotted.key=value."),
    ],
    teacher: Annotated[
        str | None, typer.Option(help="Model that KL is measured from; default the run's, else the first.")
    ] = None,
    cluster: ClusterOption = "local",
    store: StoreOption = None,
    name: Name = None,
) -> None:
    """Measure models side by side."""
    from conf.load import override
    from conf.placement import place_settings_on_cluster
    from conf.standalone import Evaluating, validate_settings

    values: dict[str, Any] = {"models": [text for text in named if "=" not in text], "teacher": teacher}
    own, where = _where([text for text in named if "=" in text], cluster)
    for text in own:
        values = override(values, text)
    wanted = place_settings_on_cluster(validate_settings(Evaluating, values), where)
    _run(
        store,
        cluster,
        lambda root: _flow("evaluate")(name=name or "evaluated", cluster=where, store=root, settings=wanted),
    )


def prepare(
    source: Annotated[str, typer.Argument(help="'world', a file, a glob or a hub dataset.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings of a recipe's data section, as key=value.")
    ] = None,
    cluster: ClusterOption = "local",
    store: StoreOption = None,
    name: Name = None,
) -> None:
    """Tokenize a corpus and count what is in it."""
    from conf.load import override
    from conf.stages.data import DataConfig
    from conf.standalone import validate_settings

    values: dict[str, Any] = {"source": source}
    own, where = _where(overrides, cluster)
    for text in own:
        values = override(values, text)
    wanted = validate_settings(DataConfig, values)
    _run(store, cluster, lambda root: _flow("prepare")(name=name or "corpus", cluster=where, store=root, data=wanted))


def compare(
    runs: Annotated[list[str], typer.Argument(help="Finished runs; the first is what the others are compared with.")],
    store: StoreOption = None,
    name: Name = None,
) -> None:
    """Put finished runs side by side: models, paired differences, and the settings that differ."""
    if len(set(runs)) < 2:
        raise ValueError(
            f"compare was given {len(set(runs))} run; name two or more, for instance imbik compare demo again"
        )
    _run(store, "local", lambda root: _flow("compare")(name=name or "compared", store=root, runs=runs))


def _flow(name: str) -> Any:
    import importlib

    return getattr(importlib.import_module(f"flows.{name}"), name)


def _where(overrides: list[str] | None, cluster: str) -> tuple[list[str], Cluster]:
    """The settings' overrides, and the cluster with its own applied."""
    from conf.cluster import load_cluster

    own, theirs = split_overrides(overrides)
    return own, load_cluster(cluster, theirs)


def _run(store: Path | None, cluster: str, flow: Callable[[str], str]) -> None:
    """Run a flow as `imbik run` runs a recipe, and show its report."""
    root = root_of(store)
    with flow_run(root):
        from prefect import tags

        with tags(f"cluster:{Path(cluster).stem}"):
            folder = Path(flow(str(root)))
    show_report(folder)
