"""Checks of records, generation and fine-tuning before anything runs."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Collection
from pathlib import Path

from conf.chat_template import check_name, check_template, is_name, names
from conf.recipe import Recipe
from conf.shape import Shape
from conf.sources import TABLES, TEXT, select
from conf.stages.records import GENERATED, RecordsConfig
from conf.stages.sft import SftConfig

SHAPES = ("messages", "conversations", "conversation", "instruction", "prompt", "question")
"""A record has one of these fields unless records.prompt_field is set."""
PEEKED_BYTES = 1 << 20


def check_records(recipe: Recipe) -> None:
    """Raise ValueError for missing stages or sources, and for fields and templates that cannot work."""
    records, generate = recipe.records, recipe.generate
    configs = {
        f"students.{name}.sft" if student.sft else "sft": recipe.sft_of(name)
        for name, student in recipe.students.items()
    }
    where = next((where for where, config in configs.items() if config), "sft" if recipe.sft else None)
    if where and records is None:
        raise ValueError(f"{where} is set but the recipe has no records; set records.source")
    if generate and (records is None or GENERATED not in records.sources):
        raise ValueError(
            f"generate is set but records.source does not use it; add '{GENERATED}' to records.source or remove"
            " generate"
        )
    if records:
        if GENERATED in records.sources and generate is None:
            raise ValueError(
                f"records.source is '{GENERATED}' but the recipe has no generate section; set generate.prompts"
            )
        _check_sources(
            "records.source",
            [name for name in records.sources if name != GENERATED],
            recipe,
            records.world is not None,
            TABLES,
        )
        _check_fields(records)
        _check_shares(records, any(configs.values()))
    if records:
        _check_chat_template("records.chat_template", records.chat_template, recipe)
    if generate and not generate.endpoint:
        _check_chat_template("generate.chat_template", generate.chat_template, recipe)
    if generate:
        _check_sources("generate.prompts", list(generate.sources), recipe, generate.world is not None, TEXT)
        if generate.api_key_env and not os.environ.get(generate.api_key_env):
            raise ValueError(
                f"generate.api_key_env names {generate.api_key_env}, which is not set; set this environment variable"
            )
    for where, config in configs.items():
        if config:
            _check_teaching(where, config, recipe)


def check_lengths(recipe: Recipe, teacher: Shape) -> None:
    """Raise ValueError for sequence lengths above the teacher's maximum."""
    longest, records, generate = teacher.max_position_embeddings, recipe.records, recipe.generate
    if records and records.seq_length > longest:
        raise ValueError(
            f"records.seq_length is {records.seq_length} but the model's maximum sequence length is {longest}; choose"
            f" at most {longest}"
        )
    if recipe.write:
        recipe.write.check_longest(longest)
    if generate and not generate.endpoint and generate.max_new_tokens >= longest:
        raise ValueError(
            f"generate.max_new_tokens is {generate.max_new_tokens} but the teacher's maximum sequence length is"
            f" {longest}; choose less than {longest}"
        )


def check_tuning(where: str, config: SftConfig, recipe: Recipe, teacher: Shape) -> None:
    """Raise ValueError for fine-tuning that does not fit the records or the vocabulary."""
    assert recipe.records is not None, "check_records runs first"
    if config.steps and config.seq_length < recipe.records.seq_length:
        raise ValueError(
            f"{where}.seq_length is {config.seq_length} but records.seq_length is {recipe.records.seq_length}; choose"
            f" at least {recipe.records.seq_length} or lower records.seq_length"
        )
    if config.top_k and teacher.vocab_size and config.top_k > teacher.vocab_size:
        raise ValueError(
            f"{where}.top_k is {config.top_k} but the vocabulary has {teacher.vocab_size} tokens; choose at most"
            f" {teacher.vocab_size}"
        )


def _check_teaching(where: str, config: SftConfig, recipe: Recipe) -> None:
    if config.steps == 0:
        raise ValueError(f"{where}.steps is 0; choose at least 1 or remove sft")
    if config.teacher and not config.kd_weight:
        raise ValueError(f"{where}.teacher is true but kd_weight is 0; raise kd_weight or remove teacher")
    if config.teacher and recipe.sft is None:
        raise ValueError(
            f"{where}.teacher is true but the recipe has no sft section to fine-tune the teacher with; add sft"
        )


def _check_chat_template(setting: str, template: str | None, recipe: Recipe) -> None:
    """Check a template given as text, or its name among those of the tokenizer if that is here; a tokenizer that is
    trained on the corpus has none."""
    given = recipe.data.tokenizer or recipe.teacher.model
    if template and not (given and is_name(template)):
        check_template(template, setting)
    elif given and (Path(given) / "tokenizer_config.json").is_file():
        check_name(template, names(Path(given)), Path(given), setting)


def _check_sources(setting: str, names: list[str], recipe: Recipe, own_world: bool, formats: Collection[str]) -> None:
    corpus = (recipe.data.source,) if isinstance(recipe.data.source, str) else recipe.data.source
    for name in names:
        if name == "world":
            if "world" not in corpus and not own_world:
                raise ValueError(f"{setting} is 'world' but data.source is not; use files of records")
            continue
        if not name or not (Path(name).exists() or glob.glob(name, recursive=True)):  # noqa: PTH207 - absolute patterns
            raise ValueError(
                f"{setting} names {name!r}, which does not exist; check the path (relative paths start at {Path.cwd()})"
            )
        for file in select(name, setting, formats).files:
            if file.path.stat().st_size == 0:
                raise ValueError(f"{setting} names {file.path}, which is empty; use a file with records")


def _check_fields(records: RecordsConfig) -> None:
    """Check the fields of the first record of each JSON file."""
    for name in records.sources:
        path = Path(name)
        first = _first(path) if path.is_file() else None
        if first is None:
            continue
        for field, setting in ((records.prompt_field, "prompt_field"), (records.response_field, "response_field")):
            if field and field not in first:
                raise ValueError(
                    f"records.{setting} is '{field}' but the first record of {name} has {_field_names(first)}; choose"
                    " one of them"
                )
        if not records.prompt_field and not first.keys() & set(SHAPES):
            raise ValueError(
                f"the first record of {name} has {_field_names(first)}, none of {', '.join(SHAPES)}; set"
                " records.prompt_field and records.response_field"
            )


def _first(path: Path) -> dict[str, object] | None:
    """The first record of a JSON or JSONL file if it fits in the first megabyte, else None; the job checks all
    records."""
    if path.suffix not in (".json", ".jsonl"):
        return None
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        text = stream.read(PEEKED_BYTES).lstrip().removeprefix("[" if path.suffix == ".json" else "").lstrip()
    try:
        record, _ = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _field_names(record: dict[str, object]) -> str:
    return f"the fields {', '.join(list(record)[:8])}" if record else "no fields"


def _check_shares(records: RecordsConfig, learned: bool) -> None:
    if records.test_share == 0:
        raise ValueError("records.test_share is 0 but models are evaluated on the test split; choose more than 0")
    if learned and records.validation_share == 0:
        raise ValueError("records.validation_share is 0 but fine-tuning needs a validation split; choose more than 0")
