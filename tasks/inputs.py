"""External inputs of a recipe (text, models, tokenizers, questions), each with the digest that enters keys."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from conf.benchmarks import BenchmarkName
from conf.chat_template import MORE
from conf.paths import check_links
from conf.recipe import Recipe
from conf.stages.data import DataConfig
from conf.stages.evaluate import EvaluateConfig
from conf.stages.records import GENERATED
from conf.stages.write import WRITTEN
from tasks.store.store import Artifact, Store

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
"""Only these files of a model directory determine the tokens; its weights do not."""


@dataclass(frozen=True, kw_only=True)
class ExternalInputs:
    """External inputs of a run; None for a stage without them."""

    source: Artifact
    tokenizer: Artifact | None
    model: Artifact | None
    mmlu: Artifact | None
    records: Artifact | None
    prompts: Artifact | None
    sources: dict[str, Artifact]
    benchmarks: dict[BenchmarkName, Artifact]


def source(recipe: Recipe, store: Store) -> Artifact:
    """The corpus of a recipe."""
    return text(recipe.data, store)


def text(data: DataConfig, store: Store) -> Artifact:
    """A corpus: the built-in world, local files by content, or a hub dataset by name."""
    names = (data.source,) if isinstance(data.source, str) else data.source
    keys = [_source_key(name, store) for name in names]
    return Artifact(stage="source", key="+".join(keys), path=",".join(names))


def sources(recipe: Recipe, store: Store) -> dict[str, Artifact]:
    """Additional corpora of a blend, by name."""
    return (
        {
            name: text(one.read_as(recipe.data), store)
            for name, one in recipe.blend.sources.items()
            if one.source != WRITTEN
        }
        if recipe.blend
        else {}
    )


def records(recipe: Recipe, store: Store) -> Artifact | None:
    """External prompts and responses; None without records or if all are generated."""
    names = [name for name in recipe.records.sources if name != GENERATED] if recipe.records else []
    return _sources("records source", names, store) if names else None


def prompts(recipe: Recipe, store: Store) -> Artifact | None:
    """Prompts for the teacher to answer; None without generate."""
    return _sources("prompts", list(recipe.generate.sources), store) if recipe.generate else None


def tokenizer(recipe: Recipe, store: Store, model: Artifact | None) -> Artifact | None:
    """The recipe's tokenizer, else the model's, else None (one is trained)."""
    if model and model.stage == "fetch" and not Path(model.path).is_dir() and not recipe.data.tokenizer:
        # Its files are not fetched yet, so neither their digest nor dependent keys are known.
        return Artifact(stage="tokenizer", key="not fetched yet", path="")
    return tokenizer_of(recipe.data, store, model)


def tokenizer_of(data: DataConfig, store: Store, model: Artifact | None) -> Artifact | None:
    """The tokenizer of a corpus: the configured one, else the model's, else None."""
    if data.tokenizer:
        return _tokenizer(store, Path(data.tokenizer))
    return _tokenizer(store, Path(model.path)) if model else None


def _tokenizer(store: Store, path: Path) -> Artifact:
    more = tuple(file.name for file in sorted((path / MORE).glob("*.jinja")))
    return local(store, "tokenizer", path, (*TOKENIZER_FILES, *more))


def by_key(inputs: Mapping[str, Artifact | None]) -> dict[str, Artifact]:
    """The inputs of a stage as in its key, without None. A corpus in the role tokenizer stands for the tokenizer
    trained on it."""
    by_role = {role: artifact for role, artifact in inputs.items() if artifact is not None}
    if (corpus := by_role.get("tokenizer")) and corpus.stage == "data":
        by_role["tokenizer"] = Artifact(stage="tokenizer", key=corpus.key, path=f"{corpus.path}/tokenizer")
    return by_role


def questions(recipe: Recipe, store: Store) -> Artifact | None:
    """The multiple-choice questions, local or from the hub; None without mmlu, or if the corpus has its own quiz."""
    return questions_of(recipe.evaluate, store)


def questions_of(evaluate: EvaluateConfig, store: Store) -> Artifact | None:
    """The questions of an evaluation, as for `questions`."""
    mmlu = evaluate.mmlu
    if mmlu is None or mmlu.path == "quiz":
        return None
    return local(store, "mmlu", Path(mmlu.path)) if mmlu.path else Artifact(stage="mmlu", key="hub:cais/mmlu", path="")


def benchmarks(recipe: Recipe, store: Store) -> dict[BenchmarkName, Artifact]:
    """The questions of each benchmark, local or from the hub."""
    return benchmarks_of({name: benchmark.path for name, benchmark in recipe.evaluate.benchmarks.items()}, store)


def benchmarks_of(paths: Mapping[BenchmarkName, str | None], store: Store) -> dict[BenchmarkName, Artifact]:
    """The same by their paths; None: from the hub."""
    return {
        name: local(store, "questions", Path(path)) if path else Artifact(stage="questions", key=f"hub:{name}", path="")
        for name, path in paths.items()
    }


def _sources(role: str, names: list[str], store: Store) -> Artifact:
    return Artifact(stage=role, key="+".join(_source_key(name, store) for name in names), path=",".join(names))


def local(store: Store, role: str, path: Path, only: tuple[str, ...] = ()) -> Artifact:
    """A local file or folder with the digest of its content, or of only the files named in `only`."""
    check_links(path)
    return Artifact(stage=role, key=store.digest(path, only), path=str(path.absolute()))


def _source_key(name: str, store: Store) -> str:
    if name == "world":
        return name
    if Path(name).exists():
        return store.digest(Path(name))
    files = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - an absolute pattern is no Path.glob
    return "+".join(store.digest(Path(file)) for file in files) if files else f"hub:{name}"
