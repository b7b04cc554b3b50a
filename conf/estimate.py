"""Rough sizes for a plan: parameters, tokens, memory and disk of each stage, from the recipe's dimensions alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from conf.base import Precision
from conf.check import teacher_shape
from conf.cuts import cut_at
from conf.evaluate import EvaluateConfig
from conf.formats import FORMATS
from conf.logits import LogitsConfig, row_bytes
from conf.parallel import Parallel
from conf.quantize import QuantizeConfig, scorings
from conf.schema import Recipe
from conf.search import SearchConfig
from conf.sensitivity import SensitivityConfig
from conf.sft import SftConfig
from conf.shapes import candidates, num_params, points
from conf.sweep import SweepConfig
from conf.teacher import Shape
from conf.training import Training

BYTES = {"bf16": 2, "fp32": 4}
LIBRARIES = 600_000_000
"""Resident bytes of a job's process that holds no model yet: torch, Megatron-Core, ModelOpt, transformers (measured)."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What a stage handles; None where it is not known beforehand."""

    params: int | None = None
    tokens: int | None = None
    memory: int | None = None
    disk: int | None = None

    def cells(self) -> tuple[str, str, str, str]:
        """The four numbers as short texts."""
        return tuple(_short(value, unit) for value, unit in ((self.params, ""), (self.tokens, ""), (self.memory, "B"), (self.disk, "B")))  # type: ignore[return-value]


def stage(recipe: Recipe, label: str) -> Numbers:
    """Numbers of the stage called `label` in a run of this recipe."""
    numbers = _tensors(recipe, label)
    if numbers.memory is None:
        return numbers
    parallel = _parallel(recipe, label)
    return replace(numbers, memory=numbers.memory + LIBRARIES * (parallel.processes if parallel else 1))


def _parallel(recipe: Recipe, label: str) -> Parallel | None:
    """Where the stage runs, None where it is one process."""
    kind, _, rest = label.partition("-")
    config: Any = {"teacher": recipe.teacher, "importance": recipe.importance, "sweep": recipe.sweep}.get(kind)
    if kind == "logits":
        config = _storing(recipe, rest)
    if kind in ("search", "sft"):
        config = recipe.students[rest].search if kind == "search" else tuning_of(recipe, rest)
    if config:
        return config.parallel  # type: ignore[no-any-return]
    student, teacher = _student_of(recipe, rest), teacher_shape(recipe)
    if kind not in ("prune", "distill") or not student or not teacher:
        return None
    cut = cut_at(recipe, student, rest[len(student) + 1 :], teacher)
    return cut.parallel if kind == "prune" else cut.how.parallel if cut.how else None


def _student_of(recipe: Recipe, rest: str) -> str:
    """The student a label speaks of, by the longest name that fits."""
    return max((name for name in recipe.students if rest == name or rest.startswith(f"{name}-")), key=len, default="")


def _tensors(recipe: Recipe, label: str) -> Numbers:
    """The numbers with the memory of tensors alone."""
    teacher = teacher_shape(recipe)
    if teacher is None:
        return Numbers()
    kind, _, rest = label.partition("-")
    whole = num_params(teacher)
    if kind == "teacher":
        config = recipe.teacher
        memory = training_bytes(teacher, config) if config.steps else 4 * whole
        return Numbers(params=whole, tokens=config.tokens or None, memory=memory, disk=BYTES[config.precision] * whole)
    student = _student_of(recipe, rest)
    if kind == "search" or (kind == "sweep" and recipe.sweep):
        return _cuts_scored(recipe.students[rest].search if kind == "search" else recipe.sweep, teacher)
    if kind == "importance":
        settings = recipe.importance
        teacher = cut_at(recipe, student, rest[len(student) + 1 :], teacher).before if student else teacher
        whole = num_params(teacher)
        tokens = settings.calibration_samples * settings.seq_length
        memory = BYTES[settings.precision] * whole + activation_bytes(
            teacher, settings.micro_batch * settings.seq_length, settings.precision, grad=False
        )
        return Numbers(params=whole, tokens=tokens, memory=memory)
    if kind == "generate" and recipe.generate and not recipe.generate.endpoint:
        return Numbers(params=whole, memory=BYTES[recipe.generate.precision] * whole)
    if kind == "logits" and (stored := _storing(recipe, rest)):
        return _stored(stored, teacher)
    if kind not in ("prune", "distill", "sft", "sensitivity", "quantize", "evaluate"):
        return Numbers()
    return _model_stage(recipe, kind, rest, teacher)


def _storing(recipe: Recipe, rest: str) -> LogitsConfig | None:
    """What is stored: of the corpus, or of the records for the student called `sft-NAME`."""
    how = recipe.sft_of(rest.removeprefix("sft-")) if rest.removeprefix("sft-") in recipe.students else None
    return how.stored if how else recipe.logits


def _stored(config: LogitsConfig, teacher: Shape) -> Numbers:
    """Stored logits; their tokens and disk are known where the recipe says how many sequences."""
    whole, tokens = num_params(teacher), (config.sequences or 0) * config.seq_length
    memory = BYTES[config.precision] * whole + activation_bytes(
        teacher, config.micro_batch * config.seq_length, config.precision, grad=False
    )
    disk = tokens * row_bytes(config.top_k, teacher.vocab_size or 0)
    return Numbers(params=whole, tokens=tokens or None, memory=memory, disk=disk or None)


def _cuts_scored(config: SearchConfig | SweepConfig | None, teacher: Shape) -> Numbers:
    """Two models in memory, every cut run once: the teacher as it is, and the one that is cut."""
    assert config is not None
    count = len(candidates("search", config, teacher)) if isinstance(config, SearchConfig) else len(points(config, teacher))
    tokens = config.sequences * config.seq_length
    memory = 2 * BYTES[config.precision] * num_params(teacher)
    memory += 2 * activation_bytes(teacher, config.micro_batch * config.seq_length, config.precision, grad=False)
    return Numbers(params=num_params(teacher), tokens=(count + 1) * tokens, memory=memory)


def _model_stage(recipe: Recipe, kind: str, rest: str, teacher: Shape) -> Numbers:
    student = _student_of(recipe, rest)
    cut = cut_at(recipe, student, rest[len(student) + 1 :], teacher) if student else None
    shape, how = (cut.after, cut.how) if cut else (teacher, None)
    params, whole = num_params(shape), num_params(cut.before if cut and kind == "prune" else teacher)
    width = BYTES[how.precision if how else recipe.teacher.precision]
    if kind == "prune":
        return Numbers(params=params, memory=2 * width * whole, disk=width * params)
    if kind == "distill" and how:
        memory = training_bytes(shape, how) + BYTES[how.precision] * whole
        memory += activation_bytes(teacher, how.micro_batch * how.seq_length, how.precision, grad=False)
        if how.evaluation:  # on the way, with both models loaded once more
            memory += evaluation_bytes(how.evaluation, shape, params + whole)
        return Numbers(params=params, tokens=how.tokens, memory=memory, disk=width * params)
    if kind == "sensitivity":
        return _scoring(scorings(student, recipe.formats_of(student))[f"sensitivity-{rest}"], shape)
    if kind == "sft" and (tune := tuning_of(recipe, rest)):
        memory, disk = training_bytes(shape, tune), BYTES[tune.precision] * params
        if tune.kd_weight:
            memory += BYTES[tune.precision] * whole
            memory += activation_bytes(teacher, tune.micro_batch * tune.seq_length, tune.precision, grad=False)
        return Numbers(params=params, tokens=tune.tokens, memory=memory, disk=disk)
    linear = params - (shape.vocab_size or 0) * shape.hidden_size * (1 if shape.tie_word_embeddings else 2)
    if kind == "quantize":
        config = next(entry for entry in recipe.quantize if rest == f"{student}-{entry.name}")
        disk = int(linear * _bits(config) / 8 + width * (params - linear))
        tokens, memory = config.calibration_samples * config.seq_length, 3 * width * params
        if config.qad:
            tokens, memory = tokens + config.qad.tokens, training_bytes(shape, config.qad) + 2 * params
        return Numbers(params=params, tokens=tokens, memory=memory, disk=disk)
    scoring = recipe.evaluate
    memory = evaluation_bytes(scoring, shape, params + whole)
    return Numbers(params=params, tokens=scoring.sequences * scoring.seq_length, memory=memory)


def evaluation_bytes(scoring: EvaluateConfig, shape: Shape, params: int) -> int:
    """A model and its teacher, `params` together, and the activations of one pass."""
    return BYTES[scoring.precision] * params + activation_bytes(shape, scoring.batch * scoring.seq_length, scoring.precision, grad=False)


def _scoring(config: SensitivityConfig, shape: Shape) -> Numbers:
    """Each format calibrated, then all scored: by gradients in one pass, by KL divergence in one for every layer and format."""
    passes = 1 if config.method == "gradient" else 1 + 4 * shape.num_layers * len(config.formats)
    tokens = config.seq_length * (config.calibration_samples * len(config.formats) + config.score_samples * passes)
    activations = activation_bytes(shape, config.batch * config.seq_length, "bf16", grad=config.method == "gradient")
    return Numbers(params=num_params(shape), tokens=tokens, memory=6 * num_params(shape) + activations)


def _bits(config: QuantizeConfig) -> float:
    """Bits a quantized weight takes, scales included: FP4 adds one byte a block, INT4 a float; other scales weigh nothing."""
    if config.auto or config.format is None:
        return config.auto.effective_bits if config.auto else 16
    form = FORMATS[config.format]
    scale = 32 if config.format in ("int4_awq", "w4a8_awq") else 8
    per_weight = form.bits + (scale / (config.block_size or form.block) if form.block and form.bits < 8 else 0)
    return per_weight if form.layers == "all" else (2 * per_weight + 16) / 3  # the MLPs hold about two thirds of the weights


def tuning_of(recipe: Recipe, name: str) -> SftConfig | None:
    """How the student called `name`, or the teacher, is fine-tuned."""
    return recipe.teacher_sft if name == "teacher" else recipe.sft_of(name) if name in recipe.students else None


def training_bytes(shape: Shape, config: Training) -> int:
    """Peak of training over all ranks: weights, fp32 gradients, master weights and Adam moments for each replica, and activations."""
    per_param = 4 + 12 + BYTES[config.precision] if config.precision == "bf16" else 4 + 4 + 8
    tokens = config.micro_batch * config.seq_length
    return config.parallel.data * (per_param * num_params(shape) + activation_bytes(shape, tokens, config.precision, grad=True))


def activation_bytes(shape: Shape, tokens: int, precision: Precision, *, grad: bool) -> int:
    """Activations of one micro-batch: kept for the backward pass in all layers, or only the widest at a time; logits in fp32."""
    per_layer = BYTES[precision] * tokens * (10 * shape.hidden_size + 4 * shape.ffn_hidden_size)
    logits = 4 * tokens * (shape.vocab_size or 0)
    return per_layer * (shape.num_layers if grad else 1) + logits * (2 if grad else 1)


def _short(value: int | None, unit: str) -> str:
    if value is None:
        return "-"
    for size, prefix in ((10**12, "T"), (10**9, "G" if unit else "B"), (10**6, "M"), (10**3, "K")):
        if value >= size:
            return f"{value / size:.3g} {prefix}{unit}".strip()
    return f"{value} {unit}".strip()
