"""NVFP4 on the CPU against a search for the nearest of the eight magnitudes of E2M1."""

from __future__ import annotations

import pytest
import torch

from jobs.quantization import nvfp4_cpu

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def test_every_value_goes_to_the_nearest() -> None:
    values = torch.arange(-600, 601, 1).float() / 100
    values = torch.cat([values, torch.zeros(-len(values) % 15)]).view(-1, 15)
    blocks = torch.cat([values, torch.full((len(values), 1), 6.0)], dim=1)  # the largest of a block makes its scale 1
    found = nvfp4_cpu.fake_quantize(blocks, torch.tensor(6.0 * 448.0))
    for value, rounded in zip(blocks.flatten().tolist(), found.flatten().tolist(), strict=True):
        assert abs(rounded) in E2M1
        nearest = min(abs(abs(value) - one) for one in E2M1)
        assert abs(abs(value) - abs(rounded)) <= nearest + 1e-6, (value, rounded)
        assert value * rounded >= 0


@pytest.mark.parametrize(
    ("value", "rounded"),
    [(0.25, 0.0), (0.75, 1.0), (1.25, 1.0), (1.75, 2.0), (2.5, 2.0), (3.5, 4.0), (5.0, 4.0), (5.01, 6.0), (6.0, 6.0)],
)
def test_halves_go_to_the_even_code(value: float, rounded: float) -> None:
    block = torch.tensor([value, -value] + [0.0] * 13 + [6.0])
    found = nvfp4_cpu.fake_quantize(block, torch.tensor(6.0 * 448.0)).tolist()
    assert found == [rounded, -rounded] + [0.0] * 13 + [6.0]


def test_each_block_of_sixteen_has_its_own_scale() -> None:
    small, large = [0.75] * 16, [6.0] * 16
    found = nvfp4_cpu.fake_quantize(torch.tensor([small + large]), torch.tensor(6.0 * 448.0))
    assert found.tolist() == [small + large]  # 0.75 / 6 is the E4M3 number 0.125


def test_a_scale_is_rounded_to_e4m3() -> None:
    block = torch.tensor([6.0 * 1.05] + [0.0] * 15)  # E4M3 has 1 and 1.125 around 1.05
    assert nvfp4_cpu.fake_quantize(block, torch.tensor(6.0 * 448.0))[0].item() == 6.0


def test_a_block_of_tiny_values_has_the_smallest_scale() -> None:
    smallest = 2.0**-9  # of E4M3, in which E2M1 counts halves
    block = torch.tensor([0.5, -1.0, 1.5, 0.2] + [0.0] * 12) * smallest
    found = nvfp4_cpu.fake_quantize(block, torch.tensor(6.0 * 448.0))
    assert (found / smallest).tolist() == [0.5, -1.0, 1.5, 0.0] + [0.0] * 12


def test_what_the_global_scale_does_not_cover_is_cut() -> None:
    block = torch.tensor([10.0] + [0.0] * 15)
    found = nvfp4_cpu.fake_quantize(block, torch.tensor(5.0))[0].item()
    assert found == pytest.approx(5.0)  # 6 x 448 x 5 / (6 x 448)


def test_a_block_may_be_told_what_its_scale_covers() -> None:
    """Halved, the scale makes steps of half the size, and cuts what it does not reach."""
    block = torch.tensor([[6.0, 0.25] + [0.0] * 14])
    own, told = (
        nvfp4_cpu.fake_quantize(block, torch.tensor(6.0 * 448.0), 16, covered)[0, :2].tolist()
        for covered in (None, torch.tensor([[3.0]]))
    )
    assert (own, told) == ([6.0, 0.0], [3.0, 0.25])


def test_zeros_stay_and_shape_and_dtype_too() -> None:
    found = nvfp4_cpu.fake_quantize(torch.zeros(2, 3, 16, dtype=torch.bfloat16), torch.tensor(1.0))
    assert found.shape == (2, 3, 16)
    assert found.dtype == torch.bfloat16
    assert not found.any()


@pytest.mark.parametrize("bits", [(8, 2, 8, 4), (4, 3, 8, 4), (4, 2, 4, 4), (4, 2, 8, 8)])
def test_other_formats_are_not_simulated(bits: tuple[int, int, int, int]) -> None:
    with pytest.raises(AssertionError, match="only NVFP4"):
        nvfp4_cpu._dynamic_block_quantize(torch.ones(16), 16, torch.tensor(1.0), *bits)


def test_modelopts_operator_of_nvfp4_is_simulated() -> None:
    """With blocks of the size asked for."""
    values, covered = torch.linspace(-6, 6, 32), torch.tensor(6.0 * 448.0)
    found = nvfp4_cpu._dynamic_block_quantize(values, 8, covered, 4, 2, 8, 4)
    assert torch.equal(found, nvfp4_cpu.fake_quantize(values, covered, 8))
    assert not torch.equal(found, nvfp4_cpu.fake_quantize(values, covered))
