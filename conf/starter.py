"""A commented recipe for a model and a text, as a start for one's own; `imbik init` writes it."""

from __future__ import annotations

import json
from pathlib import Path

from conf.checks.recipe import check_source
from conf.hf_model import check_model_directory, check_no_nemo, shape_of
from conf.shape import Shape
from conf.yaml_text import scalar

TEMPLATE = """\
# A recipe for {name}. `imbik plan FILE` shows what it would do, `imbik run FILE` does it.
# All keys: `imbik schema`, or `imbik schema distill` for one section. Any can be set as FILE distill.steps=400.
description: {description}

data:
  source: {source}  # files, globs, a list of them, or a dataset of the Hugging Face hub
{field}  test_share: 0.05  # held out for the loss in the report; as much again for validation while training
  # max_documents: 20000

teacher:
  model: {model}  # with `steps` and the settings of distill below, it is first trained on the text

students:  # each is cut, distilled, quantized and measured; `imbik plan` shows their sizes
{students}
distill:  # the students learn from the teacher's logits
  steps: 300  # tokens = steps x global_batch x seq_length
  seq_length: {length}
  global_batch: 16
  micro_batch: 4  # sequences in memory at once; does not change the result
  lr: 1.0e-4
  min_lr: 1.0e-5
  warmup_steps: 20
  # precision: fp32  # faster than the default, bf16, on processors without AVX-512

quantize: [fp8]  # also fp8_pc_pt, nvfp4, int4_awq, ...; [] for none. `imbik plan` says which engines load them

evaluate:
  mmlu: null  # or {{limit: 20, shots: 0}}: 20 questions of each subject of MMLU, from the hub
"""
KNOWN = """\
  depth:
    prune: {{num_layers: {layers}}}  # of {all_layers}; the least important are dropped
  width:
    prune: {{ffn_hidden_size: {ffn}}}  # of {all_ffn}
"""
UNKNOWN = """\
  small:
    search: {target_params: 0.75}  # the best shape with three quarters of the parameters
"""
MOST_TOKENS = 1024
FFN_MULTIPLE = 16


def starter(model: str, source: str) -> str:
    """The text of a recipe that compresses `model` on `source`. Raises ValueError if either is not there."""
    check_source("the text", source)
    shape = _shape(model)
    length = min(MOST_TOKENS, shape.max_position_embeddings) if shape else MOST_TOKENS
    students = UNKNOWN
    if shape:
        layers = min(max(1, round(shape.num_layers * 0.75)), max(1, shape.num_layers - 1))
        multiple = FFN_MULTIPLE if shape.ffn_hidden_size >= 2 * FFN_MULTIPLE else 1
        ffn = max(multiple, round(shape.ffn_hidden_size * 0.75) // multiple * multiple)
        students = KNOWN.format(layers=layers, all_layers=shape.num_layers, ffn=ffn, all_ffn=shape.ffn_hidden_size)
    name = Path(model).name or model
    field = _text_field(source)
    return TEMPLATE.format(
        name=" ".join(name.split()),
        description=scalar(f"{name} made smaller, distilled on {Path(source).name or source} and quantized."),
        source=scalar(source),
        model=scalar(model),
        field=f"  text_field: {scalar(field)}  # field of a record that holds its text\n" if field else "",
        students=students,
        length=length,
    )


def _shape(model: str) -> Shape | None:
    """The shape of a local model; None for one on the hub."""
    check_no_nemo(Path(model))
    if Path(model).is_dir():
        check_model_directory(Path(model))
        return shape_of(Path(model))
    if model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise ValueError(f"{model} is neither a model directory nor a hub id owner/name; check the path")
    return None


def _text_field(source: str) -> str | None:
    """The field of a JSON lines file that holds the text, if it is not `text`: the longest value of the first
    record."""
    path = Path(source)
    if path.suffix != ".jsonl" or not path.is_file():
        return None
    with path.open(encoding="utf-8", errors="replace") as stream:
        line = stream.readline(1_000_000)
    try:
        record = json.loads(line)
    except ValueError:
        return None
    texts = {key: value for key, value in record.items() if isinstance(value, str)} if isinstance(record, dict) else {}
    return max(texts, key=lambda key: len(texts[key])) if texts and "text" not in texts else None
