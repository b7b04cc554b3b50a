"""A question of any benchmark, and a row of the table of benchmarks.

Owns what the kinds have in common; each kind's module says how its files are read and its answers scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Row = dict[str, Any]
Kind = Literal["choice", "number", "expression", "letter", "code", "rules"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One option of a question: what it adds to the prompt, what is scored after that, and its text alone."""

    context: str = ""
    continuation: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question, whatever the shape of its file. Fields that its kind does not use are empty.

    `text` is what is asked and `answer` the reference, as it would follow `text`. `gold` is the right number,
    expression or letter, or the position of the right choice. `tests` is the code that follows a program,
    `entry` the function that it must define, `chance` the share of guesses that are right,
    `rules` what the answer must keep to, as JSON (`rules.followed`)."""

    id: str
    text: str
    answer: str
    gold: str = ""
    choices: tuple[Choice, ...] = ()
    tests: str = ""
    entry: str = ""
    group: str = ""
    chance: float = 0.0
    rules: str = ""


@dataclass(frozen=True, kw_only=True)
class Response:
    """What a model made of a question: text and how it ended, or the log probability in nats of each choice.

    `stop` is `end` (the model ended it), `stop` (a stop string), `length` (cut by max_new_tokens) or empty."""

    text: str = ""
    stop: str = ""
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A row of the table: all that tells one benchmark from another of its kind.

    `keys` are the columns that `parse` reads, for the sentence that refuses a file of another shape. Where a folder
    holds several benchmarks, one of `words` is in the names of this one's files; the first that any has counts. Worked
    examples come from `examples`, or from `examples_split`: the first ones, or drawn anew for each question. A model's
    text ends before any of `stops`."""

    name: str
    kind: Kind
    hub: str
    hub_config: str | None = None
    words: tuple[str, ...] = ()
    split: str = "test"
    examples_split: str = "train"
    keys: str
    parse: Callable[[Row], Question]
    wanted: Callable[[Question], bool] = lambda question: True
    shots: int = 0
    drawn: bool = False
    spare_draws: int = 0
    """Examples drawn beyond `shots`, as lm-eval does where a task has no test split: it then expects the question
    itself among them."""
    examples: tuple[Question, ...] = ()
    description: Callable[[Question], str] = lambda question: ""
    delimiter: str = " "
    chat: Callable[[Question], tuple[str, str]] | None = None
    """The user's message and the beginning of the assistant's, where a chat model is asked in other words."""
    stops: tuple[str, ...] = ()
    max_new_tokens: int = 0
    by_length: bool = False
    """Whether the best choice is that with the highest log probability per character."""
