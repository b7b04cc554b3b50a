"""Runs the jobs on this machine's GPU at a real shape: Llama-3.2-1B's, random weights, the invented world's text. `make
gpu-check`.

Times steps, and counts tokens a second, model FLOP utilisation and peak memory of training, importance, pruning,
distillation online and offline, and quantization, through the jobs' own programs, each a process. Writes
tests/bench/results/gpu-<device>.{json,md}; what is done is not done again by a second call with the same `--work`.
`--tiny` is the same on a CPU with a model of a few layers: it proves the path."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import itertools
import json
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.estimate.flops import forward_flops
from conf.shape import Shape
from conf.spec import Spec

RESULTS = Path(__file__).parent / "results"
TFLOPS = {"B200": 2250, "H200": 989, "H100": 989, "A100": 312, "L40S": 362}
"""Dense bf16 TFLOP/s by a word of the device's name, from NVIDIA's data sheets (SXM)."""
VERSIONS = ("torch", "megatron-core", "nvidia-modelopt", "transformers", "transformer-engine", "triton")
UNSTEADY = 3
"""First steps that are left out: allocation and compilation."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large everything is."""

    shape: dict[str, Any]
    world: dict[str, int]
    length: int
    batch: int
    micro: int
    steps: int
    layers: int
    samples: int
    lr: float


FULL = Size(
    shape={
        "num_layers": 16,
        "hidden_size": 2048,
        "ffn_hidden_size": 8192,
        "num_attention_heads": 32,
        "num_query_groups": 8,
    }
    | {
        "head_dim": 64,
        "vocab_size": 128_256,
        "max_position_embeddings": 4096,
        "rope_theta": 500_000.0,
        "tie_word_embeddings": True,
    },
    world={"seed": 1, "entities": 48, "documents": 12_000, "questions": 40},
    length=2048,
    batch=16,
    micro=4,
    steps=15,
    layers=12,
    samples=64,
    lr=1e-3,
)
TINY = Size(
    shape={"num_layers": 4, "hidden_size": 64, "ffn_hidden_size": 96, "num_attention_heads": 4, "num_query_groups": 2}
    | {"vocab_size": 1024, "max_position_embeddings": 128},
    world={"seed": 3, "entities": 10, "documents": 400, "questions": 40},
    length=64,
    batch=8,
    micro=4,
    steps=12,
    layers=2,
    samples=8,
    lr=1e-2,
)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One job: its program, its config, the stages its inputs come from by role, and the FLOPs of what it counts."""

    name: str
    program: str
    config: dict[str, Any]
    inputs: dict[str, str]
    tokens_per_step: int = 0
    tokens: int = 0
    flops_per_token: float = 0.0


def stages(size: Size) -> list[Stage]:
    """The jobs in order."""
    shape = Shape(**size.shape)
    student = shape.model_copy(update={"num_layers": size.layers})
    own, cut = forward_flops(shape, size.length), forward_flops(student, size.length)
    training = {"steps": size.steps, "seq_length": size.length, "global_batch": size.batch, "micro_batch": size.micro}
    training |= {
        "lr": size.lr,
        "min_lr": size.lr / 10,
        "warmup_steps": 1,
        "validate_every": 10_000,
        "validation_batches": 1,
    }
    training |= {"checkpoint_every": 10_000}
    step, seen = size.batch * size.length, size.samples * size.length
    samples = {"calibration_samples": size.samples, "seq_length": size.length, "micro_batch": size.micro}
    stored = {"top_k": 64, "seq_length": size.length, "micro_batch": size.micro, "sequences": size.steps * size.batch}
    stored |= {"validation_sequences": size.batch}
    models = {"data": "data", "teacher": "training", "student": "pruning"}
    offline = training | {"offline": True, "top_k": 64}
    found = [
        Stage(name="data", program="data", config={"source": "world", "world": size.world}, inputs={}),
        Stage(
            name="training",
            program="teacher",
            config=training | {"shape": size.shape},
            inputs={"data": "data"},
            tokens_per_step=step,
            flops_per_token=3 * own,
        ),
        Stage(
            name="importance",
            program="importance",
            config=samples,
            inputs={"data": "data", "teacher": "training"},
            tokens=seen,
            flops_per_token=own,
        ),
        Stage(
            name="pruning",
            program="prune",
            config={"num_layers": size.layers},
            inputs={"data": "data", "teacher": "training", "importance": "importance"},
        ),
        Stage(
            name="distillation online",
            program="distill",
            config=training,
            inputs=models,
            tokens_per_step=step,
            flops_per_token=3 * cut + own,
        ),
        Stage(
            name="storing logits",
            program="logits",
            config=stored,
            inputs={"data": "data", "teacher": "training"},
            tokens=(size.steps + 1) * step,
            flops_per_token=own,
        ),
        Stage(
            name="distillation offline",
            program="distill",
            config=offline,
            inputs=models | {"logits": "storing logits"},
            tokens_per_step=step,
            flops_per_token=3 * cut,
        ),
    ]
    for form in ("fp8", "nvfp4"):
        config = {"format": form, "calibration_samples": size.samples, "seq_length": size.length, "batch": size.micro}
        inputs = {"data": "data", "model": "distillation online"}
        found.append(
            Stage(
                name=f"quantization {form}",
                program="quantize",
                config=config,
                inputs=inputs,
                tokens=seen,
                flops_per_token=cut,
            )
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs the jobs on this machine's GPU and writes what they took.")
    parser.add_argument("--tiny", action="store_true", help="A model of a few layers, on whatever device there is.")
    parser.add_argument("--demo", action="store_true", help="Run the whole demo first.")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("build/gpu"),
        help="Folder for the jobs' outputs; a second call goes on in it.",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="Folder for the results.")
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        sys.exit(_job(*arguments.job))
    device = _device()
    if device["name"] == "cpu" and not arguments.tiny:
        print(
            "no CUDA device here: the bench at real size is left out (python -m tests.bench.gpu --tiny shows that it"
            " runs)"
        )
        return
    size = TINY if arguments.tiny else FULL
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "device": device,
        "size": vars(size),
        "demo": _demo(arguments) if arguments.demo else None,
    }
    rows = [_row(stage, _measured(stage, arguments.work), device) for stage in stages(size)]
    _write(record | {"rows": rows}, arguments.results)


def _device() -> dict[str, Any]:
    """Name, memory and driver of the device, and versions, as a process of its own tells them: this one takes no memory
    there."""
    code = (
        "import json, torch; there = torch.cuda.is_available(); "
        "p = torch.cuda.get_device_properties(0) if there else None; "
        "print(json.dumps({'name': p.name if there else 'cpu', 'memory_gb': p.total_memory / 1e9 if there else None, "
        "'cuda': torch.version.cuda}))"
    )
    told: dict[str, Any] = json.loads(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    )
    versions = {}
    for name in VERSIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    tflops = next((value for word, value in TFLOPS.items() if word in told["name"]), None)
    return told | {"versions": versions, "bf16_tflops": tflops}


def _demo(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole demo on this machine: seconds, and the report's table."""
    store = arguments.work / "demo-store"
    begun = time.monotonic()
    command = [sys.executable, "-m", "flows.cli", "run", "demo", "--name", "demo", "--store", str(store)]
    subprocess.run(command, check=True)
    return {
        "seconds": round(time.monotonic() - begun, 1),
        "models": len(json.loads((store / "runs/demo/report.json").read_text())["rows"]),
    }


def _job(program: str, spec: str) -> int:
    """Run one job in this process and say what memory it took at most."""
    import torch

    from jobs.runtime.entry import execute

    code = execute(importlib.import_module(f"jobs.{program}").run, Path(spec))
    there = torch.cuda.is_available()
    peak = torch.cuda.max_memory_allocated() if there else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (Path(spec).parent / "peak.json").write_text(json.dumps({"peak_bytes": peak}))
    return code


def _measured(stage: Stage, work: Path) -> dict[str, Any]:
    """Seconds, steady seconds a step and peak memory of a job; from its earlier run where that is whole."""
    output = _folder(work, stage.name)
    done = output / "measured.json"
    if done.is_file():
        found: dict[str, Any] = json.loads(done.read_text())
        return found
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    inputs = {role: str(_folder(work, name).absolute()) for role, name in stage.inputs.items()}
    inputs |= {"source": "world"} if stage.program == "data" else {}
    spec = Spec(stage=stage.program, key="bench", config=stage.config, inputs=inputs, output=str(output.absolute()))
    (output / "spec.json").write_text(spec.model_dump_json())
    print(f"{stage.name} ...", end=" ", flush=True)
    begun = time.monotonic()
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tests.bench.gpu",
        "--job",
        stage.program,
        str(output / "spec.json"),
    ]
    with (output / "job.log").open("w") as log:
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    seconds = time.monotonic() - begun
    if code:
        raise SystemExit(
            f"{stage.name} ended with {code}:\n"
            + "".join((output / "job.log").read_text().splitlines(keepends=True)[-15:])
        )
    found = {
        "seconds": round(seconds, 2),
        "step_seconds": _step_seconds(output / "metrics.jsonl") if stage.tokens_per_step else None,
    }
    found |= json.loads((output / "peak.json").read_text())
    shutil.rmtree(output / "checkpoints", ignore_errors=True)
    done.write_text(json.dumps(found))
    print(f"{seconds:.1f} s", flush=True)
    return found


def _folder(work: Path, name: str) -> Path:
    return work / name.replace(" ", "-")


def _step_seconds(metrics: Path) -> float:
    """Median seconds between steps after the first few; the last step validates and is left out."""
    times = [json.loads(line)["time"] for line in metrics.read_text().splitlines()]
    steady = [later - earlier for earlier, later in itertools.pairwise(times)][UNSTEADY:-1]
    return round(statistics.median(steady), 5)


def _row(stage: Stage, measured: dict[str, Any], device: dict[str, Any]) -> dict[str, Any]:
    """What the table tells of a stage; rates of stages without steps are over the whole job, starting it included."""
    seconds = measured["step_seconds"] or measured["seconds"]
    tokens = stage.tokens_per_step or stage.tokens
    rate = tokens / seconds if tokens else None
    peak = device["bf16_tflops"]
    used = rate * stage.flops_per_token / (peak * 1e12) if rate and peak and stage.tokens_per_step else None
    return {
        "stage": stage.name,
        "tokens_per_second": rate and round(rate),
        "utilisation": used and round(used, 4),
    } | measured


def _write(record: dict[str, Any], folder: Path) -> None:
    name = re.sub(r"[^a-z0-9]+", "-", record["device"]["name"].lower()).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"gpu-{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    (folder / f"gpu-{name}.md").write_text(table(record))
    print(table(record))


def table(record: dict[str, Any]) -> str:
    """The result as Markdown."""
    device, size, shape = record["device"], record["size"], record["size"]["shape"]
    versions = ", ".join(f"{name} {version}" for name, version in device["versions"].items())
    about = f"{device['memory_gb']:.0f} GB, CUDA {device['cuda']}" if device["memory_gb"] else "no GPU"
    lines = [
        f"# The jobs on {device['name']}",
        "",
        (
            f"{record['date']}, {about}; {versions}. {shape['num_layers']} layers of hidden {shape['hidden_size']}, ffn"
            f" {shape['ffn_hidden_size']}, vocabulary {shape['vocab_size']:,}, random weights; the student has"
            f" {size['layers']} layers. bf16, batches of {size['batch']} x {size['length']} tokens in micro-batches of"
            f" {size['micro']}, {size['steps']} steps. `python -m tests.bench.gpu`."
        ),
        "",
        (
            f"step: median seconds of an optimizer step after the first {UNSTEADY}; tokens/s: of steps, else over the"
            f" whole job with its start. MFU: model FLOPs (conf/estimate/flops.py) over"
            f" {device['bf16_tflops'] or 'unknown'} dense bf16 TFLOP/s. memory: peak allocated on the GPU (without one:"
            " resident)."
        ),
        "",
        "| stage | job, s | step, s | tokens/s | MFU | peak memory |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in record["rows"]:
        step = f"{row['step_seconds']:.3f}" if row["step_seconds"] else "-"
        used = f"{row['utilisation']:.1%}" if row["utilisation"] else "-"
        rate = f"{row['tokens_per_second']:,}" if row["tokens_per_second"] else "-"
        lines.append(
            f"| {row['stage']} | {row['seconds']:.1f} | {step} | {rate} | {used} | {row['peak_bytes'] / 1e9:.2f} GB |"
        )
    if demo := record["demo"]:
        lines += ["", f"The whole demo, {demo['models']} models: {demo['seconds']:.0f} s."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
