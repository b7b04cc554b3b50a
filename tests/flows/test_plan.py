"""The plan: what is in the store is cached, what is not says why, and looking changes nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from conf.base import StageConfig
from conf.load import load
from conf.spec import Record
from flows.plan import PlannedStage, Planning, plan
from tasks.analysis.halving import HalvingProgress
from tasks.store.store import RECORD, Artifact, Store
from tests.fixtures.flow import RECIPE, imbik

TINY = str(RECIPE)


def staged(root: Path, *overrides: str) -> dict[str, PlannedStage]:
    return {stage.label: stage for stage in plan(load(TINY, list(overrides)), root)}


def seal(
    root: Path, stage: PlannedStage, created: str = "2026-01-01T00:00:00", inputs: dict[str, str] | None = None
) -> Path:
    """Put an artifact into the store as the stage would have left it."""
    store = Store(root)
    store.create()
    work = store.work(stage.stage, stage.key)
    work.mkdir()
    (work / "made").write_text(stage.label)
    config: StageConfig = stage.config
    record = Record(
        stage=stage.stage,
        key=stage.key,
        revision=config.revision,
        config=config.model_dump(mode="json"),
        hashed=config.identity(),
        inputs=inputs or {},
        files={},
        seconds=1.0,
        created=created,
        versions={},
    )
    return Path(store.seal(record).path)


def everything(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every entry under a folder with its times and content."""
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mtime_ns,
            path.lstat().st_ino,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in root.rglob("*")
    }


def test_what_is_sealed_is_cached_and_the_rest_will_run(tmp_path: Path) -> None:
    for label in ("data", "teacher", "prune-depth"):
        seal(tmp_path, staged(tmp_path)[label])
    assert {label for label, stage in staged(tmp_path).items() if stage.cached} == {"data", "teacher", "prune-depth"}
    done = imbik("plan", TINY, store=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines() if line.startswith("│")]
    states = {row[1]: row[2] for row in rows if row[1]}  # a long difference takes lines without a label
    assert states.pop("data") == states.pop("teacher") == states.pop("prune-depth") == "cached"
    assert set(states.values()) == {"will run"}


def test_where_it_runs_leaves_it_cached(tmp_path: Path) -> None:
    seal(tmp_path, staged(tmp_path)["teacher"])
    elsewhere = [
        "teacher.parallel.processes=2",
        "teacher.micro_batch=2",
        "teacher.parallel.threads=null",
        "data.workers=1",
    ]
    assert staged(tmp_path, *elsewhere)["teacher"].cached


def test_what_will_run_says_what_differs(tmp_path: Path) -> None:
    before = staged(tmp_path)
    seal(tmp_path, before["data"])
    seal(tmp_path, before["teacher"], inputs={"data": before["data"].key})
    after = staged(tmp_path, "teacher.lr=5e-3", "teacher.shape.hidden_size=48")
    assert after["data"].cached
    assert not after["teacher"].cached
    assert after["teacher"].differs == {"lr": (0.006, 0.005), "shape.hidden_size": (32, 48)}
    assert after["prune-depth"].differs == {}, "there is none to compare with"
    done = imbik("plan", TINY, "teacher.lr=5e-3", store=tmp_path)
    assert "lr: 0.006 → 0.005" in done.stdout


def test_new_inputs_are_a_difference(tmp_path: Path) -> None:
    before = staged(tmp_path)
    seal(tmp_path, before["teacher"], inputs={"data": before["data"].key})
    after = staged(tmp_path, "data.seed=5")
    assert after["teacher"].differs == {"input data": (before["data"].key, after["data"].key)}


def test_the_nearest_record_is_compared_and_of_those_the_newest(tmp_path: Path) -> None:
    for created, overrides in [
        ("2026-01-01", ["teacher.lr=5e-3"]),
        ("2026-01-02", ["teacher.lr=5e-3", "teacher.seed=9"]),
    ]:
        before = staged(tmp_path, *overrides)
        seal(tmp_path, before["teacher"], created, {"data": before["data"].key})
    assert staged(tmp_path)["teacher"].differs == {"lr": (0.005, 0.006)}
    before = staged(tmp_path, "teacher.lr=4e-3")
    seal(tmp_path, before["teacher"], "2026-01-03", {"data": before["data"].key})
    assert staged(tmp_path)["teacher"].differs == {"lr": (0.004, 0.006)}


def run_of(root: Path, name: str, *overrides: str, created: str = "2026-01-01") -> None:
    """A run of a store: every stage sealed, and its folder with a link to each."""
    folder = root / "runs" / name
    folder.mkdir(parents=True)
    for stage in plan(load(TINY, list(overrides)), root):
        path = root / stage.stage / stage.key
        if not stage.cached and not path.exists():
            seal(root, stage, created, stage.inputs)
        (folder / stage.label).symlink_to(path)


def test_stages_are_compared_with_the_nearest_run(tmp_path: Path) -> None:
    run_of(tmp_path, "far", "distill.lr=1e-4", "distill.temperature=3.0", "data.seed=9")
    run_of(tmp_path, "near", "distill.lr=2e-4")
    run_of(tmp_path, "partial", "students.width=null", "distill.lr=3e-3")
    here = staged(tmp_path, "distill.lr=3e-4")
    changed = {label: stage for label, stage in here.items() if not stage.cached}
    assert {stage.against for stage in changed.values()} == {"near"}
    assert changed["distill-depth"].differs == {"lr": (2e-4, 3e-4)}
    assert set(changed["quantize-width-fp8"].differs) == {"input model"}
    assert {stage.against for stage in here.values() if stage.cached} == {""}


@pytest.mark.parametrize(
    ("progress", "waiting"),
    [
        (None, {"prune-small-c*": "4, chosen by search-small", 1: "4, chosen by search-small", 2: "2"}),
        (HalvingProgress(chosen=True), {1: "4, chosen by search-small", 2: "2"}),
        (HalvingProgress(chosen=True, rounds=1), {2: "2"}),
        (HalvingProgress(chosen=True, rounds=2), {}),
    ],
)
def test_rounds_that_wait_are_a_line_each(
    progress: HalvingProgress | None, waiting: dict[int | str, str], tmp_path: Path
) -> None:
    """Of a search whose artifact is known, with so much played of its halving; None: it is not."""
    recipe = load(str(RECIPE.parent / "search.yaml"), [])
    reading = Planning(recipe, Store(tmp_path, writes=False))
    found = Artifact(stage="search", key="k", path=str(tmp_path / "search"))
    if progress:
        (tmp_path / "search").mkdir()
        (tmp_path / "search" / RECORD).write_text("{}")
    cut, taught = reading.race("small", found, lambda _: progress or HalvingProgress(rounds=9))
    waiting = {name if isinstance(name, str) else f"distill-small-c*-r{name}": of for name, of in waiting.items()}
    waiting |= {name: f"{of}, chosen by round 1 of small" for name, of in waiting.items() if name.endswith("r2")}
    assert {stage.label: stage.waits for stage in reading.stages} == {
        name: f"the best {of}" for name, of in waiting.items()
    }
    assert cut.key == "chosen by round 2 of small from k" and taught.key == f"taught, {cut.key}"
    assert not any(stage.cached for stage in reading.stages) and {stage.cut for stage in reading.stages} <= {0}
    steps = {stage.label: getattr(stage.config, "steps", None) for stage in reading.stages}
    assert steps == {label: {"1": 3, "2": 6}.get(label[-1]) for label in waiting}


def test_a_change_reaches_what_comes_after_it_and_nothing_else(tmp_path: Path) -> None:
    before = staged(tmp_path)
    for overrides, changed in [
        (["data.seed=5"], set(before)),
        (
            ["importance.calibration_samples=9"],
            {label for label in before if not label.endswith(("teacher", "data", "contamination"))},
        ),
        (["contamination.min_coverage=0.6"], {"contamination"}),
        (["students.depth.prune.num_layers=1"], {label for label in before if "depth" in label}),
        (
            ["distill.temperature=2"],
            {label for label in before if "-width" in label or "-depth" in label} - pruned_only(before),
        ),
        (
            ["quantize=[{format: fp8, seq_length: 32}]"],
            {"quantize-depth-fp8", "evaluate-depth-fp8", "quantize-width-fp8", "evaluate-width-fp8"},
        ),
        (["evaluate.sequences=7"], {label for label in before if label.startswith("evaluate-")}),
    ]:
        after = staged(tmp_path, *overrides)
        assert {label for label in after if after[label].key != before[label].key} == changed, overrides


def pruned_only(labels: dict[str, PlannedStage]) -> set[str]:
    """Stages of the students before they are taught."""
    return {label for label in labels if label.startswith("prune-") or label.endswith("-pruned")}


def test_a_plan_writes_nothing(tmp_path: Path, shared_data: Path) -> None:
    """Not even what it had to read: a local teacher, text and questions are digested, and nobody is told."""
    root = tmp_path / "store"
    seal(root, staged(root)["teacher"])
    shutil.copytree(shared_data / "weights" / "stories260K-hf", tmp_path / "model", copy_function=shutil.copyfile)
    (tmp_path / "text.txt").write_text("Once upon a time.\n")
    local = [f"teacher.model={tmp_path / 'model'}", f"data.source={tmp_path / 'text.txt'}", "evaluate.mmlu=null"]
    before = everything(tmp_path)
    plan(load("stories", local), root)
    (tmp_path / "home").mkdir()
    done = imbik("plan", "stories", *local, store=root)
    (tmp_path / "home").rmdir()
    assert done.returncode == 0, done.stderr
    assert everything(tmp_path) == {name: before[name] for name in before}


def test_verify_adds_a_stage_for_each_of_its_formats(tmp_path: Path) -> None:
    before = staged(tmp_path).keys()
    assert staged(tmp_path, "verify={}").keys() - before == {
        "verify-depth-fp8",
        "verify-depth-nvfp4",
        "verify-width-fp8",
    }
    some = staged(tmp_path, "verify={formats: [fp8]}")
    assert some.keys() - before == {"verify-depth-fp8", "verify-width-fp8"}
    every = staged(tmp_path, "verify={formats: [nvfp4, fp8]}")
    assert some["verify-depth-fp8"].key == every["verify-depth-fp8"].key


def test_local_inputs_are_known_by_content(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("one\n")
    overrides = [f"data.source={text}", "evaluate.mmlu=null"]
    first = staged(tmp_path / "store", *overrides)["data"].key
    text.write_text("two\n")
    assert staged(tmp_path / "store", *overrides)["data"].key != first
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    text.write_text("one\n")
    text.rename(moved / "text.txt")
    assert staged(tmp_path / "store", f"data.source={moved / 'text.txt'}", "evaluate.mmlu=null")["data"].key == first


@pytest.mark.parametrize("left", ["", "{}", "\x00"])
def test_a_record_that_cannot_be_read_does_not_stop_a_plan(tmp_path: Path, left: str) -> None:
    path = seal(tmp_path, staged(tmp_path)["teacher"])
    (path / RECORD).write_text(left)
    after = staged(tmp_path, "teacher.lr=5e-3")
    assert after["teacher"].differs == {}
    assert (path / RECORD).read_text() == left, "a plan sets nothing aside"


def test_the_plan_is_what_a_run_makes(tmp_path: Path) -> None:
    """The flow asks the same walk whether anything is to be built, so a finished store has to be all cached."""
    for stage in plan(load(TINY), tmp_path):
        if not stage.cached:
            seal(tmp_path, stage)
    assert all(stage.cached for stage in plan(load(TINY), tmp_path))
    records = [json.loads(path.read_text()) for path in tmp_path.glob(f"*/*/{RECORD}")]
    assert (
        len(records) == len({(record["stage"], record["key"]) for record in records}) == len(plan(load(TINY), tmp_path))
    )


def test_a_store_may_hold_what_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "teacher" / "notes").mkdir(parents=True)
    (tmp_path / "teacher" / "readme.txt").write_text("mine")
    done: subprocess.CompletedProcess[str] = imbik("plan", TINY, store=tmp_path)
    assert done.returncode == 0, done.stderr


def test_merged_heads_alone_need_no_importance(tmp_path: Path) -> None:
    alone = staged(tmp_path, "students.width=null", "students.depth.prune={num_layers: null, num_query_groups: 1}")
    assert "prune-depth" in alone and "importance" not in alone
    both = staged(tmp_path, "students.width=null", "students.depth.prune={num_query_groups: 1}")
    assert "importance" in both
