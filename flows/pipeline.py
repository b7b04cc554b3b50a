"""The pipeline: data -> teacher -> importance and records -> students -> formats -> scores.

It is shared by runs and plans: a stage returns a handle, which is the future of its artifact in a run and the expected
artifact in a plan. Independent of Prefect, folders and clusters.
"""

from __future__ import annotations

from typing import Any

from conf.branches import branch
from conf.fitted import fitted_to
from conf.recipe import Recipe
from conf.stages.distill import DistillConfig
from conf.stages.records import GENERATED
from conf.stages.sft import SftConfig
from flows import benchmarks
from flows.branches import Trunks
from flows.corpus import blended, corpora, written
from flows.formats import formats, verify
from flows.reading import Handle, Model, Stages
from tasks.analysis.halving import Candidate, HalvingProgress, successive_halving
from tasks.inputs import ExternalInputs
from tasks.store.store import Artifact


class Pipeline:
    """All stages of a recipe in order; `models` are evaluated."""

    def __init__(self, recipe: Recipe, outside: ExternalInputs, stage: Stages) -> None:
        if outside.model:
            recipe = fitted_to(recipe, outside.model.path)  # a hub model's shape may be known only now
        self.recipe, self.outside, self.stage = recipe, outside, stage
        self.questions = benchmarks.read(stage, recipe.evaluate, outside.benchmarks)
        self.corpora = corpora(stage, recipe, outside, self.questions)
        self.watched = benchmarks.Watched(stage, recipe, outside.benchmarks, self.questions)
        self.data = blended(stage, recipe, self.corpora)
        self.teacher = stage("teacher", recipe.teacher_stage, data=self.data, model=outside.model)
        if recipe.write:
            self.corpora |= written(stage, recipe, outside, self.questions, self.data, self.teacher)
            self.data = blended(stage, recipe, self.corpora)
        self.models = [Model(name="teacher", stage="teacher", artifact=self.teacher, trained=recipe.teacher.steps > 0)]
        self.records = self._records()
        if contamination := recipe.contamination_stage:
            asked = benchmarks.roles(self.questions) | {"mmlu": outside.mmlu}
            stage("contamination", contamination, **self.corpora, records=self.records, **asked)
        self.tuned_teacher = self._tuned_teacher()
        self.importance = self.logits = None
        self.trunks = Trunks(recipe, stage)
        inputs = {"teacher": self.teacher, "data": self.data}
        if recipe.needs_importance:
            self.importance = stage("importance", recipe.importance, **inputs)
        if recipe.logits and recipe.stores_logits:
            self.logits = stage("logits", recipe.logits, **inputs)
        if recipe.sweep and self.importance:
            stage("sweep", recipe.sweep, **inputs, importance=self.importance)
        for name in recipe.students:
            self._student(name)
        for model in self.models:
            self.score(model)

    def _records(self) -> Handle | None:
        """Prompts and responses to fine-tune on, including generated ones."""
        outside, records, generate = self.outside, self.recipe.records_stage, self.recipe.generate_stage
        if records is None:
            return None
        generated, asked = None, benchmarks.looked_for(self.recipe, outside, self.questions, self.corpora["data"])
        if generate and outside.prompts and GENERATED in records.sources:
            teacher = None if generate.endpoint else self.teacher
            generated = self.stage("generate", generate, prompts=outside.prompts, teacher=teacher, **asked)
        encoded_by = {"tokenizer": outside.tokenizer} if outside.tokenizer else {"data": self.data}
        return self.stage("records", records, source=outside.records, generated=generated, **encoded_by, **asked)

    def _tuned_teacher(self) -> Handle | None:
        """The teacher fine-tuned on the records, if the recipe asks for it."""
        config = self.recipe.teacher_sft
        if config is None or self.records is None:
            return None
        tuned = self.stage("sft-teacher", config, student=self.teacher, records=self.records)
        self.models.append(Model(name="teacher-sft", stage="sft", artifact=tuned, trained=True))
        return tuned

    def _student(self, name: str) -> None:
        """Prune, distil, fine-tune and quantize a student; each stage waits for the gates of earlier ones."""
        recipe = self.recipe
        start, teacher = self._search(name) if recipe.students[name].search else self._cuts(name)
        pruned = self.models[-1]
        after = self._gates(pruned)
        if distill := branch(recipe, name):
            start = self._distill(f"distill-{name}", distill, start, teacher, of=name, after=after)
            self._add(name, "distill", start, name, after)
            after = self._gates(self.models[-1], pruned)
        if (sft := recipe.sft_of(name)) and self.records:
            start = self._fine_tune(name, sft, start, after)
            self._add(f"{name}-sft", "sft", start, name, after)
            after = self._gates(self.models[-1], self.models[-2])
        before = self.models[-1]
        given: dict[str, Any] = {"model": start, "data": self.data, "of": name, "after": after}
        for config, quantized in formats(self.stage, name, recipe.formats_of(name), **given):
            self._add(f"{name}-{config.name}", "quantize", quantized, name, after, format=config.name)
            self._gates(self.models[-1], before)

    def _cuts(self, name: str) -> tuple[Handle, Handle]:
        """Prune once, or prune and distil in rounds. Returns the model to train next and its teacher."""
        recipe, cuts = self.recipe, self.recipe.students[name].cuts
        before, importance = self.teacher, self.importance
        for number, round_ in enumerate(cuts, start=1):
            last = number == len(cuts)
            suffix = "" if last else f"-r{number}"
            student_cut: dict[str, Any] = {"of": name, "cut": number - 1}
            if number > 1 and round_.prune.ranked:
                importance = self.stage(
                    f"importance-{name}-r{number}", recipe.importance, teacher=before, data=self.data, **student_cut
                )
            ranking = importance if round_.prune.ranked else None
            config = recipe.prune_stage(round_.prune)
            pruned = self.stage(
                f"prune-{name}{suffix}", config, teacher=before, data=self.data, importance=ranking, **student_cut
            )
            self._add(f"{name}{suffix}-pruned", "prune", pruned, name, cut=number - 1)
            teacher, before = self.teacher if round_.teacher == "original" else before, pruned
            if not last and (distill := recipe.distill_of(name, number - 1)):
                before = self._distill(f"distill-{name}{suffix}", distill, pruned, teacher, **student_cut)
                self._add(f"{name}{suffix}", "distill", before, name, cut=number - 1)
        return before, teacher

    def _search(self, name: str) -> tuple[Handle, Handle]:
        """Successive halving over the candidates of a search. Returns the winner and its teacher."""
        search, distill = self.recipe.students[name].search, self.recipe.distill_of(name)
        assert search is not None
        shared: dict[str, Any] = {"teacher": self.teacher, "data": self.data, "importance": self.importance}
        search_result = self.stage(f"search-{name}", search, of=name, **shared)

        def cut(one: Candidate) -> Handle:
            inputs = shared if one.config.ranked else shared | {"importance": None}
            return self.stage(f"prune-{name}-c{one.number}", one.config, of=name, cut=one.number - 1, **inputs)

        def teach(one: Candidate, config: DistillConfig, number: int) -> Handle:
            inputs: dict[str, Any] = {"teacher": self.teacher, "student": one.model, "data": self.data}
            label = f"distill-{name}-c{one.number}-r{number}"
            return self.stage(label, config, of=name, cut=one.number - 1, **inputs)

        def play(search_result: Artifact) -> HalvingProgress:
            return successive_halving(search_result, search, distill, cut, teach, self.stage)

        pruned, start = self.stage.race(name, search_result, play)
        self._add(f"{name}-pruned", "prune", pruned, name)
        return start, self.teacher

    def _distill(self, label: str, config: DistillConfig, student: Handle, teacher: Handle, **more: Any) -> Handle:
        """Submit a distill stage: with stored logits if offline, with questions if it evaluates during training."""
        asks = config.evaluation and config.evaluation.mmlu
        more |= {"logits": self.logits if config.offline else None, "mmlu": self.outside.mmlu if asks else None}
        more |= self.watched.of(config)
        data = self.corpora["raw"] if self.recipe.students[more["of"]].text == "raw" else self.data
        more |= {"teacher": teacher, "student": student, "data": data}
        trunk = self.trunks.of(more["of"], more) if config.begun else None
        return self.stage(label, config, trunk=trunk, **more)

    def _fine_tune(self, name: str, config: SftConfig, student: Handle, after: tuple[Handle, ...]) -> Handle:
        """Submit an sft stage, with a teacher or its stored logits if configured."""
        teacher = (self.tuned_teacher if config.teacher else None) or self.teacher
        inputs: dict[str, Any] = {"records": self.records, "teacher": teacher if config.kd_weight else None}
        if config.stored:
            inputs["logits"] = self.stage(f"logits-sft-{name}", config.stored, **inputs)
        return self.stage(f"sft-{name}", config, student=student, of=name, after=after, **inputs)

    def _add(
        self, name: str, stage: str, artifact: Handle, student: str, gates: tuple[Handle, ...] = (), **more: Any
    ) -> None:
        model = Model(name=name, stage=stage, artifact=artifact, student=student, gates=gates, **more)
        model.trained = stage in ("distill", "sft")
        self.models.append(model)

    def _gates(self, model: Model, before: Model | None = None) -> tuple[Handle, ...]:
        """Gates that stages after `model` wait for: those of earlier models and its own. `before` is the student before
        this stage."""
        assert model.student is not None, "the teacher has no gates"
        gates = []
        for name, gate in self.recipe.gates_of(model.student).items():
            if gate.after == model.stage:
                assert gate.against != "before" or before, "conf rejects such a gate after prune"
                against = {"teacher": self.models[0], "before": before}.get(gate.against)
                gates.append(self.stage.gate(name, gate, model, against, self.score))
        return (*model.gates, *(handle for handle in gates if handle is not None))

    def score(self, model: Model) -> Handle:
        """Evaluation of a model; submitted once."""
        if model.scores is None:
            inputs: dict[str, Any] = {"teacher": self.teacher, "data": self.data, "records": self.records}
            inputs |= {"mmlu": self.outside.mmlu, "model": model.artifact, "of": model.student, "cut": model.cut}
            model.scores = self.stage(f"evaluate-{model.name}", self.recipe.evaluate.measured_for(model.name), **inputs)
            benchmarks.ask(self.stage, self.recipe.evaluate, self.questions, model)
            verify(self.stage, self.recipe, self.data, model)
        return model.scores
