"""Units of metrics for MLflow, whose metrics have names but no units."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from conf.benchmarks import BenchmarkName

UNITS: dict[str, str] = {
    "seconds": "seconds the stage's job took, without waiting for cores",
    "attempts": "how often the stage's job was started",
    "train_loss": "nats per token, training loss of the step",
    "train_divergence": "nats per token, divergence from the teacher in the objective",
    "train_ce": "nats per token, cross-entropy on the text",
    "train_z_loss": "square of the logarithm of the sum of exponentials of the logits",
    "val_z_loss": "the same on the validation split",
    "train_mtp_loss": "nats per token, the first head's loss on the token after the next one",
    "val_mtp_loss": "the same on the validation split",
    "val_mtp_accepted": "share of the first head's drafts that are the model's own likeliest token (0 to 1)",
    "val_mtp_drafts": "drafts that the share is of",
    "dropped_mtp_heads": "heads of the input model that the job did not keep",
    "dropped_mtp_params": "their parameters",
    "train_intermediate": "loss between layers (cosine or mse)",
    "grad_norm": "L2 norm of all gradients before clipping",
    "skipped_steps": "spikes so far, whose updates were left out",
    "documents_per_sequence": "documents, or parts of some, of a sequence of the step, which are kept apart",
    "mixed_sequences": "share of the step's sequences with more than one document (0 to 1)",
    "targets_left_out": "share of the step's targets that are another document's first token (0 to 1)",
    "lr": "learning rate of the step",
    "train_objective": "objective: weighted divergence, cross-entropy and losses between layers",
    "train_teacher_loss": "nats per token, the teacher's loss on the step's tokens",
    "val_objective": "objective on the validation split",
    "val_divergence": "nats per token, divergence on the validation split",
    "val_teacher_loss": "nats per token, the teacher's loss on the validation split",
    "tokens_per_second": "training tokens per second, all processes together",
    "val_loss": "nats per token on the validation split",
    "val_kl": "nats per token, KL from the teacher on the validation split",
    "documents": "documents read",
    "train_tokens": "tokens in the training split",
    "quarantined": "records set aside",
    "records": "records rendered",
    "response_tokens": "assistant tokens in the training split",
    "samples": "calibration sequences",
    "left_out": "tokens without stored logits",
    "final_mmlu": "share of multiple-choice questions answered right (0 to 1)",
    "final_mmlu_low": "lower end of its 95% interval (Wilson)",
    "final_mmlu_high": "upper end of its 95% interval (Wilson)",
    "final_test_loss": "nats per token on the test split",
    "final_perplexity": "perplexity on the test split",
    "final_kl_teacher": "nats per token, KL from the teacher on the test split",
    "final_agreement_teacher": "share of positions with the same most likely token as the teacher (0 to 1)",
    "final_bytes": "bytes of the weight files",
    "final_params": "parameters",
    "final_tokens_per_second": "tokens generated per second on this machine, one request at a time",
}
PREFIXES: dict[str, str] = {
    "train_": "training value of the step, nats per token for losses",
    "val_": "on the validation split, nats per token for losses",
    "system/": (
        "the job on its machine: percent of one core, megabytes (shared pages counted per process); GPUs in total"
    ),
}
UNITS |= {f"final_{name}": f"share of {name} answered right (0 to 1)" for name in get_args(BenchmarkName)}


def unit_of(metric: str) -> str | None:
    """Unit of a metric; None if unknown."""
    return UNITS.get(metric) or next((unit for prefix, unit in PREFIXES.items() if metric.startswith(prefix)), None)


def described(metrics: Iterable[str]) -> str:
    """A Markdown table of metrics with their units, for a run's description."""
    known = sorted({(name, unit) for name in metrics if (unit := unit_of(name))})
    return "\n".join(["| metric | unit |", "|---|---|", *(f"| {name} | {unit} |" for name, unit in known)])
