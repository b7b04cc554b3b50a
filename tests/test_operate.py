"""Prefect's pages and API against a real `imbik up`: runs from the form, cancelled, retried, queued, scheduled, told about."""

from __future__ import annotations

import json
import shutil
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from conf.load import load
from tests.flow_fixtures import RECIPE, imbik, report_of, wait_for
from tests.operate_fixtures import Site, tiny

pytest_plugins = ["tests.operate_fixtures"]
pytestmark = pytest.mark.drill
CHROMIUM = shutil.which("chromium")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
LONG = ("teacher.steps=4000", "students.width=null", "students.depth.quantize=false", "distill=null")


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_form_is_filled_submitted_and_the_run_watched_to_its_end(site: Site, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1300, "height": 2200})
        page.goto(f"{site.pages}/deployments/deployment/{site.deployment('compress/tiny')}/run")
        page.set_default_timeout(120_000)
        page.get_by_text("Text to tokens: read, quarantine what is not valid", exact=False).first.wait_for()
        assert page.get_by_text("Optimizer steps.").first.is_visible(), "descriptions stand by their fields"
        layers = page.locator("xpath=//label[contains(normalize-space(.), 'Num Layers')]/following::input[1]")
        assert layers.count() > 1, "a student has a section of its own beside the teacher's shape"
        page.screenshot(path=tmp_path / "form.png")
        layers.last.scroll_into_view_if_needed()
        page.screenshot(path=tmp_path / "student.png")
        documents = page.locator("xpath=//label[contains(normalize-space(.), 'Documents')]/following::input[1]").first
        documents.fill("-5")
        page.get_by_role("button", name="Submit").click()
        page.wait_for_timeout(5000)
        page.screenshot(path=tmp_path / "refused.png")
        assert page.url.endswith("/run") and site.api("flow_runs/count", {}) == 0, "a value below its bound was submitted"
        documents.fill("600")
        page.get_by_role("button", name="Submit").click()
        run = wait_for(lambda: site.api("flow_runs/filter", {}), 60, "nothing was submitted")[0]
        page.goto(f"{site.pages}/runs/flow-run/{run['id']}")
        site.end(run["id"])
        page.get_by_text("Completed", exact=True).first.wait_for()
        page.wait_for_timeout(2000)
        page.screenshot(path=tmp_path / "run.png")
        browser.close()
    assert site.end(run["id"])["name"] == "Completed"


def test_a_run_reads_well(site: Site) -> None:
    run = site.begin("compress/tiny")
    state = site.end(run)
    assert state["type"] == "COMPLETED"
    again = site.begin("compress/tiny")
    assert site.end(again)["name"] == "Cached"
    assert site.state(again)["message"].startswith("Nothing was built: no input and no setting changed")
    tasks = site.tasks(again)
    assert {"data", "teacher", "prune-depth", "quantize-depth-nvfp4", "evaluate-width-fp8"} <= set(tasks)
    assert set(tasks.values()) == {"Cached"}
    assert {"preset:tiny", "model:from-scratch", "cluster:local"} <= set(site.api(f"flow_runs/{again}")["tags"])
    keys = {one["key"]: one for one in site.artifacts(again)}
    assert {"report", "models", "pictures", "store", "mlflow"} <= set(keys)
    assert "data:image/svg+xml;base64," in keys["pictures"]["data"]
    assert len(json.loads(keys["models"]["data"])) == len(report_of(site.store, "tiny")["rows"])
    bars = [one for one in site.artifacts(run) if one["type"] == "progress"] or [
        one for one in site.api("artifacts/filter", {"limit": 200}) if one["type"] == "progress"
    ]
    assert bars and all(one["data"] == 100.0 for one in bars)


def test_what_the_schema_refuses_is_not_started_and_what_it_cannot_see_fails_in_one_sentence(site: Site) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        site.begin("compress/tiny", recipe=tiny() | {"teachers": {}})
    assert refused.value.code in (409, 422)
    wrong = tiny()
    wrong["students"]["depth"]["prune"]["num_layers"] = 9
    with pytest.raises(ValueError, match="num_layers") as ours:
        load(str(RECIPE), ["students.depth.prune.num_layers=9"])
    run = site.begin("compress/tiny", recipe=wrong)
    state = site.end(run)
    assert (state["type"], state["message"]) == ("FAILED", str(ours.value))
    logs = site.api("logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}})
    assert not any("Traceback" in line["message"] for line in logs)
    assert site.tasks(run) == {}
    wait_for(lambda: any(str(ours.value) in text for text in site.posted), 60, f"nobody was told: {site.posted}")


def test_a_closed_gate_is_told(site: Site) -> None:
    gate = {"near": {"after": "prune", "metric": "val_loss", "against": "teacher", "by": "difference", "at_most": -0.5}}
    run = site.begin("compress/tiny", recipe=tiny() | {"gates": gate})
    assert site.end(run)["name"] == "Stopped by a gate"
    wait_for(lambda: any("Stopped by a gate: gate near" in text for text in site.posted), 60, f"nobody was told: {site.posted}")


def reached(store: Path) -> int:
    return max((int(path.name.removeprefix("step-")) for path in store.glob(".work/teacher-*/checkpoints/step-*")), default=0)


def test_a_cancelled_run_leaves_no_process_and_its_retry_continues(site: Site) -> None:
    run = site.begin("compress/tiny", recipe=tiny(*LONG), name="long")
    wait_for(lambda: reached(site.store) >= 40, 120, f"no checkpoint: {site.state(run)}")
    site.api(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    wait_for(lambda: not site.working(), 30, f"still alive: {site.working()}")
    assert site.end(run, 60)["type"] == "CANCELLED"
    done = reached(site.store)
    assert done >= 40
    retried = site.begin("compress/tiny", recipe=tiny(*LONG), name="long")
    assert site.end(retried)["type"] == "COMPLETED"
    log = next((site.store / "runs" / "long" / "teacher").glob("metrics.jsonl"))
    times = [json.loads(line)["time"] for line in log.read_text().splitlines()]
    begun = site.api(f"flow_runs/{retried}")["start_time"]
    assert times[0] < _seconds(begun) < times[-1], "steps before the cancel were not made again"


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def test_a_failed_run_is_retried_in_place_and_takes_what_was_made(site: Site, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"line {number} of a small text about number {number * 7}\n" for number in range(400)))
    questions = tmp_path / "mmlu"
    questions.mkdir()
    recipe = tiny("students.width=null", "distill=null", "students.depth.quantize=false", f"data.source={text}")
    recipe["evaluate"] |= {"mmlu": {"path": str(questions)}}
    run = site.begin("compress/tiny", recipe=recipe, name="again")
    failed = site.end(run)
    assert failed["type"] == "FAILED"
    first = set(site.store.glob("*/*/artifact.json"))
    recipe["evaluate"] |= {"mmlu": None}
    site.api(f"flow_runs/{run}", {"parameters": {"recipe": recipe, "name": "again", "store": str(site.store)}}, "PATCH")
    site.api(f"flow_runs/{run}/set_state", {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True})
    assert site.end(run)["type"] == "COMPLETED"
    new = {path.parent.parent.name for path in set(site.store.glob("*/*/artifact.json")) - first}
    assert new == {"evaluate"}, "all but the failed stage was taken from the store"


def test_runs_of_one_name_queue_and_a_changed_file_rebuilds_only_what_depends_on_it(site: Site, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"a sentence of number {number}\n" for number in range(300)))
    settings: dict[str, Any] = {"source": str(text), "vocab_size": 300}
    runs = [site.begin("prepare/a-corpus", data=settings, name="nightly") for _ in range(2)]
    ends = [site.end(run) for run in runs]
    assert sorted(end["name"] for end in ends) == ["Cached", "Completed"]
    spans = sorted((site.api(f"flow_runs/{run}")["start_time"], site.api(f"flow_runs/{run}")["end_time"]) for run in runs)
    assert spans[0][1] <= spans[1][0], "one after the other"
    text.write_text(text.read_text() + "one more sentence\n")
    assert site.end(site.begin("prepare/a-corpus", data=settings, name="nightly"))["message"] == "Built 1 of 1 stages: data."


def test_schedules_are_made_listed_and_removed(site: Site) -> None:
    made = imbik("schedule", str(RECIPE), "--name", "weekly", "--cron", "0 2 * * 0", "--timezone", "Europe/Berlin", store=site.store)
    assert made.returncode == 0, made.stderr
    assert "compress/weekly runs at '0 2 * * 0' (Europe/Berlin); next: " in made.stdout
    listed = imbik("schedules", store=site.store)
    assert "compress/weekly" in listed.stdout and "at '0 2 * * 0' (Europe/Berlin)" in listed.stdout
    wait_for(
        lambda: site.api("flow_runs/filter", {"deployments": {"name": {"any_": ["weekly"]}}}), 60, "Prefect planned no run of the schedule"
    )
    assert imbik("unschedule", "weekly", store=site.store).stdout.startswith("1 schedule of weekly removed")
    assert "compress/weekly" not in imbik("schedules", store=site.store).stdout
    wrong = imbik("unschedule", "weekly", store=site.store)
    assert wrong.returncode == 2 and "no schedule is called weekly" in wrong.stderr


def test_single_stages_run_by_command_on_models_of_runs(site: Site) -> None:
    quantized = imbik("quantize", "tiny/depth", "--format", "int8_sq", "--seq-length", "64", "--samples", "8", store=site.store)
    assert quantized.returncode == 0, quantized.stderr
    rows = {row["model"]: row for row in report_of(site.store, "quantized")["rows"]}
    assert set(rows) == {"tiny/depth", "tiny/depth-int8_sq"}
    assert rows["tiny/depth-int8_sq"]["bytes"] < rows["tiny/depth"]["bytes"]
    original = next(row for row in report_of(site.store, "tiny")["rows"] if row["model"] == "depth")
    assert rows["tiny/depth"]["val_loss"] == original["val_loss"], "measured as its run did, and taken from the store"
    evaluated = imbik("evaluate", "tiny/depth", "tiny/width", store=site.store)
    assert evaluated.returncode == 0, evaluated.stderr
    assert [row["model"] for row in report_of(site.store, "evaluated")["rows"]] == ["tiny/depth", "tiny/width"]
    compared = imbik("compare", "tiny", "again", store=site.store)
    assert compared.returncode == 0, compared.stderr
    settings = report_of(site.store, "compared")["sections"][0]["rows"]
    assert ["evaluate-depth-pruned", "mmlu.style", "continuation", "-"] in settings or settings, settings


def test_prefects_own_command_deploys_the_same(site: Site, tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT")}
    environment |= {"PREFECT_API_URL": f"{site.pages}/api", "PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(RECIPE.parents[2])}
    environment |= {"IMBIK_STORE": str(site.store), "IMBIK_WORK_POOL": "imbik", "DO_NOT_TRACK": "1"}
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "deploy/prefect.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=RECIPE.parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    weekly = site.api("deployments/name/compress/weekly-student")
    assert weekly["schedules"][0]["schedule"] == {"cron": "0 4 * * sun", "timezone": "Europe/Berlin", "day_or": True}
    assert weekly["parameters"]["store"] == str(site.store)
    assert weekly["concurrency_options"]["collision_strategy"] == "ENQUEUE"
