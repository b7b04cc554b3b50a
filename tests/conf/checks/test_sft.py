"""What is refused at load of records, generation and fine-tuning: one sentence with the value, the bound and the next
step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conf.chat_template import PLAIN
from conf.load import load
from tests.fixtures.flow import RECIPE, told

SFT = "sft={steps: 4, seq_length: 128, global_batch: 4, micro_batch: 2, lr: 1e-3, min_lr: 1e-4, warmup_steps: 1}"
RECORDS = "records={source: world, seq_length: 128}"


def test_what_is_sound_loads() -> None:
    recipe = load(str(RECIPE), [SFT, RECORDS, "sft.kd_weight=1", "sft.teacher=true"])
    assert recipe.teacher_sft is not None and recipe.teacher_sft.kd_weight == 0
    assert recipe.records_stage is not None and recipe.records_stage.world == recipe.data.world
    assert recipe.stages_of("depth") == ("prune", "distill", "sft", "quantize")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ([SFT], "sft is set but the recipe has no records; set records.source"),
        (
            [SFT, RECORDS, "records.seq_length=129"],
            "sft.seq_length is 128 but records.seq_length is 129; choose at least 129",
        ),
        (
            [SFT, RECORDS, "sft.seq_length=512"],
            "sft.seq_length is 512 but the model's maximum sequence length is 256; choose at most 256",
        ),
        (
            [RECORDS, "records.seq_length=300"],
            "records.seq_length is 300 but the model's maximum sequence length is 256; choose at most 256",
        ),
        ([SFT, RECORDS, "sft.steps=0", "sft.warmup_steps=0"], "sft.steps is 0; choose at least 1"),
        ([SFT, RECORDS, "sft.teacher=true"], "sft.teacher is true but kd_weight is 0"),
        (
            [SFT, RECORDS, "sft.offline=true", "sft.top_k=9"],
            "sft.offline needs kd_weight and top_k; set both",
        ),
        (
            [
                SFT,
                RECORDS,
                "sft.offline=true",
                "sft.kd_weight=1",
                "sft.top_k=9",
                "sft.rest_bucket=true",
                "sft.temperature=2",
            ],
            "sft.temperature is 2 but the probability outside the top K is stored at temperature 1",
        ),
        (
            [SFT, RECORDS, "sft.keep=best"],
            "sft.best_by is val_kl, which needs the teacher loaded during training; choose val_loss",
        ),
        ([SFT, RECORDS, "sft.evaluate_every=2"], "fine-tuning runs no evaluations during training"),
        ([SFT, RECORDS, "sft.top_k=500"], "sft.top_k is 500 but the vocabulary has 400 tokens"),
        ([SFT, RECORDS, "sft.parallel={processes: 3, tensor: 3}"], "sft.parallel.tensor is 3, which does not divide"),
        (
            [SFT, RECORDS, "sft.parallel={processes: 2, context: 2}"],
            "sft.parallel.context is 2 but packed records cannot be split",
        ),
        (
            [SFT, RECORDS, "records.validation_share=0"],
            "records.validation_share is 0 but fine-tuning needs a validation split",
        ),
        ([RECORDS, "records.test_share=0"], "records.test_share is 0 but models are evaluated on the test split"),
        (
            [RECORDS, "records.source=generated"],
            "is 'generated' but the recipe has no generate section; set generate.prompts",
        ),
        (
            [RECORDS, "generate.prompts=world"],
            "generate is set but records.source does not use it; add 'generated' to records.source",
        ),
        (
            ["generate={prompts: world, max_new_tokens: 8}"],
            "generate is set but records.source does not use it; add 'generated' to records.source",
        ),
        (
            [
                RECORDS,
                "students.depth.sft={steps: 4, seq_length: 128, global_batch: 4, micro_batch: 2, lr: 1e-3,"
                " min_lr: 1e-4, warmup_steps: 1, kd_weight: 1, teacher: true}",
            ],
            "students.depth.sft.teacher is true but the recipe has no sft section to fine-tune the teacher with",
        ),
        ([RECORDS, "records.source=nowhere.jsonl"], "records.source names 'nowhere.jsonl', which does not exist"),
        (
            [RECORDS, "records.prompt_field=q"],
            "only one of records.prompt_field and records.response_field is set; set both or neither",
        ),
        ([RECORDS, "records.chat_template=hello"], "omits messages of role user"),
        (
            [RECORDS, "records.promt_field=q"],
            "records.promt_field is not a setting; the nearest known key is prompt_field",
        ),
        (
            [RECORDS, "records.source=generated", "generate={prompts: world, endpoint: 'http://localhost:1/v1'}"],
            "only one of generate.endpoint and generate.endpoint_model is set",
        ),
        (
            [RECORDS, "records.source=generated", "generate={prompts: world, samples: 2}"],
            "generate.samples is 2 but temperature 0 gives the same answer every time",
        ),
        (
            [RECORDS, "records.source=generated", "generate={prompts: world, max_new_tokens: 256}"],
            "generate.max_new_tokens is 256 but the teacher's maximum sequence length is 256",
        ),
        (
            [
                RECORDS,
                "records.source=generated",
                (
                    "generate={prompts: world, endpoint: 'http://localhost:1/v1', endpoint_model: m, api_key_env:"
                    " NOT_SET_ANYWHERE}"
                ),
            ],
            "generate.api_key_env names NOT_SET_ANYWHERE, which is not set; set this environment variable",
        ),
        (
            [RECORDS, "students.depth-sft={prune: {num_layers: 2}}"],
            "students.depth-sft has the name of a model of student depth",
        ),
    ],
)
def test_one_sentence(overrides: list[str], sentence: str) -> None:
    assert sentence in told(*overrides)


GENERATED = [RECORDS, "records.source=generated"]
AWAY = "endpoint: 'http://localhost:1/v1', endpoint_model: m"


@pytest.mark.parametrize(
    "overrides",
    [
        [SFT, RECORDS, "sft.top_k=400"],
        [RECORDS, "records.seq_length=256"],
        [RECORDS, "records.validation_share=0"],
        [SFT, RECORDS, "records.seq_length=64"],
        [*GENERATED, "generate={prompts: world, max_new_tokens: 255}"],
        [*GENERATED, f"generate={{prompts: world, max_new_tokens: 256, {AWAY}}}"],
        [*GENERATED, f"generate={{prompts: world, {AWAY}, api_key_env: SET_HERE}}"],
    ],
)
def test_what_is_just_within_is_taken(overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET_HERE", "x")
    assert load(str(RECIPE), overrides).records


def test_a_teacher_s_own_template_is_not_asked_of_a_server() -> None:
    """Only who renders prompts here needs a template that shows them."""
    template = "chat_template: hello, max_new_tokens: 8"
    assert "generate.chat_template" in told(*GENERATED, f"generate={{prompts: world, {template}}}")
    load(str(RECIPE), [*GENERATED, f"generate={{prompts: world, {template}, {AWAY}}}"])


def test_chat_templates_are_chosen_by_name(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "tokenizer.json").write_text("{}")
    templates = [{"name": name, "template": PLAIN} for name in ("rag", "tool_use")]
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": templates}))
    chosen = [RECORDS, f"data.tokenizer={model}"]
    assert "has the chat templates rag, tool_use and none called default; set records.chat_template to one" in told(
        *chosen
    )
    assert "records.chat_template is 'rags', but the tokenizer of" in told(*chosen, "records.chat_template=rags")
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "rags.jinja").write_text(PLAIN)
    assert "chat_template" not in told(*chosen, "records.chat_template=rags", "teacher.steps=0")


@pytest.mark.parametrize(
    ("content", "fields", "sentence"),
    [
        ([{"text": "x"}], "", "has the fields text, none of messages, conversations"),
        (
            [{"q": "x", "a": "y"}],
            ", prompt_field: q, response_field: answer",
            "records.response_field is 'answer' but the first record",
        ),
        ([{"q": "x", "a": "y"}], ", prompt_field: ask, response_field: a", "has the fields q, a; choose one of them"),
    ],
)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_fields_that_the_first_record_does_not_have(
    tmp_path: Path, content: list[dict[str, str]], fields: str, sentence: str, suffix: str
) -> None:
    source = tmp_path / f"some{suffix}"
    source.write_text(json.dumps(content, indent=1) if suffix == ".json" else "\n".join(map(json.dumps, content)))
    assert sentence in told(f"records={{source: {source}, seq_length: 128{fields}}}")


@pytest.mark.parametrize(
    ("record", "fields"),
    [
        ({"messages": []}, ""),
        ({"prompt": "x", "response": "y", "id": 1}, ""),
        ({"q": "x", "a": "y"}, ", prompt_field: q, response_field: a"),
        ({"prompt": "x", "a": "y"}, ", prompt_field: prompt, response_field: a"),
    ],
)
def test_a_first_record_with_its_fields_is_taken(record: dict[str, object], fields: str, tmp_path: Path) -> None:
    source = tmp_path / "some.jsonl"
    source.write_text(json.dumps(record) + "\n")
    assert load(str(RECIPE), [SFT, f"records={{source: {source}, seq_length: 128{fields}}}"]).records


def test_files_that_hold_no_records(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "words.txt").write_text("a,b\n")
    assert "which is empty; use a file with records" in told(
        f"records={{source: {tmp_path}/empty.jsonl, seq_length: 128}}"
    )
    assert ".txt files are not read, only .jsonl, .ndjson, .jsonlines, .json, .csv," in told(
        f"records={{source: {tmp_path}/words.txt, seq_length: 128}}"
    )


def test_the_world_is_asked_only_where_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_text("words\n" * 50)
    sentence = told(RECORDS, f"data.source={tmp_path}/some.txt", "evaluate.mmlu=null")
    assert "records.source is 'world' but data.source is not" in sentence
    own = "world: {seed: 3}"
    made = load(str(RECIPE), [RECORDS[:-1] + f", {own}}}", f"data.source={tmp_path}/some.txt", "evaluate.mmlu=null"])
    assert made.records and made.records.world, "records may have a world of their own"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.jsonl", json.dumps({f"f{n}": n for n in range(9)}), "has the fields f0, f1, f2, f3, f4, f5, f6, f7, none"),
        ("a.jsonl", "{}", "has no fields, none of messages"),
        ("a.json", '[{"text": "x"}]', "has the fields text, none of messages"),
        ("a.jsonl", json.dumps({"text": "x" * 2**19}), "has the fields text, none of messages"),
    ],
)
def test_a_first_record_s_fields_are_named(name: str, content: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    assert sentence in told(f"records={{source: {tmp_path}/{name}, seq_length: 128}}")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '[["no record"]]'),
        ("a.jsonl", '[{"text": "x"}]'),
        ("a.jsonl", json.dumps({"text": "x" * 2**20})),
        ("a.csv", "text\nx\n"),
    ],
)
def test_what_is_not_seen_at_first_is_left_to_the_job(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    assert load(str(RECIPE), [f"records={{source: {tmp_path}/*, seq_length: 128}}"]).records
    assert load(str(RECIPE), [f"records={{source: {tmp_path}/{name}, seq_length: 128}}"]).records
