"""A cluster file: where the stages of a recipe run, never what they produce. Checked at load like a recipe, and not
part of any key.

A cluster has a section for its kind, and resources per stage: `defaults` for all stages, `stages` for exceptions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from conf.base import Config
from conf.load import RecipeError, override, read
from conf.parallel import Parallel
from conf.patterns import ABSOLUTE, MOUNT, VARIABLE
from conf.secrets import check_no_secret, is_secret
from conf.stages import CURATE, stages
from conf.wording import sentence

CLUSTERS = Path(__file__).parent / "clusters"
Variable = Annotated[str, Field(pattern=VARIABLE)]
Mount = Annotated[str, Field(pattern=MOUNT)]
Kind = Literal["local", "docker", "slurm", "kubernetes"]
if TYPE_CHECKING:
    Stage = str
else:
    Stage = Literal[(*stages(), CURATE, "doctor")]
"""Names of the programs under jobs/ that a cluster can run."""
LIKE = {"trunk": "distill", CURATE: "data"}
"""Stages that run where another one does, if the file does not name them."""


class Gpu(Config):
    """One GPU of the cluster, from its data sheet; `imbik plan` calculates with it."""

    name: str = Field(min_length=1, description="Display name, for instance 'H100 80GB SXM'.")
    memory_gb: float = Field(gt=0, description="Memory in GB (10^9 bytes).")
    bf16_tflops: float = Field(gt=0, description="Dense bf16 TFLOP/s, without sparsity.")


class Resources(Config):
    """Resources that one job requests. Ranks come from the stage's `parallel` and are spread evenly over the nodes, one
    GPU per rank if there are GPUs."""

    nodes: int | None = Field(default=None, ge=1, description="Nodes of a job; empty: as few as its ranks fit on.")
    gpus_per_node: int = Field(
        default=0, ge=0, description="GPUs per node, the maximum number of ranks on it; 0: run on CPUs."
    )
    image: str | None = Field(default=None, min_length=1, description="Container image; empty: no container.")
    time_limit_minutes: float | None = Field(
        default=None, gt=0, description="Time limit of one attempt in minutes; empty: none."
    )
    margin_seconds: float = Field(
        default=120.0, ge=0, description="Seconds before the time limit at which a training job saves and stops."
    )
    queue: str | None = Field(
        default=None, min_length=1, description="Slurm partition, or local queue of Kueue on Kubernetes."
    )
    account: str | None = Field(default=None, min_length=1, description="Slurm account; empty: the user's default.")
    memory_gb: float | None = Field(
        default=None, gt=0, description="Main memory of the job on each node, in GB; empty: the cluster's default."
    )
    cpus: int | None = Field(
        default=None, ge=1, description="CPU cores of the job on each node; empty: the cluster's default."
    )
    environment: dict[Variable, str] = Field(default={}, description="Environment variables of the job; no secrets.")
    mounts: tuple[Mount, ...] = Field(
        default=(), description="Folders to mount into the container, as host:container or host:container:ro."
    )
    parallel: Parallel | None = Field(default=None, description="Replaces the recipe's parallel on this cluster.")

    def spread(self, parallel: Parallel) -> tuple[int, int]:
        """Number of nodes and ranks per node. Raises ValueError if ranks do not divide evenly or a node is too
        small."""
        ranks = parallel.processes
        nodes = self.nodes or (math.ceil(ranks / self.gpus_per_node) if self.gpus_per_node else 1)
        if ranks % nodes:
            raise ValueError(
                f"{ranks} ranks cannot be spread evenly over {nodes} nodes; choose a nodes value that divides"
                " parallel.processes"
            )
        if self.gpus_per_node and ranks // nodes > self.gpus_per_node:
            least = math.ceil(ranks / self.gpus_per_node)
            raise ValueError(
                f"{ranks // nodes} ranks per node exceed gpus_per_node {self.gpus_per_node}; set nodes={least}"
            )
        return nodes, ranks // nodes


class DockerCluster(Config):
    """Containers of the Docker engine on this machine."""

    shm_gb: float = Field(
        default=8.0, gt=0, description="Shared memory of a container in GB, used by NCCL and data loaders."
    )


class Ssh(Config):
    """How to reach the login node; ssh itself handles passwords and passphrases (agent, keys). The store must have the
    same path on this machine and on the cluster."""

    host: str = Field(min_length=1, description="Login node.")
    user: str = Field(min_length=1, description="User name on the login node.")
    port: int | None = Field(default=None, ge=1, le=65535, description="Port; empty: 22.")
    identity_file: str | None = Field(
        default=None, min_length=1, description="Path of the private key; empty: use the SSH agent."
    )


class SlurmCluster(Config):
    """A Slurm cluster, used from a login node or over SSH."""

    ssh: Ssh | None = Field(
        default=None, description="SSH connection to the login node; empty: run sbatch on this machine."
    )
    python: str | None = Field(
        default=None, pattern=ABSOLUTE, description="Folder of python and torchrun on the nodes; empty: same as here."
    )
    code: str | None = Field(
        default=None, pattern=ABSOLUTE, description="Folder of imbik's code on the nodes; empty: same as here."
    )
    qos: str | None = Field(default=None, min_length=1, description="Quality of service.")
    constraint: str | None = Field(default=None, min_length=1, description="Node features to require.")
    exclusive: bool = Field(default=False, description="Request nodes exclusively.")
    gpu_request: Literal["gres", "none"] = Field(
        default="gres", description="gres: request GPUs with --gpus-per-node; none: do not request GPUs."
    )
    rendezvous_port: int = Field(
        default=29400, ge=1024, le=60000, description="First of 4,000 ports used for the rendezvous of a job's nodes."
    )
    poll_seconds: float = Field(default=5.0, gt=0, description="Seconds between calls of squeue.")


class Volume(Config):
    """A persistent volume claim that all nodes can mount."""

    claim: str = Field(min_length=1, description="Name of the claim.")
    path: str = Field(pattern=ABSOLUTE, description="Mount path.")
    read_only: bool = Field(default=False, description="Mount the volume read-only.")


class KubernetesCluster(Config):
    """A Kubernetes cluster with Kubeflow Trainer; NeMo-Run submits TrainJobs."""

    namespace: str = Field(default="default", min_length=1, description="Namespace of the jobs.")
    volumes: tuple[Volume, ...] = Field(min_length=1, description="Volumes of a job; the store must be on one of them.")
    runtime: str = Field(
        default="torch-distributed", min_length=1, description="ClusterTrainingRuntime of Kubeflow Trainer."
    )
    secret: str | None = Field(
        default=None, min_length=1, description="Kubernetes Secret that holds the variables of `secrets`."
    )
    pull_secrets: tuple[str, ...] = Field(default=(), description="Secrets for pulling the image.")
    tolerations: tuple[dict[str, str], ...] = Field(
        default=(), description="Tolerations of a job, in Kubernetes syntax."
    )
    poll_seconds: float = Field(default=5.0, gt=0, description="Seconds between calls of the API server.")


class Cluster(Config):
    """Where a recipe's stages run."""

    description: str = Field(default="", description="One-line description.")
    kind: Kind = Field(default="local", description="How jobs are submitted.")
    gpu: Gpu | None = Field(default=None, description="GPU model of the cluster; empty: unknown.")
    docker: DockerCluster | None = Field(default=None, description="Settings of kind docker.")
    slurm: SlurmCluster | None = Field(default=None, description="Settings of kind slurm.")
    kubernetes: KubernetesCluster | None = Field(default=None, description="Settings of kind kubernetes.")
    defaults: Resources = Field(default=Resources(), description="Resources of every stage.")
    stages: dict[Stage, Resources] = Field(
        default={}, description="Resources of single stages that differ from defaults."
    )
    secrets: tuple[Variable, ...] = Field(
        default=(),
        description="Names of secret environment variables to pass to jobs; their values are not written to files.",
    )
    resubmissions: int = Field(
        default=100, ge=0, description="How often to resubmit a job that reached its time limit."
    )
    retries: int = Field(
        default=2, ge=0, description="How often to resubmit a job that was preempted, lost its node or hung."
    )
    queue_minutes: float | None = Field(
        default=None, gt=0, description="Longest wait in the queue, in minutes; empty: no limit."
    )
    hang_seconds: float | None = Field(
        default=None, gt=0, description="Seconds without progress after which a job counts as hung; empty: 1800."
    )

    def resources(self, stage: str) -> Resources:
        """Resources of a job of `stage`: the stage's settings override the defaults; environment variables are
        merged."""
        by_name: dict[str, Resources] = {**self.stages}
        overrides = by_name.get(stage) or by_name.get(LIKE.get(stage, stage)) or Resources()
        changed = {name: getattr(overrides, name) for name in overrides.model_fields_set}
        environment = self.defaults.environment | overrides.environment
        return self.defaults.model_copy(update=changed | {"environment": environment})

    @model_validator(mode="after")
    def _section(self) -> Self:
        for kind in ("docker", "slurm", "kubernetes"):
            if kind != self.kind and getattr(self, kind):
                raise ValueError(
                    f"the cluster's kind is {self.kind} but it has a section {kind}; remove the section or set kind:"
                    f" {kind}"
                )
        if self.kind == "kubernetes" and not self.kubernetes:
            raise ValueError(
                "the cluster's kind is kubernetes but kubernetes.volumes is missing; add the claim that holds the store"
            )
        if self.kind == "docker" and self.secrets:
            raise ValueError(
                "secrets cannot be passed to docker because it writes a job's environment to disk; mount a file with"
                " the secret and set its path in environment, for instance HF_TOKEN_PATH"
            )
        if self.kind == "kubernetes" and self.secrets and self.kubernetes and not self.kubernetes.secret:
            raise ValueError(
                "secrets are listed but kubernetes.secret is missing; set it to the name of the Secret that holds them"
            )
        return self

    @model_validator(mode="after")
    def _places(self) -> Self:
        for stage in (None, *self.stages):
            where = f"stages.{stage}" if stage else "defaults"
            resources = self.resources(stage) if stage else self.defaults
            if self.kind in ("docker", "kubernetes") and not resources.image:
                raise ValueError(f"{where}.image is missing; set it to the image built from deploy/worker.Dockerfile")
            if self.kind == "local" and (resources.image or (resources.nodes or 1) > 1):
                raise ValueError(
                    f"{where} sets {'an image' if resources.image else 'several nodes'}, which kind local does not"
                    " support; remove it or choose another kind"
                )
            if self.kind == "docker" and (resources.nodes or 1) > 1:
                raise ValueError(
                    f"{where}.nodes is {resources.nodes} but docker has one node; remove it or use slurm or kubernetes"
                )
            if self.kind != "slurm" and resources.account:
                raise ValueError(f"{where}.account is {resources.account}, which only slurm supports; remove it")
            if resources.time_limit_minutes and resources.margin_seconds >= resources.time_limit_minutes * 60:
                raise ValueError(
                    f"{where}.margin_seconds is {resources.margin_seconds:g}, which is not below the time limit of"
                    f" {resources.time_limit_minutes:g} minutes; choose a smaller margin"
                )
            if doubled := set(resources.environment) & set(self.secrets):
                raise ValueError(
                    f"{where}.environment sets {min(doubled)}, which is also listed in secrets; remove it from"
                    " environment"
                )
            if secret_names := [name for name in resources.environment if is_secret(name)]:
                raise ValueError(
                    f"{where}.environment sets {secret_names[0]}, which would be stored with the run; list its name in"
                    " secrets instead"
                )
        return self


LOCAL = Cluster(description="This machine; jobs run as local processes.")


def load_cluster(cluster: str, overrides: list[str] | None = None) -> Cluster:
    """Load a shipped cluster or a YAML file, with `dotted.key=value` overrides applied. Raises RecipeError."""
    values = read(cluster, CLUSTERS)
    for text in overrides or []:
        values = override(values, text)
    check_no_secret(values)
    try:
        return Cluster.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"cluster {cluster}: {sentence(error, Cluster)}") from error
