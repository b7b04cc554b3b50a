"""The recipe: one pydantic model per stage, and the checks that need more than one stage to be seen.

The same objects are the Prefect parameters, the JSON a job reads and what a store key is made of. Validators only
judge; they never fill in or change what was asked for. Lengths are in tokens, sizes in bytes, unless a field says
otherwise."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from conf.base import RUN_NAME, Config
from conf.claims import Claim
from conf.gates import Gate, GateName
from conf.ladder import LadderConfig
from conf.nemo import settings as nemo
from conf.nemo.settings import Engine
from conf.stages.blend import BlendConfig
from conf.stages.data import DataConfig
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
from conf.student import Student
from conf.winner import CardConfig, WinnerConfig

NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"


class Recipe(Config):
    """A whole run: one corpus, one teacher, its students, their formats, one report."""

    description: str = Field(default="", description="One line for people.")
    engine: Engine = Field(
        default="megatron",
        description=(
            "Who trains, prunes and distils: megatron, Megatron-Core with ModelOpt; nemo, NeMo 2's scripts in NVIDIA's"
            " container."
        ),
    )
    project: str = Field(
        default="imbik", pattern=RUN_NAME, description="Name of the MLflow experiment that keeps the runs."
    )
    data: DataConfig
    blend: BlendConfig | None = Field(
        default=None, description="Further corpora to train on beside data, by weight; null: data alone."
    )
    teacher: TeacherConfig
    importance: ImportanceConfig = ImportanceConfig()
    logits: LogitsConfig | None = Field(
        default=None, description="What the teacher says, stored for students that are distilled offline."
    )
    sweep: SweepConfig | None = Field(default=None, description="What each axis costs by itself; empty: not measured.")
    students: dict[Annotated[str, Field(pattern=NAME)], Student] = Field(min_length=1, description="Students by name.")
    distill: DistillConfig | None = Field(default=None, description="How every student is taught; null: pruned only.")
    generate: GenerateConfig | None = Field(
        default=None, description="Prompts that the teacher answers, for records.source 'generated'."
    )
    records: RecordsConfig | None = Field(
        default=None, description="Prompts and responses to fine-tune on, and to score models by."
    )
    sft: SftConfig | None = Field(
        default=None, description="How every student is fine-tuned on the records, after distill; null: not."
    )
    quantize: tuple[QuantizeConfig, ...] = Field(default=(), description="One entry per format.")
    ladder: LadderConfig | None = Field(
        default=None, description="Which format each student keeps; empty: all are shown, none is chosen."
    )
    evaluate: EvaluateConfig = EvaluateConfig()
    gates: dict[GateName, Gate | None] = Field(
        default={},
        description=(
            "Bounds by name, for every student that has the stage; a student whose model fails one goes no further."
        ),
    )
    claims: dict[GateName, Claim | None] = Field(
        default={}, description="Statements by name that one model is better than another, which the report decides."
    )
    winner: WinnerConfig | None = Field(
        default=WinnerConfig(), description="The model that is handed over; null: none is."
    )
    card: CardConfig = CardConfig()

    @model_validator(mode="after")
    def _formats_once(self) -> Self:
        formats = [entry.name for entry in self.quantize]
        if len(set(formats)) != len(formats):
            raise ValueError(f"quantize names a format twice: {formats}")
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
                    f"students.{name}.quantize names {unknown[0]}, which the recipe's quantize does not have; add it"
                    " there"
                )
        return self

    def _rungs(self, formats: list[str]) -> None:
        unknown = [entry for entry in self.ladder.formats if entry not in formats] if self.ladder else []
        if unknown:
            raise ValueError(
                f"ladder.formats names {unknown[0]}, which the recipe's quantize does not have; add it there"
            )
        if self.ladder and self.ladder.metric == "mmlu" and self.evaluate.mmlu is None:
            raise ValueError(
                "ladder.metric is mmlu, but evaluate.mmlu is empty; ask questions there or choose val_loss"
            )

    def _models_once(self) -> None:
        """A student called as another's model would be (`a-sft` beside `a`) would take its place in the report."""
        endings = ("-pruned", "-sft", *(f"-{entry.name}" for entry in self.quantize))
        for name in self.students:
            shorter = (name.removesuffix(ending) for ending in endings if name.endswith(ending))
            other = next((other for other in shorter if other in self.students), None)
            if other:
                raise ValueError(f"students.{name} is called as a model of student {other}; choose another name")

    def formats_of(self, student: str) -> tuple[QuantizeConfig, ...]:
        """The formats `student` is quantized in, in the recipe's order."""
        wanted = self.students[student].quantize
        return tuple(entry for entry in self.quantize if wanted is True or (wanted and entry.name in wanted))

    def distill_of(self, student: str, round_: int = -1) -> DistillConfig | None:
        """How `student` is taught, in its last round or another: the round's own distill, else its own, else the
        recipe's; evaluated on the way as the recipe evaluates."""
        one = self.students[student]
        own = one.rounds[round_].distill if one.rounds else None
        how = own or one.distill or self.distill
        how = how and how.measured_by(self.evaluate)
        return nemo.distill(how) if how and self.engine == "nemo" else how

    @property
    def teacher_stage(self) -> TeacherConfig:
        """The teacher stage, as the engine makes it."""
        return nemo.teacher(self.teacher) if self.engine == "nemo" else self.teacher

    def prune_stage(self, config: PruneConfig) -> PruneConfig:
        """A prune stage, as the engine makes it."""
        return nemo.prune(config, self.importance) if self.engine == "nemo" else config

    @property
    def needs_importance(self) -> bool:
        """Whether any stage needs the teacher's importance; NeMo's gpt_prune measures it itself."""
        wanted = self.sweep is not None or any(student.ranked for student in self.students.values())
        return wanted and self.engine == "megatron"

    def sft_of(self, student: str) -> SftConfig | None:
        """How `student` is fine-tuned: its own sft where it has one, else the recipe's."""
        return self.students[student].sft or self.sft

    @property
    def teacher_sft(self) -> SftConfig | None:
        """How the teacher is fine-tuned before it teaches in sft: as the recipe's students, without a teacher; None
        where it is not."""
        wanted = any(how.teacher for name in self.students if (how := self.sft_of(name)))
        return self.sft.model_copy(update={"kd_weight": 0.0, "teacher": False}) if wanted and self.sft else None

    @property
    def generate_stage(self) -> GenerateConfig | None:
        """`generate` with the world it asks about."""
        return self.generate and self.generate.model_copy(update={"world": self.generate.world or self.data.world})

    @property
    def records_stage(self) -> RecordsConfig | None:
        """`records` with the world they tell of."""
        return self.records and self.records.model_copy(update={"world": self.records.world or self.data.world})

    @property
    def stores_logits(self) -> bool:
        """Whether some student is taught from stored logits."""
        rounds = (
            (name, number)
            for name, student in self.students.items()
            for number in range(len(student.rounds or (None,)))
        )
        return any(how.offline for name, number in rounds if (how := self.distill_of(name, number)))

    def gates_of(self, student: str) -> dict[str, Gate]:
        """The gates of `student` by name: the recipe's and its own, where it has the stage."""
        stages = self.stages_of(student)
        found = self.gates | self.students[student].gates
        return {name: gate for name, gate in found.items() if gate and gate.after in stages}

    def stages_of(self, student: str) -> tuple[str, ...]:
        """The stages that make models of `student`."""
        there = {"distill": self.distill_of(student), "sft": self.sft_of(student), "quantize": self.formats_of(student)}
        return ("prune", *(stage for stage, found in there.items() if found))
