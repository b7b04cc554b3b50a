"""What the metrics of a run are measured in, for MLflow's pages: its metrics have names and no units."""

from __future__ import annotations

from collections.abc import Iterable

UNITS: dict[str, str] = {
    "seconds": "seconds the stage's job took, without waiting for cores",
    "attempts": "how often the stage's job was started",
    "train_loss": "nats a token, the step's training loss",
    "train_divergence": "nats a token, the divergence from the teacher that is minimised",
    "train_ce": "nats a token, cross-entropy on the text",
    "train_intermediate": "the loss between layers, as chosen (cosine or mse)",
    "grad_norm": "L2 norm of all gradients before clipping",
    "lr": "learning rate of the step",
    "train_objective": "what is minimised: divergence, cross-entropy and losses between layers, weighted",
    "train_teacher_loss": "nats a token, the teacher's own loss on the step's tokens",
    "val_objective": "what is minimised, on the validation split",
    "val_divergence": "nats a token, the chosen divergence on the validation split",
    "val_teacher_loss": "nats a token, the teacher's own loss on the validation split",
    "tokens_per_second": "tokens trained on a second, all processes together",
    "val_loss": "nats a token on the validation split",
    "val_kl": "nats a token, KL from the teacher on the validation split",
    "documents": "documents read",
    "train_tokens": "tokens in the training split",
    "quarantined": "records set aside",
    "records": "records rendered",
    "response_tokens": "tokens the assistant says, training split",
    "samples": "sequences calibrated on",
    "left_out": "tokens without stored logits",
    "final_mmlu": "share of multiple-choice questions answered right (0 to 1)",
    "final_mmlu_low": "lower end of its 95% interval (Wilson)",
    "final_mmlu_high": "upper end of its 95% interval (Wilson)",
    "final_test_loss": "nats a token on the test split",
    "final_perplexity": "perplexity on the test split",
    "final_kl_teacher": "nats a token, KL from the teacher on the test split",
    "final_agreement_teacher": "share of tokens whose likeliest successor is the teacher's (0 to 1)",
    "final_bytes": "bytes of the weight files",
    "final_params": "parameters",
    "final_tokens_per_second": "tokens generated a second here, one request at a time",
}
PREFIXES: dict[str, str] = {
    "train_": "the step's training value, nats a token where it is a loss",
    "val_": "on the validation split, nats a token where it is a loss",
    "system/": "the job on its machine: percent of one core, megabytes (shared pages once a process); GPUs whole",
}


def unit_of(metric: str) -> str | None:
    """What a metric is measured in; None where nobody said."""
    return UNITS.get(metric) or next((told for prefix, told in PREFIXES.items() if metric.startswith(prefix)), None)


def described(metrics: Iterable[str]) -> str:
    """A Markdown table of metrics with their units, for a run's description."""
    known = sorted({(name, told) for name in metrics if (told := unit_of(name))})
    return "\n".join(["| metric | unit |", "|---|---|", *(f"| {name} | {told} |" for name, told in known)])
