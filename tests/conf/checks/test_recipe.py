"""What is refused before anything runs: settings that contradict each other, stages that do not fit, inputs that are
not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.load import load
from tests.fixtures.flow import RECIPE, told
from tests.fixtures.model import write_model

TINY = str(RECIPE)


def parallel(where: str, axis: str, size: int = 2) -> list[str]:
    """Overrides that spread a stage over `size` ranks."""
    return [f"{where}.parallel.processes={size}", f"{where}.parallel.{axis}={size}"]


def rounds(second: str) -> str:
    """A student of two rounds, the first of which drops a layer."""
    return f"students.depth={{prune: null, rounds: [{{prune: {{num_layers: 2}}}}, {second}]}}"


ALONE = "students.width=null"
OFFLINE = ["distill.offline=true", "distill.top_k=8", "distill.best_by=val_divergence"]
TRAINED = "steps: 4, global_batch: 4, micro_batch: 2, lr: 1e-3, min_lr: 1e-4, warmup_steps: 1"
TUNED = [f"sft={{{TRAINED}, seq_length: 64}}", "records={source: world, seq_length: 64}"]

# What one stage's own settings say against each other.
CONTRADICTIONS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "no students": (["students.depth=null", "students.width=null"], ("students is {}", "it must not be empty")),
    "a student called teacher": (
        ["students.teacher={prune: {num_layers: 1}}"],
        ("cannot be called 'teacher'", "choose another name"),
    ),
    "more than half for validation": (["data.validation_share=0.7"], ("data.validation_share is 0.7", "below 0.5")),
}

# Overrides, and what the sentence must hold: the setting with its value, the bound, the next step.
MISFITS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "student as large as its teacher": (
        ["students.depth.prune.num_layers=3"],
        ("students.depth.prune leaves 49,888 parameters", "the teacher has 49,888", "cut more"),
    ),
    "heads over tensor-parallel ranks": (
        parallel("teacher", "tensor", 3),
        ("teacher.parallel.tensor is 3", "num_attention_heads 4", "choose a divisor"),
    ),
    "merged query groups over tensor-parallel ranks": (
        [*parallel("distill", "tensor"), "students.width.prune={num_query_groups: 1}"],
        ("distill.parallel.tensor is 2", "num_query_groups 1 of student width", "choose a divisor"),
    ),
    "MLP of the student over tensor-parallel ranks": (
        [*parallel("distill", "tensor"), "students.width.prune.ffn_hidden_size=33", "students.width.quantize=false"],
        ("distill.parallel.tensor is 2", "ffn_hidden_size 33 of student width", "choose a divisor"),
    ),
    "layers of the student over pipeline stages": (
        [*parallel("distill", "pipeline", 3), "distill.global_batch=4"],
        ("distill.parallel.pipeline is 3", "2 layers of student depth", "choose a divisor"),
    ),
    "layers over pipeline stages when pruning": (
        parallel("students.depth.prune", "pipeline"),
        ("students.depth.prune.parallel.pipeline is 2", "3 layers", "choose a divisor"),
    ),
    "layers over pipeline stages when scoring": (
        parallel("importance", "pipeline"),
        ("importance.parallel.pipeline is 2", "3 layers"),
    ),
    "sequences over context-parallel ranks": (
        [*parallel("teacher", "context"), "teacher.seq_length=62"],
        ("teacher.parallel.context is 2", "seq_length 62 is not a multiple of 4", "choose 60"),
    ),
    "logits over tensor-parallel ranks": (
        ["logits={seq_length: 64, parallel: {processes: 3, tensor: 3}}", "distill.offline=true", "distill.top_k=8"],
        ("logits.parallel.tensor is 3", "num_attention_heads 4", "choose a divisor"),
    ),
    "quantization over ranks": (
        ["quantize=[{format: fp8, parallel: {processes: 2}}]"],
        ("quantize.1.parallel", "processes is 2", "runs in one process"),
    ),
    "long sequences of the teacher": (
        ["teacher.seq_length=257"],
        ("teacher.seq_length is 257", "256", "choose at most 256"),
    ),
    "long sequences of distillation": (
        ["distill.seq_length=257"],
        ("distill.seq_length is 257", "256", "choose at most 256"),
    ),
    "long sequences of calibration": (
        ["importance.seq_length=257"],
        ("importance.seq_length is 257", "256", "choose at most 256"),
    ),
    "long sequences of evaluation": (
        ["evaluate.seq_length=257"],
        ("evaluate.seq_length is 257", "256", "choose at most 256"),
    ),
    "long sequences of quantization": (
        ["quantize=[{format: fp8, seq_length: 257}]"],
        ("quantize.seq_length (fp8) is 257", "256", "choose at most 256"),
    ),
    "long generation": (
        ["evaluate.prompt_tokens=200", "evaluate.new_tokens=57"],
        ("prompt_tokens + evaluate.new_tokens is 257", "256", "choose at most 256"),
    ),
    "block of nvfp4": (
        ["students.depth.prune.ffn_hidden_size=40"],
        ("students.depth has ffn_hidden_size 40", "multiple of 16", "students.depth.quantize=false"),
    ),
    "block of nvfp4 over all heads": (
        ["teacher.shape.head_dim=6"],
        ("students.depth has num_attention_heads x head_dim 24", "multiple of 16", "students.depth.quantize=false"),
    ),
    "more of the top than there is": (
        ["distill.top_k=401"],
        ("distill.top_k is 401", "400 tokens", "choose at most 400"),
    ),
    "offline without stored logits": (
        ["distill.offline=true", "distill.top_k=50"],
        ("distill.offline is true", "has no logits section", "logits.seq_length=64"),
    ),
    "a pair with a layer the student has not": (
        ["distill.intermediate=[{student_layer: 3, teacher_layer: 1}]"],
        ("distill.intermediate.1.student_layer is 3", "the student has 2 layers", "choose 1 to 2"),
    ),
    "small embedding": (
        ["teacher.shape.vocab_size=399"],
        ("teacher.shape.vocab_size is 399", "400 tokens", "choose at least 400"),
    ),
    "long sequences of a sweep": (["sweep={seq_length: 257}"], ("sweep.seq_length is 257", "choose at most 256")),
    "long sequences of a search": (
        ["students.depth={prune: null, search: {target_params: 0.9, seq_length: 257, ffn_divisor: 16}}"],
        ("students.depth.search.seq_length is 257", "choose at most 256"),
    ),
    "long sequences of stored logits": (
        ["logits={seq_length: 257}", *OFFLINE],
        ("logits.seq_length is 257", "choose at most 256"),
    ),
    "long sequences of distilling a format": (
        [f"quantize=[{{format: fp8, seq_length: 64, qad: {{{TRAINED}, seq_length: 257}}}}]", ALONE],
        ("quantize.qad.seq_length (fp8-qad) is 257", "choose at most 256"),
    ),
    "long sequences of an evaluation in training": (
        ["distill.evaluate_every=3", "distill.evaluation={mmlu: null, seq_length: 257}"],
        ("distill.evaluation.seq_length is 257", "choose at most 256"),
    ),
    "best by what is not asked": (
        ["distill.evaluate_every=3", "distill.best_by=mmlu", "evaluate.mmlu=null"],
        ("distill.best_by is mmlu", "evaluate.mmlu is null", "choose val_kl or val_loss"),
    ),
    "layers of the teacher over pipeline stages": (
        [ALONE, *parallel("distill", "pipeline")],
        ("distill.parallel.pipeline is 2", "3 layers of the teacher"),
    ),
    "layers of fine-tuning's teacher over pipeline stages": (
        [ALONE, *TUNED, "sft.kd_weight=1", *parallel("sft", "pipeline")],
        ("sft.parallel.pipeline is 2", "3 layers of the teacher"),
    ),
    "layers of a student's fine-tuning over pipeline stages": (
        [*TUNED, "students.depth.sft={parallel: {processes: 3, pipeline: 3}}"],
        ("students.depth.sft.parallel.pipeline is 3", "2 layers of student depth"),
    ),
    "layers of a round over pipeline stages when scoring": (
        [rounds("{prune: {ffn_hidden_size: 64}}"), *parallel("importance", "pipeline", 3)],
        ("importance.parallel.pipeline is 3", "2 layers of what students.depth.rounds.2.prune cuts"),
    ),
    "logits of a teacher that is not stored": (
        [rounds("{prune: {ffn_hidden_size: 64}, teacher: previous}"), "logits={seq_length: 64}", *OFFLINE],
        ("distill.offline is true", "students.depth.rounds.2.prune is the previous round's student", "not stored"),
    ),
    "one source without a name": (["data.source=[world, '']"], ("data.source is empty", "files")),
    "no such file of a blend": (
        ["blend.sources.more={source: /none.txt, weight: 1}"],
        ("blend.sources.more.source names /none.txt, which does not exist", "check the path"),
    ),
    "no test split": (["data.test_share=0"], ("data.test_share is 0", "choose more than 0")),
    "no validation split": (["data.validation_share=0"], ("data.validation_share is 0", "choose more than 0")),
    "no source": (["data.source=[]"], ("data.source is empty", "files")),
    "no such file": (["data.source=/none/corpus.txt"], ("/none/corpus.txt, which does not exist", "check the path")),
    "pattern without files": (["data.source=/none/*"], ("/none/*, which does not exist", "check the path")),
    "no such model": (
        ["teacher.shape=null", "teacher.model=/none"],
        ("teacher.model is /none", "nor a hub id owner/name", "check the path"),
    ),
    "nameless model": (["teacher.shape=null", "teacher.model=''"], ("teacher.model is ''", "it must not be empty")),
    "no such tokenizer": (["data.tokenizer=/none"], ("data.tokenizer /none has no tokenizer.json", "use a local")),
    "no such questions": (
        ["evaluate.mmlu.path=/none"],
        ("evaluate.mmlu.path /none has no test/*_test.csv", "use the folder"),
    ),
}


@pytest.mark.parametrize("case", [*CONTRADICTIONS, *MISFITS])
def test_misfit_names_value_bound_and_next_step(case: str) -> None:
    overrides, parts = (CONTRADICTIONS | MISFITS)[case]
    sentence = told(*overrides)
    assert all(part in sentence for part in parts), sentence


FITTING: dict[str, list[str]] = {
    "the longest sequences": ["teacher.seq_length=256", "evaluate.prompt_tokens=200", "evaluate.new_tokens=56"],
    "a row for every token": ["teacher.shape.vocab_size=400"],
    "tensor-parallel ranks": [
        *parallel("teacher", "tensor"),
        *parallel("distill", "tensor"),
        "students.depth.prune.num_layers=1",
    ],
    "pipeline stages": [
        *parallel("teacher", "pipeline", 3),
        "students.depth.prune={num_layers: null, drop_layers: [1, 3]}",
    ],
    "prompts of no generation": ["evaluate.prompt_tokens=300", "evaluate.new_tokens=0"],
    "a data set with splits of its own": [
        "data.source=some-owner/text-v1.5",
        "evaluate.mmlu=null",
        "data.test_share=0",
    ],
    "sequences that nothing reads": ["distill.steps=0", "distill.warmup_steps=0", "distill.seq_length=999"],
    "logits that nobody reads": ["logits={seq_length: 257}"],
    "a teacher that is not loaded": [ALONE, "logits={seq_length: 64}", *OFFLINE, *parallel("distill", "pipeline")],
    "fine-tuning without a teacher": [ALONE, *TUNED, *parallel("sft", "pipeline")],
    "what the teacher was taught to read": [
        "teacher.phases=[{until: 0.5}, {until: 1, seq_length: 512, rope_theta: 5e4}]",
        *("teacher.global_batch=8", "teacher.micro_batch=8", "evaluate.seq_length=512"),
    ],
    "a round that ranks nothing": [
        rounds("{prune: {drop_layers: [1]}}"),
        *parallel("importance", "pipeline", 3),
    ],
    "an evaluation in training": ["distill.evaluate_every=3", "distill.best_by=mmlu"],
}


@pytest.mark.parametrize("what", FITTING)
def test_what_fits_exactly_is_not_refused(what: str) -> None:
    assert load(TINY, FITTING[what])


HUB = "qwen3-8b-depth-6b"
HERE = ["data.source=world", "data.validation_share=0"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["teacher.parallel={processes: 3, tensor: 3}"], "teacher.parallel.tensor is 3, which does not divide num_att"),
        (
            ["evaluate.seq_length=40961"],
            "evaluate.seq_length is 40961 but the model's maximum sequence length is 40960",
        ),
        (["teacher.model=owner/name/more"], "teacher.model is owner/name/more, which is neither a local directory"),
        (["teacher.model=name"], "nor a hub id owner/name; check the path"),
        (HERE, "data.validation_share is 0 but training is validated on that split; choose more than 0"),
    ],
)
def test_a_model_of_the_hub_is_checked_by_its_reference(overrides: list[str], sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        load(HUB, overrides)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [["evaluate.seq_length=40960"], ["teacher.reference=null", "evaluate.seq_length=40961"], [*HERE, "distill=null"]],
)
def test_what_is_not_known_of_it_is_left_to_the_jobs(overrides: list[str]) -> None:
    assert load(HUB, overrides)


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    assert "empty.txt, which is an empty file; use a file with text" in told(
        f"data.source={tmp_path / 'empty.txt'}", "evaluate.mmlu=null"
    )


def test_a_pattern_may_go_through_folders(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "deep.txt").write_text("text\n")
    given = [f"data.source={tmp_path}/**/deep.txt", "evaluate.mmlu=null"]
    load(TINY, given)
    assert "data.test_share is 0" in told(*given, "data.test_share=0")


def test_the_worlds_quiz_needs_the_world(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("text\n")
    assert "data.source is not 'world'; use a folder of MMLU's CSVs" in told(f"data.source={tmp_path / 'text.txt'}")
    load(TINY, [f"data.source=[world, {tmp_path / 'text.txt'}]"])


def test_a_model_has_a_row_for_each_of_its_tokens(tmp_path: Path) -> None:
    """300 of both; where nothing is trained, nothing is validated."""
    given = ["teacher.shape=null", f"teacher.model={write_model(tmp_path / 'model')}", "teacher.steps=0"]
    load(TINY, [*given, "distill=null", "data.validation_share=0"])
