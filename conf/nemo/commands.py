"""The documented NeMo 2 commands of a stage as argv lists, for jobs and `imbik nemo-commands`.

Names and order follow NVIDIA's published tutorials (copies in tests/nemo/); all paths are arguments.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from conf.families import FAMILIES
from conf.nemo.settings import NemoPrune
from conf.stages.training import Training

SCRIPTS = "/opt/NeMo/scripts/llm"
"""Folder of the scripts in NVIDIA's container."""

LOG_EVERY = 10
"""Default --log_interval of gpt_train; lowered if validations are more frequent."""


@dataclass(frozen=True, kw_only=True)
class Machines:
    """Nodes of a command and GPUs (`devices`) per node."""

    devices: int
    nodes: int = 1


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Prefixes of Megatron `.bin/.idx` files (interleaved with weights, if any) and the folder for their index
    caches."""

    paths: tuple[str, ...]
    index: str


def torchrun(command: list[str], on: Machines) -> list[str]:
    """The command under torchrun on one node, as in the tutorials."""
    return ["torchrun", "--nproc_per_node", str(on.devices), *command]


def prune(
    config: NemoPrune, *, on: Machines, restore: str, save: str, corpus: Corpus, groups: int, scripts: str = SCRIPTS
) -> list[str]:
    """gpt_prune.py: prune the NeMo 2 checkpoint `restore` into `save`; `groups` are the teacher's query groups, which
    are kept."""
    command = [f"{scripts}/gpt_prune.py", "--devices", str(on.devices)]
    command += ["--num_nodes", str(on.nodes)] if on.nodes > 1 else []
    command += ["--tp_size", str(config.parallel.tensor), "--pp_size", str(config.parallel.pipeline)]
    command += ["--restore_path", restore, "--legacy_ckpt", "--save_path", save]
    if config.drop_layers:
        return [*command, "--drop_layers", *map(str, config.drop_layers)]
    samples = config.importance
    assert samples is not None, "NemoPrune has importance where an axis is ranked"
    command += ["--seq_length", str(samples.seq_length), "--num_train_samples", str(samples.calibration_samples)]
    command += ["--mbs", str(samples.micro_batch), "--data_paths", *corpus.paths, "--index_mapping_dir", corpus.index]
    for axis in ("num_layers", "ffn_hidden_size", "hidden_size", "num_attention_heads"):
        command += [f"--target_{axis}", str(size)] if (size := config.ranked.get(axis)) else []
    return command + (["--target_num_query_groups", str(groups)] if config.num_attention_heads else [])


def train(
    config: Training,
    *,
    on: Machines,
    name: str,
    model: str,
    teacher: str | None,
    logs: str,
    corpus: Corpus,
    scripts: str = SCRIPTS,
) -> list[str]:
    """gpt_train.py: train the NeMo 2 checkpoint `model`, or distil `teacher` into it; checkpoints go to
    `logs`/`name`/checkpoints."""
    command = [f"{scripts}/gpt_train.py", "--name", name, "--devices", str(on.devices), "--num_nodes", str(on.nodes)]
    command += ["--tp_size", str(config.parallel.tensor), "--pp_size", str(config.parallel.pipeline)]
    command += ["--cp_size", str(config.parallel.context)] if config.parallel.context > 1 else []
    command += ["--model_path", model, *(["--teacher_path", teacher] if teacher else []), "--legacy_ckpt"]
    command += ["--max_steps", str(config.steps), "--warmup_steps", str(config.warmup_steps)]
    command += ["--gbs", str(config.global_batch), "--mbs", str(config.micro_batch)]
    command += ["--lr", str(config.lr), "--min_lr", str(config.min_lr), "--seq_length", str(config.seq_length)]
    command += ["--log_dir", logs, "--log_interval", str(min(config.validate_every, LOG_EVERY))]
    command += [
        "--val_check_interval",
        str(config.validate_every),
        "--limit_val_batches",
        str(config.validation_batches),
    ]
    return [*command, "--data_paths", *corpus.paths, "--index_mapping_dir", corpus.index]


def importing(architecture: str, source: str, output: str) -> list[str]:
    """Convert a Hugging Face model (directory or hub id) to a NeMo 2 checkpoint."""
    classes = FAMILIES[architecture].nemo
    assert classes, "other families are refused when the recipe loads"
    model, config = classes
    call = (
        f"llm.import_ckpt(llm.{model}(llm.{config}()), source={json.dumps('hf://' + source)},"
        f" output_path={json.dumps(output)})"
    )
    return ["python", "-c", f"from nemo.collections import llm; {call}"]


def exporting(path: str, output: str) -> list[str]:
    """Convert a NeMo 2 checkpoint to a Hugging Face model directory."""
    call = f'llm.export_ckpt(path={json.dumps(path)}, target="hf", output_path={json.dumps(output)})'
    return ["python", "-c", f"from nemo.collections import llm; {call}"]
