"""The trunks of students that share a stable phase, each made once."""

from __future__ import annotations

from typing import Any

from conf.branches import trunk_label, trunks
from conf.recipe import Recipe
from flows.reading import Handle, Stages


class Trunks:
    """The trunks of a recipe, as its students ask for them."""

    def __init__(self, recipe: Recipe, stage: Stages) -> None:
        self.recipe, self.stage = recipe, stage
        self.made: dict[str, Handle] = {}

    def of(self, student: str, inputs: dict[str, Any]) -> Handle | None:
        """The last trunk of a student; None if it shares no steps. `inputs` are those of its distillation."""
        last: Handle | None = None
        for config in trunks(self.recipe, student):
            label = trunk_label(self.recipe, student, config)
            if label not in self.made:
                self.made[label] = self.stage(label, config, trunk=last, **inputs)
            last = self.made[label]
        return last
