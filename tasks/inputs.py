"""What a recipe takes from outside the store: text, models, tokenizers and questions, each with the digest that stands
in a key."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from conf.paths import check_links
from conf.recipe import Recipe
from conf.stages.data import DataConfig
from conf.stages.evaluate import EvaluateConfig
from conf.stages.records import GENERATED
from tasks.store.store import Artifact, Store

if TYPE_CHECKING:
    pass

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
"""Only these of a model directory decide the tokens; its weights may change without new tokens."""


@dataclass(frozen=True, kw_only=True)
class ExternalInputs:
    """The outside inputs of a run; None where a stage has none."""

    source: Artifact
    tokenizer: Artifact | None
    model: Artifact | None
    mmlu: Artifact | None
    records: Artifact | None
    prompts: Artifact | None
    sources: dict[str, Artifact]


def source(recipe: Recipe, store: Store) -> Artifact:
    """The corpus of a recipe."""
    return text(recipe.data, store)


def text(data: DataConfig, store: Store) -> Artifact:
    """A corpus: the built-in world, local files by content, or a hub dataset by name."""
    names = (data.source,) if isinstance(data.source, str) else data.source
    keys = [_source_key(name, store) for name in names]
    return Artifact(stage="source", key="+".join(keys), path=",".join(names))


def sources(recipe: Recipe, store: Store) -> dict[str, Artifact]:
    """The further corpora of a blend, by name."""
    return (
        {name: text(one.read_as(recipe.data), store) for name, one in recipe.blend.sources.items()}
        if recipe.blend
        else {}
    )


def records(recipe: Recipe, store: Store) -> Artifact | None:
    """The prompts and responses from outside; none where there are no records or all are generated."""
    names = [name for name in recipe.records.sources if name != GENERATED] if recipe.records else []
    return _sources("records source", names, store) if names else None


def prompts(recipe: Recipe, store: Store) -> Artifact | None:
    """The prompts that the teacher answers; none where nothing is generated."""
    return _sources("prompts", list(recipe.generate.sources), store) if recipe.generate else None


def tokenizer(recipe: Recipe, store: Store, model: Artifact | None) -> Artifact | None:
    """The tokenizer named by the recipe, else the model's own, else none: one is trained."""
    if model and model.stage == "fetch" and not Path(model.path).is_dir() and not recipe.data.tokenizer:
        # Its files are not here yet, so their digest cannot be known: neither can the keys that follow.
        return Artifact(stage="tokenizer", key="not fetched yet", path="")
    return tokenizer_of(recipe.data, store, model)


def tokenizer_of(data: DataConfig, store: Store, model: Artifact | None) -> Artifact | None:
    """The tokenizer of a corpus: the one it names, else the model's own, else none."""
    if data.tokenizer:
        return local(store, "tokenizer", Path(data.tokenizer), TOKENIZER_FILES)
    return local(store, "tokenizer", Path(model.path), TOKENIZER_FILES) if model else None


def by_key(inputs: Mapping[str, Artifact | None]) -> dict[str, Artifact]:
    """The inputs of a stage as they stand in its key: those that there are; a corpus given as a tokenizer means the
    tokenizer that was trained on it."""
    given = {role: artifact for role, artifact in inputs.items() if artifact is not None}
    if (corpus := given.get("tokenizer")) and corpus.stage == "data":
        given["tokenizer"] = Artifact(stage="tokenizer", key=corpus.key, path=f"{corpus.path}/tokenizer")
    return given


def questions(recipe: Recipe, store: Store) -> Artifact | None:
    """The multiple-choice questions: a local folder or the hub's; none where there are none or the corpus brings its
    own quiz."""
    return questions_of(recipe.evaluate, store)


def questions_of(evaluate: EvaluateConfig, store: Store) -> Artifact | None:
    """The questions of an evaluation, as `questions` finds a recipe's."""
    mmlu = evaluate.mmlu
    if mmlu is None or mmlu.path == "quiz":
        return None
    return local(store, "mmlu", Path(mmlu.path)) if mmlu.path else Artifact(stage="mmlu", key="hub:cais/mmlu", path="")


def _sources(role: str, names: list[str], store: Store) -> Artifact:
    return Artifact(stage=role, key="+".join(_source_key(name, store) for name in names), path=",".join(names))


def local(store: Store, role: str, path: Path, only: tuple[str, ...] = ()) -> Artifact:
    """A local file or folder with the digest of its content, or of the files in it that are named in `only`."""
    check_links(path)
    return Artifact(stage=role, key=store.digest(path, only), path=str(path.absolute()))


def _source_key(name: str, store: Store) -> str:
    if name == "world":
        return name
    if Path(name).exists():
        return store.digest(Path(name))
    files = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - an absolute pattern is no Path.glob
    return "+".join(store.digest(Path(file)) for file in files) if files else f"hub:{name}"
