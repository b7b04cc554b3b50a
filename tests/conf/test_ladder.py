"""A ladder's formats, each once."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from conf.ladder import LadderConfig


def test_a_format_stands_on_one_rung() -> None:
    made = LadderConfig.model_validate({"formats": ["fp8", "nvfp4"], "bound": 0.01})
    assert (made.formats, made.metric, made.confident) == (("fp8", "nvfp4"), "mmlu", True)
    with pytest.raises(ValidationError, match=r"ladder\.formats has duplicates: fp8, nvfp4, fp8; list each once"):
        LadderConfig.model_validate({"formats": ["fp8", "nvfp4", "fp8"], "bound": 0.01})
