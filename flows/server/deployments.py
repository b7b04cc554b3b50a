"""Deployments: what Prefect's pages, schedules and API can run. One for each recipe, and one for each single stage.

The form of a run is drawn by Prefect from the flow's parameters, which are the recipe's own schema; a preset is its
starting point."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.load import load, names
from conf.recipe import Recipe

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

POOL = "imbik"
"""Work pool that `imbik up` serves and `imbik deploy` uses unless told otherwise."""


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
    """The deployment `compress/<name>`, whose form starts as `recipe`. `common` are the parameters store and cluster,
    `work` the pool's job variables, `schedule` a Prefect schedule."""
    from flows.compress import compress

    start = _start(recipe, preset, str(common.get("cluster", "local")))
    parameters = {"recipe": start["recipe"], "name": name} | common
    made = _deployment(compress, name, start["description"], parameters, start["tags"], schedule, pool, work)
    draw_students(made._parameter_openapi_schema.definitions, list(recipe.students))
    return made


def form(preset: str) -> dict[str, Any]:
    """How the form of a preset starts: its `recipe`, `description` and `tags`. A build step of deploy/prefect.yaml."""
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
    """Give each student of a recipe a section in the form: Prefect draws a mapping as JSON text where it does not know
    its keys."""
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
    """A deployment of every preset and of every single stage."""
    found = [of_recipe(load(preset), preset, preset=preset, common=common, pool=pool, work=work) for preset in names()]
    return found + single(common, pool, work)


def single(common: dict[str, Any], pool: str, work: dict[str, Any]) -> list[RunnerDeployment]:
    """A deployment of each stage that people come for by itself."""
    from flows.compare import compare
    from flows.evaluate import evaluate
    from flows.prepare import prepare
    from flows.quantize import quantize

    tags = [f"cluster:{common.get('cluster', 'local')}"]
    made = []
    for flow, called in ((quantize, "a-model"), (evaluate, "models"), (prepare, "a-corpus"), (compare, "runs")):
        given = {key: value for key, value in common.items() if key in flow.parameters.properties}
        made.append(
            _deployment(flow, called, (flow.description or "").partition("\n\n")[0], given, tags, None, pool, work)
        )
    return made


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

    made: RunnerDeployment = RunnerDeployment.from_flow(
        flow,
        name=name,
        parameters=parameters,
        description=description,
        tags=tags,
        schedules=[schedule] if schedule else None,
        # Runs of one deployment share their name, and so their folder: the next waits for the one before.
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE),
        enforce_parameter_schema=True,
        work_pool_name=pool,
        job_variables=work,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    return made


def register(deployments: list[RunnerDeployment], pool: str) -> list[str]:
    """Make or update deployments at PREFECT_API_URL; schedules made in the pages stay. Raises ValueError where the pool
    is not there."""
    ensure_pool(pool)
    for deployment in deployments:
        deployment.apply()
    return [deployment.full_name for deployment in deployments]


def ensure_pool(pool: str) -> None:
    """The default pool is made where it is missing, of processes; any other must be there."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(pool)
        except ObjectNotFound:
            if pool != POOL:
                there = ", ".join(sorted(found.name for found in client.read_work_pools())) or "none"
                raise ValueError(
                    f"there is no work pool {pool} (there are: {there}); make it with `prefect work-pool create {pool}"
                    " --type process`"
                ) from None
            client.create_work_pool(
                WorkPoolCreate(name=pool, type="process", description="Flows of imbik, as processes of its worker.")
            )


def limit(at_once: int) -> None:
    """Let the default pool run that many flow runs at once."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolUpdate

    with get_client(sync_client=True) as client:
        client.update_work_pool(POOL, WorkPoolUpdate(concurrency_limit=at_once))


def place(folder: Path) -> dict[str, Any]:
    """Job variables of a process pool: relative paths of a recipe are seen from `folder`."""
    return {"working_dir": str(folder)}
