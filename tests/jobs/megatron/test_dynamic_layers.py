"""What ModelOpt measures at our layers, and which rows and columns it keeps of them, computed again without it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from conf.stages.prune import PruneConfig
from jobs.megatron import dynamic_layers, minitron, modelopt_minitron
from tests.fixtures.families import megatron_model, random_model
from tests.jobs.test_families import OWN, SIZES

pytestmark = pytest.mark.usefixtures("one_rank")
TOKENS = torch.arange(96).view(2, 48) * 7 % 384
HEADS, GROUPS, WIDTH = 4, 2, 16


def built(name: str, folder: Path) -> Any:
    """A model of two layers that can be cut, of a family."""
    if not (folder / "config.json").exists():
        random_model(name, folder, torch.float32, **SIZES | OWN.get(name, {}) | {"num_hidden_layers": 2})
    return megatron_model(folder, for_pruning=True)


def run(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return torch.as_tensor(model(TOKENS, torch.arange(48).expand_as(TOKENS), None))


@pytest.mark.parametrize("name", ["qwen3", "gemma2", "qwen3_moe"])
def test_the_outputs_of_norms_are_measured(name: str, tmp_path: Path) -> None:
    model, outputs = built(name, tmp_path), {}
    sites = ("input_layernorm",) if name == "qwen3_moe" else ("input_layernorm", "pre_mlp_layernorm")
    for layer in model.decoder.layers:
        for site in sites:
            title = f"{layer.layer_number}.{site}"
            getattr(layer, site).register_forward_hook(
                lambda _, __, output, title=title: outputs.update({title: output})
            )
    before = run(model)
    minitron.measure(built(name, tmp_path), lambda other: torch.testing.assert_close(run(other), before), tmp_path)
    found = load_file(tmp_path / "importance.safetensors")
    assert {title for title in found if title.endswith("layernorm")} == set(outputs)
    for title, output in outputs.items():
        torch.testing.assert_close(found[title], output.abs().mean(0).square().sum(0))


def test_a_cut_keeps_the_rows_of_its_heads(tmp_path: Path) -> None:
    """Of each group, the heads of the larger importance; of each channel, its row and column everywhere."""
    model = built("qwen2", tmp_path)  # with biases
    minitron.measure(built("qwen2", tmp_path), run, tmp_path)
    whole = {name: tensor.clone() for name, tensor in model.state_dict().items() if isinstance(tensor, torch.Tensor)}
    sizes = {"num_attention_heads": 2, "hidden_size": 48, "ffn_hidden_size": 64}
    cut, axes, layers = minitron.cut(model, PruneConfig(**sizes), tmp_path)
    scores = load_file(tmp_path / "importance.safetensors")
    hidden = sum(tensor.sqrt() for name, tensor in scores.items() if name.endswith("layernorm"))
    channels = hidden.argsort(descending=True)[:48]
    assert layers == [1, 2] and axes["hidden_size"]["count"] == 48
    for place in range(2):
        name = f"decoder.layers.{place}"
        by_head = scores[f"{place + 1}.self_attention"].sqrt().view(HEADS, WIDTH).norm(dim=1).view(GROUPS, -1)
        best = [group * 2 + int(by_head[group].argmax()) for group in range(GROUPS)]
        # a group's rows: its two queries, its key, its value
        blocks = [group * 4 + at for group, head in enumerate(best) for at in (head - 2 * group, 2, 3)]
        rows = torch.cat([torch.arange(block * WIDTH, (block + 1) * WIDTH) for block in blocks])
        columns = torch.cat([torch.arange(head * WIDTH, (head + 1) * WIDTH) for head in best])
        kept = scores[f"{place + 1}.mlp"].argsort(descending=True)[:64]
        both = torch.cat([kept, kept + 96])
        of_fc1 = whole[f"{name}.mlp.linear_fc1.weight"]
        expected = {
            "self_attention.linear_qkv.weight": whole[f"{name}.self_attention.linear_qkv.weight"][rows][:, channels],
            "self_attention.linear_qkv.bias": whole[f"{name}.self_attention.linear_qkv.bias"][rows],
            "self_attention.linear_proj.weight": whole[f"{name}.self_attention.linear_proj.weight"][channels][
                :, columns
            ],
            "mlp.linear_fc1.weight": of_fc1[both][:, channels],
            "mlp.linear_fc2.weight": whole[f"{name}.mlp.linear_fc2.weight"][channels][:, kept],
            "input_layernorm.weight": whole[f"{name}.input_layernorm.weight"][channels],
            "pre_mlp_layernorm.weight": whole[f"{name}.pre_mlp_layernorm.weight"][channels],
        }
        held = cut.state_dict()
        for title, tensor in expected.items():
            assert torch.equal(held[f"{name}.{title}"], tensor), title
        attention = cut.decoder.layers[place].self_attention
        qkv, out, core = attention.linear_qkv, attention.linear_proj, attention.core_attention
        assert qkv.output_size == qkv.output_size_per_partition == len(rows)
        assert out.input_size == out.input_size_per_partition == core.hidden_size_per_partition == len(columns)
        assert core.num_attention_heads_per_partition == attention.num_attention_heads_per_partition == 2
    assert run(cut).shape == (2, 48, 384)


def test_no_mean_is_taken_over_no_tokens() -> None:
    """Of an expert to which nothing is routed."""
    calls: list[int] = []
    hook = dynamic_layers._unless_empty(lambda inner, inputs, *rest: calls.append(len(inputs)))
    hook(None, (torch.zeros(0, 4),), None)
    assert calls == []
    hook(None, (torch.zeros(1, 4),), None)
    hook(None, (), None)
    hook(None, ("other",), None)
    assert calls == [1, 0, 1]


def test_the_engine_s_names_are_gone_after_the_import() -> None:
    import megatron.core.extensions.transformer_engine as extension

    if extension.HAVE_TE:
        pytest.skip("Transformer Engine is installed")
    before = {name: getattr(extension, name) for name in modelopt_minitron.LAYERS}
    with pytest.raises(RuntimeError), modelopt_minitron.engine_names():
        inside = [getattr(extension, name) for name in modelopt_minitron.LAYERS]
        assert all(issubclass(each, torch.nn.Module) for each in inside)
        assert len({each.forward for each in inside}) == len(inside), "told apart by their forward"
        assert sys.modules["transformer_engine"]
        raise RuntimeError
    assert "transformer_engine" not in sys.modules
    assert {name: getattr(extension, name) for name in modelopt_minitron.LAYERS} == before
