"""Formats against the engine that a recipe names, and what is told of them where it names none."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from conf.engines.table import ENGINES
from conf.engines.verdict import Contents, Verdict, loaded_by, title, verdict, verdicts
from conf.formats import FORMATS, MIXABLE, QuantFormat
from conf.serve import ServeConfig
from conf.stages.quantize import QuantizeConfig
from conf.stages.verify import VerifyConfig


def check_served(serve: ServeConfig | None, entries: Sequence[QuantizeConfig]) -> None:
    """Raise ValueError for the first entry of quantize that the engine of `serve` does not load."""
    for entry in entries if serve else ():
        assert serve is not None
        judged = verdict(serve.engine, entry.contents, serve.generation)
        if not _served_whole(judged):
            reason = (*judged.why, *judged.notes)[0]
            raise ValueError(f"quantize has {entry.name}, but {_where(serve)} {reason}; {_remedy(serve, entry)}")


def check_verified(config: VerifyConfig | None, entries: Sequence[QuantizeConfig]) -> None:
    """Raise ValueError if `config` names a format that is not there, or one that its engine does not load."""
    if config is None:
        return
    names = [entry.name for entry in entries]
    if unknown := [name for name in config.formats if name not in names]:
        raise ValueError(f"verify.formats names {unknown[0]}, which is not in the recipe's quantize; add it there")
    if not entries:
        raise ValueError("verify opens quantized models, and the recipe has no quantize; add a format there")
    for entry in entries:
        judged = verdict(config.engine, entry.contents)
        if config.covers(entry.name) and not judged.loads:
            others = [each.name for each in entries if verdict(config.engine, each.contents).loads]
            remedy = f"list in verify.formats what it loads ({', '.join(others)})" if others else "set verify to null"
            raise ValueError(f"verify has {entry.name}, but {title(config.engine)} {judged.why[0]}; {remedy}")


def _where(serve: ServeConfig) -> str:
    return title(serve.engine) + (f" on {serve.device}" if serve.device else "")


def _served_whole(judged: Verdict) -> bool:
    return judged.loads and not judged.plain_cache


def _loads(serve: ServeConfig, entry: QuantizeConfig) -> bool:
    return _served_whole(verdict(serve.engine, entry.contents, serve.generation))


def _remedy(serve: ServeConfig, entry: QuantizeConfig) -> str:
    """The least change with which it loads, else what does load."""
    changes = list(_changes(serve, entry)) or [_choices(serve, entry)]
    others = [
        name
        for name in ENGINES
        if name != serve.engine and _served_whole(verdict(name, entry.contents, serve.generation))
    ]
    elsewhere = f", or set serve.engine to {' or '.join(others)}" if others else ""
    return changes[0] + elsewhere


def _changes(serve: ServeConfig, entry: QuantizeConfig) -> Iterator[str]:
    """Single settings that mend it."""
    if entry.kv_cache and _loads(serve, entry.model_copy(update={"kv_cache": None})):
        kinds = [kv for kv in ("fp8", "nvfp4") if _loads(serve, entry.model_copy(update={"kv_cache": kv}))]
        yield f"set its kv_cache to {' or '.join(kinds)}, or remove it" if kinds else "remove its kv_cache"
    if entry.block_size and _loads(serve, entry.model_copy(update={"block_size": None})):
        yield "set its block_size to 128"
    if entry.calibrator and _loads(serve, entry.model_copy(update={"calibrator": None})):
        yield "remove its calibrator"


def _choices(serve: ServeConfig, entry: QuantizeConfig) -> str:
    """What the engine loads instead: pairs of formats for a mix, else formats."""
    if entry.auto:
        pairs = [pair for pair in itertools.combinations(MIXABLE, 2) if _loads(serve, _mix(entry, pair))]
        if pairs:
            return "choose auto.formats " + " or ".join(f"[{', '.join(pair)}]" for pair in pairs)
    loading = [name for name in FORMATS if _loads(serve, QuantizeConfig(format=name))]
    return f"choose {', '.join(loading)}" if loading else "choose another serve.device"


def _mix(entry: QuantizeConfig, formats: tuple[QuantFormat, ...]) -> QuantizeConfig:
    assert entry.auto is not None
    return entry.model_copy(update={"auto": entry.auto.model_copy(update={"formats": formats})})


def told(
    serve: ServeConfig | None, entries: Sequence[QuantizeConfig], *, experts: bool = False, family: str = ""
) -> list[str]:
    """A line for each format: who loads it, or what the engine of `serve` does differently; `experts`: of a model that
    mixes them; `family`: its model_type, if known."""
    contents = {entry.name: replace(entry.contents, experts=experts, family=family) for entry in entries}
    if serve is None:
        return [f"format {name}: {loaded_by(verdicts(each))}" for name, each in contents.items()]
    return [_served(serve, name, each) for name, each in contents.items()]


def _served(serve: ServeConfig, name: str, contents: Contents) -> str:
    judged = verdict(serve.engine, contents, serve.generation)
    return f"format {name}: loads in {_where(serve)} ({judged.known})" + "".join(
        f"; it {note}" for note in judged.notes
    )
