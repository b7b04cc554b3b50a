"""A cluster file: where the stages of a recipe run, never what they make. Checked at load, like a recipe; nothing of it
is hashed.

A cluster has the section of its kind and settings of stages: `defaults` for all of them, `stages` for those that
differ."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from conf.base import Config
from conf.load import RecipeError, override, read, sentence
from conf.parallel import Parallel
from conf.secrets import check_no_secret, is_secret
from conf.stages import stages

CLUSTERS = Path(__file__).parent / "clusters"
FROM_TO = r"^[^:,\s]+:[^:,\s]+(:(ro|rw))?$"
VARIABLE = r"^[A-Z_][A-Z0-9_]*$"
Variable = Annotated[str, Field(pattern=VARIABLE)]
Mount = Annotated[str, Field(pattern=FROM_TO)]
Kind = Literal["local", "docker", "slurm", "kubernetes"]
if TYPE_CHECKING:
    Stage = str
else:
    Stage = Literal[(*stages(), "doctor")]
"""Names of the programs under jobs/ that a cluster can run."""


class Gpu(Config):
    """One GPU of the cluster, as its data sheet says; what `imbik plan` reckons with."""

    name: str = Field(min_length=1, description="For people, for instance 'H100 80GB SXM'.")
    memory_gb: float = Field(gt=0, description="Memory in GB (10^9 bytes).")
    bf16_tflops: float = Field(gt=0, description="Dense bf16 TFLOP/s, without sparsity.")


class Resources(Config):
    """What one job asks for. Ranks come from the stage's `parallel`; they are spread evenly over the nodes, a GPU each
    where there are."""

    nodes: int | None = Field(default=None, ge=1, description="Nodes of a job; empty: as few as hold its ranks.")
    gpus_per_node: int = Field(
        default=0, ge=0, description="GPUs of a node, and so its most ranks; 0: the job runs on CPUs."
    )
    image: str | None = Field(default=None, min_length=1, description="Container image; empty: without a container.")
    time_limit_minutes: float | None = Field(
        default=None, gt=0, description="Longest time of one attempt, in minutes; empty: none."
    )
    margin_seconds: float = Field(
        default=120.0, ge=0, description="A job that trains saves and stops this long before its limit."
    )
    queue: str | None = Field(
        default=None, min_length=1, description="Slurm partition, or Kueue's local queue on Kubernetes."
    )
    account: str | None = Field(default=None, min_length=1, description="Slurm account; empty: the user's default.")
    memory_gb: float | None = Field(
        default=None, gt=0, description="Main memory of a node's share, in GB; empty: the cluster's default."
    )
    cpus: int | None = Field(
        default=None, ge=1, description="CPU cores of a node's share; empty: the cluster's default."
    )
    environment: dict[Variable, str] = Field(
        default={}, description="Environment variables of the job; never a secret."
    )
    mounts: tuple[Mount, ...] = Field(
        default=(), description="Folders a container sees, as here:there or here:there:ro."
    )
    parallel: Parallel | None = Field(default=None, description="In place of the recipe's, for this cluster.")

    def spread(self, parallel: Parallel) -> tuple[int, int]:
        """Nodes, and ranks on each. Raises ValueError where they do not come out even or a node is too small."""
        ranks = parallel.processes
        nodes = self.nodes or (math.ceil(ranks / self.gpus_per_node) if self.gpus_per_node else 1)
        if ranks % nodes:
            raise ValueError(
                f"{ranks} ranks do not spread evenly over {nodes} nodes; choose nodes that divide parallel.processes"
            )
        if self.gpus_per_node and ranks // nodes > self.gpus_per_node:
            least = math.ceil(ranks / self.gpus_per_node)
            raise ValueError(
                f"{ranks // nodes} ranks a node are more than gpus_per_node {self.gpus_per_node}; set nodes={least}"
            )
        return nodes, ranks // nodes


class DockerCluster(Config):
    """Containers of a Docker engine on this machine."""

    shm_gb: float = Field(
        default=8.0, gt=0, description="Shared memory of a container in GB, which NCCL and loaders use."
    )


class Ssh(Config):
    """How to reach the login node; the password or passphrase is ssh's own affair (agent, keys), never a setting. The
    store is a folder that this machine and the cluster see under one path."""

    host: str = Field(min_length=1, description="Login node.")
    user: str = Field(min_length=1, description="User there.")
    port: int | None = Field(default=None, ge=1, le=65535, description="Port; empty: 22.")
    identity_file: str | None = Field(
        default=None, min_length=1, description="Path of the private key; empty: the agent's."
    )


class SlurmCluster(Config):
    """A Slurm cluster, from a login node or over SSH."""

    ssh: Ssh | None = Field(default=None, description="Empty: this machine can run sbatch itself.")
    python: str | None = Field(
        default=None, pattern=r"^/", description="Folder of python and torchrun on the nodes; empty: as here."
    )
    code: str | None = Field(
        default=None, pattern=r"^/", description="Folder of imbik's code on the nodes; empty: as here."
    )
    qos: str | None = Field(default=None, min_length=1, description="Quality of service.")
    constraint: str | None = Field(default=None, min_length=1, description="Features that nodes must have.")
    exclusive: bool = Field(default=False, description="Ask for whole nodes.")
    gpu_request: Literal["gres", "none"] = Field(
        default="gres", description="Ask for --gpus-per-node, or leave GPUs out of the request."
    )
    rendezvous_port: int = Field(
        default=29400, ge=1024, le=60000, description="First of 4,000 ports where a job's nodes meet."
    )
    poll_seconds: float = Field(default=5.0, gt=0, description="Between two questions to squeue.")


class Volume(Config):
    """A persistent volume claim that all nodes see."""

    claim: str = Field(min_length=1, description="Name of the claim.")
    path: str = Field(pattern=r"^/", description="Where it is mounted.")
    read_only: bool = Field(default=False, description="Whether a job may only read it.")


class KubernetesCluster(Config):
    """A Kubernetes cluster with Kubeflow's trainer, whose TrainJobs NeMo-Run submits."""

    namespace: str = Field(default="default", min_length=1, description="Namespace of the jobs.")
    volumes: tuple[Volume, ...] = Field(
        min_length=1, description="Volumes of a job; the store lies under one of their paths."
    )
    runtime: str = Field(
        default="torch-distributed", min_length=1, description="ClusterTrainingRuntime of the trainer."
    )
    secret: str | None = Field(
        default=None, min_length=1, description="Kubernetes Secret that holds the variables of `secrets`."
    )
    pull_secrets: tuple[str, ...] = Field(default=(), description="Secrets for pulling the image.")
    tolerations: tuple[dict[str, str], ...] = Field(
        default=(), description="Taints that a job tolerates, as Kubernetes writes them."
    )
    poll_seconds: float = Field(default=5.0, gt=0, description="Between two questions to the API server.")


class Cluster(Config):
    """Where a recipe's stages run."""

    description: str = Field(default="", description="One line for people.")
    kind: Kind = Field(default="local", description="How jobs are submitted.")
    gpu: Gpu | None = Field(default=None, description="The cluster's GPU; empty: unknown.")
    docker: DockerCluster | None = Field(default=None, description="Settings of kind docker.")
    slurm: SlurmCluster | None = Field(default=None, description="Settings of kind slurm.")
    kubernetes: KubernetesCluster | None = Field(default=None, description="Settings of kind kubernetes.")
    defaults: Resources = Field(default=Resources(), description="What every stage asks for.")
    stages: dict[Stage, Resources] = Field(
        default={}, description="What a stage asks for where it differs from defaults."
    )
    secrets: tuple[Variable, ...] = Field(
        default=(), description="Names of environment variables to pass on; values stay out of files."
    )
    resubmissions: int = Field(
        default=100, ge=0, description="How often a job that met its time limit is submitted again."
    )
    retries: int = Field(
        default=2, ge=0, description="How often a job is submitted again that was preempted, lost its node or hung."
    )
    queue_minutes: float | None = Field(
        default=None, gt=0, description="Longest wait in the queue, in minutes; empty: no limit."
    )
    hang_seconds: float | None = Field(
        default=None, gt=0, description="A job without progress for so long hung; empty: job's default."
    )

    def resources(self, stage: str) -> Resources:
        """What a job of `stage` asks for: the defaults with the stage's own settings over them; environment variables
        add up."""
        own = next((found for name, found in self.stages.items() if name == stage), Resources())
        stated = {name: getattr(own, name) for name in own.model_fields_set}
        environment = self.defaults.environment | own.environment
        return self.defaults.model_copy(update=stated | {"environment": environment})

    @model_validator(mode="after")
    def _section(self) -> Self:
        for kind in ("docker", "slurm", "kubernetes"):
            if kind != self.kind and getattr(self, kind):
                raise ValueError(
                    f"the cluster's kind is {self.kind} but it has settings of {kind}; leave them out or set kind:"
                    f" {kind}"
                )
        if self.kind == "kubernetes" and not self.kubernetes:
            raise ValueError(
                "the cluster's kind is kubernetes but kubernetes.volumes is missing; name the claim that holds the"
                " store"
            )
        if self.kind == "docker" and self.secrets:
            raise ValueError(
                "secrets cannot be passed to docker, which writes a job's environment to disk; mount a file and name it"
                " in environment, for instance HF_TOKEN_PATH"
            )
        if self.kind == "kubernetes" and self.secrets and self.kubernetes and not self.kubernetes.secret:
            raise ValueError("secrets need kubernetes.secret, the name of the Secret that holds them")
        return self

    @model_validator(mode="after")
    def _places(self) -> Self:
        for stage in (None, *self.stages):
            where = f"stages.{stage}" if stage else "defaults"
            resources = self.resources(stage) if stage else self.defaults
            if self.kind in ("docker", "kubernetes") and not resources.image:
                raise ValueError(f"{where}.image is missing; name the image that deploy/worker.Dockerfile makes")
            if self.kind == "local" and (resources.image or (resources.nodes or 1) > 1):
                raise ValueError(
                    f"{where} asks for {'an image' if resources.image else 'several nodes'}; the local cluster has none"
                )
            if self.kind == "docker" and (resources.nodes or 1) > 1:
                raise ValueError(
                    f"{where}.nodes is {resources.nodes}, but docker has one node; leave it out or use slurm or"
                    " kubernetes"
                )
            if self.kind != "slurm" and resources.account:
                raise ValueError(f"{where}.account is {resources.account}, which only slurm has; leave it out")
            if resources.time_limit_minutes and resources.margin_seconds >= resources.time_limit_minutes * 60:
                raise ValueError(
                    f"{where}.margin_seconds is {resources.margin_seconds:g}, not less than its time limit of "
                    f"{resources.time_limit_minutes:g} minutes; choose a smaller margin"
                )
            if secret := set(resources.environment) & set(self.secrets):
                raise ValueError(
                    f"{where}.environment gives {min(secret)} a value, but it is one of secrets; leave the value out"
                )
            if named := [name for name in resources.environment if is_secret(name)]:
                raise ValueError(
                    f"{where}.environment gives {named[0]} a value, which would be stored with the run; name it in"
                    " secrets"
                )
        return self


LOCAL = Cluster(description="This machine; jobs are its own processes.")


def load_cluster(cluster: str, overrides: list[str] | None = None) -> Cluster:
    """The cluster of a name that ships with imbik or of a YAML file, with `dotted.key=value` overrides applied. Raises
    RecipeError."""
    values = read(cluster, CLUSTERS)
    for text in overrides or []:
        values = override(values, text)
    check_no_secret(values)
    try:
        return Cluster.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"cluster {cluster}: {sentence(error, Cluster)}") from error
