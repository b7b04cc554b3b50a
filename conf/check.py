"""What can be known to be wrong before anything runs: settings of different stages that do not fit, and inputs that are not there."""

from __future__ import annotations

import glob
from pathlib import Path

from conf.check_distill import check_distill, check_offline
from conf.check_gates import check_gates
from conf.check_quantize import check_format
from conf.check_sft import check_lengths, check_records, check_tuning
from conf.evaluate import EvaluateConfig
from conf.model import check_model_directory, num_tokens, shape_of, tokenizer_of
from conf.parallel import Parallel
from conf.prune import PruneConfig
from conf.schema import Recipe
from conf.teacher import Shape
from conf.training import Training
from conf.watch import Watched

TEXT = (".txt", ".jsonl", ".json", ".csv", ".parquet", ".gz")
"""Endings that no hub id has: a source with one is a file."""


def check(recipe: Recipe) -> None:
    """Raise ValueError with one sentence for the first thing that cannot work."""
    _check_inputs(recipe)
    check_gates(recipe)
    _check_splits(recipe)
    check_records(recipe)
    shape = teacher_shape(recipe)
    if shape is None:
        return  # a hub model nobody described: the jobs check it once it is here
    _check_vocabulary(recipe, shape)
    _check_training("teacher", recipe.teacher, shape)
    if any(student.prune.ranked for student in recipe.students.values()):
        _check_length("importance.seq_length", recipe.importance.seq_length, shape)
        _check_pipeline("importance.parallel", recipe.importance.parallel, shape)
    _check_evaluation(recipe.evaluate, shape)
    check_lengths(recipe, shape)
    if recipe.teacher_sft:
        _check_training("sft", recipe.teacher_sft, shape, " of the teacher")
    for name, student in recipe.students.items():
        cut = cut_shape(f"students.{name}.prune", student.prune, shape)
        _check_pipeline(f"students.{name}.prune.parallel", student.prune.parallel, shape)
        how = recipe.distill_of(name)
        if how:
            where = f"students.{name}.distill" if student.distill else "distill"
            _check_training(where, how, shape, " of the teacher")
            _check_training(where, how, cut, f" of student {name}")
            check_distill(where, how, shape, cut)
            _check_watch(where, how, shape)
            check_offline(where, how, recipe.logits, shape)
        if tune := recipe.sft_of(name):
            where = f"students.{name}.sft" if student.sft else "sft"
            check_tuning(where, tune, recipe, shape)
            _check_training(where, tune, cut, f" of student {name}")
            if tune.kd_weight:
                _check_training(where, tune, shape, " of the teacher")
        for config in recipe.formats_of(name):
            _check_length(f"quantize.seq_length ({config.name})", config.seq_length, cut)
            check_format(name, config, cut)


def teacher_shape(recipe: Recipe) -> Shape | None:
    """The teacher's dimensions: the recipe's, those of a local model, or those the recipe says a hub model has."""
    teacher, words = recipe.teacher, recipe.data.tokenizer
    if teacher.shape:
        if teacher.shape.vocab_size:
            return teacher.shape
        return teacher.shape.model_copy(update={"vocab_size": num_tokens(Path(words)) if words else recipe.data.vocab_size})
    assert teacher.model is not None, "TeacherConfig has a model or a shape"
    return shape_of(Path(teacher.model)) if Path(teacher.model).is_dir() else teacher.reference


def cut_shape(where: str, prune: PruneConfig, teacher: Shape) -> Shape:
    """The student's dimensions; ValueError where the cut does not fit the teacher."""
    for axis, size in prune.ranked.items():
        if size > getattr(teacher, axis):
            raise ValueError(f"{where}.{axis} is {size} but the teacher has {getattr(teacher, axis)}; choose less")
    if prune.drop_layers and max(prune.drop_layers) > teacher.num_layers:
        raise ValueError(
            f"{where}.drop_layers names layer {max(prune.drop_layers)} but the teacher has {teacher.num_layers} layers, numbered from 1; "
            f"choose 1 to {teacher.num_layers}"
        )
    heads = prune.num_attention_heads
    if heads and heads % teacher.num_query_groups:
        raise ValueError(
            f"{where}.num_attention_heads is {heads}, not a multiple of the teacher's {teacher.num_query_groups} query groups; "
            "choose a multiple"
        )
    layers = teacher.num_layers - len(prune.drop_layers)
    if layers < 1:
        raise ValueError(f"{where}.drop_layers drops all {teacher.num_layers} layers of the teacher; keep at least one")
    head_dim = teacher.head_dim or teacher.hidden_size // teacher.num_attention_heads
    cut = teacher.model_copy(update={"num_layers": layers, "head_dim": head_dim} | prune.ranked)
    if num_params(cut) >= num_params(teacher):
        raise ValueError(
            f"{where} leaves {num_params(cut):,} parameters, the teacher has {num_params(teacher):,}; a student must be smaller: cut more"
        )
    return cut


def num_params(shape: Shape) -> int:
    """Parameters of a decoder; a tied embedding counts once, a vocabulary that is not known as none."""
    head = shape.head_dim or shape.hidden_size // shape.num_attention_heads
    attention = shape.hidden_size * head * 2 * (shape.num_attention_heads + shape.num_query_groups)
    norms = 2 * shape.hidden_size + (2 * head if shape.architecture == "qwen3" else 0)
    embeddings = (shape.vocab_size or 0) * shape.hidden_size * (1 if shape.tie_word_embeddings else 2)
    return shape.num_layers * (attention + 3 * shape.hidden_size * shape.ffn_hidden_size + norms) + embeddings + shape.hidden_size


def _check_inputs(recipe: Recipe) -> None:
    teacher, mmlu = recipe.teacher, recipe.evaluate.mmlu
    names = (recipe.data.source,) if isinstance(recipe.data.source, str) else recipe.data.source
    if not all(names) or not names:
        raise ValueError("data.source names nothing; give 'world', files or a Hugging Face dataset id")
    for name in names:
        path = Path(name)
        local = name.startswith((".", "/", "~")) or path.suffix in TEXT or any(mark in name for mark in "*?[")
        # An absolute pattern is no Path.glob.
        if local and not path.exists() and not glob.glob(name, recursive=True):  # noqa: PTH207
            raise ValueError(f"data.source names {name}, which does not exist; check the path (relative ones start at {Path.cwd()})")
        if path.is_file() and path.stat().st_size == 0:
            raise ValueError(f"data.source {name} is empty; name a file with text")
    tokenizer = recipe.data.tokenizer
    if tokenizer and not (Path(tokenizer) / "tokenizer.json").is_file():
        raise ValueError(f"data.tokenizer {tokenizer} has no tokenizer.json; name a local Hugging Face tokenizer directory")
    if teacher.model:
        if Path(teacher.model).is_dir():
            check_model_directory(Path(teacher.model))
        elif teacher.model.startswith((".", "/", "~")) or teacher.model.count("/") != 1:
            raise ValueError(
                f"teacher.model names {teacher.model}, which is no directory here (relative paths start at {Path.cwd()}) and no hub id "
                "owner/name; check the path"
            )
    if mmlu and mmlu.path == "quiz" and "world" not in names:
        raise ValueError("evaluate.mmlu.path is 'quiz', the invented world's, but data.source is not 'world'; name a folder of MMLU's CSVs")
    if mmlu and mmlu.path not in (None, "quiz") and not list(Path(str(mmlu.path)).glob("test/*_test.csv")):
        raise ValueError(f"evaluate.mmlu.path {mmlu.path} has no test/*_test.csv; name the folder of MMLU's original CSVs")


def _check_splits(recipe: Recipe) -> None:
    """Text without splits of its own needs a share of documents in each split that is used; a hub dataset may bring its own."""
    data = recipe.data
    names = (data.source,) if isinstance(data.source, str) else data.source
    if not all(name == "world" or Path(name).exists() or glob.glob(name, recursive=True) for name in names):  # noqa: PTH207
        return
    if data.test_share == 0:
        raise ValueError("data.test_share is 0 but models are evaluated on the test split; choose more than 0")
    trained = recipe.teacher.steps or any(how.steps for name in recipe.students if (how := recipe.distill_of(name)))
    if trained and data.validation_share == 0:
        raise ValueError("data.validation_share is 0 but training is validated on that split; choose more than 0")


def _check_vocabulary(recipe: Recipe, shape: Shape) -> None:
    """Every id of the tokenizer needs its row in the teacher's embedding, and a pretrained teacher its own tokenizer."""
    model, words = recipe.teacher.model, recipe.data.tokenizer
    if model is None:
        tokens = num_tokens(Path(words)) if words else recipe.data.vocab_size
        if shape.vocab_size and shape.vocab_size < tokens:
            raise ValueError(
                f"teacher.shape.vocab_size is {shape.vocab_size} but the tokenizer has {tokens} tokens; "
                "choose at least that or leave it empty"
            )
    elif Path(model).is_dir():
        tokens = num_tokens(Path(model))
        if shape.vocab_size and shape.vocab_size < tokens:
            raise ValueError(
                f"teacher.model {model} embeds {shape.vocab_size} tokens but its tokenizer.json has {tokens}; "
                "they do not belong together: fetch the model again"
            )
        if words and tokenizer_of(Path(words)) != tokenizer_of(Path(model)):
            raise ValueError(f"data.tokenizer {words} is not the tokenizer of teacher.model {model}; leave data.tokenizer empty")


def _check_evaluation(config: EvaluateConfig, shape: Shape) -> None:
    _check_length("evaluate.seq_length", config.seq_length, shape)
    if config.new_tokens:
        _check_length("evaluate.prompt_tokens + evaluate.new_tokens", config.prompt_tokens + config.new_tokens, shape)


def _check_training(where: str, config: Training, shape: Shape, whose: str = "") -> None:
    if config.steps == 0:
        return
    _check_length(f"{where}.seq_length", config.seq_length, shape)
    for axis in ("num_attention_heads", "num_query_groups", "ffn_hidden_size", "vocab_size"):
        size = getattr(shape, axis)
        if size and size % config.parallel.tensor:
            raise ValueError(
                f"{where}.parallel.tensor is {config.parallel.tensor}, which does not divide {axis} {size}{whose}; choose a divisor"
            )
    _check_pipeline(f"{where}.parallel", config.parallel, shape, whose)


def _check_watch(where: str, how: Watched, shape: Shape) -> None:
    if how.evaluation is None:
        return
    if how.best_by == "mmlu" and how.evaluation.mmlu is None:
        raise ValueError(f"{where}.best_by is mmlu, which evaluate.mmlu: null does not measure; choose val_kl or val_loss")
    _check_length(f"{where}.evaluation.seq_length", how.evaluation.seq_length, shape)


def _check_pipeline(where: str, parallel: Parallel, shape: Shape, whose: str = "") -> None:
    if shape.num_layers % parallel.pipeline:
        raise ValueError(
            f"{where}.pipeline is {parallel.pipeline}, which does not divide {shape.num_layers} layers{whose}; choose a divisor"
        )


def _check_length(where: str, length: int, shape: Shape) -> None:
    if length > shape.max_position_embeddings:
        raise ValueError(f"{where} is {length} but the model's longest sequence is {shape.max_position_embeddings}; choose less")
