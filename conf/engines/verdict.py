"""What each engine would do with a checkpoint of given algorithms, blocks and key-value cache, by the table's rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import get_args

from conf.engines.table import CACHES, DEVICES, ENGINES, MODELS, ROWS, EngineName, Fact, Generation, Known

UNLISTED = Fact(False, "read", "is not known to load it")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What matters to an engine: ModelOpt's names of the layers' algorithms (none: unquantized), whether layers have
    different ones, the block sizes of those that have a choice, the key-value cache under imbik's name, whether it
    mixes experts, and its model_type, if known."""

    algorithms: tuple[str, ...] = ()
    mixed: bool = False
    blocks: dict[str, tuple[int, ...]] = field(default_factory=dict)
    kv: str | None = None
    experts: bool = False
    family: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether an engine loads it. `why`: reasons against; `notes`: what is different where it loads. Both follow the
    engine's name in a sentence. `plain_cache`: it leaves a cache unquantized that the checkpoint has scales for."""

    engine: EngineName
    known: Known
    why: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    plain_cache: bool = False

    @property
    def loads(self) -> bool:
        """Whether the engine loads it and runs what was measured."""
        return not self.why


def title(engine: EngineName) -> str:
    """An engine with the version that its rows are about."""
    return f"{ENGINES[engine].title} {ENGINES[engine].version}"


def generation_of(device: str, setting: str = "serve.device") -> Generation:
    """The generation of a device: a GPU by its name, also with memory and form (`H100 80GB SXM`), or a generation
    itself. Raises ValueError for an unknown one."""
    words = device.upper().replace("-", " ").replace("_", " ").split()
    generations: tuple[Generation, ...] = get_args(Generation)
    known = DEVICES | {name.upper(): name for name in generations}
    for word in (*words, *map("".join, itertools.pairwise(words))):  # RTX 4090
        if word in known:
            return known[word]
    raise ValueError(
        f"{setting} is {device}, which is not known; use {', '.join(generations)}, or one of {', '.join(DEVICES)}"
    )


def blocks_read(algorithm: str) -> set[int]:
    """Block sizes of an algorithm that an engine reads; of those without a choice, none."""
    return {size for (_, name), row in ROWS.items() if name == algorithm for size in row.blocks}


def verdicts(contents: Contents, generation: Generation | None = None) -> dict[EngineName, Verdict]:
    """The verdict of every engine; without a generation, notes name those where it is different."""
    return {engine: verdict(engine, contents, generation) for engine in ENGINES}


def verdict(engine: EngineName, contents: Contents, generation: Generation | None = None) -> Verdict:
    """Whether `engine` loads a checkpoint, on devices of a generation if one is given."""
    facts = [*_layers(engine, contents, generation), *_cache(engine, contents, generation)]
    if family := MODELS.get((engine, contents.family)):
        facts.append((contents.family, family))
    if generation and generation in ENGINES[engine].on:
        facts.append((generation, ENGINES[engine].on[generation]))
    why = [_phrase(where, fact) for where, fact in facts if not fact.loads] + _blocks(engine, contents)
    needs = ENGINES[engine].needs
    if contents.mixed and needs and not set(needs) & set(contents.algorithms):
        why.append(ENGINES[engine].needs_why)
    notes = [_phrase(where, fact) for where, fact in facts if fact.loads and fact.says]
    if not generation and not why:
        notes += _elsewhere(engine, contents)
    if contents.experts and not why:
        notes.append("was run with dense models only, not with experts")
    run = generation in (None, "cpu") and all(fact.known == "run" for _, fact in facts)  # no GPU ran anything
    known: Known = "run" if facts and run and not contents.experts else "read"
    return Verdict(
        engine=engine,
        known=known,
        why=tuple(why),
        notes=tuple(notes),
        plain_cache=contents.kv is not None and not cache_argument(engine, contents.kv),
    )


def cache_argument(engine: EngineName, kv: str | None) -> str:
    """The engine's name of a key-value cache; empty where it keeps none."""
    return next((row.argument for (name, form), row in CACHES.items() if (name, form) == (engine, kv)), "")


def _phrase(where: str, fact: Fact) -> str:
    return f"{fact.says} ({where})"


def _layers(engine: EngineName, contents: Contents, generation: Generation | None) -> Iterator[tuple[str, Fact]]:
    """Each algorithm's fact and, if it loads at all, what the generation changes."""
    for algorithm in contents.algorithms:
        row = ROWS.get((engine, algorithm))
        fact = UNLISTED if row is None else row.mixed if contents.mixed else row.alone
        yield f"{algorithm} in a mix" if contents.mixed else algorithm, fact
        if row and fact.loads and generation in row.on:
            yield f"{algorithm} on {generation}", row.on[generation]


def _cache(engine: EngineName, contents: Contents, generation: Generation | None) -> Iterator[tuple[str, Fact]]:
    if contents.kv is None:
        return
    cache = next((row for (name, kv), row in CACHES.items() if (name, kv) == (engine, contents.kv)), None)
    where = f"key-value cache {contents.kv}"
    yield where, cache.fact if cache else UNLISTED
    if cache and cache.fact.loads and generation in cache.on:
        yield f"{where} on {generation}", cache.on[generation]


def _blocks(engine: EngineName, contents: Contents) -> list[str]:
    """Reasons against block sizes, of algorithms that the engine loads otherwise."""
    why = []
    for algorithm, sizes in contents.blocks.items():
        row = ROWS.get((engine, algorithm))
        wrong = [size for size in sizes if row and row.blocks and size not in row.blocks]
        if row and wrong and (row.mixed if contents.mixed else row.alone).loads:
            allowed = " or ".join(map(str, row.blocks))
            why.append(f"reads {algorithm} in blocks of {allowed} only, not {wrong[0]}")
    return why


def _elsewhere(engine: EngineName, contents: Contents) -> list[str]:
    """What generations of GPUs change, those of one consequence together."""
    parts = [(algorithm, ROWS[engine, algorithm].on) for algorithm in contents.algorithms]
    parts += [
        (f"key-value cache {kv}", row.on) for (name, kv), row in CACHES.items() if (name, kv) == (engine, contents.kv)
    ]
    notes = []
    for where, on in parts:
        for says in dict.fromkeys(fact.says for name, fact in on.items() if name != "cpu"):
            names = [name for name, fact in on.items() if fact.says == says and name != "cpu"]
            notes.append(f"{says} ({where} on {', '.join(names)})")
    return notes


def loaded_by(judged: dict[EngineName, Verdict]) -> str:
    """Who loads a checkpoint and what the others do, as one sentence."""
    loading = [f"{title(name)} ({each.known})" for name, each in judged.items() if each.loads]
    if not loading:
        return "no engine loads it; it is simulated only"
    others = [f"{ENGINES[name].title} {each.why[0]}" for name, each in judged.items() if not each.loads]
    notes = [f"{ENGINES[name].title} {note}" for name, each in judged.items() if each.loads for note in each.notes]
    return "; ".join([f"loads in {', '.join(loading)}", *others, *notes])
