"""`imbik promote`, `serve-command`, `chat`, `export`, `push` and `sync`: use and hand over finished students."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows.commands.console import StoreOption, err, existing, fail, out, root_of
from flows.commands.units import sized

ModelArgument = Annotated[str, typer.Argument(help="RUN/MODEL, a model directory, or NAME@ALIAS of the registry.")]
OwnArgument = Annotated[str, typer.Argument(help="RUN/MODEL, with the model's name in the report.")]


def promote(
    model: OwnArgument,
    force: Annotated[
        bool, typer.Option("--force", help="Promote even if the model failed a gate; the version gets a tag.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Make a model the champion of its registered model; the former champion becomes `previous`."""
    from tasks.handover import resolve as handover

    out.print(handover.promote(existing(store), model, force=force), markup=False, highlight=False)


def serve_command(
    model: ModelArgument,
    gpus: Annotated[int, typer.Option(min=1, help="Number of GPUs (tensor parallelism).")] = 1,
    device: Annotated[
        str | None, typer.Option(help="The GPU, for instance H100; default: says what differs between them.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Print commands to serve a model with vLLM, TensorRT-LLM and SGLang; nothing is started. Exit code 2: no engine
    loads it."""
    from conf.engines.verdict import generation_of
    from tasks.handover import resolve as handover
    from tasks.handover import serving

    path, name = handover.directory(root_of(store), model)
    generation = generation_of(device, "--device") if device else None
    found = serving.commands(serving.read(path, name, generation), gpus)
    if not any(served.command for served in found):
        reasons = "; ".join(f"{served.engine}: {served.note}" for served in found)
        raise ValueError(f"no engine serves {model} ({reasons}); quantize it to fp8, or run it here with imbik chat")
    for served in found:
        out.print(
            f"# {served.engine}{f': {served.note}' if served.note else ''}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        if served.command:
            out.print(served.command, markup=False, highlight=False, soft_wrap=True)


def chat(
    model: ModelArgument,
    prompt: Annotated[str | None, typer.Option(help="Answer this prompt and exit; default: interactive chat.")] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Maximum tokens per answer.")] = 256,
    temperature: Annotated[float, typer.Option(help="Sampling temperature; 0: greedy decoding.")] = 0.0,
    store: StoreOption = None,
) -> None:
    """Chat with a model on this machine, run by transformers in a separate process."""
    from conf.secrets import without
    from conf.spec import ERROR_PREFIX, Spec
    from conf.stages.chat import ConverseConfig
    from tasks.handover import resolve as handover
    from tasks.launch.guard import guarded

    path, _ = handover.directory(root_of(store), model)
    config = ConverseConfig(prompt=prompt, system=system, max_new_tokens=max_new_tokens, temperature=temperature)
    with tempfile.TemporaryDirectory(prefix="imbik-chat-") as scratch:
        file = Path(scratch) / "spec.json"
        spec = Spec(
            stage="converse",
            key="chat",
            config=config.model_dump(mode="json"),
            inputs={"model": str(path)},
            output=scratch,
        )
        file.write_text(spec.model_dump_json())
        command = guarded([sys.executable, "-m", "jobs.chat", "--spec", str(file)])
        quiet = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2], env=without(os.environ) | quiet
        )
        assert process.stderr is not None
        mistake = ""
        for line in process.stderr:
            if line.startswith(ERROR_PREFIX):
                mistake = line.removeprefix(ERROR_PREFIX).strip()
            elif line.startswith("imbik: "):
                err.print(line.rstrip(), markup=False, highlight=False, style="dim")
        code = process.wait()
    if code:
        fail(mistake or f"the model's process exited with {code}", code if code > 0 else 1)


def export(
    model: OwnArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write; new or empty.")],
    store: StoreOption = None,
) -> None:
    """Copy a model with its card as plain files, to take elsewhere; the published folders hold links."""
    from tasks.handover.export import export as copied

    done = copied(existing(store), model, folder)
    out.print(
        f"exported {model} to {done.folder}: {done.files} files, {sized(done.bytes)}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def push(
    model: OwnArgument,
    repository: Annotated[str, typer.Argument(help="Repository OWNER/NAME on the Hugging Face hub.")],
    private: Annotated[bool, typer.Option("--private", help="Create the repository as private.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the files and the model card without uploading.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Upload a published student and its model card to the hub, with the token of HF_TOKEN or the hub login."""
    from tasks.handover import upload
    from tasks.store.runs import model_of

    chosen = model_of(existing(store), model)
    if not chosen.published.is_dir():
        raise ValueError(f"{model} is not published; published students of this run: {_published(chosen.folder)}")
    files = upload.files(chosen.published)
    if not dry_run:
        address = upload.push(files, repository, private=private, message=f"{model}, imbik")
        out.print(f"uploaded {len(files)} files to {address}", markup=False, highlight=False)
        return
    table = Table("file", "bytes", "sha256", header_style="bold")
    for file in files:
        table.add_row(file.name, f"{file.bytes:,}", file.sha256)
    out.print(table)
    out.print((chosen.published / "README.md").read_text(), markup=False, highlight=False, soft_wrap=True)
    out.print(f"--dry-run: nothing was uploaded to {repository}", style="dim")


def _published(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in (folder / "published").glob("*"))) or "none"


def sync(store: StoreOption = None) -> None:
    """Send metrics to MLflow that it missed while its server was unavailable."""
    from tasks.tracking.tracker import sync as send

    failed = False
    for flow, size, reason in send(existing(store)):
        failed |= reason is not None
        outcome = f"not sent ({reason}); kept for the next try" if reason else "sent"
        out.print(f"{flow}: {size:,} bytes {outcome}", markup=False, highlight=False, soft_wrap=True)
    if failed:
        fail("MLflow did not accept everything; check the server, then run imbik sync again", 1)
    out.print("MLflow is up to date", style="dim")
