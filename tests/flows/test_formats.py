"""The formats of a model and what verifies them, with a stage that notes what it is asked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from conf.stages.quantize import QuantizeConfig
from conf.stages.verify import VerifyConfig
from flows import formats as module
from flows.reading import Model


class Stages(dict[str, dict[str, Any]]):
    """Inputs by label."""

    def __call__(self, label: str, config: Any, **inputs: Any) -> str:
        self[label] = inputs
        return f"made {label}"


def test_mixed_formats_share_their_sensitivity() -> None:
    mixed = {"formats": ["fp8", "nvfp4"]}
    configs = tuple(
        QuantizeConfig.model_validate(each)
        for each in ({"format": "fp8"}, *({"auto": mixed | {"effective_bits": bits}} for bits in (5.0, 6.0)))
    )
    stages = Stages()
    made = list(module.formats(stages, "small", configs, model="m"))  # type: ignore[arg-type]
    (scored,) = [label for label in stages if not label.startswith("quantize-")]
    found = [stages[f"quantize-small-{config.name}"]["sensitivity"] for config in configs]
    assert found == [None, f"made {scored}", f"made {scored}"] and stages[scored] == {"model": "m"}
    assert [handle for _, handle in made] == [f"made quantize-small-{config.name}" for config in configs]


@pytest.mark.parametrize(
    ("verify", "form", "asked"),
    [
        (VerifyConfig(), "fp8", True),
        (VerifyConfig(formats=("fp8",)), "fp8", True),
        (VerifyConfig(formats=("nvfp4",)), "fp8", False),
        (VerifyConfig(), None, False),
        (None, "fp8", False),
    ],
)
def test_an_engine_verifies_the_formats_that_it_is_asked(verify: Any, form: str | None, asked: bool) -> None:
    model = Model(name="small", stage="quantize", artifact="a", student="s", format=form, cut=1)
    stages, recipe = Stages(), SimpleNamespace(verify=verify)
    module.verify(stages, recipe, "d", model)  # type: ignore[arg-type]
    assert stages == ({"verify-small": {"model": "a", "data": "d", "of": "s", "cut": 1}} if asked else {})
    assert model.verified == ("made verify-small" if asked else None)
