"""Prefect's pages and API against a real `imbik up`: runs from the form, retried, suspended, cancelled, queued, late,
told about.

The tests build on each other's runs, in this order: the store is what makes them short.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from conf.load import load
from tests.fixtures.flow import RECIPE, first_step_since, imbik, reached, report_of, wait_for
from tests.fixtures.pages import LONG, ONE_STUDENT, Site, recipe

pytest_plugins = ["tests.fixtures.pages"]
pytestmark = pytest.mark.drill
CHROMIUM = shutil.which("chromium")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
SEES_SECONDS = 12.0
"""In which a flow run that is suspended learns of it: by an event, or when it asks, every ten seconds."""
TOO_MANY = "students.depth.prune.num_layers is 9 but the teacher has 3; choose at most that"


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_run_started_from_form_is_shown_to_its_end(site: Site) -> None:
    from playwright.sync_api import expect, sync_playwright

    with pytest.raises(ValueError, match="num_layers") as ours:
        load(str(ONE_STUDENT), ["students.depth.prune.num_layers=9"])
    assert str(ours.value) == TOO_MANY
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1300, "height": 1600})
        page.set_default_timeout(120_000)
        expect.set_options(timeout=120_000)

        def submitted(**values: str) -> str | None:
            """Fill the form and submit it; the run it led to, if any."""
            before: set[str] = {run["id"] for run in site.runs("one-student")}
            page.goto(f"{site.pages}/deployments/deployment/{site.deployment('compress/one-student')}/run")
            page.get_by_text("Text to tokens: read, quarantine invalid records", exact=False).first.wait_for()
            for field, value in values.items():
                # The last field of a name: a student's own section comes after the teacher's shape.
                page.locator(
                    f"xpath=//label[starts-with(normalize-space(.), '{field}')]/following::input[1]"
                ).last.fill(value)
            with page.expect_response(lambda answer: "/create_flow_run" in answer.url) as answer:
                page.get_by_role("button", name="Submit").click()
            new = {run["id"] for run in site.runs("one-student")} - before
            assert len(new) == answer.value.ok
            return new.pop() if new else None

        assert submitted(Documents="-5") is None, "a value below its bound was taken"
        assert page.get_by_text("Optimizer steps.").first.is_visible(), "descriptions stand by their fields"

        wrong = submitted(**{"Num Layers": "9"})
        assert wrong
        assert site.end(wrong)["message"] == TOO_MANY
        page.goto(f"{site.pages}/runs/flow-run/{wrong}")
        expect(page.get_by_text(TOO_MANY).first).to_be_visible()
        expect(page.get_by_text("Failed", exact=True).first).to_be_visible()
        assert page.get_by_text("Traceback").count() == 0

        run = submitted(Documents="600")
        assert run
        page.goto(f"{site.pages}/runs/flow-run/{run}")
        assert site.end(run)["name"] == "Completed", site.state(run)
        expect(page.get_by_text("Completed", exact=True).first).to_be_visible()
        for told in ("preset:one-student", "model:from-scratch", "cluster:local"):
            expect(page.get_by_text(told).first).to_be_visible()
        page.get_by_text("Artifacts", exact=True).click()
        for key in ("report", "models", "store", "mlflow"):
            expect(page.get_by_text(key, exact=True).first).to_be_visible()
        places = {key: page.get_by_text(key, exact=True).first.bounding_box() for key in ("report", "models", "store")}
        assert min(places, key=lambda key: (places[key] or {"y": 0.0})["y"]) == "report", places
        report = next(one for one in site.artifacts(run) if one["key"] == "report")
        page.goto(f"{site.pages}/artifacts/artifact/{report['id']}")
        expect(page.get_by_text("depth-fp8").first).to_be_visible()

        again = site.begin("compress/one-student")
        assert site.end(again)["name"] == "Cached"
        page.goto(f"{site.pages}/runs/flow-run/{again}")
        page.get_by_text("Task Runs", exact=True).click()
        expect(page.get_by_text("quantize-depth-fp8").last).to_be_visible()
        assert page.get_by_text("Cached", exact=True).count() > 5
        browser.close()


def test_rerun_reports_that_nothing_was_built(site: Site) -> None:
    first = site.begin("compress/one-student")
    assert site.end(first)["type"] == "COMPLETED"
    again = site.begin("compress/one-student")
    state = site.end(again)
    assert (state["name"], state["message"]) == (
        "Cached",
        "Nothing was built: inputs and settings are unchanged, and all 10 stages were in the store.",
    )
    tasks = site.tasks(again)
    assert {"data", "teacher", "prune-depth", "quantize-depth-fp8", "evaluate-teacher"} <= set(tasks)
    assert set(tasks.values()) == {"Cached"}
    keys = {one["key"]: one for one in site.artifacts(again)}
    assert "data:image/svg+xml;base64," in keys["report"]["data"] and "](plots/" not in keys["report"]["data"]
    of_run = [one for one in site.artifacts(again) if not one["task_run_id"]]
    assert max(of_run, key=lambda one: one["id"])["key"] == "report", "the page does not show the report first"
    assert "/#/experiments/" in keys["mlflow"]["data"]
    assert keys["mlflow"]["task_run_id"] is None, "the link hangs on a stage"
    models = json.loads(keys["models"]["data"])
    assert len(models) == len(report_of(site.store, "one-student")["rows"])
    assert models[0]["top-1"] == "100.0%" and all("%" in row["score"] for row in models)
    bars = [one for one in site.api("artifacts/filter", {"limit": 200}) if one["type"] == "progress"]
    assert bars == [], "a stage's bar is still there after its end"


def test_short_form_runs_a_preset_with_overrides(site: Site) -> None:
    first = site.begin("compress/one-student")
    assert site.end(first)["type"] == "COMPLETED"
    short = site.begin("run/a-preset", preset=str(ONE_STUDENT), name="short", overrides=["winner.margin=0"])
    assert site.end(short)["name"] == "Cached", site.state(short)
    assert report_of(site.store, "short")["run"]["command"] == "Prefect's deployment run/a-preset"
    wrong = site.begin("run/a-preset", preset=str(ONE_STUDENT), overrides=["students.depth.prune.num_layers=9"])
    assert site.end(wrong)["message"] == TOO_MANY


def test_page_shows_rejected_input_failures_and_failed_gates(site: Site) -> None:
    refused = site.refused("compress/one-student", recipe=recipe() | {"teachers": {}})
    assert refused in (409, 422)
    wrong = recipe()
    wrong["students"]["depth"]["prune"]["num_layers"] = 9
    failed = site.begin("compress/one-student", recipe=wrong, cluster="slurm", name="wrong")
    assert (site.end(failed)["type"], site.state(failed)["message"]) == ("FAILED", TOO_MANY)
    assert "cluster:slurm" in site.api(f"flow_runs/{failed}")["tags"]
    assert site.tasks(failed) == {}
    assert not any("Traceback" in line for line in site.log(failed))
    assert TOO_MANY in next(one for one in site.artifacts(failed) if one["key"] == "failure")["data"]
    gate = {"near": {"after": "prune", "metric": "val_loss", "against": "teacher", "by": "difference", "at_most": -0.5}}
    closed = site.begin("compress/one-student", recipe=recipe() | {"gates": gate}, name="gated")
    assert site.end(closed)["name"] == "Stopped by a gate"
    wait_for(
        lambda: any(TOO_MANY in text for text in site.posted), 120, f"nobody was told of the failure: {site.posted}"
    )
    wait_for(
        lambda: any("Stopped by a gate: gate near" in text for text in site.posted),
        120,
        f"nor of the gate: {site.posted}",
    )


def test_run_can_be_retried_suspended_resumed_and_cancelled(site: Site) -> None:
    """The machine is told that it has one GPU (CUDA_VISIBLE_DEVICES=0), so that jobs hold it as they would a real
    one."""
    run = site.begin("compress/one-student", recipe=recipe(*LONG), name="long")
    wait_for(lambda: reached(site.store) >= 200 or site.ended(run), 300, "no checkpoint")
    job = stopped(site, "teacher")
    settings = {
        "model": "one-student/depth",
        "quantize": [{"format": "int8_sq", "calibration_samples": 8, "seq_length": 64}],
    }
    other = site.begin("quantize/a-model", settings=settings)
    wait_for(lambda: "Running" in site.tasks(other).values() or site.ended(other), 300, "the other run did not begin")
    assert not site.ended(other), site.state(other)
    assert site.jobs("quantize") == [], "two stages have the one GPU"
    job.send_signal(signal.SIGKILL)
    failed = site.end(run)
    assert failed["type"] == "FAILED"
    assert "ended by SIGKILL" in failed["message"]
    assert site.end(other)["type"] == "COMPLETED", "the GPU was not handed on"
    kept = reached(site.store)
    assert kept >= 200

    retried = time.time()
    site.retry(run)
    wait_for(lambda: site.jobs("teacher") or site.ended(run), 300, "it was not retried")
    job = stopped(site, "teacher")
    suspended = {
        "type": "PAUSED",
        "name": "Suspended",
        "state_details": {"pause_reschedule": True, "pause_timeout": _later()},
    }
    site.api(f"flow_runs/{run}/set_state", {"state": suspended})
    time.sleep(SEES_SECONDS)
    job.send_signal(signal.SIGCONT)
    wait_for(
        lambda: site.state(run)["name"] == "Suspended" and not site.working(), 300, f"still at work: {site.working()}"
    )
    assert site.tasks(run)["teacher"] == "Completed", "what ran was not finished first"
    assert first_step_since(site.store, "long", retried) > kept, "steps before the failure were made again"

    site.api(f"flow_runs/{run}/resume", {})
    wait_for(
        lambda: any("already in the store: teacher" in line for line in site.log(run)),
        300,
        "it did not take the teacher it made",
    )
    site.api(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    wait_for(lambda: not site.working(), 120, f"still alive: {site.working()}")
    assert site.end(run)["type"] == "CANCELLED"


def stopped(site: Site, stage: str) -> psutil.Process:
    """The job of a stage, held so that what follows does not race with its end."""
    job = min(
        (psutil.Process(pid) for pid in site.jobs(stage)), key=psutil.Process.create_time
    )  # the others write its checkpoints
    job.send_signal(signal.SIGSTOP)
    return job


def _later() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


def test_prefect_deploy_queues_runs_and_rebuilds_changes(site: Site, tmp_path: Path) -> None:
    ours = site.deployments()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT")}
    environment |= {
        "PREFECT_API_URL": f"{site.pages}/api",
        "PREFECT_HOME": str(tmp_path),
        "PYTHONPATH": str(RECIPE.parents[2]),
    }
    environment |= {"IMBIK_STORE": str(site.store), "IMBIK_WORK_POOL": "imbik", "DO_NOT_TRACK": "1"}
    command = [
        sys.executable,
        "-m",
        "prefect",
        "--no-prompt",
        "deploy",
        "--all",
        "--prefect-file",
        "deploy/prefect.yaml",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=RECIPE.parents[2], timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    theirs = site.deployments()
    for name in ours:
        if name != "compress/one-student":
            assert theirs[name] == ours[name], f"{name} is not the same"
    weekly = theirs["compress/weekly-student"]
    assert weekly["schedules"] == [{"cron": "0 4 * * sun", "timezone": "Europe/Berlin", "day_or": True}]

    listed = imbik("schedules", store=site.store)
    assert "prepare/nightly-corpus" in listed.stdout
    assert "at '0 4 * * sun' (Europe/Berlin)" in listed.stdout
    text = tmp_path / "text.txt"
    text.write_text("".join(f"a sentence of number {number}\n" for number in range(300)))
    settings: dict[str, Any] = {"source": str(text), "vocab_size": 300}
    site.api("work_pools/imbik", {"is_paused": True}, "PATCH")
    runs = [site.begin("prepare/nightly-corpus", data=settings, name="nightly") for _ in range(2)]
    wait_for(
        lambda: [site.state(run)["name"] for run in runs] == ["Late", "Late"], 120, "a missed run is not called late"
    )
    missed = next(
        line for line in imbik("schedules", store=site.store).stdout.splitlines() if "prepare/nightly-corpus" in line
    )
    assert missed.rstrip(" │┃").endswith("2"), missed
    site.api("work_pools/imbik", {"is_paused": False}, "PATCH")
    ends = [site.end(run) for run in runs]
    assert sorted(end["name"] for end in ends) == ["Cached", "Completed"]
    spans = sorted(
        (site.api(f"flow_runs/{run}")["start_time"], site.api(f"flow_runs/{run}")["end_time"]) for run in runs
    )
    assert spans[0][1] <= spans[1][0], "one after the other"
    text.write_text(text.read_text() + "one more sentence\n")
    assert (
        site.end(site.begin("prepare/nightly-corpus", data=settings, name="nightly"))["message"]
        == "Built 1 of 1 stages: data."
    )


def test_schedules_are_made_listed_paused_and_removed(site: Site) -> None:
    made = imbik(
        "schedule",
        str(RECIPE),
        "--name",
        "weekly",
        "--cron",
        "0 2 * * 0",
        "--timezone",
        "Europe/Berlin",
        store=site.store,
    )
    assert made.returncode == 0, made.stderr
    assert "compress/weekly runs at '0 2 * * 0' (Europe/Berlin); next: " in made.stdout
    wait_for(lambda: site.runs("weekly"), 120, "Prefect planned no run of the schedule")
    assert re.search("CES?T", imbik("schedules", store=site.store).stdout), "its next run is not told in its zone"
    site.api(f"deployments/{site.deployment('compress/weekly')}/pause_deployment", {})
    wait_for(lambda: not site.runs("weekly"), 60, "a paused deployment still has runs")
    listed = imbik("schedules", store=site.store).stdout
    assert "paused" in next(line for line in listed.splitlines() if "compress/weekly " in line)
    assert imbik("unschedule", "weekly", store=site.store).stdout.startswith("1 schedule of weekly removed")
    assert "compress/weekly " not in imbik("schedules", store=site.store).stdout


def test_single_stage_commands_use_cluster_layout(site: Site, tmp_path: Path) -> None:
    cluster = tmp_path / "two.yaml"
    cluster.write_text("extends: local\nstages: {evaluate: {parallel: {threads: 2}}}\n")
    models = ("one-student/depth", "one-student/depth-pruned")
    refused = imbik(
        "evaluate",
        *models,
        "--cluster",
        str(cluster),
        "cluster.stages.evaluate.parallel.tensor=2",
        store=site.store,
        alone=True,
    )
    assert refused.returncode == 2
    assert "parallel.processes is 1, which is not a multiple of tensor 2" in refused.stderr
    how = ("evaluate.seq_length=64", "evaluate.sequences=4", "evaluate.precision=fp32", "evaluate.mmlu=null")
    evaluated = imbik("evaluate", *models, "--cluster", str(cluster), *how, store=site.store, alone=True)
    assert evaluated.returncode == 0, evaluated.stderr
    assert [row["model"] for row in report_of(site.store, "evaluated")["rows"]] == list(models)
    for label in ("evaluate-one-student-depth", "evaluate-one-student-depth-pruned"):
        record = json.loads((site.store / "runs" / "evaluated" / label / "artifact.json").read_text())
        assert record["config"]["parallel"]["threads"] == 2, "the cluster's layout was not taken"
    rows = {row["model"]: row for row in report_of(site.store, "quantized")["rows"]}
    original = next(row for row in report_of(site.store, "one-student")["rows"] if row["model"] == "depth")
    assert rows["one-student/depth"]["val_loss"] == original["val_loss"], (
        "measured as its run did, and taken from the store"
    )
    compared = imbik("compare", "quantized", "evaluated", store=site.store, alone=True)
    assert compared.returncode == 0, compared.stderr
    assert report_of(site.store, "compared")["rows"][0]["model"] == "quantized/one-student/depth"
