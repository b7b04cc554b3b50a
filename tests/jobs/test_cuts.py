"""The shape of a cut model, what is left of its layers, and cuts that do not fit their teacher."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from conf.spec import Spec
from conf.stages.prune import PruneConfig
from jobs import prune
from jobs.megatron import device, inputs
from jobs.megatron import model as megatron
from tests.fixtures.families import logits, random_model
from tests.jobs.test_families import SIZES

TEACHER: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 384,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
}


def cut(teacher: dict[str, Any] = TEACHER, **given: Any) -> dict[str, Any]:
    return prune.cut_config(teacher, PruneConfig.model_validate(given))


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({"drop_layers": [4]}, {"num_hidden_layers": 3}),
        ({"drop_layers": [1, 2, 3]}, {"num_hidden_layers": 1}),
        ({"num_layers": 2, "hidden_size": 32}, {"num_hidden_layers": 2, "hidden_size": 32}),
        ({"ffn_hidden_size": 48, "num_attention_heads": 4}, {"intermediate_size": 48, "num_attention_heads": 4}),
        ({"num_query_groups": 2}, {"num_key_value_heads": 2}),
        ({"num_layers": 4, "hidden_size": 32}, {"hidden_size": 32}),
    ],
)
def test_a_cut_changes_its_sizes_only(given: dict[str, Any], changed: dict[str, Any]) -> None:
    found = cut(**given)
    assert found == TEACHER | changed


def test_heads_keep_their_width() -> None:
    teacher = {name: value for name, value in TEACHER.items() if name != "head_dim"}
    assert cut(teacher, num_attention_heads=4)["head_dim"] == 8, "64 over 8 heads, as before"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"drop_layers": [5]}, r"names layer 5 but the teacher has 4 layers; choose 1 to 4"),
        ({"drop_layers": [1, 2, 3, 4]}, r"drops all 4 layers of the teacher; keep at least one"),
        ({"hidden_size": 65}, r"hidden_size is 65 but the teacher has 64; choose at most that"),
        ({"num_attention_heads": 6}, r"num_attention_heads 6 is not a multiple of the teacher's 4 query groups"),
        ({"num_query_groups": 3}, r"num_query_groups is 3, which does not divide the teacher's 4 key-value heads"),
        ({"num_experts": 2}, r"num_experts is 2 but the teacher is dense, with no experts; remove it"),
        ({"hidden_size": 64}, r"the student would have .* parameters, the teacher has .*; cut more"),
    ],
)
def test_cuts_that_do_not_fit_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cut(**given)


def test_lists_of_layers_are_shortened(tmp_path: Path) -> None:
    """Which of them remain is known after the cut."""
    sizes = SIZES | {"hidden_size": 16, "intermediate_size": 24, "vocab_size": 24, "num_hidden_layers": 3}
    random_model("smollm3", tmp_path, **sizes | {"no_rope_layers": [1, 0, 1], "head_dim": 4})
    teacher = megatron.read_config(tmp_path)
    found = cut(teacher, drop_layers=[1])
    assert found["no_rope_layers"] == [1, 0] and len(found["layer_types"]) == 2
    assert teacher["no_rope_layers"] == [1, 0, 1]


def test_what_was_kept_is_told_of_the_layers_that_are_left() -> None:
    by_layer = {str(layer): {"kept": layer} for layer in range(1, 5)}
    axes = {"hidden_size": {"kept": 3}, "ffn_hidden_size": by_layer, "num_attention_heads": by_layer}
    found = prune._of_layers(axes, [2, 4])
    assert found["hidden_size"] == {"kept": 3}
    for axis in ("ffn_hidden_size", "num_attention_heads"):
        assert found[axis] == {"2": {"kept": 2}, "4": {"kept": 4}}


@pytest.mark.usefixtures("one_rank")
def test_the_layers_that_are_left_compute_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of four is dropped; the third has no rotary embedding either."""
    sizes = SIZES | {"hidden_size": 16, "intermediate_size": 24, "vocab_size": 24, "head_dim": 4}
    given = sizes | {"no_rope_layers": [1, 0, 0, 1]}
    model = random_model("smollm3", tmp_path / "teacher" / "model", torch.float32, **given)
    (tmp_path / "teacher" / "model" / "tokenizer.json").write_text("{}")
    monkeypatch.setattr(inputs, "checked_model", lambda folder, *_, **__: megatron.read_config(folder))
    monkeypatch.setattr(device, "machine", lambda *_, **__: contextlib.nullcontext(torch.device("cpu")))
    roles = {role: str(tmp_path / role) for role in ("teacher", "data")}
    prune.run(Spec(stage="prune", key="k", config={"drop_layers": [2]}, inputs=roles, output=str(tmp_path)))
    del model.model.layers[1]
    tokens = torch.arange(24)[None]
    left = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    torch.testing.assert_close(logits(left, tokens), logits(model, tokens), rtol=1e-4, atol=1e-5)
    assert left.config.no_rope_layers == [1, 0, 1]
    told = json.loads((tmp_path / "kept.json").read_text())
    (axis,) = told["axes"].values()
    assert (axis["of"], axis["count"], axis["ranges"], told["ranking"]) == (4, 3, "1, 3-4", None)
    assert told["cache_bytes"] == {"before": 2 * 2 * 4 * 2 * 4, "after": 2 * 2 * 3 * 2 * 4}


def test_another_engine_cuts_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Spec(stage="prune", key="k", config={"engine": "nemo"}, output=str(tmp_path))
    asked: list[Spec] = []
    monkeypatch.setattr(prune.nemo, "run", asked.append)
    prune.run(spec)
    assert asked == [spec]
