"""Heads for multi-token prediction, trained beside a model with a deferred head: DeepSeek-V3's form (arXiv 2412.19437,
section 2.2), in the order and with the names of MiMo's checkpoints.

Megatron's own block computes whole logits inside the model's forward pass; these read the model's last hidden states
after it, so that the fused loss serves them too and distillation sees the same model as without them."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.spec_utils import build_module
from safetensors.torch import save_file

from conf.checks.mtp import check_heads
from conf.hf_model import shape_in
from conf.stages.mtp import Mtp, WithHeads
from conf.stages.training import Training
from jobs.megatron import fused_loss as fused
from jobs.megatron import weights
from jobs.megatron.attention import Norm, layers
from jobs.megatron.batches import Batch
from jobs.megatron.divergence import KL, Divergence
from jobs.megatron.fused_loss import Losses, LossWeights
from jobs.megatron.model import DTYPES, mark_slices
from jobs.megatron.output_head import Head
from jobs.runtime.dropped_heads import NOTES
from jobs.tokens import documents
from jobs.tokens.windows import Samples

FILE = "mtp.safetensors"
"""In the job's output, beside model/, which stays the model alone; mtp.json says what it holds."""


class DraftHead(torch.nn.Module):
    """One head: [length, batch, width] of hidden states and of embeddings -> hidden states of the same shape, whose
    logits say the token after the one embedded. Every rank sees all tokens, also under sequence parallelism."""

    def __init__(self, config: TransformerConfig, number: int) -> None:
        super().__init__()
        self.config = config
        width, eps = config.hidden_size, config.layernorm_epsilon
        self.enorm, self.hnorm, self.final_layernorm = (Norm(config, width, eps) for _ in range(3))
        # Whole on every tensor-parallel rank: it costs 2 of a layer's about 12 squares of the width.
        self.eh_proj = torch.nn.Linear(2 * width, width, bias=False)
        block = layers(config, local=True)
        self.layer = build_module(block.layer_specs[0], config=config, layer_number=config.num_layers + number)

    def forward(
        self, hidden: torch.Tensor, embedded: torch.Tensor, angles: torch.Tensor, packed: PackedSeqParams | None = None
    ) -> torch.Tensor:
        """`angles`: of the rotary embedding, for this length; of the longest sample where they are `packed`."""
        joined = self.eh_proj(torch.cat([self.hnorm(hidden), self.enorm(embedded)], dim=-1))
        output, _ = self.layer(
            hidden_states=joined, attention_mask=None, rotary_pos_emb=angles, packed_seq_params=packed
        )
        states: torch.Tensor = self.final_layernorm(output)
        return states


def attach(model: GPTModel, hf_config: dict[str, Any], config: WithHeads) -> None:
    """Add the heads of `config`, if any, to a loaded `model`, drawn from the config's seed. Raises ValueError for a
    family whose layers they cannot have."""
    if config.mtp is None:
        return
    check_heads(config.stage, config, shape_in(hf_config))
    own = copy.copy(model.config)
    own.sequence_parallel, own.window_size, own.window_attn_skip_freq = False, None, None
    heads = torch.nn.ModuleList(DraftHead(own, number) for number in range(1, config.mtp.heads + 1))
    mark_slices(heads)
    parameter = next(model.parameters())
    model.add_module(weights.HEADS, heads.to(device=parameter.device, dtype=parameter.dtype))
    weights.initialize(model, hf_config, config.seed, only=weights.HEADS_PREFIX)


@dataclass(frozen=True, kw_only=True)
class Taught:
    """How the heads learn: by cross-entropy, and where there is a running teacher from its distributions of the same
    tokens."""

    mtp: Mtp
    weights: LossWeights
    teacher: Head | None = None
    divergence: Divergence = KL


def losses(model: Any, hidden: torch.Tensor, batch: Batch, how: Taught) -> Losses:
    """From the model's last hidden states [batch, length, width]: `objective`, to be added to the model's own; and for
    the log `mtp_loss`, the first head's cross-entropy, nats a token, and in validation `mtp_accepted`, the share of its
    drafts that are the model's own likeliest token one step later. Those of later heads end in their number."""
    found: Losses = {}
    objectives = []
    likeliest = None if model.training else _likeliest(fused.head(model, hidden)).view(batch.labels.shape)
    for number, (states, ahead) in enumerate(_states(model, hidden, batch, detach=how.mtp.detach), start=1):
        shares = _shares(batch, number)
        teacher = how.teacher and _shifted(how.teacher, batch, number)
        values = fused.losses(
            states, ahead.flatten(), shares.flatten(), how.weights, teacher=teacher, divergence=how.divergence
        )
        objectives.append(values["objective"])
        ending = "" if number == 1 else f"_{number}"
        found[f"mtp_loss{ending}"] = values["loss"]
        if likeliest is not None:
            accepted = _likeliest(states).view(ahead.shape) == _later(likeliest, batch, number)
            found[f"mtp_accepted{ending}"] = (accepted * shares).sum()
    return found | {"objective": how.mtp.weight * torch.stack(objectives).mean()}


def counted(samples: Samples, config: Training) -> dict[str, float]:
    """How many drafts of each head a pass over `samples` compares: `mtp_drafts`, and of later heads where documents are
    kept apart; else these have one less of each sequence than the head before."""
    if samples.segments is None:
        return {"mtp_drafts": float(samples.addresses.shape[0] * (samples.addresses.shape[1] - 1))}
    assert isinstance(config, WithHeads) and config.mtp is not None, "only heads draft"
    numbers = range(1, config.mtp.heads + 1)
    return {
        f"mtp_drafts{'' if number == 1 else f'_{number}'}": float(documents.later_targets(samples, number).sum())
        for number in numbers
    }


def _later(tensor: torch.Tensor, batch: Batch, number: int) -> torch.Tensor:
    """What stands `number` inputs later in `tensor` [batch, length, ...]: of the inputs that have such, or in packed
    rows of all, where `batch.later` leaves the others out."""
    if batch.packed is None:
        return tensor[:, number:]
    return tensor.flatten(0, 1).roll(-number, 0).view(tensor.shape)


def _shares(batch: Batch, number: int) -> torch.Tensor:
    """The weight of each label that head `number` says."""
    if batch.packed is not None:
        return batch.later[number - 1]
    return batch.weights[:, number:] * (batch.labels.shape[1] / (batch.labels.shape[1] - number))


def _states(model: Any, hidden: torch.Tensor, batch: Batch, *, detach: bool) -> list[tuple[Head, torch.Tensor]]:
    """What each head says: its states with the model's output, and the labels [batch, fewer] that it is to say."""
    labels, positions, packed, found = batch.labels, batch.positions, batch.packed, []
    if packed is not None:  # rows end to end; the last states of a sample are told of the next one, and not counted
        labels, positions = labels.view(1, -1), positions.view(1, -1)
    length = labels.shape[1]
    with torch.set_grad_enabled(torch.is_grad_enabled() and not detach):
        embedded = model.embedding(labels, positions)
        if model.config.sequence_parallel:
            embedded = fused.gather_sequence(embedded)
    states = (hidden.detach() if detach else hidden).transpose(0, 1)
    for number, head in enumerate(getattr(model, weights.HEADS), start=1):
        # The states of position t know the tokens up to t; the label of t + number - 1 is the next one they are told.
        if packed is None:
            kept = length - number
            states = head(states[:kept], embedded[number - 1 : length - 1], model.rotary_pos_emb(kept))
        else:
            angles = model.rotary_pos_emb(packed.max_seqlen_q, packed_seq=True)
            states = head(states, embedded.roll(1 - number, 0), angles, packed)
        output = fused.head(model, states.transpose(0, 1))
        output = replace(output, weight=output.weight.detach()) if detach else output
        found.append((output, _later(batch.labels, batch, number)))
    return found


def _shifted(teacher: Head, batch: Batch, number: int) -> Head:
    """The teacher where it says the tokens that head `number` says."""
    states = _later(teacher.hidden.view(*batch.labels.shape, -1), batch, number)
    return replace(teacher, hidden=states.flatten(0, 1))


@torch.no_grad()
def _likeliest(states: Head) -> torch.Tensor:
    """Ids [tokens] of the tokens with the largest logits; a cap does not change which they are."""
    first = parallel_state.get_tensor_model_parallel_rank() * states.weight.shape[0]
    found = []
    for start in range(0, len(states.hidden), fused.GROUP_TOKENS):
        values, ids = states.logits(slice(start, start + fused.GROUP_TOKENS)).max(dim=1, keepdim=True)
        found.append(fused.likeliest(values, ids + first, 1)[1])
    return torch.cat(found).flatten()


def save(model: GPTModel, output: Path, hf_config: dict[str, Any], config: WithHeads, told: dict[str, float]) -> None:
    """Write the heads, if any, as mtp.safetensors, and mtp.json with `told`, the last validation; collective."""
    if config.mtp is None:
        return
    own = {parameter for name, parameter in model.named_parameters() if name.startswith(f"{weights.HEADS}.")}
    tensors = {
        name: tensor.to(device="cpu", dtype=DTYPES[config.precision]).contiguous()
        for name, tensor in weights.gather_tensors(
            model, hf_config, lambda parameter: parameter if parameter in own else None
        )
        if torch.distributed.get_rank() == 0
    }
    if torch.distributed.get_rank() == 0:
        save_file(tensors, output / FILE, metadata={"format": "pt"})
        notes: dict[str, Any] = config.mtp.model_dump() | {
            "parameters": sum(tensor.numel() for tensor in tensors.values()),
            "validation": {name: value for name, value in told.items() if name.startswith("val_mtp_")},
        }
        (output / NOTES).write_text(json.dumps(notes, indent=2) + "\n")
        print(f"{FILE} holds {config.mtp.heads} head(s), {notes['parameters']:,} parameters, named as in MiMo's files")
    torch.distributed.barrier()
