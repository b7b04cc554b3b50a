"""Kubernetes as a backend: NeMo-Run's KubeflowExecutor submits TrainJobs of Kubeflow Trainer; pods give the reason for
waiting or ending.

The trainer sets torchrun's PET_ variables in every pod; pods mount the store at the path that the flow uses.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.cluster import Cluster, KubernetesCluster
from conf.spec import RANK_OF_ARRAY
from tasks.launch import nemo_run
from tasks.launch.backend import SCRIPT_LOG, Cause, JobRequest, JobStatus

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
JOBSET_LABEL = "jobset.sigs.k8s.io/jobset-name"
HOPELESS = ("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "ErrImagePull", "ImagePullBackOff")
"""Reasons for which a container would wait forever."""

DISRUPTIONS: dict[str, Cause] = {
    "PreemptionByScheduler": "preempted",
    "PreemptionByKueue": "preempted",
    "DeletionByTaintManager": "node",
    "EvictionByEvictionAPI": "node",
    "DeletionByPodGC": "node",
    "TerminationByKubelet": "node",
}


@dataclass(frozen=True)
class Kubernetes:
    """The cluster of the kubeconfig, or of the pod that this runs in."""

    cluster: Cluster
    store: Path

    @property
    def settings(self) -> KubernetesCluster:
        """The cluster's section kubernetes."""
        assert self.cluster.kubernetes is not None, "Cluster has the section of its kind"
        return self.cluster.kubernetes

    @property
    def poll_seconds(self) -> float:
        """Seconds between calls of the API server."""
        return self.settings.poll_seconds

    def check(self, job: JobRequest) -> None:
        """Raise ValueError if the store is not on a volume of the job."""
        paths = [volume.path for volume in self.settings.volumes if not volume.read_only]
        if not any(job.store.is_relative_to(path) for path in paths):
            raise ValueError(
                f"the store {job.store} is on no writable volume of the cluster file ({', '.join(paths) or 'none'});"
                " choose a --store on one of them"
            )

    def submit(self, job: JobRequest) -> str:
        """Create a TrainJob; returns its name."""
        return nemo_run.submit(job, self.executor(job), script=_script(job)).rpartition("___")[2]

    def find(self, name: str) -> str | None:
        """The unfinished TrainJob with this name as its label."""
        from kubernetes import client

        self._api()
        listed: Any = client.CustomObjectsApi().list_namespaced_custom_object(
            "trainer.kubeflow.org", "v1alpha1", self.settings.namespace, "trainjobs", label_selector=f"imbik/job={name}"
        )
        names = [str(item["metadata"]["name"]) for item in listed["items"]]
        return next((job for job in names if self.status(job, Path()).phase in ("queued", "running")), None)

    def status(self, job: str, log: Path) -> JobStatus:
        """State of the TrainJob, with the reason from its pods."""
        from nemo_run.core.execution.kubeflow import KubeflowJobState as State

        api = self._api()
        pods = self._pods(
            job
        )  # raises if the API server does not answer; NeMo-Run's status returns None then, as for a deleted job
        state = api.status(job)
        nodes = ", ".join(sorted({pod.spec.node_name for pod in pods if pod.spec.node_name}))
        if state == State.RUNNING and any(pod.status.phase == "Running" for pod in pods):
            return JobStatus(phase="running", detail=f"on {nodes}")
        if state == State.SUCCEEDED:
            return JobStatus(phase="done", detail=f"ended on {nodes}")
        if state == State.FAILED:
            cause, detail = _cause(pods)
            return JobStatus(
                phase="failed",
                detail=f"Kubernetes reports Failed ({detail})" if detail else "Kubernetes reports Failed",
                cause=cause,
            )
        if state is None:
            return JobStatus(phase="lost", detail="Kubernetes no longer knows its TrainJob")
        hopeless, detail = _waiting(pods)
        return JobStatus(phase="queued", detail=f"queued ({detail})", cause="never-started" if hopeless else None)

    def cancel(self, job: str, *, hard: bool) -> None:
        """Delete the TrainJob: its pods get SIGTERM, and SIGKILL after their grace period."""
        self._api().cancel(job)

    def close(self) -> None:
        """No connection to close."""

    def executor(self, job: JobRequest) -> Any:
        """NeMo-Run's executor for a job."""
        from nemo_run.core.execution.kubeflow import KubeflowExecutor

        resources, settings = job.resources, self.settings
        memory = f"{int(resources.memory_gb * 1000)}M" if resources.memory_gb else None
        return KubeflowExecutor(
            runtime_ref=settings.runtime,
            namespace=settings.namespace,
            image=resources.image,
            num_nodes=job.array if job.array > 1 else job.nodes,
            nprocs_per_node=job.ranks,
            gpus_per_node=(min(job.ranks, resources.gpus_per_node) if job.array == 1 else 0) or None,
            cpu_requests=str(resources.cpus) if resources.cpus else None,
            memory_requests=memory,
            memory_limits=memory,
            volumes=[
                {"name": f"volume-{number}", "persistentVolumeClaim": {"claimName": volume.claim}}
                for number, volume in enumerate(settings.volumes)
            ],
            volume_mounts=[
                {"name": f"volume-{number}", "mountPath": volume.path, "readOnly": volume.read_only}
                for number, volume in enumerate(settings.volumes)
            ],
            labels={"imbik/job": job.name} | ({QUEUE_LABEL: resources.queue} if resources.queue else {}),
            tolerations=[dict(entry) for entry in settings.tolerations],
            env_vars=job.environment,
            env_list=[
                {"name": name, "valueFrom": {"secretKeyRef": {"name": settings.secret, "key": name}}}
                for name in self.cluster.secrets
            ],
            image_pull_secrets=list(settings.pull_secrets),
            train_job_basename=job.name,
        )

    def _api(self) -> Any:
        """NeMo-Run's connection to the cluster."""
        from nemo_run.core.execution.kubeflow import KubeflowExecutor

        nemo_run.prepare(self.store)
        return KubeflowExecutor(namespace=self.settings.namespace)

    def _pods(self, job: str) -> list[Any]:
        from kubernetes import client

        listed = client.CoreV1Api().list_namespaced_pod(self.settings.namespace, label_selector=f"{JOBSET_LABEL}={job}")
        return list(listed.items)


def _script(job: JobRequest) -> Path:
    """Write the script of a pod: torchrun with the trainer's variables, and the log in the usual place. Pods of an
    array are the completions of an Indexed Job, and each is the rank of its index."""
    log, rest = shlex.quote(str(job.log)), shlex.quote(str(job.output / SCRIPT_LOG))
    path = job.output / "pod.sh"
    if job.array > 1:
        path.write_text(
            f"#!/bin/bash\nexport {RANK_OF_ARRAY}=${{JOB_COMPLETION_INDEX:?}}\n"
            f"exec python -m jobs.{job.stage} --spec {shlex.quote(str(job.spec))} >>{log} 2>&1\n"
        )
        return path
    path.write_text(
        f'#!/bin/bash\nlog={log}; [ "${{PET_NODE_RANK:-0}}" = 0 ] || log={rest}  # the first pod writes the log, the'
        f' others one beside it\nexec torchrun --tee 3 -m jobs.{job.stage} --spec {shlex.quote(str(job.spec))} >>"$log"'
        " 2>&1\n"
    )
    return path


def _cause(pods: list[Any]) -> tuple[Cause | None, str]:
    """The external cause that ended the pods, if any, and its name."""
    for pod in pods:
        for condition in pod.status.conditions or []:
            if condition.type == "DisruptionTarget" and condition.reason in DISRUPTIONS:
                return DISRUPTIONS[condition.reason], condition.reason
        for status in pod.status.container_statuses or []:
            ended = status.state.terminated or (status.last_state and status.last_state.terminated)
            if ended and ended.reason == "OOMKilled":
                return "memory", "OOMKilled"
        if pod.status.reason == "Evicted":
            return "node", "Evicted"
        if pod.status.reason == "DeadlineExceeded":
            return "time", "DeadlineExceeded"
    return None, ""


def _waiting(pods: list[Any]) -> tuple[bool, str]:
    """Whether waiting is hopeless, and what the pods wait for."""
    for pod in pods:
        for status in pod.status.container_statuses or []:
            if status.state.waiting and status.state.waiting.reason in HOPELESS:
                return True, f"{status.state.waiting.reason}: {status.state.waiting.message or status.image}"
        for condition in pod.status.conditions or []:
            if condition.type == "PodScheduled" and condition.status == "False":
                return False, f"{condition.reason}: {condition.message}"
    return False, "its pods are being created" if not pods else "its pods are starting"
