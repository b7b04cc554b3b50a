"""Fine-tuning in the flow: records, generated ones among them, the teacher that saw them first, and each student on
them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from conf.recipe import Recipe
from conf.stages.records import GENERATED
from flows.model import Future, Made
from tasks.inputs import Outside
from tasks.stages.generate import generate
from tasks.stages.records import records
from tasks.stages.sft import record_logits, sft


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What students are fine-tuned with: the records, the teacher as it is, and as it is after its own fine-tuning;
    None where the recipe has none."""

    recipe: Recipe
    records: Future | None
    teacher: Future
    tuned_teacher: Made | None
    generated: Future | None = None

    def student(self, name: str, last: Made, behind: tuple[Future, ...]) -> Made | None:
        """Fine-tune the last model of a student; None where the recipe does not ask for it."""
        how, ready = self.recipe.sft_of(name), cast(Future, self.records)
        if how is None:
            return None
        teacher: Future = None
        if how.kd_weight:
            teacher = self.tuned_teacher.artifact if how.teacher and self.tuned_teacher else self.teacher
        logits: Future = None
        if how.stored:
            logits = record_logits.submit(f"logits-sft-{name}", how.stored, teacher=teacher, records=ready)
        more: dict[str, Future] = {"records": ready, "teacher": teacher, "logits": logits}
        tuned: Future = sft.submit(
            f"sft-{name}", how, student=last.artifact, **more, wait_for=behind, return_state=False
        )
        return Made(model=f"{name}-sft", stage="sft", artifact=tuned, curves=tuned, student=name, gates=behind)


def prepare(recipe: Recipe, outside: Outside, corpus: Future, teacher: Future) -> Tuning:
    """Submit what all students share."""
    asked, told, how = recipe.asked, recipe.told, recipe.teacher_sft
    if told is None:
        return Tuning(recipe=recipe, records=None, teacher=teacher, tuned_teacher=None)
    generated: Future | None = None
    if asked and outside.prompts and GENERATED in told.sources:
        generated = generate.submit(
            "generate", asked, prompts=outside.prompts, teacher=None if asked.endpoint else teacher
        )
    ready: Future = records.submit(
        "records", told, source=outside.records, generated=generated, tokenizer=outside.tokenizer, data=corpus
    )
    tuned = None
    if how:
        made: Future = sft.submit("sft-teacher", how, student=teacher, records=ready)
        tuned = Made(model="teacher-sft", stage="sft", artifact=made, curves=made)
    return Tuning(recipe=recipe, records=ready, teacher=teacher, tuned_teacher=tuned, generated=generated)
