"""Uploads a published model to the Hugging Face hub: only known file types, unchanged since sealing, and the model
card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from conf.files import sha256
from conf.spec import Record

KINDS = (".safetensors", ".json", ".jinja", ".md", ".txt", ".model")
NAMES = ("LICENSE", "LICENCE", "COPYING", "NOTICE")
"""Files that may be uploaded; never code or pickles."""


@dataclass(frozen=True, kw_only=True)
class UploadFile:
    """One file: its name in the repository, local path, bytes and sha256."""

    name: str
    path: Path
    bytes: int
    sha256: str


def files(published: Path) -> list[UploadFile]:
    """The files of a published model. Raises ValueError for a file that may not be uploaded or that changed since
    sealing."""
    if not (published / "README.md").is_file():
        raise ValueError(
            f"{published} has no model card; run the recipe again, which writes the cards and rebuilds nothing"
        )
    paths = sorted(published.iterdir())
    if gone := next((path for path in paths if not path.is_file()), None):
        raise ValueError(
            f"{gone} leads to {gone.resolve()}, which is no longer in the store; run the recipe again, then push"
        )
    for path in paths:
        if path.suffix not in KINDS and path.name not in NAMES:
            raise ValueError(f"{path} is not a file type that may be uploaded; remove it (nothing was uploaded)")
    result = []
    for path in paths:
        digest = sha256(path)
        _check(path, digest)
        result.append(UploadFile(name=path.name, path=path.resolve(), bytes=path.stat().st_size, sha256=digest))
    return result


def _check(path: Path, digest: str) -> None:
    folder = path.resolve().parent.parent
    if not path.is_symlink():
        return
    record = Record.model_validate_json((folder / "artifact.json").read_text())
    sealed = record.files[str(path.resolve().relative_to(folder))]
    if sealed.sha256 != digest:
        raise ValueError(
            f"{path.resolve()} has changed since it was sealed; run the recipe again, which rebuilds it, then push"
        )


def push(files: list[UploadFile], repository: str, *, private: bool, message: str) -> str:
    """Upload to `repository` (owner/name), created if necessary; returns its URL. Uses the token of the environment or
    the hub login. Raises ValueError."""
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        operations = [CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file.path) for file in files]
        api.create_commit(repository, operations, commit_message=message)
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"the hub rejected the upload to {repository} ({reason}); check its name, the connection and HF_TOKEN"
        ) from error
    return str(address)
