"""Compares an imported model with transformers' own model of the same directory: the same tokens through both, in fp32.

Neither model is ever held in fp32. Both run whole, but the weights of each part (the embedding, a layer, the output
layer) become fp32 only while it runs; transformers' are read from the files then and dropped afterwards. So the check
adds one layer of each model, an embedding and the logits to the memory of the import, whatever the model's size. Each
rank runs transformers' model for itself."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel

from conf.families import family_of
from conf.hf_weights import EMBEDDING
from conf.mixture import mixture
from conf.stages.teacher import COMPARED_LENGTH, COMPARED_SEQUENCES
from jobs.huggingface import model as hf
from jobs.megatron.experts import Choices, as_transformers_holds_them, routed
from jobs.megatron.forward import forward
from jobs.megatron.weights import TensorReader

BOUND = 1e-4
"""Largest difference of a token's logits, relative to their norm; rounding in fp32 makes it about 1e-6."""

Outputs = list[torch.Tensor]
"""Hidden states after each layer [sequences, length, width], then the logits [sequences, length, vocabulary], on the
CPU."""


def check_finite(directory: Path) -> None:
    """Raise ValueError that names the tensors with NaN or infinite values; ranks share the reading. Collective."""
    reader = TensorReader(directory)
    rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    found: dict[str, str] = {}
    for name in sorted(reader.shard_of)[rank::ranks]:
        tensor = reader.read(name)
        if not bool(tensor.isfinite().all()):
            nans, infinite = int(tensor.isnan().sum()), int(tensor.isinf().sum())
            found[name] = " and ".join(
                f"{count:,} {what}" for count, what in ((nans, "NaN"), (infinite, "infinite")) if count
            )
    everyone: list[Any] = [None] * ranks
    torch.distributed.all_gather_object(everyone, found)
    damaged = {name: what for part in everyone for name, what in part.items()}
    if damaged:
        first = ", ".join(f"{name} ({damaged[name]})" for name in sorted(damaged)[:3])
        more = f" and {len(damaged) - 3} more tensors" if len(damaged) > 3 else ""
        raise ValueError(f"teacher.model {directory} holds damaged weights: {first}{more}; download the model again")


def compare(model: GPTModel, directory: Path, config: dict[str, Any]) -> dict[str, float]:
    """The largest relative difference of a token's logits and hidden states between `model`, without context and
    sequence parallelism, and transformers' model of `directory`. Raises ValueError above BOUND, with the layer where it
    begins. Collective."""
    longest, vocabulary = config["max_position_embeddings"], config["vocab_size"]
    length = min(COMPARED_LENGTH, longest)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(vocabulary, (COMPARED_SEQUENCES, length), generator=generator)
    device = torch.device(torch.cuda.current_device())
    worst = torch.zeros(config["num_hidden_layers"] + 1, dtype=torch.float64)
    for positions in (torch.arange(length), torch.linspace(0, longest - 1, length).long()):
        reference = _Reference(directory, config, device)
        expected = reference.run(tokens, positions)
        worst = torch.maximum(worst, _differences(model, tokens, positions, expected, reference.choices))
    worst = worst.to(device)
    torch.distributed.all_reduce(worst, torch.distributed.ReduceOp.MAX)
    *layers, logits = worst.tolist()
    if not logits <= BOUND:
        begin = next((number for number, value in enumerate(layers, 1) if not value <= BOUND), None)
        where = f"begins in layer {begin} of {len(layers)}" if begin else "begins after the last layer"
        raise ValueError(
            f"teacher.model {directory} would be computed differently than transformers does: the logits of a token"
            f" differ by {logits:.2g} of their size (at most {BOUND:g}), which {where}; choose another model and report"
            " what is special about this one's config.json"
        )
    return {"import_difference": logits, "import_difference_layers": max(layers)}


@dataclass
class _Reference:
    """transformers' model of a directory, whose parts are read when they run."""

    directory: Path
    config: dict[str, Any]
    device: torch.device
    outputs: Outputs = field(default_factory=list)
    choices: Choices = field(default_factory=dict)
    """The experts that each layer's tokens took."""

    def run(self, tokens: torch.Tensor, positions: torch.Tensor) -> Outputs:
        """Outputs for `tokens` [sequences, length], which stand at `positions` [length]."""
        settings, model_class = hf.described(self.directory, hf.check(self.directory))
        reader = TensorReader(self.directory)
        with torch.device("meta"):
            model = model_class(settings).eval().requires_grad_(False)
        inner = model.model
        inner.rotary_emb = type(inner.rotary_emb)(config=settings).to(self.device)  # frequencies are not in the files
        parts = {"model.embed_tokens": inner.embed_tokens, "model.norm": inner.norm, "lm_head": model.lm_head}
        parts |= {f"model.layers.{number}": layer for number, layer in enumerate(inner.layers)}
        for name, part in parts.items():
            source = EMBEDDING.removesuffix(".weight") if name == "lm_head" and settings.tie_word_embeddings else name
            part.register_forward_pre_hook(_reading(reader, source, self.config, self.device))
            part.register_forward_hook(self._keep if name.startswith("model.layers.") else _drop)
        for number, layer in enumerate(inner.layers, 1):
            if mixture(self.config):
                layer.mlp.gate.register_forward_hook(functools.partial(self._chosen, number, tokens.shape))
        with torch.no_grad():
            logits = model(
                tokens.to(self.device),
                attention_mask=torch.ones_like(tokens, device=self.device),  # without it, gaps would end a sequence
                position_ids=positions.to(self.device)[None],
                use_cache=False,
            ).logits
        return [*self.outputs, logits.float().cpu()]

    def _chosen(self, layer: int, shape: tuple[int, ...], _: Any, __: Any, output: tuple[torch.Tensor, ...]) -> None:
        self.choices[layer] = output[2].view(*shape, -1)

    def _keep(self, part: torch.nn.Module, inputs: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        self.outputs.append(hidden.cpu())
        _drop(part, inputs, output)


def _reading(reader: TensorReader, source: str, config: dict[str, Any], device: torch.device) -> Any:
    experts, mixed = family_of(config).experts, mixture(config)

    def tensor(name: str) -> torch.Tensor:
        if experts and mixed:
            return as_transformers_holds_them(reader.read, source, name, experts, mixed.count)
        return reader.read(f"{source}.{name}")

    def read(part: torch.nn.Module, _: Any) -> None:
        tensors = {name: tensor(name).to(device, torch.float32) for name, _ in part.named_parameters()}
        part.load_state_dict(tensors, assign=True)
        part.requires_grad_(False)
        if hasattr(part, "embed_scale"):  # Gemma's factor of embeddings, which is not in the files
            part.embed_scale = torch.tensor(part.scalar_embed_scale, device=device)

    return read


def _drop(part: torch.nn.Module, _: Any, __: Any) -> None:
    part.to_empty(device="meta")


def _differences(
    model: GPTModel, tokens: torch.Tensor, positions: torch.Tensor, expected: Outputs, choices: Choices
) -> torch.Tensor:
    """Differences of `model` from `expected` after each layer of this rank and in its logits; 0 for those of others.
    `choices` decides between experts that are equal but for rounding."""
    found = torch.zeros(len(expected), dtype=torch.float64)

    def after_layer(layer: Any, _: Any, output: Any) -> None:
        hidden = (output[0] if isinstance(output, tuple) else output).transpose(0, 1)
        found[layer.layer_number - 1] = _relative(hidden, expected[layer.layer_number - 1])

    def logits(output: torch.Tensor) -> None:
        rank, width = parallel_state.get_tensor_model_parallel_rank(), output.shape[-1]
        found[-1] = _relative(output, expected[-1][..., rank * width : (rank + 1) * width])

    hooks = [layer.register_forward_hook(after_layer) for layer in model.decoder.layers]
    with torch.no_grad(), _in_fp32(model), _standing_at(model, positions), routed(model, choices):
        forward(model, tokens, logits)
    for hook in hooks:
        hook.remove()
    return found


def _relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference of a token's vector, relative to its norm; infinite where it is not a number."""
    difference = (ours.float().cpu() - theirs).norm(dim=-1) / theirs.norm(dim=-1).clamp(min=1e-30)
    return float(difference.nan_to_num(nan=torch.inf).max())


@contextlib.contextmanager
def _in_fp32(model: GPTModel) -> Iterator[None]:
    """Inside, `model` computes in fp32: the weights of each part are converted while it runs."""
    stored: dict[torch.nn.Parameter, torch.Tensor] = {}

    def widen(part: torch.nn.Module, inputs: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        for parameter in part.parameters():
            stored[parameter], parameter.data = parameter.data, parameter.data.float()
        tied = named.get("weight")  # the embedding, where it is the output layer too
        return inputs, named if tied is None else named | {"weight": tied.float()}

    def restore(part: torch.nn.Module, _: Any, __: Any) -> None:
        for parameter in part.parameters():
            parameter.data = stored.pop(parameter)

    parts = [*model.decoder.layers, model.decoder.final_layernorm]
    parts += [getattr(model, name, None) for name in ("embedding", "output_layer")]
    hooks = []
    for part in filter(None, parts):
        hooks += [part.register_forward_pre_hook(widen, with_kwargs=True), part.register_forward_hook(restore)]
    between, model.config.pipeline_dtype = model.config.pipeline_dtype, torch.float32
    try:
        yield
    finally:
        model.config.pipeline_dtype = between
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _standing_at(model: GPTModel, positions: torch.Tensor) -> Iterator[None]:
    """Inside, the tokens of a sequence stand at `positions`; Megatron's rotary embedding only counts from 0."""
    rotary, longest = model.rotary_pos_emb, int(positions.max()) + 1
    rotary.forward = lambda *_, **__: rotary.get_emb(longest)[positions.to(torch.cuda.current_device())]
    try:
        yield
    finally:
        del rotary.forward
