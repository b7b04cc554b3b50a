"""The recipe: one pydantic model per stage, and the checks that need more than one stage to be seen.

The same objects are the Prefect parameters, the JSON a job reads and what a store key is made of. Validators only judge;
they never fill in or change what was asked for. Lengths are in tokens, sizes in bytes, unless a field says otherwise.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from conf.base import Config, Execution, StageConfig

NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
Ranking = Literal["activation", "magnitude", "random"]
QuantFormat = Literal["fp8", "nvfp4"]
Precision = Literal["bf16", "fp32"]
DistillLoss = Literal["forward_kl", "reverse_kl", "jensen_shannon"]


class Parallel(Config):
    """How one job is spread over processes; it never changes what is made."""

    processes: int = Field(default=1, ge=1, description="Processes torchrun starts on this machine.")
    tensor: int = Field(default=1, ge=1, description="Tensor-parallel size.")
    pipeline: int = Field(default=1, ge=1, description="Pipeline-parallel size.")
    threads: int | None = Field(default=None, ge=1, description="CPU threads a process; empty: all cores of the machine.")

    @property
    def data(self) -> int:
        """Data-parallel size: what tensor and pipeline parallelism leave of the processes."""
        return self.processes // (self.tensor * self.pipeline)

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.processes % (self.tensor * self.pipeline):
            raise ValueError(
                f"parallel.processes is {self.processes}, not a multiple of tensor {self.tensor} x pipeline {self.pipeline}; "
                f"choose a multiple of {self.tensor * self.pipeline}"
            )
        return self


RunsAs = Annotated[Parallel, Execution()]


class World(Config):
    """The built-in invented world: seeded entities and attributes, told in sentences and asked in a quiz."""

    seed: int = Field(default=1, ge=0, description="Seed of the world; the same seed gives the same text and quiz.")
    entities: int = Field(default=64, ge=8, description="Invented entities; each has one value per attribute.")
    documents: int = Field(default=6000, ge=100, description="Documents of text written about them.")
    questions: int = Field(default=400, ge=40, description="Quiz questions on the same facts, in wordings the text never uses.")


class DataConfig(StageConfig):
    """Text to tokens: read, quarantine what is not valid, split, tokenize to Megatron `.bin/.idx`."""

    source: Annotated[str | tuple[str, ...], Execution()] = Field(
        description="'world' (built in), local files or globs (txt, jsonl, json, csv, parquet), or a Hugging Face dataset id. "
        "Not hashed itself: the digest of what it names is an input of the stage."
    )
    subset: str | None = Field(default=None, description="Configuration of a Hugging Face dataset, for instance wikitext-103-v1.")
    text_field: str = Field(default="text", min_length=1, description="Field of a record that holds its text.")
    join: Literal["auto", "line", "paragraph", "spaced", "wikitext", "file"] = Field(
        default="auto",
        description="What one document of a text file is. line: one line; paragraph: ended by blank lines; spaced: paragraphs with blank "
        "lines between, until a line follows another directly; wikitext: an article; file: all of it. "
        "auto: wikitext where ' = Title = ' headings are found, else line. Also applies to line-wise datasets.",
    )
    world: World = Field(default=World(), description="Used when source is 'world'.")
    tokenizer: Annotated[str | None, Execution()] = Field(
        default=None,
        min_length=1,
        description="Hugging Face tokenizer directory or id; empty: the teacher model's, or one trained on the corpus.",
    )
    end_of_document: str | None = Field(
        default=None,
        description="Token put after every document; empty: the tokenizer's eos_token. Name another where a model was pretrained with it.",
    )
    repair: bool = Field(default=False, description="Set right text that was decoded with the wrong codec, for instance 'donâ€™t' (ftfy).")
    vocab_size: int = Field(default=1024, ge=260, description="Vocabulary of a tokenizer trained on the corpus (byte-level BPE).")
    validation_share: float = Field(default=0.05, ge=0, lt=0.5, description="Share of documents in the validation split.")
    test_share: float = Field(default=0.05, ge=0, lt=0.5, description="Share of documents in the test split.")
    seed: int = Field(default=1, ge=0, description="Seed of the split.")
    max_documents: int | None = Field(default=None, ge=1, description="Read no more documents than this.")
    max_document_bytes: int = Field(default=10_000_000, ge=1, description="A longer document is quarantined.")
    max_rejected_share: float = Field(default=0.01, ge=0, le=1, description="More rejected records than this share stop the stage.")
    engine: Annotated[Literal["auto", "tokenizers", "gigatoken"], Execution()] = Field(
        default="auto", description="Tokenizer engine; gigatoken is used only after its ids are shown equal on this corpus."
    )
    workers: Annotated[int | None, Execution()] = Field(default=None, ge=1, description="CPU threads; empty: all cores.")


class Shape(Config):
    """A decoder's dimensions, in Hugging Face's LlamaForCausalLM or Qwen3ForCausalLM form."""

    architecture: Literal["llama", "qwen3"] = Field(default="llama", description="Qwen3 adds norms on queries and keys.")
    num_layers: int = Field(ge=1, description="Decoder layers.")
    hidden_size: int = Field(ge=8, description="Width of the residual stream.")
    ffn_hidden_size: int = Field(ge=8, description="Width of the gated MLP.")
    num_attention_heads: int = Field(ge=1, description="Query heads.")
    num_query_groups: int = Field(ge=1, description="Key and value heads.")
    head_dim: int | None = Field(default=None, ge=2, description="Width of a head; empty: hidden_size / num_attention_heads.")
    vocab_size: int | None = Field(default=None, ge=2, description="Rows of the embedding; empty: the tokenizer's.")
    max_position_embeddings: int = Field(default=2048, ge=8, description="Longest sequence.")
    rope_theta: float = Field(default=10_000.0, gt=0, description="Base of the rotary embedding.")
    tie_word_embeddings: bool = Field(default=True, description="Share the embedding with the output layer.")
    initializer_range: float = Field(
        default=0.02, gt=0, description="Standard deviation of the initial weights; narrow models learn sooner from wider ones."
    )

    @model_validator(mode="after")
    def _heads(self) -> Self:
        if self.num_attention_heads % self.num_query_groups:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of num_query_groups {self.num_query_groups}"
            )
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}; set head_dim"
            )
        return self


class Training(StageConfig):
    """What teacher training and distillation share: batches, schedule, optimizer (Adam), validation, checkpoints."""

    steps: int = Field(ge=0, description="Optimizer steps.")
    seq_length: int = Field(ge=8, description="Tokens of one sequence.")
    global_batch: int = Field(ge=1, description="Sequences of one optimizer step.")
    micro_batch: Annotated[int, Execution()] = Field(ge=1, description="Sequences of one forward pass on one data-parallel rank.")
    lr: float = Field(gt=0, description="Peak learning rate.")
    min_lr: float = Field(ge=0, description="Learning rate at the end of the cosine.")
    warmup_steps: int = Field(ge=0, description="Steps of linear warm-up.")
    weight_decay: float = Field(default=0.1, ge=0, description="Decoupled weight decay; not applied to norms and biases.")
    adam_beta1: float = Field(default=0.9, ge=0, lt=1, description="Adam's first moment.")
    adam_beta2: float = Field(default=0.95, ge=0, lt=1, description="Adam's second moment.")
    clip_grad: float = Field(default=1.0, gt=0, description="Gradients are clipped to this global norm.")
    precision: Precision = Field(default="bf16", description="bf16 keeps fp32 master weights in the optimizer.")
    seed: int = Field(default=1, ge=0, description="Seed of initial weights and of the data order.")
    validate_every: int = Field(default=50, ge=1, description="Steps between validations; the first and last step are validated too.")
    validation_batches: int = Field(default=8, ge=1, description="Global batches of one validation.")
    checkpoint_every: Annotated[int, Execution()] = Field(default=50, ge=1, description="Steps between checkpoints to resume from.")
    parallel: RunsAs = Field(default=Parallel(), description="Where it runs.")

    @model_validator(mode="after")
    def _schedule(self) -> Self:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr {self.min_lr:g} is above lr {self.lr:g}; choose a smaller min_lr")
        if self.steps and self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} leaves nothing of steps {self.steps}; choose fewer warm-up steps")
        per_pass = self.micro_batch * self.parallel.data
        if self.global_batch % per_pass:
            raise ValueError(
                f"global_batch {self.global_batch} is not a multiple of micro_batch {self.micro_batch} x data-parallel size "
                f"{self.parallel.data}; choose a multiple of {per_pass}"
            )
        return self

    @property
    def tokens(self) -> int:
        """Tokens trained on."""
        return self.steps * self.global_batch * self.seq_length


class TeacherConfig(Training):
    """The model to compress: imported, or made from a shape; then trained on the tokens unless `steps` is 0."""

    model: Annotated[str | None, Execution()] = Field(
        default=None,
        min_length=1,
        description="Hugging Face model directory or id. Not hashed itself: the digest of its files is an input of the stage.",
    )
    shape: Shape | None = Field(default=None, description="Dimensions of a teacher trained from scratch.")
    reference: Annotated[Shape | None, Execution()] = Field(
        default=None, description="Dimensions of a hub model, for plans and checks on a machine that does not have its files."
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.model is None) == (self.shape is None):
            raise ValueError("teacher needs exactly one of model (a Hugging Face directory or id) and shape (from scratch)")
        if self.shape and self.steps == 0:
            raise ValueError("teacher.steps is 0 but teacher.shape starts from random weights; choose steps of at least 1")
        return self


class ImportanceConfig(StageConfig):
    """Activation importance of layers and channels, measured once for a teacher and shared by every pruned variant."""

    calibration_samples: int = Field(default=1024, ge=1, description="Sequences run to score importance.")
    seq_length: int = Field(default=4096, ge=8, description="Tokens of one calibration sequence.")
    precision: Precision = Field(default="bf16", description="Precision of the forward pass.")
    micro_batch: Annotated[int, Execution()] = Field(default=1, ge=1, description="Sequences of one forward pass.")
    parallel: RunsAs = Field(default=Parallel(), description="Where it runs; ModelOpt scores with tensor-parallel size 1.")

    @field_validator("parallel")
    @classmethod
    def _pipeline_only(cls, value: Parallel) -> Parallel:
        if value.tensor != 1 or value.data != 1:
            raise ValueError("importance runs with tensor- and data-parallel size 1; spread it with parallel.pipeline")
        return value


class PruneConfig(StageConfig):
    """The student's shape: layers named or ranked away, and width cut by importance. Empty fields keep the teacher's value."""

    drop_layers: tuple[int, ...] = Field(default=(), description="Layers to drop, numbered from 1; 16..31 of 32 keeps layer 32.")
    num_layers: int | None = Field(default=None, ge=1, description="Layers to keep, the least important dropped.")
    hidden_size: int | None = Field(default=None, ge=8, description="Width of the residual stream to keep.")
    ffn_hidden_size: int | None = Field(default=None, ge=8, description="Width of the MLP to keep.")
    num_attention_heads: int | None = Field(default=None, ge=1, description="Query heads to keep; query groups stay as they are.")
    ranking: Ranking = Field(
        default="activation",
        description="What the ranked axes are ranked by: activations on the corpus (Minitron), or as baselines the weights' squared "
        "norms or chance.",
    )
    reinitialize: bool = Field(
        default=False,
        description="Keep the shape and draw the weights anew. With distill.ce_share 1 that is the same shape trained from scratch, the "
        "baseline that pruning has to beat.",
    )
    seed: int = Field(default=1, ge=0, description="Seed of a random ranking and of reinitialized weights.")
    parallel: RunsAs = Field(default=Parallel(), description="Where it runs; ModelOpt prunes with tensor-parallel size 1.")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.drop_layers or self.ranked):
            raise ValueError("prune cuts nothing; give drop_layers, num_layers, hidden_size, ffn_hidden_size or num_attention_heads")
        if self.drop_layers and self.num_layers:
            raise ValueError("prune.drop_layers and prune.num_layers both choose the depth; give one of them")
        if self.ranking != "activation" and not self.ranked:
            raise ValueError(f"prune.ranking is {self.ranking} but only drop_layers is given, which ranks nothing; leave ranking out")
        if len(set(self.drop_layers)) != len(self.drop_layers) or any(layer < 1 for layer in self.drop_layers):
            raise ValueError(f"prune.drop_layers {list(self.drop_layers)} must be distinct and numbered from 1")
        return self

    @field_validator("parallel")
    @classmethod
    def _pipeline_only(cls, value: Parallel) -> Parallel:
        if value.tensor != 1 or value.data != 1:
            raise ValueError("pruning runs with tensor- and data-parallel size 1; spread it with parallel.pipeline")
        return value

    @property
    def ranked(self) -> dict[str, int]:
        """The axes cut by importance, with the sizes to keep."""
        axes = ("num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads")
        return {axis: value for axis in axes if (value := getattr(self, axis)) is not None}


class DistillConfig(Training):
    """Teacher to student: a divergence of their logits, and a share of cross-entropy on the tokens."""

    loss: DistillLoss = Field(
        default="forward_kl",
        description="forward_kl: KL(teacher || student), covers all the teacher says; reverse_kl: KL(student || teacher), keeps to "
        "what the teacher finds likely; jensen_shannon: half of each to their mean.",
    )
    temperature: float = Field(default=1.0, gt=0, description="Softmax temperature of both sides.")
    scale_by_t2: bool = Field(default=False, description="Multiply the divergence by temperature squared, as Hinton et al. (2015) do.")
    top_k: int | None = Field(
        default=None, ge=1, description="Compare only the teacher's K likeliest tokens, gathered before the softmax; empty: all."
    )
    rest_bucket: bool = Field(
        default=False, description="With top_k: probabilities over the whole vocabulary, all tokens outside the top K as one more bucket."
    )
    ce_share: float = Field(default=0.0, ge=0, le=1, description="Loss = (1 - ce_share) x divergence + ce_share x cross-entropy.")

    @model_validator(mode="after")
    def _rest_of_what(self) -> Self:
        if self.rest_bucket and self.top_k is None:
            raise ValueError("distill.rest_bucket is the probability outside top_k, which is empty; give top_k or leave rest_bucket out")
        return self


class QuantizeConfig(StageConfig):
    """Post-training quantization with ModelOpt, calibrated on the corpus, exported as a unified Hugging Face checkpoint."""

    format: QuantFormat = Field(description="fp8: E4M3 weights and activations per tensor; nvfp4: E2M1 in blocks of 16.")
    calibration_samples: int = Field(default=512, ge=1, description="Sequences run to calibrate activations.")
    seq_length: int = Field(default=512, ge=8, description="Tokens of one calibration sequence.")
    batch: Annotated[int, Execution()] = Field(default=1, ge=1, description="Sequences of one forward pass.")
    parallel: RunsAs = Field(default=Parallel(), description="Where it runs (one process).")


class Mmlu(Config):
    """Which multiple-choice questions, and how they are asked through lm-eval."""

    path: Annotated[str | None, Execution()] = Field(
        default=None,
        description="Folder of the original CSVs (dev/, test/); 'quiz': the invented world's; empty: cais/mmlu from the hub. "
        "Not hashed itself: the digest of what it names is an input of the stage.",
    )
    style: Literal["letters", "continuation"] = Field(
        default="letters",
        description="letters: choices are listed and a letter is the answer (lm-eval mmlu); continuation: the choice's own text is scored "
        "after the question (lm-eval mmlu_continuation), which small models can do before they can handle letters.",
    )
    subjects: tuple[str, ...] = Field(default=(), description="Subjects to ask; empty: all.")
    shots: int = Field(default=0, ge=0, le=5, description="Worked examples before each question.")
    limit: int | None = Field(default=None, ge=1, description="Questions a subject at most; empty: all.")


class EvaluateConfig(StageConfig):
    """What each model of the run is measured by."""

    mmlu: Mmlu | None = Field(default=Mmlu(), description="Multiple-choice questions; null leaves them out.")
    batch: Annotated[int, Execution()] = Field(default=16, ge=1, description="Sequences or questions of one forward pass.")
    seq_length: int = Field(default=512, ge=8, description="Tokens of one sequence of the test split.")
    sequences: int = Field(default=128, ge=1, description="Sequences of the test split scored at most (loss, perplexity, KL).")
    prompt_tokens: int = Field(default=32, ge=1, description="Prompt length of the generation timing.")
    new_tokens: int = Field(default=64, ge=0, description="Tokens generated when timing; 0 leaves timing out.")
    precision: Precision = Field(default="bf16", description="Precision of the forward passes.")
    parallel: RunsAs = Field(default=Parallel(), description="Where it runs (one process).")


class FetchConfig(StageConfig):
    """A model directory on the Hugging Face hub."""

    model: str = Field(description="Hub id, owner/name.")
    branch: str = Field(default="main", description="Branch, tag or commit on the hub.")


class Student(Config):
    """One way to make the teacher smaller, and how it is taught afterwards."""

    prune: PruneConfig = Field(description="The student's shape.")
    distill: DistillConfig | None = Field(default=None, description="Replaces the recipe's distill for this student.")
    quantize: bool | tuple[QuantFormat, ...] = Field(
        default=True, description="true: in every format of the recipe; false: in none; or the list of its formats."
    )


class Recipe(Config):
    """A whole run: one corpus, one teacher, its students, their formats, one report."""

    description: str = Field(default="", description="One line for people.")
    data: DataConfig
    teacher: TeacherConfig
    importance: ImportanceConfig = ImportanceConfig()
    students: dict[Annotated[str, Field(pattern=NAME)], Student] = Field(min_length=1, description="Students by name.")
    distill: DistillConfig | None = Field(default=None, description="How every student is taught; null: pruned only.")
    quantize: tuple[QuantizeConfig, ...] = Field(default=(), description="One entry per format.")
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="after")
    def _formats_once(self) -> Self:
        formats = [entry.format for entry in self.quantize]
        if len(set(formats)) != len(formats):
            raise ValueError(f"quantize names a format twice: {formats}")
        reserved = {"teacher"} & set(self.students)
        if reserved:
            raise ValueError("a student cannot be called 'teacher'; choose another name")
        for name, student in self.students.items():
            unknown = [] if isinstance(student.quantize, bool) else [entry for entry in student.quantize if entry not in formats]
            if unknown:
                raise ValueError(f"students.{name}.quantize names {unknown[0]}, which the recipe's quantize does not have; add it there")
        return self

    def formats_of(self, student: str) -> tuple[QuantizeConfig, ...]:
        """The formats `student` is quantized in, in the recipe's order."""
        wanted = self.students[student].quantize
        return tuple(entry for entry in self.quantize if wanted is True or (wanted and entry.format in wanted))

    def distill_of(self, student: str) -> DistillConfig | None:
        """How `student` is taught: its own distill where it has one, else the recipe's."""
        return self.students[student].distill or self.distill
