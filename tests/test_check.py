"""What is refused before anything runs: stages that do not fit each other, and models and data that are not there or not whole."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conf.check import cut_shape, num_params
from conf.load import load
from conf.model import num_tokens, shape_of
from conf.schema import PruneConfig, Shape
from tests.flow_fixtures import RECIPE, imbik

TINY = str(RECIPE)


def parallel(where: str, axis: str, size: int = 2) -> list[str]:
    """Overrides that spread a stage over `size` ranks."""
    return [f"{where}.parallel.processes={size}", f"{where}.parallel.{axis}={size}"]


def told(*overrides: str) -> str:
    """The one sentence with which the recipe is refused."""
    with pytest.raises(ValueError) as caught:
        load(TINY, list(overrides))
    sentence = str(caught.value)
    assert len(sentence.splitlines()) == 1
    return sentence


# Overrides, and what the sentence must hold: the setting with its value, the bound, the next step.
MISFITS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "student as large as its teacher": (
        ["students.depth.prune.num_layers=3"],
        ("students.depth.prune leaves 49,888 parameters", "the teacher has 49,888", "cut more"),
    ),
    "more layers": (["students.depth.prune.num_layers=4"], ("prune.num_layers is 4", "the teacher has 3", "choose less")),
    "wider": (["students.width.prune.hidden_size=64"], ("prune.hidden_size is 64", "the teacher has 32", "choose less")),
    "wider MLP": (["students.width.prune.ffn_hidden_size=128"], ("ffn_hidden_size is 128", "the teacher has 96", "choose less")),
    "more heads": (["students.width.prune.num_attention_heads=8"], ("num_attention_heads is 8", "the teacher has 4", "choose less")),
    "too narrow": (["students.width.prune.hidden_size=0"], ("hidden_size is 0", "greater than or equal to 8")),
    "no layers": (["students.depth.prune.num_layers=0"], ("num_layers is 0", "greater than or equal to 1")),
    "heads and groups": (
        ["students.width.prune.num_attention_heads=1"],
        ("num_attention_heads is 1", "2 query groups", "choose a multiple"),
    ),
    "layer beyond the model": (
        ["students.depth.prune={num_layers: null, drop_layers: [2, 7]}"],
        ("drop_layers names layer 7", "3 layers, numbered from 1", "choose 1 to 3"),
    ),
    "layer named twice": (["students.depth.prune={num_layers: null, drop_layers: [2, 2]}"], ("drop_layers [2, 2]", "distinct")),
    "all layers": (["students.depth.prune={num_layers: null, drop_layers: [1, 2, 3]}"], ("drops all 3 layers", "keep at least one")),
    "heads over tensor-parallel ranks": (
        parallel("teacher", "tensor", 3),
        ("teacher.parallel.tensor is 3", "num_attention_heads 4", "choose a divisor"),
    ),
    "query groups over tensor-parallel ranks": (
        parallel("distill", "tensor", 4),
        ("distill.parallel.tensor is 4", "num_query_groups 2 of the teacher", "choose a divisor"),
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
        ["students.depth.distill={steps: 3, seq_length: 999, global_batch: 4, micro_batch: 4, lr: 1e-3, min_lr: 0, warmup_steps: 1}"],
        ("students.depth.distill.seq_length is 999", "256", "choose less"),
    ),
    "layers over pipeline stages when pruning": (
        parallel("students.depth.prune", "pipeline"),
        ("students.depth.prune.parallel.pipeline is 2", "3 layers", "choose a divisor"),
    ),
    "layers over pipeline stages when scoring": (parallel("importance", "pipeline"), ("importance.parallel.pipeline is 2", "3 layers")),
    "pruning over tensor-parallel ranks": (parallel("students.depth.prune", "tensor"), ("spread it with parallel.pipeline",)),
    "scoring over data-parallel ranks": (["importance.parallel.processes=2"], ("spread it with parallel.pipeline",)),
    "batches over data-parallel ranks": (
        ["teacher.parallel.processes=2"],
        ("global_batch 4", "micro_batch 4 x data-parallel size 2", "choose a multiple of 8"),
    ),
    "processes": ([*parallel("distill", "tensor"), "distill.parallel.processes=3"], ("parallel.processes is 3", "choose a multiple of 2")),
    "long sequences of the teacher": (["teacher.seq_length=257"], ("teacher.seq_length is 257", "256", "choose less")),
    "long sequences of distillation": (["distill.seq_length=257"], ("distill.seq_length is 257", "256", "choose less")),
    "long sequences of calibration": (["importance.seq_length=257"], ("importance.seq_length is 257", "256", "choose less")),
    "long sequences of evaluation": (["evaluate.seq_length=257"], ("evaluate.seq_length is 257", "256", "choose less")),
    "long sequences of quantization": (
        ["quantize=[{format: fp8, seq_length: 257}]"],
        ("quantize.seq_length (fp8) is 257", "256", "choose less"),
    ),
    "long generation": (
        ["evaluate.prompt_tokens=200", "evaluate.new_tokens=57"],
        ("prompt_tokens + evaluate.new_tokens is 257", "256", "choose less"),
    ),
    "block of nvfp4": (
        ["students.depth.prune.ffn_hidden_size=40"],
        ("students.depth has ffn_hidden_size 40", "multiple of 16", "students.depth.quantize=false"),
    ),
    "block of nvfp4 over all heads": (
        ["teacher.shape.head_dim=6"],
        ("students.depth has num_attention_heads x head_dim 24", "multiple of 16", "students.depth.quantize=false"),
    ),
    "small embedding": (["teacher.shape.vocab_size=399"], ("teacher.shape.vocab_size is 399", "400 tokens", "choose at least that")),
    "no test split": (["data.test_share=0"], ("data.test_share is 0", "choose more than 0")),
    "no validation split": (["data.validation_share=0"], ("data.validation_share is 0", "choose more than 0")),
    "no source": (["data.source=[]"], ("data.source names nothing", "files")),
    "empty source": (["data.source=['']"], ("data.source names nothing", "files")),
    "no such file": (["data.source=/none/corpus.txt"], ("/none/corpus.txt, which does not exist", "check the path")),
    "pattern without files": (["data.source=/none/*"], ("/none/*, which does not exist", "check the path")),
    "no such model": (
        ["teacher.shape=null", "teacher.model=/none"],
        ("teacher.model names /none", "no hub id owner/name", "check the path"),
    ),
    "nameless model": (["teacher.shape=null", "teacher.model=''"], ("teacher.model is ''", "at least 1 character")),
    "no such tokenizer": (["data.tokenizer=/none"], ("data.tokenizer /none has no tokenizer.json", "name a local")),
    "no such questions": (["evaluate.mmlu.path=/none"], ("evaluate.mmlu.path /none has no test/*_test.csv", "name the folder")),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_told_with_its_bound_and_the_next_step(case: str) -> None:
    overrides, parts = MISFITS[case]
    sentence = told(*overrides)
    assert all(part in sentence for part in parts), sentence


def test_what_fits_exactly_is_not_refused() -> None:
    load(TINY, ["teacher.seq_length=256", "evaluate.prompt_tokens=200", "evaluate.new_tokens=56", "teacher.shape.vocab_size=400"])
    load(TINY, [*parallel("teacher", "tensor"), *parallel("distill", "tensor"), "students.depth.prune.num_layers=1"])
    load(TINY, [*parallel("teacher", "pipeline", 3), "students.depth.prune={num_layers: null, drop_layers: [1, 3]}"])
    load(TINY, ["evaluate.prompt_tokens=300", "evaluate.new_tokens=0"])
    load(TINY, ["data.source=some-owner/text-v1.5", "evaluate.mmlu=null", "data.test_share=0"])


def test_a_recipe_that_leaves_out_training_needs_no_validation_split(model: Path) -> None:
    load(TINY, [*pretrained(model), "distill=null", "data.validation_share=0"])


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    assert "empty.txt is empty; name a file with text" in told(f"data.source={tmp_path / 'empty.txt'}", "evaluate.mmlu=null")


def test_the_worlds_quiz_needs_the_world(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("text\n")
    assert "data.source is not 'world'; name a folder of MMLU's CSVs" in told(f"data.source={tmp_path / 'text.txt'}")
    load(TINY, [f"data.source=[world, {tmp_path / 'text.txt'}]"])


def write_model(folder: Path) -> Path:
    """A model directory whose two shards have headers and no meaning: nothing here reads a tensor."""
    folder.mkdir()
    config = {
        "model_type": "llama",
        "num_hidden_layers": 3,
        "hidden_size": 32,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 300,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
    }
    vocabulary = {f"piece{number}": number for number in range(299)}
    content = {"model": {"type": "BPE", "vocab": vocabulary}, "added_tokens": [{"id": 299, "content": "<end>"}]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(content))
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    for tensor, shard in shards.items():
        header = json.dumps({tensor: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": {"format": "pt"}}).encode()
        (folder / shard).write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 8)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


def pretrained(model: Path) -> list[str]:
    return ["teacher.shape=null", f"teacher.model={model}", "teacher.steps=0"]


def rewrite(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def header(model: Path, content: bytes) -> None:
    first_shard(model).write_bytes(struct.pack("<Q", len(content)) + content)


def first_shard(model: Path) -> Path:
    return model / "model-00001-of-00002.safetensors"


def lose_weights(model: Path, *left: str) -> None:
    for file in model.glob("*safetensors*"):
        file.unlink()
    for name in left:
        (model / name).write_bytes(b"x")


DAMAGES: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "no config": (lambda model: (model / "config.json").unlink(), ("no config.json", "name a Hugging Face model directory")),
    "config cut short": (lambda model: (model / "config.json").write_text('{"a": '), ("config.json is not valid JSON", "fetch it again")),
    "config no object": (lambda model: (model / "config.json").write_text("[1]"), ("config.json holds no JSON object", "fetch it again")),
    "config of bytes": (lambda model: (model / "config.json").write_bytes(b"\xff"), ("config.json is not valid JSON", "fetch it again")),
    "other architecture": (lambda model: rewrite(model / "config.json", model_type="gpt2"), ("model_type 'gpt2'", "Llama or Qwen3")),
    "no architecture": (lambda model: rewrite(model / "config.json", model_type=None), ("model_type None", "Llama or Qwen3")),
    "dimension missing": (
        lambda model: (model / "config.json").write_text('{"model_type": "llama"}'),
        ("num_hidden_layers", "choose such a model"),
    ),
    "dimension that is no number": (
        lambda model: rewrite(model / "config.json", hidden_size="wide"),
        ("hidden_size", "choose such a model"),
    ),
    "own code": (lambda model: (model / "modeling.py").touch(), ("modeling.py", "never run", "choose a model without it")),
    "auto_map": (lambda model: rewrite(model / "config.json", auto_map={}), ("auto_map in config.json", "never run")),
    "quantized": (lambda model: rewrite(model / "config.json", quantization_config={}), ("is quantized", "before quantization")),
    "no tokenizer": (lambda model: (model / "tokenizer.json").unlink(), ("no tokenizer.json", "add the model's fast tokenizer")),
    "tokenizer cut short": (lambda model: (model / "tokenizer.json").write_text("{"), ("tokenizer.json is not valid JSON",)),
    "tokenizer without vocabulary": (lambda model: (model / "tokenizer.json").write_text("{}"), ("holds no vocabulary", "fetch")),
    "tokenizer of another model": (
        lambda model: rewrite(model / "config.json", vocab_size=299),
        ("embeds 299 tokens", "tokenizer.json has 300", "do not belong together"),
    ),
    "no weights": (lose_weights, ("has no weights (model.safetensors)", "fetch the model again")),
    "pickled weights": (
        lambda model: lose_weights(model, "pytorch_model.bin"),
        ("only pickled weights (pytorch_model.bin)", "never loaded", "convert them to safetensors"),
    ),
    "shard missing": (lambda model: first_shard(model).unlink(), ("lacks the shard model-00001-of-00002.safetensors", "fetch")),
    "shard cut short": (
        lambda model: first_shard(model).write_bytes(first_shard(model).read_bytes()[:-1]),
        ("bytes where its header needs", "fetch the model again"),
    ),
    "shard with more than it should": (
        lambda model: first_shard(model).write_bytes(first_shard(model).read_bytes() + b"\0"),
        ("bytes where its header needs",),
    ),
    "shard empty": (lambda model: first_shard(model).write_bytes(b""), ("is not a safetensors file", "fetch the model again")),
    "shard of text": (lambda model: first_shard(model).write_text("not found: 404"), ("bytes where its header needs", "fetch")),
    "shard header no JSON": (lambda model: header(model, b"{]" * 9), ("is not a safetensors file", "fetch the model again")),
    "shard header a list": (lambda model: header(model, b"[1, 2]"), ("is not a safetensors file", "fetch the model again")),
    "shard header without offsets": (lambda model: header(model, b'{"a": {"data_offsets": []}}'), ("is not a safetensors file", "fetch")),
    "index no JSON": (lambda model: (model / "model.safetensors.index.json").write_text("{"), ("index.json is not valid JSON", "fetch")),
    "index without shards": (lambda model: (model / "model.safetensors.index.json").write_text("{}"), ("names no shards", "fetch")),
    "index empty": (lambda model: rewrite(model / "model.safetensors.index.json", weight_map={}), ("names no shards", "fetch")),
    "index leads outside": (
        lambda model: rewrite(model / "model.safetensors.index.json", weight_map={"a": "../x.safetensors"}),
        ("../x.safetensors, which is no file of its folder", "fetch"),
    ),
    "index of numbers": (
        lambda model: rewrite(model / "model.safetensors.index.json", weight_map={"a": 1}),
        ("names the shard 1, which is no file of its folder",),
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_broken_model_directory_is_told_by_name(case: str, model: Path) -> None:
    damage, parts = DAMAGES[case]
    load(TINY, pretrained(model))
    damage(model)
    sentence = told(*pretrained(model))
    assert all(part in sentence for part in (str(model), *parts)), sentence


def test_the_command_tells_of_a_missing_shard_and_makes_no_store(model: Path, tmp_path: Path) -> None:
    first_shard(model).unlink()
    for verb in ("run", "plan"):
        done = imbik(verb, TINY, *pretrained(model), store=tmp_path / "store")
        assert done.returncode == 2
        assert done.stderr.startswith(f"imbik: teacher.model {model} lacks the shard")
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "store").exists()


def test_a_pretrained_teacher_keeps_its_own_tokenizer(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(model, other)
    load(TINY, [*pretrained(model), f"data.tokenizer={other}"])
    rewrite(other / "tokenizer.json", normalizer={"type": "Lowercase"})
    sentence = told(*pretrained(model), f"data.tokenizer={other}")
    assert f"data.tokenizer {other} is not the tokenizer of teacher.model {model}; leave data.tokenizer empty" in sentence
    assert "has 300 tokens" in told(f"data.tokenizer={other}", "teacher.shape.vocab_size=299")


def test_dimensions_and_tokens_of_a_real_model(shared_data: Path) -> None:
    stories = shared_data / "weights" / "stories260K-hf"
    assert num_params(shape_of(stories)) == 260_032
    assert num_tokens(stories) == shape_of(stories).vocab_size == 512
    assert num_tokens(shared_data / "tokenizers" / "llama3-hf") == 128_256


def test_a_cut_keeps_what_it_does_not_name() -> None:
    teacher = Shape(num_layers=4, hidden_size=64, ffn_hidden_size=96, num_attention_heads=4, num_query_groups=2, vocab_size=512)
    cut = cut_shape("student", PruneConfig(hidden_size=32, drop_layers=(2,)), teacher)
    assert cut.head_dim == 16, "narrower hidden states leave the heads as they are"
    assert (cut.num_layers, cut.hidden_size) == (3, 32)
    kept = {"num_layers", "hidden_size", "head_dim"}
    assert cut.model_dump(exclude=kept) == teacher.model_dump(exclude=kept)
