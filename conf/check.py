"""What can be known to be wrong before anything runs: settings of different stages that do not fit, and inputs that are not there."""

from __future__ import annotations

import glob
import json
import struct
from pathlib import Path
from typing import Any

from conf.schema import Parallel, PruneConfig, Recipe, Shape, Training

CODE = (".py", ".so")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def check(recipe: Recipe) -> None:
    """Raise ValueError with one sentence for the first thing that cannot work."""
    _check_inputs(recipe)
    shape = teacher_shape(recipe)
    if shape is None:
        return  # a hub model nobody described: the jobs check it once it is here
    _check_training("teacher", recipe.teacher, shape)
    if any(student.prune.ranked for student in recipe.students.values()):
        _check_length("importance.seq_length", recipe.importance.seq_length, shape)
        _check_pipeline("importance.parallel", recipe.importance.parallel, shape)
    _check_length("evaluate.seq_length", recipe.evaluate.seq_length, shape)
    for name, student in recipe.students.items():
        cut = cut_shape(f"students.{name}.prune", student.prune, shape)
        _check_pipeline(f"students.{name}.prune.parallel", student.prune.parallel, shape)
        how = recipe.distill_of(name)
        if how:
            _check_training("distill", how, shape)
            _check_training(f"distill (student {name})", how, cut)
        for config in recipe.formats_of(name):
            _check_length("quantize.seq_length", config.seq_length, shape)
            for axis in ("hidden_size", "ffn_hidden_size"):
                if config.format == "nvfp4" and getattr(cut, axis) % 16:
                    raise ValueError(
                        f"students.{name} has {axis} {getattr(cut, axis)}, not a multiple of 16, the block of nvfp4; "
                        f"prune it to a multiple or set students.{name}.quantize=false"
                    )


def teacher_shape(recipe: Recipe) -> Shape | None:
    """The teacher's dimensions: the recipe's, those of a local model, or those the recipe says a hub model has."""
    teacher = recipe.teacher
    if teacher.shape:
        return teacher.shape
    assert teacher.model is not None, "TeacherConfig has a model or a shape"
    return shape_of(Path(teacher.model)) if Path(teacher.model).is_dir() else teacher.reference


def shape_of(directory: Path) -> Shape:
    """Dimensions from a model directory's config.json."""
    config: dict[str, Any] = json.loads((directory / "config.json").read_text())
    kind = config.get("model_type")
    if kind not in ("llama", "qwen3"):
        raise ValueError(f"{directory}/config.json says model_type {kind!r}; choose a Llama or Qwen3 model")
    try:
        return Shape(
            architecture=kind,
            num_layers=config["num_hidden_layers"],
            hidden_size=config["hidden_size"],
            ffn_hidden_size=config["intermediate_size"],
            num_attention_heads=config["num_attention_heads"],
            num_query_groups=config.get("num_key_value_heads") or config["num_attention_heads"],
            head_dim=config.get("head_dim"),
            vocab_size=config["vocab_size"],
            max_position_embeddings=config["max_position_embeddings"],
            tie_word_embeddings=bool(config.get("tie_word_embeddings")),
        )
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{directory}/config.json does not describe a Llama or Qwen3 decoder ({' '.join(str(error).split())[:120]}); "
            "choose such a model"
        ) from error


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
    """Parameters of a decoder; a tied embedding counts once. The vocabulary must be known or counts as none."""
    head = shape.head_dim or shape.hidden_size // shape.num_attention_heads
    attention = shape.hidden_size * head * 2 * (shape.num_attention_heads + shape.num_query_groups)
    norms = 2 * shape.hidden_size + (2 * head if shape.architecture == "qwen3" else 0)
    embeddings = (shape.vocab_size or 0) * shape.hidden_size * (1 if shape.tie_word_embeddings else 2)
    return shape.num_layers * (attention + 3 * shape.hidden_size * shape.ffn_hidden_size + norms) + embeddings + shape.hidden_size


def check_model_directory(directory: Path) -> None:
    """Refuse a model directory that is incomplete, damaged, or would run code; reads no tensor."""
    config = directory / "config.json"
    if not config.is_file():
        raise ValueError(f"teacher.model {directory} has no config.json; name a Hugging Face model directory")
    try:
        settings = json.loads(config.read_text())
    except ValueError as error:
        raise ValueError(f"{config} is not valid JSON ({error}); fetch the model again") from error
    code = sorted(path.name for path in directory.iterdir() if path.suffix in CODE)
    if "auto_map" in settings or code:
        found = f"auto_map in config.json{f' and {code[0]}' if code else ''}" if "auto_map" in settings else code[0]
        raise ValueError(f"teacher.model {directory} brings its own code ({found}), which is never run; choose a model without it")
    if not (directory / "tokenizer.json").is_file():
        raise ValueError(f"teacher.model {directory} has no tokenizer.json; add the model's fast tokenizer")
    for shard in _shards(directory):
        _check_shard(directory, shard)


def _shards(directory: Path) -> list[str]:
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        try:
            return sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{index} names no shards ({type(error).__name__}); fetch the model again") from error
    if (directory / "model.safetensors").is_file():
        return ["model.safetensors"]
    pickled = sorted(path.name for path in directory.iterdir() if path.suffix in PICKLES)
    if pickled:
        raise ValueError(
            f"teacher.model {directory} has only pickled weights ({pickled[0]}), which are never loaded; convert them to safetensors"
        )
    raise ValueError(f"teacher.model {directory} has no weights (model.safetensors); fetch the model again")


def _check_shard(directory: Path, shard: str) -> None:
    path = directory / shard
    if not path.is_file():
        raise ValueError(f"teacher.model {directory} lacks the shard {shard} that its index names; fetch the model again")
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length)) if length < size else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a safetensors file ({error}); fetch the model again") from error
    if expected != size:
        raise ValueError(f"{path} has {size} bytes where its header needs {expected}; fetch the model again")


def _check_inputs(recipe: Recipe) -> None:
    teacher, mmlu = recipe.teacher, recipe.evaluate.mmlu
    names = (recipe.data.source,) if isinstance(recipe.data.source, str) else recipe.data.source
    if not names:
        raise ValueError("data.source names nothing; give 'world', files or a Hugging Face dataset id")
    for name in names:
        path = Path(name)
        local = name.startswith((".", "/", "~")) or bool(path.suffix) or "*" in name
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


def _check_training(where: str, config: Training, shape: Shape) -> None:
    if isinstance(config.steps, int) and config.steps == 0:
        return
    _check_length(f"{where}.seq_length", config.seq_length, shape)
    for axis in ("num_attention_heads", "num_query_groups", "ffn_hidden_size", "vocab_size"):
        size = getattr(shape, axis)
        if size and size % config.parallel.tensor:
            raise ValueError(f"{where}.parallel.tensor is {config.parallel.tensor}, which does not divide {axis} {size}; choose a divisor")
    _check_pipeline(f"{where}.parallel", config.parallel, shape)


def _check_pipeline(where: str, parallel: Parallel, shape: Shape) -> None:
    if shape.num_layers % parallel.pipeline:
        raise ValueError(f"{where}.pipeline is {parallel.pipeline}, which does not divide {shape.num_layers} layers; choose a divisor")


def _check_length(where: str, length: int, shape: Shape) -> None:
    if length > shape.max_position_embeddings:
        raise ValueError(f"{where} is {length} but the model's longest sequence is {shape.max_position_embeddings}; choose less")
