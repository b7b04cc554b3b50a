"""The numbers of each kind of stage, from its settings and the shapes of the models it handles."""

from __future__ import annotations

from conf.cuts import Cut
from conf.estimate import flops as compute
from conf.estimate import memory
from conf.estimate.memory import BYTES, Batch, Device, Memory
from conf.estimate.numbers import Job, Numbers, Peak, Spread
from conf.formats import FORMATS
from conf.parallel import Parallel
from conf.shapes import candidates, num_params, points
from conf.stages.candidate_score import QuickScore
from conf.stages.evaluate import EvaluateConfig
from conf.stages.generate import GenerateConfig
from conf.stages.importance import ImportanceConfig
from conf.stages.logits import LogitsConfig, row_bytes
from conf.stages.quantize import QuantizeConfig
from conf.stages.search import SearchConfig
from conf.stages.sensitivity import SensitivityConfig
from conf.stages.sweep import SweepConfig
from conf.stages.teacher import Shape, TeacherConfig
from conf.stages.training import Training

WRITTEN = 1
"""Training checkpoints on disk beside those that are kept: the one being written."""


def teacher(config: TeacherConfig, shape: Shape) -> Numbers:
    if config.steps:
        return trained("teacher", shape, config)
    params = num_params(shape)
    width = BYTES[config.precision]

    def peak(parallel: Parallel, _: int, device: Device) -> Memory:
        held = max(memory.rank_params(shape, parallel, stage) for stage in memory.stages_of(parallel))
        return Memory(weights=width * held, other=memory.resident(device))

    copied = Job(memory=peak, parallel=config.parallel, spread="tensor", where="teacher", shapes=(shape,))
    return Numbers(params=params, disk=width * params, job=copied)


def trained(where: str, shape: Shape, config: Training, teacher: Shape | None = None) -> Numbers:
    """Training, with a teacher's forward pass beside it, and both models once more on rank 0 where it evaluates on the
    way."""
    params = num_params(shape)
    evaluation, copies = getattr(config, "evaluation", None), memory.copies(params, config)

    def peak(parallel: Parallel, micro_batch: int, device: Device) -> Memory:
        own = config.model_copy(update={"parallel": parallel, "micro_batch": micro_batch})
        held = memory.training(shape, own, device, teacher)
        if evaluation is None:
            return held
        batch = Batch(
            sequences=evaluation.batch, seq_length=evaluation.seq_length, precision=evaluation.precision, device=device
        )
        return memory.added(held, memory.scoring(shape, params + num_params(teacher or shape), batch))

    work = compute.trained(
        shape, config.tokens, config.seq_length, teacher=teacher, recompute=config.parallel.recompute
    )
    shapes = (shape, teacher) if teacher else (shape,)
    return Numbers(
        params=params,
        tokens=config.tokens,
        steps=config.steps,
        disk=BYTES[config.precision] * params,
        scratch=(config.checkpoints_kept + WRITTEN) * copies.checkpoint,
        copies=copies,
        work=work,
        job=Job(
            memory=peak,
            parallel=config.parallel,
            micro_batch=config.micro_batch,
            spread="training",
            where=where,
            shapes=shapes,
            training=config,
        ),
    )


def _spread(
    config: ImportanceConfig | LogitsConfig | QuickScore, peak: Peak, spread: Spread, where: str, shape: Shape
) -> Job:
    """The job of a stage that only runs models forward."""
    return Job(
        memory=peak,
        parallel=config.parallel,
        micro_batch=config.micro_batch,
        spread=spread,
        where=where,
        shapes=(shape,),
    )


def pruned(teacher: TeacherConfig, cut: Cut) -> Numbers:
    """The cut model, made from one that is in memory until the cut is exported."""
    width, params = BYTES[teacher.precision], num_params(cut.after)

    def peak(parallel: Parallel, _: int, device: Device) -> Memory:
        held = max(memory.rank_params(cut.before, parallel, stage) for stage in memory.stages_of(parallel))
        return Memory(weights=width * held, other=width * held + memory.resident(device))

    return Numbers(
        params=params,
        disk=width * params,
        job=Job(memory=peak, parallel=cut.parallel, spread="pipeline", where=cut.where, shapes=(cut.before,)),
    )


def scored(config: ImportanceConfig, shape: Shape) -> Numbers:
    """Importance: one pass over the calibration samples, every layer looked at."""
    tokens = config.calibration_samples * config.seq_length

    def peak(parallel: Parallel, micro_batch: int, device: Device) -> Memory:
        batch = Batch(sequences=micro_batch, seq_length=config.seq_length, precision=config.precision, device=device)
        return memory.passing(shape, batch, parallel, hooked=True)

    return Numbers(
        params=num_params(shape),
        tokens=tokens,
        work=compute.passed((shape,), tokens, config.seq_length),
        job=_spread(config, peak, "pipeline", "importance", shape),
    )


def stored(config: LogitsConfig, teacher: Shape) -> Numbers:
    """Stored logits; their tokens and disk are known where the recipe says how many sequences."""
    tokens = (config.sequences or 0) * config.seq_length

    def peak(parallel: Parallel, micro_batch: int, device: Device) -> Memory:
        batch = Batch(sequences=micro_batch, seq_length=config.seq_length, precision=config.precision, device=device)
        return memory.storing(teacher, batch, parallel)

    return Numbers(
        params=num_params(teacher),
        tokens=tokens or None,
        disk=tokens * row_bytes(config.top_k, teacher.vocab_size or 0) or None,
        work=compute.passed((teacher,), tokens, config.seq_length) if tokens else None,
        job=_spread(config, peak, "tensor", "logits", teacher),
    )


def cuts_scored(where: str, config: SearchConfig | SweepConfig, teacher: Shape) -> Numbers:
    """Two models in memory, every cut run once: the teacher as it is, and the one that is cut."""
    count = (
        len(candidates("search", config, teacher)) if isinstance(config, SearchConfig) else len(points(config, teacher))
    )
    tokens = (count + 1) * config.sequences * config.seq_length

    def peak(parallel: Parallel, micro_batch: int, device: Device) -> Memory:
        batch = Batch(sequences=micro_batch, seq_length=config.seq_length, precision=config.precision, device=device)
        return memory.passing(teacher, batch, parallel, models=2)

    return Numbers(
        params=num_params(teacher),
        tokens=tokens,
        work=compute.passed((teacher, teacher), tokens, config.seq_length),
        job=_spread(config, peak, "pipeline", where, teacher),
    )


def generated(config: GenerateConfig, teacher: Shape) -> Numbers:
    """The teacher and the keys and values of the prompts it answers at once."""
    params = num_params(teacher)
    cache = (
        4
        * teacher.num_layers
        * teacher.num_query_groups
        * memory.head_dim(teacher)
        * config.batch
        * 2
        * config.max_new_tokens
    )
    width = BYTES[config.precision]
    job = Job(
        memory=lambda _, __, device: Memory(weights=width * params, activations=cache, other=memory.resident(device))
    )
    return Numbers(params=params, job=job)


def sensitivity(config: SensitivityConfig, shape: Shape) -> Numbers:
    """Each format calibrated, then all scored: by gradients in one pass, by KL divergence in one for every layer and
    format."""
    passes = 1 if config.method == "gradient" else 1 + 4 * shape.num_layers * len(config.formats)
    tokens = config.seq_length * (config.calibration_samples * len(config.formats) + config.score_samples * passes)
    params, alone = num_params(shape), Parallel()

    def peak(_: Parallel, __: int, device: Device) -> Memory:
        batch = Batch(sequences=config.batch, seq_length=config.seq_length, precision="bf16", device=device)
        layers = shape.num_layers * memory.layer_bytes(shape, batch, alone) if config.method == "gradient" else 0
        activations = layers or memory.forward_bytes(shape, batch, alone)
        logits = 8 * config.batch * config.seq_length * (shape.vocab_size or 0)
        return Memory(weights=6 * params, activations=activations, logits=logits, other=memory.resident(device))

    return Numbers(
        params=params, tokens=tokens, work=compute.passed((shape,), tokens, config.seq_length), job=Job(memory=peak)
    )


def quantized(config: QuantizeConfig, shape: Shape, width: int) -> Numbers:
    """Calibrated and packed, then read back beside the model it was made from; `width` are the bytes of a weight
    before."""
    params = num_params(shape)
    linear = params - (shape.vocab_size or 0) * shape.hidden_size * (1 if shape.tie_word_embeddings else 2)
    disk = int(linear * _bits(config) / 8 + width * (params - linear))
    tokens = config.calibration_samples * config.seq_length
    work = compute.passed((shape,), tokens, config.seq_length)

    def peak(_: Parallel, __: int, device: Device) -> Memory:
        batch = Batch(sequences=config.batch, seq_length=config.seq_length, precision="bf16", device=device)
        if config.qad:
            return memory.training(shape, config.qad, device, shape)
        logits = 4 * config.batch * config.seq_length * (shape.vocab_size or 0)
        activations = memory.forward_bytes(shape, batch, Parallel())
        return Memory(weights=3 * width * params, activations=activations, logits=logits, other=memory.resident(device))

    steps = None
    if config.qad:
        work = compute.trained(shape, config.qad.tokens, config.qad.seq_length, teacher=shape)
        steps, tokens = config.qad.steps, tokens + config.qad.tokens
    return Numbers(params=params, tokens=tokens, steps=steps, disk=disk, work=work, job=Job(memory=peak))


def evaluated(config: EvaluateConfig, shape: Shape, teacher: Shape) -> Numbers:
    """A model beside its teacher on the test split; questions come on top and are not counted."""
    tokens, params = config.sequences * config.seq_length, num_params(shape)
    together = params if shape == teacher else params + num_params(teacher)

    def peak(_: Parallel, __: int, device: Device) -> Memory:
        batch = Batch(sequences=config.batch, seq_length=config.seq_length, precision=config.precision, device=device)
        return memory.scoring(shape, together, batch)

    return Numbers(params=params, tokens=tokens, job=Job(memory=peak))


def _bits(config: QuantizeConfig) -> float:
    """Bits a quantized weight takes, scales included: FP4 adds one byte a block, INT4 a float; other scales weigh
    nothing."""
    if config.auto or config.format is None:
        return config.auto.effective_bits if config.auto else 16
    form = FORMATS[config.format]
    scale = 32 if config.format in ("int4_awq", "w4a8_awq") else 8
    per_weight = form.bits + (scale / (config.block_size or form.block) if form.block and form.bits < 8 else 0)
    return (
        per_weight if form.layers == "all" else (2 * per_weight + 16) / 3
    )  # the MLPs hold about two thirds of the weights
