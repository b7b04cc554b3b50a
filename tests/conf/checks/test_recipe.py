"""What is refused before anything runs: settings that contradict each other, stages that do not fit, inputs that are
not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.load import load
from conf.shape import Shape
from conf.shapes import cut_shape
from conf.stages.prune import PruneConfig
from tests.fixtures.flow import RECIPE, told

TINY = str(RECIPE)


def parallel(where: str, axis: str, size: int = 2) -> list[str]:
    """Overrides that spread a stage over `size` ranks."""
    return [f"{where}.parallel.processes={size}", f"{where}.parallel.{axis}={size}"]


# What one stage's own settings say against each other.
CONTRADICTIONS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "schedule upside down": (
        ["teacher.min_lr=1"],
        ("teacher", "min_lr 1 is above lr 0.006", "choose a smaller min_lr"),
    ),
    "all warm-up": (["distill.warmup_steps=6"], ("distill", "warmup_steps 6", "steps 6", "choose fewer")),
    "two teachers": (["teacher.model=owner/name"], ("teacher needs exactly one of model", "shape")),
    "no teacher": (["teacher.shape=null"], ("teacher needs exactly one of model", "shape")),
    "a teacher that never learned": (
        ["teacher.steps=0"],
        ("teacher.steps is 0", "random weights", "choose at least 1 step"),
    ),
    "heads in uneven groups": (
        ["teacher.shape.num_query_groups=3"],
        ("num_attention_heads 4", "not a multiple of num_query_groups 3"),
    ),
    "heads of no whole width": (
        ["teacher.shape.hidden_size=34"],
        ("hidden_size 34", "num_attention_heads 4", "set head_dim"),
    ),
    "a cut of nothing": (
        ["students.depth.prune.num_layers=null"],
        ("students.depth.prune", "cuts nothing", "set drop_layers"),
    ),
    "depth chosen twice": (
        ["students.depth.prune.drop_layers=[1]"],
        ("drop_layers", "num_layers", "remove one of them"),
    ),
    "layers numbered from 0": (
        ["students.depth.prune={num_layers: null, drop_layers: [0]}"],
        ("drop_layers is [0]", "numbered from 1"),
    ),
    "a format twice": (["quantize=[fp8, fp8]"], ("quantize has duplicate formats", "fp8")),
    "a format the recipe has not": (
        ["quantize=[fp8]", "students.depth.quantize=[nvfp4]"],
        ("students.depth.quantize names nvfp4", "add it"),
    ),
    "no students": (["students.depth=null", "students.width=null"], ("students is {}", "it must not be empty")),
    "a student called teacher": (
        ["students.teacher={prune: {num_layers: 1}}"],
        ("cannot be called 'teacher'", "choose another name"),
    ),
    "more than half for validation": (["data.validation_share=0.7"], ("data.validation_share is 0.7", "below 0.5")),
    "no processes": (
        ["teacher.parallel.processes=0"],
        ("teacher.parallel.processes is 0", "at least 1"),
    ),
}

# Overrides, and what the sentence must hold: the setting with its value, the bound, the next step.
MISFITS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "student as large as its teacher": (
        ["students.depth.prune.num_layers=3"],
        ("students.depth.prune leaves 49,888 parameters", "the teacher has 49,888", "cut more"),
    ),
    "more layers": (
        ["students.depth.prune.num_layers=4"],
        ("prune.num_layers is 4", "the teacher has 3", "choose at most that"),
    ),
    "wider": (
        ["students.width.prune.hidden_size=64"],
        ("prune.hidden_size is 64", "the teacher has 32", "choose at most that"),
    ),
    "wider MLP": (
        ["students.width.prune.ffn_hidden_size=128"],
        ("ffn_hidden_size is 128", "the teacher has 96", "choose at most that"),
    ),
    "more heads": (
        ["students.width.prune.num_attention_heads=8"],
        ("num_attention_heads is 8", "the teacher has 4", "choose at most that"),
    ),
    "too narrow": (["students.width.prune.hidden_size=0"], ("hidden_size is 0", "at least 8")),
    "no layers": (["students.depth.prune.num_layers=0"], ("num_layers is 0", "at least 1")),
    "heads and groups": (
        ["students.width.prune.num_attention_heads=1"],
        ("num_attention_heads is 1", "2 query groups", "choose a multiple"),
    ),
    "layer beyond the model": (
        ["students.depth.prune={num_layers: null, drop_layers: [2, 7]}"],
        ("drop_layers names layer 7", "3 layers, numbered from 1", "choose 1 to 3"),
    ),
    "layer named twice": (
        ["students.depth.prune={num_layers: null, drop_layers: [2, 2]}"],
        ("drop_layers is [2, 2]", "distinct"),
    ),
    "all layers": (
        ["students.depth.prune={num_layers: null, drop_layers: [1, 2, 3]}"],
        ("drops all 3 layers", "keep at least one"),
    ),
    "heads over tensor-parallel ranks": (
        parallel("teacher", "tensor", 3),
        ("teacher.parallel.tensor is 3", "num_attention_heads 4", "choose a divisor"),
    ),
    "query groups over tensor-parallel ranks": (
        parallel("distill", "tensor", 4),
        ("distill.parallel.tensor is 4", "num_query_groups 2 of the teacher", "choose a divisor"),
    ),
    "merged query groups over tensor-parallel ranks": (
        [*parallel("distill", "tensor"), "students.width.prune={num_query_groups: 1}"],
        ("distill.parallel.tensor is 2", "num_query_groups 1 of student width", "choose a divisor"),
    ),
    "query groups that do not become fewer evenly": (
        ["teacher.shape.num_query_groups=4", "students.width.prune={num_query_groups: 3}"],
        ("students.width.prune.num_query_groups is 3", "4 key-value heads of the teacher", "choose 1 or 2, so"),
    ),
    "more query groups than there are": (
        ["students.width.prune={num_query_groups: 4}"],
        ("students.width.prune.num_query_groups is 4", "the teacher has 2", "choose at most that"),
    ),
    "MLP of the student over tensor-parallel ranks": (
        [*parallel("distill", "tensor"), "students.width.prune.ffn_hidden_size=33", "students.width.quantize=false"],
        ("distill.parallel.tensor is 2", "ffn_hidden_size 33 of student width", "choose a divisor"),
    ),
    "vocabulary over tensor-parallel ranks": (
        [*parallel("teacher", "tensor"), "data.vocab_size=401"],
        ("teacher.parallel.tensor is 2", "vocab_size 401", "choose a divisor"),
    ),
    "layers of the student over pipeline stages": (
        [*parallel("distill", "pipeline", 3), "distill.global_batch=4"],
        ("distill.parallel.pipeline is 3", "2 layers of student depth", "choose a divisor"),
    ),
    "a student's own distillation": (
        [
            "students.depth.distill={steps: 3, seq_length: 999, global_batch: 4, micro_batch: 4, lr: 1e-3, min_lr: 0,"
            " warmup_steps: 1}"
        ],
        ("students.depth.distill.seq_length is 999", "256", "choose at most 256"),
    ),
    "layers over pipeline stages when pruning": (
        parallel("students.depth.prune", "pipeline"),
        ("students.depth.prune.parallel.pipeline is 2", "3 layers", "choose a divisor"),
    ),
    "layers over pipeline stages when scoring": (
        parallel("importance", "pipeline"),
        ("importance.parallel.pipeline is 2", "3 layers"),
    ),
    "pruning over tensor-parallel ranks": (
        parallel("students.depth.prune", "tensor"),
        ("use parallel.pipeline",),
    ),
    "scoring over data-parallel ranks": (["importance.parallel.processes=2"], ("use parallel.pipeline",)),
    "batches over data-parallel ranks": (
        ["teacher.parallel.processes=2"],
        ("global_batch 4", "micro_batch 4 x data-parallel size 2", "choose a multiple of 8"),
    ),
    "sequences over context-parallel ranks": (
        [*parallel("teacher", "context"), "teacher.seq_length=62"],
        ("teacher.parallel.context is 2", "seq_length 62 is not a multiple of 4", "choose 60"),
    ),
    "tokens over tensor-parallel ranks": (
        [*parallel("distill", "tensor"), "distill.parallel.sequence=true", "distill.seq_length=63"],
        ("distill.parallel.sequence is true", "seq_length 63", "choose a multiple of 2"),
    ),
    "sequence parallelism of one rank": (
        ["teacher.parallel.sequence=true"],
        ("parallel.sequence is true", "parallel.tensor is 1"),
    ),
    "context in the rank count": (
        [*parallel("teacher", "context", 3), "teacher.parallel.processes=2"],
        ("x context 3", "multiple of 3"),
    ),
    "pruning over context-parallel ranks": (
        parallel("students.depth.prune", "context"),
        ("use parallel.pipeline",),
    ),
    "logits of parts of sequences": (
        ["logits={seq_length: 64, parallel: {processes: 2, context: 2}}"],
        ("logits are stored for whole sequences", "remove both"),
    ),
    "logits over tensor-parallel ranks": (
        ["logits={seq_length: 64, parallel: {processes: 3, tensor: 3}}", "distill.offline=true", "distill.top_k=8"],
        ("logits.parallel.tensor is 3", "num_attention_heads 4", "choose a divisor"),
    ),
    "quantization over ranks": (
        ["quantize=[{format: fp8, parallel: {processes: 2}}]"],
        ("quantize.1.parallel", "processes is 2", "runs in one process"),
    ),
    "processes": (
        [*parallel("distill", "tensor"), "distill.parallel.processes=3"],
        ("parallel.processes is 3", "choose a multiple of 2"),
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
    "offline without K": (
        ["distill.offline=true", "logits={seq_length: 64}"],
        ("distill.offline", "only the top K", "set top_k"),
    ),
    "more of the top than is stored": (
        ["distill.offline=true", "distill.top_k=50", "logits={seq_length: 64, top_k: 20}"],
        ("distill.top_k is 50", "logits.top_k is 20", "choose at most 20"),
    ),
    "more stored than there is": (
        ["distill.offline=true", "distill.top_k=50", "logits={seq_length: 64, top_k: 500}"],
        ("logits.top_k is 500", "400 tokens", "choose at most 400"),
    ),
    "fewer stored than are read": (
        ["distill.offline=true", "distill.top_k=50", "logits={seq_length: 64, sequences: 10}"],
        ("logits.sequences is 10", "distill reads 24", "choose at least 24"),
    ),
    "others stored than are read": (
        ["distill.offline=true", "distill.top_k=50", "logits={seq_length: 64, sequences: 24, seed: 7}"],
        ("logits.seed is 7", "distill.seed is 1", "choose 1"),
    ),
    "fewer stored than are validated on": (
        ["distill.offline=true", "distill.top_k=50", "logits={seq_length: 64, validation_sequences: 2}"],
        ("logits.validation_sequences is 2", "validates on 4", "choose at least 4"),
    ),
    "hot rest of stored logits": (
        [
            "distill.offline=true",
            "distill.top_k=50",
            "distill.rest_bucket=true",
            "distill.temperature=2",
            "logits={seq_length: 64}",
        ],
        ("distill.temperature is 2", "stored at temperature 1", "remove rest_bucket"),
    ),
    "layers of a teacher that is not loaded": (
        [
            "distill.offline=true",
            "distill.top_k=50",
            "logits={seq_length: 64}",
            "distill.intermediate=[{student_layer: 1, teacher_layer: 1}]",
        ],
        ("distill.intermediate", "offline does not store"),
    ),
    "best by what is not stored": (
        ["distill.offline=true", "distill.top_k=50", "distill.keep=best", "logits={seq_length: 64}"],
        ("distill.best_by is val_kl", "choose val_divergence"),
    ),
    "a pair with a layer the student has not": (
        ["distill.intermediate=[{student_layer: 3, teacher_layer: 1}]"],
        ("distill.intermediate.1.student_layer is 3", "the student has 2 layers", "choose 1 to 2"),
    ),
    "a pair with a layer the teacher has not": (
        ["distill.intermediate=[{student_layer: 1, teacher_layer: 1}, {student_layer: 1, teacher_layer: 9}]"],
        ("distill.intermediate.2.teacher_layer is 9", "the teacher has 3 layers", "choose 1 to 3"),
    ),
    "pairs of layers over pipeline stages": (
        [
            "distill.intermediate=[{student_layer: 1, teacher_layer: 1}]",
            "teacher.shape.num_layers=4",
            *parallel("distill", "pipeline"),
        ],
        ("distill.parallel.pipeline is 2", "within one pipeline stage", "choose 1"),
    ),
    "small embedding": (
        ["teacher.shape.vocab_size=399"],
        ("teacher.shape.vocab_size is 399", "400 tokens", "choose at least 400"),
    ),
    "no test split": (["data.test_share=0"], ("data.test_share is 0", "choose more than 0")),
    "no validation split": (["data.validation_share=0"], ("data.validation_share is 0", "choose more than 0")),
    "no source": (["data.source=[]"], ("data.source is empty", "files")),
    "empty source": (["data.source=['']"], ("data.source is empty", "files")),
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


def test_what_fits_exactly_is_not_refused() -> None:
    load(
        TINY,
        [
            "teacher.seq_length=256",
            "evaluate.prompt_tokens=200",
            "evaluate.new_tokens=56",
            "teacher.shape.vocab_size=400",
        ],
    )
    load(TINY, [*parallel("teacher", "tensor"), *parallel("distill", "tensor"), "students.depth.prune.num_layers=1"])
    load(TINY, [*parallel("teacher", "pipeline", 3), "students.depth.prune={num_layers: null, drop_layers: [1, 3]}"])
    load(TINY, ["evaluate.prompt_tokens=300", "evaluate.new_tokens=0"])
    load(TINY, ["data.source=some-owner/text-v1.5", "evaluate.mmlu=null", "data.test_share=0"])


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    assert "empty.txt, which is an empty file; use a file with text" in told(
        f"data.source={tmp_path / 'empty.txt'}", "evaluate.mmlu=null"
    )


def test_the_worlds_quiz_needs_the_world(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("text\n")
    assert "data.source is not 'world'; use a folder of MMLU's CSVs" in told(f"data.source={tmp_path / 'text.txt'}")
    load(TINY, [f"data.source=[world, {tmp_path / 'text.txt'}]"])


def test_a_cut_keeps_what_it_does_not_name() -> None:
    teacher = Shape(
        num_layers=4, hidden_size=64, ffn_hidden_size=96, num_attention_heads=4, num_query_groups=2, vocab_size=512
    )
    cut = cut_shape("student", PruneConfig(hidden_size=32, drop_layers=(2,)), teacher)
    assert cut.head_dim == 16, "narrower hidden states leave the heads as they are"
    assert (cut.num_layers, cut.hidden_size) == (3, 32)
    kept = {"num_layers", "hidden_size", "head_dim"}
    assert cut.model_dump(exclude=kept) == teacher.model_dump(exclude=kept)
