"""Sends a published model to a Hugging Face hub repository: only files of known kinds, each as it was sealed, with the
model card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from conf.files import sha256
from conf.spec import Record

KINDS = (".safetensors", ".json", ".jinja", ".md", ".txt", ".model")
NAMES = ("LICENSE", "LICENCE", "COPYING", "NOTICE")
"""What may leave; code and pickles never do."""


@dataclass(frozen=True, kw_only=True)
class UploadFile:
    """One file: its name in the repository, its place here, bytes and sha256."""

    name: str
    path: Path
    bytes: int
    sha256: str


def files(published: Path) -> list[UploadFile]:
    """The files of a published model, checked. ValueError where one may not leave, or is not as it was sealed."""
    if not (published / "README.md").is_file():
        raise ValueError(
            f"{published} has no model card; run the recipe again, which builds nothing that is there and writes the"
            " cards"
        )
    paths = sorted(published.iterdir())
    for path in paths:
        if path.suffix not in KINDS and path.name not in NAMES:
            raise ValueError(f"{path} is neither safetensors nor a text that belongs to a model; nothing was sent")
    found = []
    for path in paths:
        digest = sha256(path)
        _check(path, digest)
        found.append(UploadFile(name=path.name, path=path.resolve(), bytes=path.stat().st_size, sha256=digest))
    return found


def _check(path: Path, digest: str) -> None:
    folder = path.resolve().parent.parent
    if not path.is_symlink():
        return
    record = Record.model_validate_json((folder / "artifact.json").read_text())
    sealed = record.files[str(path.resolve().relative_to(folder))]
    if sealed.sha256 != digest:
        raise ValueError(
            f"{path.resolve()} does not have the content that was sealed; run the recipe again, which sets it aside,"
            " then push"
        )


def push(found: list[UploadFile], repository: str, *, private: bool, message: str) -> str:
    """Upload to `repository` (owner/name), made if need be; returns its address. The token is the environment's or the
    login's and goes nowhere else. ValueError where the hub refuses."""
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        operations = [CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file.path) for file in found]
        api.create_commit(repository, operations, commit_message=message)
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"the hub does not take {repository} ({reason}); check its name, the connection and HF_TOKEN"
        ) from error
    return str(address)
