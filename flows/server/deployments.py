"""Deployments for Prefect's UI, schedules and API: one per recipe, one per single-stage flow, and a short form.

Prefect builds the form of a run from the flow's parameters, which use the recipe's schema; a preset fills in the
form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.load import load, names
from conf.recipe import Recipe

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

POOL = "imbik"
"""Work pool of `imbik up`, and default of `imbik deploy`."""


def of_recipe(
    recipe: Recipe,
    name: str,
    *,
    preset: str,
    common: dict[str, Any],
    schedule: Any = None,
    pool: str = POOL,
    work: dict[str, Any],
) -> RunnerDeployment:
    """The deployment `compress/<name>`, of a recipe with a study `study/<name>`, whose form starts with `recipe`.
    `common` holds the parameters store and cluster, `work` the pool's job variables; `schedule` is a Prefect
    schedule."""
    from flows.compress import compress
    from flows.study import study

    start = _start(recipe, preset, str(common.get("cluster", "local")))
    parameters = {"recipe": start["recipe"], "name": name} | common
    flow = study if recipe.study else compress
    deployment = _deployment(flow, name, start["description"], parameters, start["tags"], schedule, pool, work)
    draw_students(deployment._parameter_openapi_schema.definitions, list(recipe.students))
    return deployment


def form(preset: str) -> dict[str, Any]:
    """Initial form of a preset: `recipe`, `description` and `tags`. A build step of deploy/prefect.yaml."""
    return _start(load(preset), preset, "local")


def _start(recipe: Recipe, preset: str, cluster: str) -> dict[str, Any]:
    from flows.compress import model_name

    tags = [f"preset:{preset}", f"model:{model_name(recipe)}", f"cluster:{cluster}"]
    return {
        "recipe": recipe.model_dump(mode="json", exclude_unset=True),
        "description": recipe.description,
        "tags": tags,
    }


def draw_students(definitions: dict[str, Any], students: list[str]) -> None:
    """Give each student of a recipe its own section in the form; Prefect shows a mapping with unknown keys as JSON
    text."""
    recipe = definitions["Recipe"]["properties"]
    definitions["Students"] = {
        "type": "object",
        "title": "Students",
        "description": recipe["students"]["description"],
        "properties": {
            name: {"$ref": "#/definitions/Student", "title": name, "description": "A student."} for name in students
        },
        "additionalProperties": {"$ref": "#/definitions/Student"},
        "minProperties": 1,
    }
    recipe["students"] = {"$ref": "#/definitions/Students"}


def shipped(common: dict[str, Any], pool: str, work: dict[str, Any]) -> list[RunnerDeployment]:
    """Deployments of all presets and single-stage flows."""
    recipes = [
        of_recipe(load(preset), preset, preset=preset, common=common, pool=pool, work=work) for preset in names()
    ]
    return recipes + single(common, pool, work)


def single(common: dict[str, Any], pool: str, work: dict[str, Any]) -> list[RunnerDeployment]:
    """Deployments of the short form and of the single-stage flows."""
    from flows.compare import compare
    from flows.evaluate import evaluate
    from flows.prepare import prepare
    from flows.quantize import quantize
    from flows.short import run

    tags = [f"cluster:{common.get('cluster', 'local')}"]
    result = []
    for flow, name in (
        (run, "a-preset"),
        (quantize, "a-model"),
        (evaluate, "models"),
        (prepare, "a-corpus"),
        (compare, "runs"),
    ):
        parameters = {key: value for key, value in common.items() if key in flow.parameters.properties}
        result.append(
            _deployment(flow, name, (flow.description or "").partition("\n\n")[0], parameters, tags, None, pool, work)
        )
    return result


def _deployment(
    flow: Any,
    name: str,
    description: str,
    parameters: dict[str, Any],
    tags: list[str],
    schedule: Any,
    pool: str,
    work: dict[str, Any],
) -> RunnerDeployment:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.deployments.runner import RunnerDeployment
    from prefect.types.entrypoint import EntrypointType

    deployment: RunnerDeployment = RunnerDeployment.from_flow(
        flow,
        name=name,
        parameters=parameters,
        description=description,
        tags=tags,
        schedules=[schedule] if schedule else None,
        # Runs of one deployment share a name and a folder, so the next one waits for the previous one.
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE),
        enforce_parameter_schema=True,
        work_pool_name=pool,
        job_variables=work,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    return deployment


def register(deployments: list[RunnerDeployment], pool: str) -> list[str]:
    """Create or update deployments at PREFECT_API_URL; schedules created in the UI stay. Raises ValueError if the pool
    does not exist."""
    ensure_pool(pool)
    for deployment in deployments:
        deployment.apply()
    return [deployment.full_name for deployment in deployments]


def ensure_pool(pool: str) -> None:
    """Create the default pool (type process) if it does not exist; other pools must exist."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(pool)
        except ObjectNotFound:
            if pool != POOL:
                pools = ", ".join(sorted(existing.name for existing in client.read_work_pools())) or "none"
                raise ValueError(
                    f"there is no work pool {pool} (existing pools: {pools}); create it with `prefect work-pool create"
                    f" {pool} --type process`"
                ) from None
            client.create_work_pool(
                WorkPoolCreate(name=pool, type="process", description="Flows of imbik, run as processes of its worker.")
            )


def limit(at_once: int) -> None:
    """Set the concurrency limit of the default pool."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolUpdate

    with get_client(sync_client=True) as client:
        client.update_work_pool(POOL, WorkPoolUpdate(concurrency_limit=at_once))


def place(folder: Path) -> dict[str, Any]:
    """Job variables of a process pool: relative paths in a recipe start at `folder`."""
    return {"working_dir": str(folder)}


def working_folders(pool: str) -> dict[str, str | None]:
    """The folder in which runs of each deployment of a pool start, by flow/name; None: the worker's."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        flows = {flow.id: flow.name for flow in client.read_flows()}
        return {
            f"{flows.get(each.flow_id)}/{each.name}": (each.job_variables or {}).get("working_dir")
            for each in client.read_deployments()
            if each.work_pool_name == pool
        }


def moved(folders: dict[str, str | None]) -> str | None:
    """One sentence about deployments whose folder is gone, as after a checkout was moved; None: there are none."""
    gone = {name: folder for name, folder in folders.items() if folder and not Path(folder).is_dir()}
    if not gone:
        return None
    names, folder = ", ".join(sorted(gone)), next(iter(gone.values()))
    return (
        f"{names} would start in {folder}, which is gone: the folder was moved or removed; make"
        f" {'it' if len(gone) == 1 else 'them'} again with imbik deploy or imbik schedule in"
        f" {'its' if len(gone) == 1 else 'their'} new place"
    )
