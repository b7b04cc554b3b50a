"""Fetches a model directory from the Hugging Face hub: weights, JSON, tokenizer, card and licence; never code or
pickles."""

from __future__ import annotations

from pathlib import Path

from conf.hf_model import check_model_directory
from conf.spec import Spec
from conf.stages.fetch import FetchConfig
from jobs.corpus.cards import TERMS
from jobs.huggingface import hub
from jobs.runtime.entry import main

WANTED = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", *TERMS)


def run(spec: Spec) -> None:
    """No inputs. Writes the model directory's files directly into the output folder; refuses a model that cannot be
    imported."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    config = FetchConfig.model_validate(spec.config)
    hub.fail_fast()
    try:
        snapshot_download(config.model, revision=config.branch, local_dir=spec.output, allow_patterns=list(WANTED))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise ValueError(
            f"teacher.model {config.model} could not be fetched from the Hugging Face hub ({type(error).__name__}); "
            "check the name and the connection, set HF_TOKEN if it is gated, or name a local directory"
        ) from error
    try:
        check_model_directory(Path(spec.output))  # as a local one is when the recipe loads: before any text is read
    except ValueError as error:
        raise ValueError(str(error).replace(spec.output, config.model)) from error


if __name__ == "__main__":
    main(run)
