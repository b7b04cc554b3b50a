"""The recipe: one pydantic model per stage, and the validators that involve several stages.

The same objects are the Prefect parameters, the JSON that a job reads and the source of store keys. Validators only
check; they never fill in or change a value. Lengths are in tokens and sizes in bytes unless a field says otherwise."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from conf.base import Config
from conf.claims import Claim
from conf.gates import Gate, GateName
from conf.ladder import LadderConfig
from conf.nemo import settings as nemo
from conf.nemo.settings import Engine
from conf.patterns import NAME, RUN_NAME
from conf.serve import ServeConfig
from conf.stages.blend import BlendConfig
from conf.stages.contamination import ContaminationConfig
from conf.stages.data import DataConfig
from conf.stages.decontaminate import Decontaminate
from conf.stages.distill import DistillConfig
from conf.stages.evaluate import EvaluateConfig
from conf.stages.generate import GenerateConfig
from conf.stages.importance import ImportanceConfig
from conf.stages.logits import LogitsConfig
from conf.stages.prune import PruneConfig
from conf.stages.quantize import QuantizeConfig
from conf.stages.records import RecordsConfig
from conf.stages.sft import SftConfig
from conf.stages.sweep import SweepConfig
from conf.stages.teacher import TeacherConfig
from conf.stages.verify import VerifyConfig
from conf.stages.write import WriteConfig
from conf.student import Student
from conf.study import StudyConfig
from conf.winner import CardConfig, WinnerConfig


class Recipe(Config):
    """A complete run: one corpus, one teacher, its students, their formats and one report."""

    description: str = Field(default="", description="One-line description.")
    engine: Engine = Field(
        default="megatron",
        description=(
            "Engine that trains, prunes and distils: megatron, Megatron-Core with ModelOpt; nemo, NeMo 2 scripts in"
            " NVIDIA's container."
        ),
    )
    project: str = Field(default="imbik", pattern=RUN_NAME, description="Name of the MLflow experiment for the runs.")
    data: DataConfig
    blend: BlendConfig | None = Field(
        default=None, description="Additional corpora to train on, by weight; null: only data."
    )
    teacher: TeacherConfig
    write: WriteConfig | None = Field(
        default=None, description="Documents that the teacher writes, for the source 'written' of the blend."
    )
    importance: ImportanceConfig = ImportanceConfig()
    logits: LogitsConfig | None = Field(
        default=None, description="Teacher logits stored for offline distillation; null: none."
    )
    sweep: SweepConfig | None = Field(
        default=None, description="Loss of pruning each axis on its own; null: not measured."
    )
    students: dict[Annotated[str, Field(pattern=NAME)], Student] = Field(min_length=1, description="Students by name.")
    distill: DistillConfig | None = Field(
        default=None, description="Distillation of every student; null: pruning only."
    )
    generate: GenerateConfig | None = Field(
        default=None, description="Prompts for the teacher to answer, for records.source 'generated'."
    )
    records: RecordsConfig | None = Field(
        default=None, description="Prompts and responses to fine-tune and evaluate on."
    )
    contamination: ContaminationConfig | None = Field(
        default=ContaminationConfig(),
        description="Look for the questions of evaluate in the training text, and take them out if asked; null: not.",
    )
    sft: SftConfig | None = Field(
        default=None, description="Fine-tuning of every student on the records, after distill; null: none."
    )
    quantize: tuple[QuantizeConfig, ...] = Field(default=(), description="Quantization formats, one entry each.")
    serve: ServeConfig | None = Field(
        default=None,
        description="Engine that the formats must load in; null: not known, imbik plan says who loads them.",
    )
    verify: VerifyConfig | None = Field(
        default=None,
        description="An engine's losses of the exported models against those measured here; null: not compared.",
    )
    ladder: LadderConfig | None = Field(
        default=None, description="Rule that picks one format per student; null: report all formats, pick none."
    )
    evaluate: EvaluateConfig = EvaluateConfig()
    gates: dict[GateName, Gate | None] = Field(
        default={},
        description=(
            "Gates by name, for every student that has the stage; if a model fails one, later stages of its student do"
            " not run."
        ),
    )
    claims: dict[GateName, Claim | None] = Field(
        default={}, description="Claims by name that one model is better than another; the report decides them."
    )
    study: StudyConfig | None = Field(
        default=None, description="Which keys imbik study tries other values of; imbik run leaves it out. null: none."
    )
    winner: WinnerConfig | None = Field(default=WinnerConfig(), description="The model to hand over; null: none.")
    card: CardConfig = CardConfig()

    @model_validator(mode="after")
    def _formats_once(self) -> Self:
        formats = [entry.name for entry in self.quantize]
        if len(set(formats)) != len(formats):
            raise ValueError(f"quantize has duplicate formats: {formats}; list each once")
        reserved = {"teacher"} & set(self.students)
        if reserved:
            raise ValueError("a student cannot be called 'teacher'; choose another name")
        self._models_once()
        self._rungs(formats)
        for name, student in self.students.items():
            unknown = (
                []
                if isinstance(student.quantize, bool)
                else [entry for entry in student.quantize if entry not in formats]
            )
            if unknown:
                raise ValueError(
                    f"students.{name}.quantize names {unknown[0]}, which is not in the recipe's quantize; add it there"
                )
        return self

    def _rungs(self, formats: list[str]) -> None:
        unknown = [entry for entry in self.ladder.formats if entry not in formats] if self.ladder else []
        if unknown:
            raise ValueError(f"ladder.formats names {unknown[0]}, which is not in the recipe's quantize; add it there")
        if self.ladder and self.ladder.metric == "mmlu" and self.evaluate.mmlu is None:
            raise ValueError("ladder.metric is mmlu but evaluate.mmlu is null; set evaluate.mmlu or choose val_loss")

    def _models_once(self) -> None:
        """Reject a student named like another student's model (`a-sft` beside `a`): the two would collide in the
        report."""
        endings = ("-pruned", "-sft", *(f"-{entry.name}" for entry in self.quantize))
        for name in self.students:
            shorter = (name.removesuffix(ending) for ending in endings if name.endswith(ending))
            other = next((other for other in shorter if other in self.students), None)
            if other:
                raise ValueError(f"students.{name} has the name of a model of student {other}; choose another name")

    def copies(self, student: str) -> tuple[str, ...]:
        """The students that are this one with further seeds, in the order of their seeds."""
        settings = self.students.get(student)
        return tuple(f"{student}-s{number}" for number in range(2, settings.seeds + 1)) if settings else ()

    def formats_of(self, student: str) -> tuple[QuantizeConfig, ...]:
        """Quantization formats of `student`, in the recipe's order."""
        wanted = self.students[student].quantize
        return tuple(entry for entry in self.quantize if wanted is True or (wanted and entry.name in wanted))

    def distill_of(self, student: str, round_: int = -1) -> DistillConfig | None:
        """Distillation config of a round of `student` (default: the last): the round's, else the student's, else the
        recipe's, with its evaluations during training filled in from `evaluate`."""
        settings = self.students[student]
        of_round = settings.rounds[round_].distill if settings.rounds else None
        config = of_round or settings.distill or self.distill
        config = config and config.measured_by(self.evaluate)
        return nemo.distill(config) if config and self.engine == "nemo" else config

    @property
    def teacher_stage(self) -> TeacherConfig:
        """The teacher stage for the recipe's engine."""
        return nemo.teacher(self.teacher) if self.engine == "nemo" else self.teacher

    def prune_stage(self, config: PruneConfig) -> PruneConfig:
        """A prune stage for the recipe's engine."""
        return nemo.prune(config, self.importance) if self.engine == "nemo" else config

    @property
    def needs_importance(self) -> bool:
        """Whether any stage needs the importance stage; NeMo's gpt_prune measures importance itself."""
        wanted = self.sweep is not None or any(student.ranked for student in self.students.values())
        return wanted and self.engine == "megatron"

    def sft_of(self, student: str) -> SftConfig | None:
        """Fine-tuning config of `student`: its own, else the recipe's."""
        return self.students[student].sft or self.sft

    @property
    def teacher_sft(self) -> SftConfig | None:
        """Fine-tuning config of the teacher itself: the recipe's sft without distillation; None if no student asks for
        it."""
        wanted = any(config.teacher for name in self.students if (config := self.sft_of(name)))
        alone = {"kd_weight": 0.0, "teacher": False, "teacher_weights": "full"}
        return self.sft.model_copy(update=alone) if wanted and self.sft else None

    @property
    def data_stage(self) -> DataConfig:
        """`data`, without benchmark questions if contamination says so."""
        return self.data.model_copy(update=self._taken_out)

    @property
    def raw_stage(self) -> DataConfig | None:
        """`data` with nothing taken out of its training text; None where no student learns from it."""
        if all(student.text == "curated" for student in self.students.values()):
            return None
        return self.data.model_copy(update=dict.fromkeys(("filter", "pii", "deduplicate", "decontaminate")))

    @property
    def generate_stage(self) -> GenerateConfig | None:
        """`generate` with its world filled in from data."""
        world = self.generate and self.generate.world
        return self.generate and self.generate.model_copy(update={"world": world or self.data.world} | self._taken_out)

    @property
    def records_stage(self) -> RecordsConfig | None:
        """`records` with its world filled in from data."""
        world = self.records and self.records.world
        return self.records and self.records.model_copy(update={"world": world or self.data.world} | self._taken_out)

    @property
    def contamination_stage(self) -> ContaminationConfig | None:
        """`contamination` with the questions of evaluate; None where there are none."""
        asks = self.evaluate.mmlu or self.evaluate.benchmarks
        return (
            self.contamination.model_copy(update={"mmlu": self.evaluate.mmlu}) if self.contamination and asks else None
        )

    @property
    def _taken_out(self) -> dict[str, Decontaminate | None]:
        """What contamination fills in for the stages that read text."""
        stage = self.contamination_stage
        return {"decontaminate": stage.taken_out if stage else None}

    @property
    def stores_logits(self) -> bool:
        """Whether any student is distilled from stored logits."""
        rounds = (
            (name, number)
            for name, student in self.students.items()
            for number in range(len(student.rounds or (None,)))
        )
        return any(config.offline for name, number in rounds if (config := self.distill_of(name, number)))

    def gates_of(self, student: str) -> dict[str, Gate]:
        """Gates of `student` by name: the recipe's and its own, for the stages that it has."""
        stages = self.stages_of(student)
        gates = self.gates | self.students[student].gates
        return {name: gate for name, gate in gates.items() if gate and gate.after in stages}

    def stages_of(self, student: str) -> tuple[str, ...]:
        """Stages that produce a model of `student`."""
        configs = {
            "distill": self.distill_of(student),
            "sft": self.sft_of(student),
            "quantize": self.formats_of(student),
        }
        return ("prune", *(stage for stage, config in configs.items() if config))
