"""`imbik promote`, `serve-command`, `chat`, `push` and `sync`: what happens to a student once it is there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows.commands.console import StoreOption, err, fail, out, root_of

ModelArgument = Annotated[str, typer.Argument(help="RUN/MODEL, a model directory, or NAME@ALIAS of the registry.")]
OwnArgument = Annotated[str, typer.Argument(help="RUN/MODEL, as the report's table calls it.")]


def promote(
    model: OwnArgument,
    force: Annotated[
        bool, typer.Option("--force", help="Even where a gate closed on it; the version then says so.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Make a model the champion of its registered model; the champion before it becomes `previous`."""
    from tasks.handover import resolve as handover

    out.print(handover.promote(root_of(store), model, force=force), markup=False, highlight=False)


def serve_command(
    model: ModelArgument,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs to spread the model over (tensor parallel).")] = 1,
    store: StoreOption = None,
) -> None:
    """Print the commands that serve a model with vLLM, TensorRT-LLM and SGLang; starts nothing."""
    from tasks.handover import resolve as handover
    from tasks.handover import serving

    path, name = handover.directory(root_of(store), model)
    for served in serving.commands(serving.read(path, name), gpus):
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
    prompt: Annotated[str | None, typer.Option(help="Answer this and end; else a conversation.")] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told first.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of an answer at most.")] = 256,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest token.")] = 0.0,
    store: StoreOption = None,
) -> None:
    """Talk to a model here, run by transformers in a process of its own."""
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


def push(
    model: OwnArgument,
    repository: Annotated[str, typer.Argument(help="OWNER/NAME on the Hugging Face hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private when it is made.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be sent, and the card; send nothing.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Send a published student with its model card to a hub repository; the token is HF_TOKEN or the login's."""
    from tasks.handover import upload
    from tasks.store.runs import model_of

    found = model_of(root_of(store), model)
    if not found.published.is_dir():
        raise ValueError(f"{model} is not published; students are, once they are taught: {_published(found.folder)}")
    files = upload.files(found.published)
    if not dry_run:
        address = upload.push(files, repository, private=private, message=f"{model}, imbik")
        out.print(f"{len(files)} files are at {address}", markup=False, highlight=False)
        return
    shown = Table("file", "bytes", "sha256", header_style="bold")
    for file in files:
        shown.add_row(file.name, f"{file.bytes:,}", file.sha256)
    out.print(shown)
    out.print((found.published / "README.md").read_text(), markup=False, highlight=False, soft_wrap=True)
    out.print(f"nothing was sent to {repository}: --dry-run", style="dim")


def _published(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in (folder / "published").glob("*"))) or "none"


def sync(store: StoreOption = None) -> None:
    """Send MLflow what it missed while its server was away."""
    from tasks.tracking.tracker import sync as send

    failed = False
    for flow, size, reason in send(root_of(store)):
        failed |= reason is not None
        told = f"not sent ({reason}); it stays" if reason else "sent"
        out.print(f"{flow}: {size:,} bytes {told}", markup=False, highlight=False, soft_wrap=True)
    if failed:
        fail("MLflow did not take everything; see to the server, then run imbik sync again", 1)
    out.print("MLflow has everything", style="dim")
