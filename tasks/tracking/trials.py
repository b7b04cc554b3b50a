"""Trials of a study in MLflow: runs within the study's, with their values as parameters and their objectives as
metrics; their own stages are runs within them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from conf.base import flat
from tasks.tracking.spool import Event, SentState

if TYPE_CHECKING:
    from tasks.tracking.sender import Sender

NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_\-./ ]")
"""MLflow refuses other signs in the names of metrics."""


def label_of(name: str) -> str:
    """The label of a trial's run, which no stage has."""
    return f"trial {name}"


def above(sent: SentState, event: Event) -> str:
    """The run in which a stage's run lies: its trial's, else the flow's."""
    return sent.runs.get(label_of(event.get("within", "")), sent.parent)


def begin(sender: Sender, event: Event) -> None:
    """Create the run of a trial."""
    from mlflow.entities import Param

    tags = {"mlflow.parentRunId": sender.sent.parent, "imbik.kind": "trial", "imbik.trial": event["name"]}
    run = sender.run(label_of(event["name"]), event["name"], tags, event["at"])
    sender.client.update_run(run, status="RUNNING")
    params = [Param(key, str(value)[:500]) for key, value in flat(event["point"]).items()]
    sender.log(run, f"trial {event['name']}", params=params)


def end(sender: Sender, event: Event) -> None:
    """Log the objectives of a trial, or why it failed, and end its run."""
    from mlflow.entities import Metric

    run = sender.sent.runs[label_of(event["name"])]
    values = {NOT_IN_NAMES.sub("-", name): value for name, value in event["values"].items()}
    metrics = [Metric(name, value, event["at"], 0) for name, value in values.items()]
    sender.log(run, f"trial {event['name']}", metrics=metrics)
    if event["failed"]:
        sender.client.set_tag(run, "imbik.error", event["failed"][:5000])
    sender.client.set_terminated(run, status="FAILED" if event["failed"] else "FINISHED", end_time=event["at"])
    sender.sent.told.append(_ended(event["name"]))


def close(sender: Sender, event: Event) -> None:
    """End the runs of trials that the flow did not come to the end of."""
    for label, run in sender.sent.runs.items():
        name = label.removeprefix("trial ")
        if label == label_of(name) and _ended(name) not in sender.sent.told:
            sender.client.set_terminated(run, status="KILLED", end_time=event["at"])


def _ended(name: str) -> str:
    return f"end of trial {name}"
