"""`imbik doctor` and `imbik up`: check this machine or a cluster, and run the servers."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from flows.commands.console import JsonOption, StoreOption, err, fail, out, root_of, split_overrides
from flows.commands.forms import print_json

if TYPE_CHECKING:
    from flows.doctor.machine import Check


def doctor(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings of the cluster, as cluster.key=value.")
    ] = None,
    store: StoreOption = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="Check the nodes of this cluster with a job.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check this machine, or the nodes of a cluster, and show how to fix problems."""
    from flows.doctor.machine import checks

    found = list(
        _of_cluster(cluster, overrides, root_of(store), err if as_json else out) if cluster else checks(root_of(store))
    )
    if as_json:
        print_json([asdict(check) for check in found])
    else:
        table = Table("", "what", "found", "how to fix it", header_style="bold")
        for check in found:
            mark = "ok" if check.ok else "!!" if check.required else "--"
            table.add_row(mark, check.name, check.found, check.remedy)
        out.print(table)
    raise typer.Exit(0 if all(check.ok or not check.required for check in found) else 1)


def _of_cluster(cluster: str, overrides: list[str] | None, root: Path, view: Console) -> list[Check]:
    from conf.cluster import load_cluster
    from flows.doctor.cluster import checks

    recipe_overrides, cluster_overrides = split_overrides(overrides)
    if recipe_overrides:
        raise ValueError(f"'{recipe_overrides[0]}' is not a setting of the cluster; use cluster.key=value")
    return checks(
        load_cluster(cluster, cluster_overrides),
        root,
        lambda text: view.print(f"doctor: {text}", markup=False, highlight=False),
    )


def up(
    store: StoreOption = None,
    prefect_port: Annotated[int, typer.Option(help="Port of the Prefect server.", min=1, max=65535)] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow server.", min=1, max=65535)] = 5000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; other than loopback requires passwords in the environment.")
    ] = "127.0.0.1",
    at_once: Annotated[int, typer.Option(help="Maximum concurrent flow runs of the worker.", min=1)] = 2,
) -> None:
    """Start Prefect, MLflow and a worker for the store on this machine, with all deployments registered; runs until
    Ctrl-C."""
    from flows.server import auth as access
    from flows.server import processes as server
    from tasks.store.store import Store
    from tasks.tracking import servers as address

    access.check(host)
    access.log_in()
    root = root_of(store)
    Store(root).create()
    server.configure_prefect(root)
    with address.single_instance(root):
        server.check_free(host, prefect_port, "--prefect-port")
        server.check_free(host, mlflow_port, "--mlflow-port")
        _serve(root, host, prefect_port, mlflow_port, at_once)


def _tell(text: str) -> None:
    """Say what is being done: starting takes half a minute."""
    out.print(f"{time.strftime('%H:%M:%S')} {text}", style="dim", markup=False, highlight=False, soft_wrap=True)


def _serve(root: Path, host: str, prefect_port: int, mlflow_port: int, at_once: int) -> None:
    from flows.server import processes as server
    from tasks.tracking import servers as address

    _tell(f"starting MLflow on port {mlflow_port} and Prefect on port {prefect_port}")
    with (
        server.mlflow(root, mlflow_port, host) as mlflow,  # both start concurrently
        server.embedded_prefect(root, prefect_port, user_interface=True, host=host) as prefect,
    ):
        try:
            os.environ["PREFECT_API_URL"] = prefect.url
            from flows.server import deployments
            from flows.server import recovery as interrupted
            from flows.server.worker import worker

            _tell("Prefect answers; registering the deployments")
            work = deployments.place(Path.cwd())
            shared = {"store": str(root), "cluster": "local"}
            names = deployments.register(deployments.shipped(shared, deployments.POOL, work), deployments.POOL)
            deployments.limit(at_once)
            if told := deployments.moved(deployments.working_folders(deployments.POOL)):
                out.print(told, highlight=False, markup=False, soft_wrap=True)
            if ended := interrupted.fail_orphaned_runs():
                out.print(
                    f"{ended} flow run{'s' if ended > 1 else ''} ended with the last imbik up; use Retry in the Prefect"
                    " UI to continue"
                )
            _tell(f"{len(names)} deployments registered; waiting for MLflow")
            servers = {"prefect": prefect.url, "mlflow": mlflow.ready()}
            _tell("MLflow answers; starting the worker")
            with worker(root, **servers) as working, address.publish_addresses(root, **servers):
                out.print(f"Prefect  {prefect.url.removesuffix('/api')}\nMLflow   {mlflow.url}")
                out.print(
                    (
                        f"{len(names)} deployments; other runs with --store {root} use these servers too. Ctrl-C stops"
                        " everything."
                    ),
                    soft_wrap=True,
                )
                while all(running.poll() is None for running in (mlflow.process, prefect.process, working)):
                    signal.sigtimedwait([], 1.0)
        except KeyboardInterrupt:
            return
    fail("a server stopped unexpectedly; see its log in the store", 1)
