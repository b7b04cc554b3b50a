"""Documents kept apart in sequences: where that is honoured, and the sentence where it is not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from conf.checks.distill import check_offline
from conf.estimate import fit
from conf.estimate.numbers import Models
from conf.load import load
from conf.rotary import check_documents
from conf.shape import Shape
from conf.stages.distill import DistillConfig
from conf.stages.logits import LogitsConfig
from conf.stages.teacher import TeacherConfig
from conf.stages.trunk import stable_trunk
from tests.fixtures.flow import RECIPE

SETTINGS: dict[str, Any] = {"steps": 30, "seq_length": 64, "global_batch": 8, "micro_batch": 4, "lr": 1e-4}
SETTINGS |= {"min_lr": 1e-5, "warmup_steps": 2, "document_mask": True}
SPREAD = {"processes": 2, "context": 2}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"parallel": SPREAD}, "parallel.context is 2, over whose ranks documents cannot be split; choose 1"),
        ({"optimizer": {"qk_clip": 50}}, "optimizer.qk_clip is 50, which looks at the logits of whole sequences"),
        ({"steps": 0}, "document_mask is true but steps is 0, so nothing is trained"),
    ],
)
def test_what_cannot_be_kept_apart_is_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        DistillConfig.model_validate(SETTINGS | given)
    if given.get("steps") != 0:
        assert not DistillConfig.model_validate(SETTINGS | given | {"document_mask": False}).document_mask


@pytest.mark.parametrize(
    "given",
    [
        {"parallel": {"processes": 4, "tensor": 2, "sequence": True, "recompute": True}},
        {"parallel": {"processes": 2, "pipeline": 2}},
        {"optimizer": {"name": "muon"}, "mtp": {"heads": 2}},
        {"phases": [{"until": 0.5}, {"until": 1, "seq_length": 128}]},
        {"offline": True, "top_k": 4, "best_by": "val_divergence"},
        {"intermediate": [{"student_layer": 1, "teacher_layer": 2}]},
    ],
)
def test_what_knows_of_documents_is_taken(given: dict[str, Any]) -> None:
    assert DistillConfig.model_validate(SETTINGS | given).document_mask


def test_packed_records_and_qad_do_not_know_it() -> None:
    for override in ("sft={steps: 2, document_mask: true}", "quantize=[{format: fp8, qad: {document_mask: true}}]"):
        with pytest.raises(ValueError, match="document_mask"):
            load(str(RECIPE), [override])


def test_a_trunk_keeps_what_its_branches_keep() -> None:
    config = DistillConfig.model_validate(SETTINGS | {"schedule": "wsd"})
    assert stable_trunk(config, 10).document_mask


@pytest.mark.parametrize("masked", [True, False])
def test_no_layout_with_context_parallelism_is_advised(masked: bool) -> None:
    sizes = {"num_layers": 2, "hidden_size": 64, "ffn_hidden_size": 128, "num_attention_heads": 4}
    shape = Shape.model_validate(sizes | {"num_query_groups": 4, "vocab_size": 256})
    config = TeacherConfig.model_validate(SETTINGS | {"document_mask": masked, "model": "a/b"})
    assert [config.spreads_over(size) for size in (1, 2, 64)] == [True, not masked, False]
    estimate = config.estimate(Models(before=shape, after=shape, teacher=shape, where="teacher", weight_bytes=2))
    assert estimate and estimate.job
    contexts = {parallel.context for parallel, _ in fit._layouts(estimate.job, 8)}
    assert contexts == ({1} if masked else {1, 2, 4, 8, 16})


LOGITS: dict[str, Any] = {"seq_length": 64, "top_k": 4}


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("theirs", [True, False])
def test_stored_logits_saw_what_the_student_sees(ours: bool, theirs: bool) -> None:
    given = SETTINGS | {"document_mask": ours, "offline": True, "top_k": 4, "best_by": "val_divergence"}
    config = DistillConfig.model_validate(given)
    stored = LogitsConfig.model_validate(LOGITS | {"document_mask": theirs})
    if ours == theirs:
        return check_offline("distill", config, stored, None)
    said = f"logits.document_mask is {str(theirs).lower()} but distill.document_mask is {str(ours).lower()}"
    with pytest.raises(ValueError, match=said):
        check_offline("distill", config, stored, None)


LONGROPE = {
    "model_type": "phi3",
    "hidden_size": 32,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "original_max_position_embeddings": 64,
    "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4},
}


def test_a_rotary_embedding_that_goes_by_the_longest_is_refused() -> None:
    longer = [{"until": 0.5}, {"until": 1, "seq_length": 128}]
    for given, ok in (({}, True), ({"phases": longer}, False), ({"phases": longer, "document_mask": False}, True)):
        config = TeacherConfig.model_validate(SETTINGS | {"model": "a/b"} | given)
        if ok:
            check_documents(LONGROPE, "teacher", config)
            continue
        with pytest.raises(ValueError, match=r"teacher\.document_mask is true for sequences of 128 tokens, but .*64"):
            check_documents(LONGROPE, "teacher", config)
    check_documents(LONGROPE | {"rope_scaling": None}, "teacher", config)


def test_engine_nemo_refuses_it() -> None:
    sentence = "document_mask is true, which engine nemo's gpt_train does not support"
    with pytest.raises(ValueError, match=sentence):
        load("qwen3-8b-depth-6b-nemo", ["distill.document_mask=true"])
