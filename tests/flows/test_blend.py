"""Blends: several corpora in stated proportions, in an order of seed and position alone, each tokenized once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.load import load
from flows.commands.plan import plan as plan_command
from flows.plan import plan
from jobs.tokens.blend_reader import Blended, training_split
from jobs.tokens.indexed import IndexedWriter
from tasks.store import lineage
from tests.fixtures.flow import RECIPE, imbik, told
from tests.fixtures.jobs import last, refused, run_job

LENGTH = 8


def written(folder: Path, first: int, windows: int) -> Path:
    """A corpus whose tokens are all in [first, first + 1000), so that each says where it comes from."""
    folder.mkdir(parents=True)
    with IndexedWriter(folder / "train", np.dtype(np.uint16)) as writer:
        tokens = (first + np.arange(windows * LENGTH + 1) % 1000).astype(np.uint16)
        writer.add(tokens, np.array([len(tokens)]))
    return folder


def blend(root: Path, weights: list[float], windows: list[int]) -> Blended:
    entries = [
        {
            "name": str(number),
            "weight": weight / sum(weights),
            "path": f"../{written(root / str(number), 1000 * number, size).name}",
        }
        for number, (weight, size) in enumerate(zip(weights, windows, strict=True))
    ]
    (root / "blend").mkdir()
    (root / "blend" / "blend.json").write_text(json.dumps({"sources": entries}))
    found = training_split(root / "blend", LENGTH, 1000)
    assert isinstance(found, Blended)
    return found


def owners(found: Blended, indices: Any) -> Any:
    return found.tokens_at(indices)[:, 0] // 1000


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([0.1, 0.2, 1 / 3, 0.5, 1.0, 2.5, 7.0]), min_size=1, max_size=5),
    st.integers(0, 5000),
    st.integers(1, 300),
)
def test_the_proportions_hold_at_every_position(
    tmp_path_factory: Any, weights: list[float], position: int, count: int
) -> None:
    found = blend(tmp_path_factory.mktemp("blend"), weights, [50] * len(weights))
    order = found.mix.order(0, position + count)
    assert [list(pair) for pair in found.mix.order(position, count)] == [list(pair) for pair in order[position:]], (
        "any position at once"
    )
    for number, weight in enumerate(found.weights):
        drawn = order[:, 0] == number
        assert (order[drawn, 1] == np.arange(drawn.sum())).all(), "none is left out or comes twice"
        apart = np.abs(np.cumsum(drawn) - weight * np.arange(1, len(order) + 1))
        assert apart.max() <= (len(weights) + 1) / 2


def test_the_order_is_one_of_seed_and_position_alone(tmp_path: Path) -> None:
    found = blend(tmp_path, [0.3, 0.7], [40, 60])
    whole = found.shuffled(0, 500, seed=3)
    assert (np.concatenate([found.shuffled(start, 50, seed=3) for start in range(0, 500, 50)]) == whole).all()
    assert (found.shuffled(123, 7, seed=3) == whole[123:130]).all(), "as a resumed run asks"
    assert (found.shuffled(0, 500, seed=4) != whole).any()
    assert (owners(found, whole) == owners(found, found.shuffled(0, 500, seed=4))).all(), (
        "a seed changes what comes, not from where"
    )
    assert np.bincount(owners(found, whole)).tolist() == [150, 350]


def test_every_sequence_of_a_corpus_comes_once_a_pass(tmp_path: Path) -> None:
    found = blend(tmp_path, [1, 3], [10, 30])
    for start in (0, 40):
        assert sorted(found.shuffled(start, 40, seed=1)) == list(range(40))
    drawn = found.shuffled(0, 400, seed=1)
    assert np.bincount(drawn).tolist() == [10] * 40


def test_tokens_and_addresses_are_those_of_their_corpus(tmp_path: Path) -> None:
    found = blend(tmp_path, [1, 1], [5, 5])
    samples = found.samples(np.array([0, 7, 4]))
    assert samples.tokens[1].tolist() == (1000 + 2 * LENGTH + np.arange(LENGTH + 1)).tolist()
    assert samples.addresses[1].tolist() == (5 * LENGTH + 1 + 2 * LENGTH + np.arange(LENGTH)).tolist(), (
        "after all of the first"
    )
    assert np.bincount(owners(found, range(10))).tolist() == [5, 5]
    assert np.bincount(found.first(6)[:, 0] // 1000).tolist() == [3, 3], "calibration sees the blend too"


def test_a_corpus_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    blend(tmp_path, [1, 1], [5, 5])
    (tmp_path / "1" / "train.bin").unlink()
    with pytest.raises(ValueError, match=r"reads the corpus 1 from .* which does not exist"):
        training_split(tmp_path / "blend", LENGTH, 9)


def test_a_corpus_shorter_than_a_sequence_is_named(tmp_path: Path) -> None:
    blend(tmp_path, [1, 1], [5, 1])
    with pytest.raises(
        ValueError, match=r"^the train split of 1 has 9 tokens, fewer than one sequence of 16 \+ 1; add"
    ):
        training_split(tmp_path / "blend", 2 * LENGTH, 9)


def blended(text: Path, *more: str) -> list[str]:
    return [f"blend.sources.more={{source: {text}, weight: 1.0}}", *more]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "more.txt"
    path.write_text("".join(f"Sentence number {number} tells of nothing in particular.\n" for number in range(900)))
    return path


def keys(tmp_path: Path, *overrides: str) -> dict[str, str]:
    return {stage.label: stage.key for stage in plan(load(str(RECIPE), list(overrides)), tmp_path / "store")}


def test_weights_change_nothing_that_was_tokenized(tmp_path: Path, text: Path) -> None:
    plain, even, uneven = (
        keys(tmp_path),
        keys(tmp_path, *blended(text)),
        keys(tmp_path, *blended(text), "blend.weight=3.0"),
    )
    assert plain["data"] == even["data"] == uneven["data"], "the recipe's own corpus is what it was without a blend"
    assert even["data-more"] == uneven["data-more"]
    assert even["blend"] != uneven["blend"] and even["teacher"] != uneven["teacher"] != plain["teacher"]
    text.write_text(text.read_text() + "One more.\n")
    assert keys(tmp_path, *blended(text))["data-more"] != even["data-more"]


def test_what_a_blend_cannot_do_is_said_at_load(tmp_path: Path, text: Path) -> None:
    assert told(*blended(tmp_path / "gone.txt")).startswith(
        f"blend.sources.more.source names {tmp_path / 'gone.txt'}, which does not exist"
    )
    assert told(*blended(text), "blend.sources.data={source: world, weight: 1}").startswith(
        "blend.sources.data has the name of the recipe's"
    )
    assert (
        told(*blended(text), "blend.tokens=15359")
        == "teacher trains on 15,360 tokens (60 steps of 4 x 64) but blend.tokens is 15,359; raise blend.tokens or"
        " choose fewer steps"
    )
    offline = ["distill.offline=true", "distill.top_k=20", "logits={seq_length: 64}"]
    assert told(*blended(text), *offline).startswith("distill.offline does not work with a blend")
    assert told(*blended(text), "blend.sources.more.weight=0").startswith("blend.sources.more.weight")


def corpus_of(folder: Path, tokens: int) -> Path:
    """A tokenized corpus as far as the blend stage looks at it."""
    folder.mkdir(parents=True)
    counts = {"splits": {"train": {"tokens": tokens, "documents": 1}}}
    same = {"tokenizer_fingerprint": "a", "eod_id": 0, "dtype": "uint16"}
    (folder / "statistics.json").write_text(json.dumps(counts | same))
    return folder


def test_without_tokens_a_blend_takes_what_its_weights_allow(tmp_path: Path, capfd: Any) -> None:
    inputs = {"data": corpus_of(tmp_path / "own", 3000), "source-more": corpus_of(tmp_path / "more", 700)}
    config = {"sources": {"more": {"source": "more.txt", "weight": 0.1}}, "weight": 0.6}
    made = run_job("blend", config, inputs, tmp_path / "blend")
    read = json.loads((made / "blend.json").read_text())
    assert read["tokens"] == 3500 and [part["tokens"] for part in read["sources"]] == [3000, 500]
    assert "blend.tokens is not set: 3,500, at which data is the first corpus that runs out" in capfd.readouterr().out
    repeated = run_job("blend", config | {"exhausted": "repeat"}, inputs, tmp_path / "repeated")
    assert json.loads((repeated / "blend.json").read_text())["tokens"] == 3700
    nothing = inputs | {"source-more": corpus_of(tmp_path / "nothing", 0)}
    assert "the corpus more has no training tokens" in refused("blend", config, nothing, tmp_path / "none", capfd)


@pytest.mark.slow
def test_the_stage_counts_passes_and_refuses_what_runs_out(
    corpus: Path, text: Path, tmp_path: Path, capfd: Any
) -> None:
    more = run_job(
        "data",
        {"source": str(text), "validation_share": 0, "test_share": 0},
        {"tokenizer": corpus / "tokenizer"},
        tmp_path / "d",
    )
    inputs = {"data": corpus, "source-more": more}
    config = {"sources": {"more": {"source": str(text), "weight": 1.0}}, "weight": 3.0}
    held = json.loads((more / "statistics.json").read_text())["splits"]["train"]["tokens"]
    said = refused("blend", config | {"weight": 0.1, "tokens": 2 * held}, inputs, tmp_path / "none", capfd)
    assert (
        f"the corpus more holds {held:,} tokens but 90.9% of the blend's {2 * held:,} are" in said
        and "blend.exhausted=repeat" in said
    )
    made = run_job("blend", config | {"tokens": 8 * held, "exhausted": "repeat"}, inputs, tmp_path / "blend")
    assert last(made, "passes_more") == 2.0
    statistics = json.loads((made / "statistics.json").read_text())
    assert statistics["splits"]["train"]["tokens"] == 8 * held
    assert [part["weight"] for part in statistics["blend"]] == [0.75, 0.25]
    assert not (made / "train.bin").exists() and (made / "validation.bin").samefile(corpus / "validation.bin")
    assert len(training_split(made, 64, 9)) > 0


@pytest.mark.drill
def test_a_run_on_a_blend_and_one_with_other_weights(tmp_path: Path, text: Path) -> None:
    small = ["students.width=null", "quantize=[]", "blend.exhausted=repeat", *blended(text)]
    first = imbik("run", str(RECIPE), "--name", "even", *small, store=tmp_path / "store")
    assert first.returncode == 0, first.stderr
    second = imbik("run", str(RECIPE), "--name", "uneven", *small, "blend.weight=3.0", store=tmp_path / "store")
    assert second.returncode == 0, second.stderr
    there = {
        stage: len(list((tmp_path / "store" / stage).iterdir())) for stage in ("data", "blend", "teacher", "distill")
    }
    assert there == {"data": 2, "blend": 2, "teacher": 2, "distill": 2}, "two corpora, tokenized once"
    assert "refused" not in first.stderr + second.stderr, "MLflow takes a blend's corpora"
    student = tmp_path / "store" / "runs" / "even" / "distill-depth"
    assert sorted(each.record.stage for each in lineage.of(student)).count("data") == 2, "a card names both corpora"
    assert all(stage.cached for stage in plan(load(str(RECIPE), [*small, "blend.weight=3.0"]), tmp_path / "store"))


def test_sources_are_filtered_as_data_unless_they_say(tmp_path: Path, text: Path) -> None:
    """By keys; a source's also has the tokenizer in it, which is trained on data."""
    plain, gopher = keys(tmp_path, *blended(text)), "data.filter={gopher: {}}"
    same = keys(tmp_path, *blended(text), gopher)
    none = keys(tmp_path, *blended(text), gopher, "blend.sources.more.filter={}")
    twice = keys(tmp_path, *blended(text), gopher, "blend.sources.more.filter={gopher: {}}")
    assert same["data"] == none["data"] == twice["data"] != plain["data"]
    assert same["data-more"] == twice["data-more"] != none["data-more"]
    own = keys(tmp_path, *blended(text), "blend.sources.more.filter={gopher: {}}")
    assert own["data"] == plain["data"] and own["data-more"] != plain["data-more"]
    off = keys(tmp_path, *blended(text), "blend.sources.more.filter={}")
    assert off["data-more"] == plain["data-more"]


STAGES = "blend.stages=[{{until: {}, weights: {{data: 3, more: 1}}}}, {{until: 1, weights: {{more: 1}}}}]"


def staged(text: Path, until: float = 0.5) -> list[str]:
    return [f"blend.sources.more={{source: {text}}}", STAGES.format(until)]


def test_stages_change_nothing_that_was_tokenized(tmp_path: Path, text: Path) -> None:
    even, early, late = (keys(tmp_path, *one) for one in (blended(text), staged(text, 0.5), staged(text, 0.6)))
    for label in ("data", "data-more"):
        assert even[label] == early[label] == late[label]
    for label in ("blend", "teacher", "distill-depth"):
        assert len({even[label], early[label], late[label]}) == 3


def printed(capfd: Any, text: Path, root: Path, *, as_json: bool) -> str:
    """What `imbik plan` prints of a mix in stages."""
    with pytest.raises(typer.Exit) as ended:
        plan_command(str(RECIPE), staged(text), root, as_json=as_json)
    assert ended.value.exit_code == 0
    return str(capfd.readouterr().out)


def test_a_plan_shows_the_stages_of_the_mix(tmp_path: Path, text: Path, capfd: Any) -> None:
    lines = printed(capfd, text, tmp_path / "store", as_json=False).splitlines()
    assert "blend, stage 1 of 2, until 0.5 of each training: data 75.00%, more 25.00%" in lines
    assert "teacher: 240 sequences of 64, stage 1 to 120 (step 30), stage 2 to 240 (step 60)" in lines


def test_a_plan_for_programs_has_the_mix(tmp_path: Path, text: Path, capfd: Any) -> None:
    content = json.loads(printed(capfd, text, tmp_path / "store", as_json=True))
    stages = {stage["stage"]: stage for stage in content}
    assert stages["distill-depth"]["mix"] == [
        {"until_sequence": 12, "until_step": 3, "until_tokens": 768},
        {"until_sequence": 24, "until_step": 6, "until_tokens": 1536},
    ]
    assert [label for label in stages if "mix" in stages[label]] == ["teacher", "distill-depth", "distill-width"]


def test_what_the_teacher_writes_is_for_its_students(tmp_path: Path) -> None:
    """A teacher that learned from the blend could not write for it."""
    writes = ["write.documents=9", "blend.sources.own={source: written, weight: 1}"]
    plain, written = keys(tmp_path), keys(tmp_path, *writes)
    assert written["teacher"] == plain["teacher"] and written["data"] == plain["data"]
    assert {"write", "data-own", "blend"} == written.keys() - plain.keys()
    assert all(written[label] != plain[label] for label in ("importance", "distill-depth"))
    other = keys(tmp_path, *writes, "write.temperature=0.7")
    assert all(other[label] != written[label] for label in ("write", "data-own", "blend", "distill-depth"))
