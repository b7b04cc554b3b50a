"""Checks of a whole recipe before anything runs: settings of different stages against each other, and missing
inputs."""

from __future__ import annotations

import glob
from pathlib import Path

from conf.checks.benchmarks import check_benchmarks
from conf.checks.blend import check_blend
from conf.checks.branches import check_branches
from conf.checks.claims import check_claims, check_contamination, check_seeds, check_winner
from conf.checks.distill import check_distill, check_offline, check_shared_layout
from conf.checks.function import check_function
from conf.checks.gates import check_gates
from conf.checks.layout import check_bound, check_experts, check_layout
from conf.checks.mtp import check_heads
from conf.checks.nemo import check_family, check_nemo
from conf.checks.phases import check_lengths as check_phase_lengths
from conf.checks.phases import check_rotary, check_whole, grown
from conf.checks.quantize import check_format
from conf.checks.raw import check_raw
from conf.checks.serve import check_served, check_verified
from conf.checks.sft import check_lengths, check_records, check_tuning
from conf.checks.study import check_study
from conf.cuts import Cut, check_names, cuts
from conf.fitted import fitted
from conf.hf_model import check_model_directory, check_no_nemo, num_tokens, shape_of, tokenizer_of
from conf.mmlu_files import check_mmlu
from conf.parallel import Parallel
from conf.recipe import Recipe
from conf.secrets import check_no_secret
from conf.shape import Shape
from conf.shapes import points
from conf.sources import CORPUS, check_no_tokens, is_local, select
from conf.stages.blend import BlendSource
from conf.stages.candidate_score import QuickScore
from conf.stages.data import DataConfig
from conf.stages.early_stopping import WithEarlyStopping
from conf.stages.evaluate import EvaluateConfig
from conf.stages.training import Training
from conf.stages.write import WRITTEN


def check(recipe: Recipe) -> Recipe:
    """The recipe, with lengths that it does not state as `fitted` gives them. Raises ValueError for the first
    problem."""
    check_no_secret(recipe.model_dump(mode="json"))
    _check_inputs(recipe)
    check_gates(recipe)
    check_names(recipe)
    check_benchmarks(recipe)
    check_claims(recipe)
    check_seeds(recipe)
    check_whole(recipe)
    check_branches(recipe)
    check_contamination(recipe)
    check_nemo(recipe)
    check_winner(recipe)
    check_study(recipe)
    check_served(recipe.serve, recipe.quantize)
    check_verified(recipe.verify, recipe.quantize)
    _check_splits(recipe)
    check_records(recipe)
    check_blend(recipe)
    check_raw(recipe)
    shape = teacher_shape(recipe)
    if shape is None:
        return recipe  # a hub model without teacher.reference: the jobs check it after the download
    check_family(recipe, shape)
    recipe = fitted(recipe, shape)
    _check_vocabulary(recipe, shape)
    _check_training("teacher", recipe.teacher, origin_shape(recipe) or shape, grows=True)
    if recipe.teacher.steps == 0:  # an import reads no sequences, but its ranks divide the model
        check_layout("teacher.parallel", recipe.teacher.parallel, shape)
    _check_passes(recipe, shape)
    _check_evaluation(recipe.evaluate, shape)
    check_lengths(recipe, shape)
    if recipe.teacher_sft:
        _check_training("sft", recipe.teacher_sft, shape, " of the teacher")
    for name, student in recipe.students.items():
        if student.search:
            _check_scoring(f"students.{name}.search", student.search, shape)
        for cut in cuts(recipe, name, shape):
            _check_cut(recipe, name, cut, shape)
    check_function(recipe, shape)
    return recipe


def _check_passes(recipe: Recipe, shape: Shape) -> None:
    """Check the stages that only run the teacher on text."""
    if recipe.needs_importance:
        _check_length("importance.seq_length", recipe.importance.seq_length, shape)
        check_layout("importance.parallel", recipe.importance.parallel, shape)
    if recipe.sweep:
        points(recipe.sweep, shape)
        _check_scoring("sweep", recipe.sweep, shape)
    if recipe.logits and recipe.stores_logits:
        _check_length("logits.seq_length", recipe.logits.seq_length, shape)
        check_layout("logits.parallel", recipe.logits.parallel, shape)


def _check_cut(recipe: Recipe, name: str, cut: Cut, teacher: Shape) -> None:
    """Check one cut, its distillation and, for the last cut, fine-tuning and formats."""
    check_layout(f"{cut.where}.parallel", cut.parallel, cut.before)
    if cut.ranked and cut.before != teacher:  # importance is measured again for each round's student
        check_layout("importance.parallel", recipe.importance.parallel, cut.before, whose=f" of what {cut.where} cuts")
    if cut.config:
        check_shared_layout(cut.distill_at, cut.config, cut.teacher, cut.after)
        alone = {"parallel": Parallel()} if cut.config.offline else {}  # the teacher is then in none of its ranks
        _check_training(cut.distill_at, cut.config.model_copy(update=alone), cut.teacher, " of the teacher")
        _check_training(cut.distill_at, cut.config, cut.after, f" of student {name}")
        check_distill(cut.distill_at, cut.config, cut.teacher, cut.after)
        _check_early_stopping(cut.distill_at, cut.config, cut.teacher)
        if cut.config.offline and cut.teacher != teacher:
            raise ValueError(
                f"{cut.distill_at}.offline is true but the teacher of {cut.where} is the previous round's student,"
                " whose logits are not stored; remove offline or teacher: previous"
            )
        check_offline(cut.distill_at, cut.config, recipe.logits, cut.teacher)
    if cut.last:
        if sft := recipe.sft_of(name):
            where = f"students.{name}.sft" if recipe.students[name].sft else "sft"
            check_tuning(where, sft, recipe, teacher)
            _check_training(where, sft, cut.after, f" of student {name}")
            if sft.kd_weight:
                _check_training(where, sft, teacher, " of the teacher")
        for config in recipe.formats_of(name):
            _check_length(f"quantize.seq_length ({config.name})", config.seq_length, cut.after)
            check_format(name, config, cut.after)
            if config.qad:
                _check_length(f"quantize.qad.seq_length ({config.name})", config.qad.seq_length, cut.after)


def _check_scoring(where: str, config: QuickScore, shape: Shape) -> None:
    _check_length(f"{where}.seq_length", config.seq_length, shape)
    check_layout(f"{where}.parallel", config.parallel, shape)


def teacher_shape(recipe: Recipe) -> Shape | None:
    """The shape of the teacher that is compressed; None if unknown."""
    shape = origin_shape(recipe)
    return shape and grown(shape, recipe.teacher)


def origin_shape(recipe: Recipe) -> Shape | None:
    """Its shape before it is trained: the recipe's, a local model's, or teacher.reference for a hub model."""
    teacher, tokenizer = recipe.teacher, recipe.data.tokenizer
    if teacher.shape:
        if teacher.shape.vocab_size:
            return teacher.shape
        return teacher.shape.model_copy(
            update={"vocab_size": num_tokens(Path(tokenizer)) if tokenizer else recipe.data.vocab_size}
        )
    assert teacher.model is not None, "TeacherConfig has a model or a shape"
    return shape_of(Path(teacher.model)) if Path(teacher.model).is_dir() else teacher.reference


def check_source(where: str, source: str | tuple[str, ...]) -> None:
    """Raise ValueError if a source is empty, has what a teacher writes, or names files and there are none."""
    names = (source,) if isinstance(source, str) else source
    if not all(names) or not names:
        raise ValueError(f"{where} is empty; set it to 'world', files or a Hugging Face dataset id")
    if WRITTEN in names:
        raise ValueError(
            f"{where} has '{WRITTEN}', what a recipe's teacher writes, which is the whole source of a corpus of the"
            f" blend and nothing else; set blend.sources.NAME.source={WRITTEN}"
        )
    for name in names:
        path = Path(name)
        check_no_tokens(name, where)
        # Path.glob rejects absolute patterns.
        if is_local(name) and not path.exists() and not glob.glob(name, recursive=True):  # noqa: PTH207
            raise ValueError(
                f"{where} names {name}, which does not exist; check the path (relative paths start at {Path.cwd()})"
            )
        if path.is_file() and path.stat().st_size == 0:
            raise ValueError(f"{where} names {name}, which is an empty file; use a file with text")


def _check_files(where: str, corpus: DataConfig | BlendSource) -> None:
    """Raise ValueError where local sources have no file that is read, or it is not known which ones are meant."""
    names = (corpus.source,) if isinstance(corpus.source, str) else corpus.source
    for name in names:
        if name != "world" and is_local(name):
            select(name, f"{where}.source", CORPUS, subset=corpus.subset, siblings=names)


def _check_inputs(recipe: Recipe) -> None:
    teacher, mmlu = recipe.teacher, recipe.evaluate.mmlu
    check_source("data.source", recipe.data.source)
    _check_files("data", recipe.data)
    for name, source in recipe.blend.sources.items() if recipe.blend else ():
        if source.source != WRITTEN:
            check_source(f"blend.sources.{name}.source", source.source)
            _check_files(f"blend.sources.{name}", source)
    tokenizer = recipe.data.tokenizer
    if tokenizer and not (Path(tokenizer) / "tokenizer.json").is_file():
        raise ValueError(
            f"data.tokenizer {tokenizer} has no tokenizer.json; use a local Hugging Face tokenizer directory"
        )
    if teacher.model:
        check_no_nemo(Path(teacher.model))
        if Path(teacher.model).is_dir():
            check_model_directory(Path(teacher.model))
        elif teacher.model.startswith((".", "/", "~")) or teacher.model.count("/") != 1:
            raise ValueError(
                f"teacher.model is {teacher.model}, which is neither a local directory (relative paths start at"
                f" {Path.cwd()}) nor a hub id owner/name; check the path"
            )
    if (
        mmlu
        and mmlu.path == "quiz"
        and "world" not in (recipe.data.source if isinstance(recipe.data.source, tuple) else (recipe.data.source,))
    ):
        raise ValueError("evaluate.mmlu.path is 'quiz' but data.source is not 'world'; use a folder of MMLU's CSVs")
    if mmlu and mmlu.path not in (None, "quiz") and not list(Path(str(mmlu.path)).glob("test/*_test.csv")):
        raise ValueError(
            f"evaluate.mmlu.path {mmlu.path} has no test/*_test.csv; use the folder of MMLU's original CSVs"
        )
    check_mmlu(mmlu)


def _check_splits(recipe: Recipe) -> None:
    """Local text needs a share of documents in every split that is used; a hub dataset may have its own splits."""
    data = recipe.data
    names = (data.source,) if isinstance(data.source, str) else data.source
    if not all(name == "world" or Path(name).exists() or glob.glob(name, recursive=True) for name in names):  # noqa: PTH207
        return
    if data.test_share == 0:
        raise ValueError("data.test_share is 0 but models are evaluated on the test split; choose more than 0")
    trained = recipe.teacher.steps or any(
        config.steps for name in recipe.students if (config := recipe.distill_of(name))
    )
    if trained and data.validation_share == 0:
        raise ValueError("data.validation_share is 0 but training is validated on that split; choose more than 0")


def _check_vocabulary(recipe: Recipe, shape: Shape) -> None:
    """Every token id needs a row in the teacher's embedding, and a pretrained teacher needs its own tokenizer."""
    model, tokenizer = recipe.teacher.model, recipe.data.tokenizer
    if model is None:
        tokens = num_tokens(Path(tokenizer)) if tokenizer else recipe.data.vocab_size
        if shape.vocab_size and shape.vocab_size < tokens:
            raise ValueError(
                f"teacher.shape.vocab_size is {shape.vocab_size} but the tokenizer has {tokens} tokens; choose at least"
                f" {tokens} or leave it empty"
            )
    elif Path(model).is_dir():
        tokens = num_tokens(Path(model), without_pad=True)
        if shape.vocab_size and shape.vocab_size < tokens:
            raise ValueError(
                f"teacher.model {model} has {shape.vocab_size} embedding rows but its tokenizer.json has {tokens}"
                " tokens; download the model again"
            )
        if tokenizer and tokenizer_of(Path(tokenizer)) != tokenizer_of(Path(model)):
            raise ValueError(
                f"data.tokenizer {tokenizer} is not the tokenizer of teacher.model {model}; leave data.tokenizer empty"
            )


def _check_evaluation(config: EvaluateConfig, shape: Shape) -> None:
    _check_length("evaluate.seq_length", config.seq_length, shape)
    if config.long_text:
        _check_length("evaluate.long_text.lengths", config.long_text.longest, shape)
    if config.new_tokens:
        _check_length("evaluate.prompt_tokens + evaluate.new_tokens", config.prompt_tokens + config.new_tokens, shape)


def _check_training(where: str, config: Training, shape: Shape, whose: str = "", *, grows: bool = False) -> None:
    if config.steps == 0:
        return
    _check_length(f"{where}.seq_length", config.seq_length, shape)
    check_rotary(where, config, shape)
    check_phase_lengths(where, config, shape, whose, grows=grows)
    check_layout(f"{where}.parallel", config.parallel, shape, tokens=config.seq_length, whose=whose)
    check_experts(where, config, shape, whose)
    check_bound(where, config, shape, whose)
    if "of the teacher" not in whose:
        check_heads(where, config, shape, whose)


def _check_early_stopping(where: str, config: WithEarlyStopping, shape: Shape) -> None:
    if config.evaluation is None:
        return
    if config.best_by == "mmlu" and config.evaluation.mmlu is None:
        raise ValueError(f"{where}.best_by is mmlu but evaluate.mmlu is null; choose val_kl or val_loss")
    _check_length(f"{where}.evaluation.seq_length", config.evaluation.seq_length, shape)


def _check_length(where: str, length: int, shape: Shape) -> None:
    if length > shape.max_position_embeddings:
        raise ValueError(
            f"{where} is {length} but the model's maximum sequence length is {shape.max_position_embeddings}; choose at"
            f" most {shape.max_position_embeddings}"
        )
