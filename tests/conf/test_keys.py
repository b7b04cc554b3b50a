"""Store keys: they change when the result would, and only then."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.base import Config, Execution, Later, StageConfig
from conf.engines.asked import EngineConfig
from conf.formats import FORMATS
from conf.shape import Shape
from conf.stages.answer import AnswerConfig
from conf.stages.blend import BlendConfig
from conf.stages.contamination import ContaminationConfig
from conf.stages.data import DataConfig
from conf.stages.distill import DistillConfig
from conf.stages.evaluate import EvaluateConfig
from conf.stages.fetch import FetchConfig
from conf.stages.generate import GenerateConfig
from conf.stages.importance import ImportanceConfig
from conf.stages.judge import JudgeConfig
from conf.stages.logits import LogitsConfig
from conf.stages.prune import PruneConfig
from conf.stages.quantize import QuantizeConfig
from conf.stages.questions import QuestionsConfig
from conf.stages.records import RecordsConfig
from conf.stages.search import SearchConfig
from conf.stages.sensitivity import SensitivityConfig
from conf.stages.sft import SftConfig
from conf.stages.sweep import SweepConfig
from conf.stages.teacher import TeacherConfig
from conf.stages.trunk import TrunkConfig
from conf.stages.verify import VerifyConfig
from conf.stages.write import WriteConfig
from tasks.store.store import key_of

TRAINING: dict[str, Any] = {
    "steps": 30,
    "seq_length": 64,
    "global_batch": 8,
    "micro_batch": 4,
    "lr": 1e-4,
    "min_lr": 1e-5,
    "warmup_steps": 2,
}


def stages() -> dict[str, StageConfig]:
    """A config of every stage there is."""
    shape = Shape(num_layers=4, hidden_size=64, ffn_hidden_size=96, num_attention_heads=4, num_query_groups=2)
    return {
        "data": DataConfig(source="world"),
        "blend": BlendConfig.model_validate({"sources": {"more": {"source": "a.txt", "weight": 2}}}),
        "teacher": TeacherConfig(**TRAINING, shape=shape),
        "teacher imported": TeacherConfig(**TRAINING, model="owner/name"),
        "importance": ImportanceConfig(),
        "logits": LogitsConfig(seq_length=64),
        "prune": PruneConfig(num_layers=16),
        "search": SearchConfig(target_params=0.5),
        "sweep": SweepConfig(),
        "trunk": TrunkConfig(**TRAINING, until=20),
        "distill": DistillConfig(**TRAINING),
        "sensitivity": SensitivityConfig(formats=("fp8", "nvfp4")),
        "quantize": QuantizeConfig(format="fp8"),
        "generate": GenerateConfig(prompts="world"),
        "write": WriteConfig(documents=100),
        "records": RecordsConfig(source="world"),
        "sft": SftConfig(**TRAINING),
        "evaluate": EvaluateConfig(),
        "contamination": ContaminationConfig(),
        "questions": QuestionsConfig(benchmark="gsm8k"),
        "answer": AnswerConfig(),
        "judge": JudgeConfig(),
        "fetch": FetchConfig(model="owner/name"),
        "verify": VerifyConfig(),
    }


GOLDEN = {
    "data": "1328b56fa626",
    "blend": "fe6b3dd52f51",
    "teacher": "cf7188532ad2",
    "teacher imported": "0614d93dddae",
    "importance": "e0e00fb0d820",
    "logits": "d20c23222073",
    "search": "8d24cb232bfc",
    "sweep": "ab7d38a72f1a",
    "prune": "1fe45d0c330d",
    "sensitivity": "e745935e9187",
    "quantize": "44149c80b898",
    "trunk": "6193fbb6e0a8",
    "distill": "d9b5e1f0c67f",
    "generate": "9666e46bb66f",
    "write": "bb0ea97c31b9",
    "records": "ce2c13f39016",
    "sft": "ff45acabbe7b",
    "evaluate": "b85ec9dd79c6",
    "contamination": "d180acee4dfc",
    "questions": "1f94b149fb9d",
    "answer": "1a4dd2962518",
    "judge": "9fbca203394e",
    "fetch": "5b69f7d52af9",
    "verify": "8b4f597f8659",
}


@pytest.mark.parametrize("stage", GOLDEN)
def test_golden_keys(stage: str) -> None:
    """A key that changes throws every store's artifacts of the stage away, and of all stages after it: do so
    knowingly."""
    assert GOLDEN.keys() == stages().keys()
    assert key_of(stage, stages()[stage], {"data": "a"})[:12] == GOLDEN[stage]


def test_a_golden_key_with_its_inputs() -> None:
    assert (
        key_of("prune", PruneConfig(num_layers=16), {"data": "a", "teacher": "b"}) == "de3af3989c17245d7fda7443258984f8"
    )


def test_an_input_that_only_shortens_the_way_is_no_part_of_a_key() -> None:
    config = DistillConfig(**TRAINING)
    assert key_of("distill", config, {"data": "a", "trunk": "b"}) == key_of("distill", config, {"data": "a"})


class Grown(StageConfig):
    """A stage that got a setting."""

    old: int = 1
    new: Annotated[int, Later()] = 2


class Before(StageConfig):
    """The same stage before."""

    old: int = 1


def test_a_later_setting_leaves_older_keys_unchanged() -> None:
    assert key_of("grown", Grown(), {}) == key_of("grown", Before(), {})
    assert key_of("grown", Grown(new=3), {}) != key_of("grown", Before(), {})


def changed(value: Any) -> Any:
    """Anything else; the key does not ask whether it is valid."""
    return not value if isinstance(value, bool) else value * 2 + 1 if isinstance(value, (int, float)) else "other"


def changes(config: Config, prefix: str = "", execution: bool = False) -> list[tuple[str, bool, Config]]:
    """The config with each of its settings changed in turn, down to those of its parts: name, whether it is marked
    Execution, config."""
    found = []
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        marked = execution or any(isinstance(mark, Execution) for mark in field.metadata)
        if isinstance(value, Config):
            for inner, inner_marked, part in changes(value, f"{prefix}{name}.", marked):
                found.append((inner, inner_marked, config.model_copy(update={name: part})))
        else:
            found.append((f"{prefix}{name}", marked, config.model_copy(update={name: changed(value)})))
    return found


@pytest.mark.parametrize("stage", stages())
def test_only_execution_fields_leave_the_key_unchanged(stage: str) -> None:
    config = stages()[stage]
    key, seen = key_of(stage, config, {}), set()
    for name, marked, other in changes(config):
        assert isinstance(other, StageConfig)
        assert (key_of(stage, other, {}) == key) is marked, name
        seen.add(key_of(stage, other, {}))
    assert len(seen) == sum(not marked for _, marked, _ in changes(config)) + any(
        marked for _, marked, _ in changes(config)
    )


def test_what_runs_where_is_marked_execution() -> None:
    """The list of settings that share artifacts; one that joins it must not change what is made."""
    marked = {
        f"{stage}.{name}" for stage, config in stages().items() for name, execution, _ in changes(config) if execution
    }
    spread = (
        "processes",
        "tensor",
        "pipeline",
        "context",
        "expert",
        "sequence",
        "recompute",
        "distributed_optimizer",
        "threads",
    )
    names = {
        f"{stage}.parallel.{axis}"
        for stage in stages()
        if stage not in ("data", "blend", "records", "fetch", "contamination", "questions", "judge")
        for axis in spread
    }
    trained = ("micro_batch", "checkpoint_every", "checkpoints_kept")
    names |= {
        f"{stage}.{name}" for stage in ("teacher", "teacher imported", "distill", "trunk", "sft") for name in trained
    }
    names |= {"distill.begun", "trunk.begun"}
    names |= {f"{stage}.{name}" for stage in ("teacher", "teacher imported") for name in ("model", "reference")}
    names |= {
        "records.source",
        "records.workers",
        "generate.prompts",
        "generate.endpoint",
        "generate.api_key_env",
        "generate.batch",
        "write.batch",
    }
    names |= {f"generate.{name}" for name in ("concurrency", "timeout_seconds", "retries", "retry_seconds")}
    names |= {
        "search.halving.top_k",
        "search.halving.rounds",
        "search.halving.steps",
        "search.micro_batch",
        "sweep.micro_batch",
    }
    names |= {"data.source", "data.tokenizer", "data.engine", "data.workers", "data.ranks", "contamination.workers"}
    assert marked == names | {
        "importance.micro_batch",
        "logits.micro_batch",
        "sensitivity.batch",
        "quantize.batch",
        "evaluate.batch",
        "verify.batch",
        "verify.formats",
        "evaluate.benchmarks",
        *(f"evaluate.engine.{name}" for name in EngineConfig.model_fields),
        "questions.path",
        "questions.workers",
        "judge.workers",
        "evaluate.mmlu.path",
    }


def test_a_revision_changes_the_key() -> None:
    class Later(PruneConfig):
        revision = PruneConfig.revision + 1

    assert key_of("prune", Later(num_layers=16), {}) != key_of("prune", PruneConfig(num_layers=16), {})


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=4), st.randoms())
def test_the_key_is_of_the_inputs_and_not_of_their_order(inputs: dict[str, str], random: Any) -> None:
    config, shuffled = QuantizeConfig(format="fp8"), list(inputs.items())
    random.shuffle(shuffled)
    key = key_of("quantize", config, inputs)
    assert key == key_of("quantize", QuantizeConfig.model_validate_json(config.model_dump_json()), dict(shuffled))
    assert all(key != key_of("quantize", config, inputs | {role: inputs[role] + "x"}) for role in inputs)


def test_only_fp8_pb_wo_s_keys_tell_that_inputs_are_rounded() -> None:
    """Its scores were measured with activations in 16 bits before, as no engine runs it."""
    marked = {name: "inputs" in QuantizeConfig(format=name).identity() for name in FORMATS}
    assert [name for name, has in marked.items() if has] == ["fp8_pb_wo"]


def test_stage_inputs_and_format_are_part_of_the_key() -> None:
    fp8, nvfp4 = QuantizeConfig(format="fp8"), QuantizeConfig(format="nvfp4")
    keys = [
        key_of("quantize", fp8, {}),
        key_of("quantize", nvfp4, {}),
        key_of("quantize", fp8, {"model": "a"}),
        key_of("other", fp8, {}),
    ]
    assert len(set(keys)) == 4
