"""Records, generation and fine-tuning: what can be known to be wrong before anything runs."""

from __future__ import annotations

import glob
import json
import os
from pathlib import Path

from conf.chat_template import check_template
from conf.recipe import Recipe
from conf.shape import Shape
from conf.stages.records import GENERATED, RecordsConfig
from conf.stages.sft import SftConfig

FILES = (".jsonl", ".json", ".parquet")
PROMPTS = (*FILES, ".txt")
SHAPES = ("messages", "conversations", "conversation", "instruction", "prompt", "question")
"""Fields one of which a record has, unless records.prompt_field names another."""
PEEKED_BYTES = 1 << 20


def check_records(recipe: Recipe) -> None:
    """Raise ValueError for stages that lack each other, sources that are not there, fields and templates that cannot
    work."""
    records, asked = recipe.records, recipe.generate
    tuned = {
        f"students.{name}.sft" if student.sft else "sft": recipe.sft_of(name)
        for name, student in recipe.students.items()
    }
    where = next((where for where, how in tuned.items() if how), "sft" if recipe.sft else None)
    if where and records is None:
        raise ValueError(f"{where} is given but there are no records to learn from; give records.source")
    if asked and (records is None or GENERATED not in records.sources):
        raise ValueError(
            f"generate is given but nothing learns from it; put '{GENERATED}' into records.source or leave generate out"
        )
    if records:
        if GENERATED in records.sources and asked is None:
            raise ValueError(
                f"records.source names '{GENERATED}' but the recipe has no generate; give generate.prompts"
            )
        _check_sources(
            "records.source",
            [name for name in records.sources if name != GENERATED],
            recipe,
            records.world is not None,
            FILES,
        )
        _check_fields(records)
        _check_shares(records, any(tuned.values()))
    for template in (records and records.chat_template, asked and asked.chat_template):
        if template:
            check_template(template)
    if asked:
        _check_sources("generate.prompts", list(asked.sources), recipe, asked.world is not None, PROMPTS)
        if asked.api_key_env and not os.environ.get(asked.api_key_env):
            raise ValueError(
                f"generate.api_key_env names {asked.api_key_env}, which is not set in this environment; set it"
            )
    for place, how in tuned.items():
        if how:
            _check_teaching(place, how, recipe)


def check_lengths(recipe: Recipe, teacher: Shape) -> None:
    """Raise ValueError for lengths that the model or another stage does not have; `teacher` is the teacher's shape."""
    longest, records, asked = teacher.max_position_embeddings, recipe.records, recipe.generate
    if records and records.seq_length > longest:
        raise ValueError(
            f"records.seq_length is {records.seq_length} but the model's longest sequence is {longest}; choose less"
        )
    if asked and not asked.endpoint and asked.max_new_tokens >= longest:
        raise ValueError(
            f"generate.max_new_tokens is {asked.max_new_tokens} but the teacher's longest sequence is {longest}; choose"
            " less"
        )


def check_tuning(where: str, how: SftConfig, recipe: Recipe, teacher: Shape) -> None:
    """Raise ValueError for fine-tuning that fits neither the records nor the vocabulary."""
    assert recipe.records is not None, "checked before"
    if how.steps and how.seq_length < recipe.records.seq_length:
        raise ValueError(
            f"{where}.seq_length is {how.seq_length} but records may have {recipe.records.seq_length} tokens"
            " (records.seq_length); choose at least that, or reject longer records by a smaller records.seq_length"
        )
    if how.top_k and teacher.vocab_size and how.top_k > teacher.vocab_size:
        raise ValueError(
            f"{where}.top_k is {how.top_k} but the vocabulary has {teacher.vocab_size} tokens; choose at most that"
        )


def _check_teaching(where: str, how: SftConfig, recipe: Recipe) -> None:
    if how.steps == 0:
        raise ValueError(f"{where}.steps is 0, which tunes nothing; choose at least 1 or leave sft out")
    if how.teacher and not how.kd_weight:
        raise ValueError(
            f"{where}.teacher is true but kd_weight is 0, so that no teacher takes part; raise kd_weight or leave"
            " teacher out"
        )
    if how.teacher and recipe.sft is None:
        raise ValueError(
            f"{where}.teacher is true but the recipe has no sft of its own, by which the teacher would be tuned;"
            " give sft"
        )


def _check_sources(setting: str, names: list[str], recipe: Recipe, own_world: bool, suffixes: tuple[str, ...]) -> None:
    corpus = (recipe.data.source,) if isinstance(recipe.data.source, str) else recipe.data.source
    for name in names:
        if name == "world":
            if "world" not in corpus and not own_world:
                raise ValueError(
                    f"{setting} is 'world' but data.source is not, so that no model knows it; name files of records"
                )
            continue
        files = [name] if Path(name).exists() else glob.glob(name, recursive=True)  # noqa: PTH207 - an absolute pattern is no Path.glob
        if not name or not files:
            raise ValueError(
                f"{setting} names {name!r}, which does not exist; check the path (relative ones start at {Path.cwd()})"
            )
        for file in map(Path, files):
            suffix = (file.with_suffix("") if file.suffix == ".gz" else file).suffix
            if file.is_file() and suffix not in suffixes:
                raise ValueError(
                    f"{setting} names {file}; give a file that ends in {', '.join(suffixes)} (or .gz of those)"
                )
            if file.is_file() and file.stat().st_size == 0:
                raise ValueError(f"{setting} {file} is empty; name a file with records")


def _check_fields(records: RecordsConfig) -> None:
    """A first record without the fields that are looked for: where a JSON file shows it, it is told here."""
    for name in records.sources:
        path = Path(name)
        first = _first(path) if path.is_file() else None
        if first is None:
            continue
        for field, setting in ((records.prompt_field, "prompt_field"), (records.response_field, "response_field")):
            if field and field not in first:
                raise ValueError(
                    f"records.{setting} is '{field}' but the first record of {name} has {_listed(first)}; name one of"
                    " those"
                )
        if not records.prompt_field and not first.keys() & set(SHAPES):
            raise ValueError(
                f"the first record of {name} has {_listed(first)}, none of {', '.join(SHAPES)}; name its fields with "
                "records.prompt_field and records.response_field"
            )


def _first(path: Path) -> dict[str, object] | None:
    """The first record of a JSON or JSONL file, where its first megabyte shows it whole; the job reads the rest, and
    other formats."""
    if path.suffix not in (".json", ".jsonl"):
        return None
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        text = stream.read(PEEKED_BYTES).lstrip().removeprefix("[" if path.suffix == ".json" else "").lstrip()
    try:
        found, _ = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _listed(record: dict[str, object]) -> str:
    return f"the fields {', '.join(list(record)[:8])}" if record else "no fields"


def _check_shares(records: RecordsConfig, learned: bool) -> None:
    if records.test_share == 0:
        raise ValueError("records.test_share is 0 but models are scored on that split; choose more than 0")
    if learned and records.validation_share == 0:
        raise ValueError("records.validation_share is 0 but fine-tuning is validated on that split; choose more than 0")
