"""How much planted contamination is found, beside the 13-gram rule of GPT-3 and the 8-gram rule of Tulu 3.

    python -m tests.bench.contamination [QUESTIONS]

Plants questions of ../shared/data (MMLU, ARC, GSM8K, MBPP, HumanEval) in real documents in twelve forms, and prints the
share found of each form, the clean documents that are flagged, and the speed of one core."""

from __future__ import annotations

import csv
import json
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.curation.question_index import Question, QuestionIndex
from jobs.curation.words import words_of

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
LETTERS = "ABCDE"


def questions() -> Iterator[Question]:
    """The questions of five benchmarks."""
    for file in sorted((SHARED / "mmlu/test").glob("*.csv")):
        with file.open(newline="", encoding="utf-8") as stream:
            for number, row in enumerate(csv.reader(stream)):
                yield Question("mmlu", f"{file.stem}/{number}", row[0], tuple(row[1:5]))
    for file in sorted((SHARED / "arc").glob("*Test.jsonl")):
        for entry in map(json.loads, file.read_text("utf-8").splitlines()):
            stem, choices = entry["question"]["stem"], entry["question"]["choices"]
            yield Question("arc", entry["id"], stem, tuple(choice["text"] for choice in choices))
    for benchmark, file, field in (
        ("gsm8k", "gsm8k/test.jsonl", "question"),
        ("mbpp", "mbpp/mbpp.jsonl", "text"),
        ("humaneval", "humaneval/HumanEval.jsonl", "prompt"),
    ):
        for number, line in enumerate((SHARED / file).read_text("utf-8").splitlines()):
            yield Question(benchmark, str(number), json.loads(line)[field])


def documents() -> list[str]:
    """Real texts without planted questions, in parts of about 1,500 characters."""
    parts = [json.loads(line)["text"] for line in (SHARED / "web/c4_demo.jsonl").read_text("utf-8").splitlines()]
    for file in sorted(path for path in (SHARED / "text").rglob("*") if path.is_file()):
        part = ""
        for paragraph in file.read_text("utf-8", errors="replace").split("\n\n"):
            part += paragraph + "\n\n"
            if len(part) > 1500:
                parts.append(part)
                part = ""
        if part.strip():
            parts.append(part)
    return parts


def _whole(question: Question, options: list[str] | None = None) -> str:
    chosen = options if options is not None else list(question.options)
    return "\n".join([question.text, *(f"{letter}. {text}" for letter, text in zip(LETTERS, chosen, strict=False))])


def _replaced(text: str, share: float, chance: random.Random) -> str:
    words = text.split()
    return " ".join("something" if chance.random() < share else word for word in words)


def _typographic(text: str) -> str:
    text = re.sub(r'"([^"]*)"', "\u201c\\1\u201d", text).replace("'", "\u2019")
    return text.replace(" - ", " \u2013 ").replace("...", "\u2026").replace("fi", "\ufb01")


Form = Callable[[Question, random.Random], str]
FORMS: dict[str, Form] = {
    "verbatim": lambda question, chance: _whole(question),
    "question only": lambda question, chance: question.text,
    "upper case": lambda question, chance: _whole(question).upper(),
    "white space": lambda question, chance: "  \n".join(_whole(question).split()),
    "no punctuation": lambda question, chance: " ".join(re.findall(r"\w+", _whole(question))),
    "typographic": lambda question, chance: _typographic(_whole(question)),
    "options shuffled": lambda question, chance: _whole(
        question, chance.sample(list(question.options), len(question.options))
    ),
    "two documents": lambda question, chance: _whole(question)[: len(_whole(question)) // 2],
    "10% of words": lambda question, chance: _replaced(_whole(question), 0.1, chance),
    "20% of words": lambda question, chance: _replaced(_whole(question), 0.2, chance),
    "numbers changed": lambda question, chance: re.sub(
        r"\d+", lambda found: str(int(found[0]) + 7) if len(found[0]) < 9 else found[0], _whole(question)
    ),
    "html": lambda question, chance: "<p>" + _whole(question).replace("\n", "</p>\n<p class='option'>") + "</p>",
}


@dataclass
class NGramRule:
    """A question is found where `share` of its runs of `length` words are in a document; 0: any one."""

    length: int
    share: float

    def index(self, listed: list[Question]) -> None:
        """Learn the questions' runs."""
        self.runs = {question: self._runs(question.text) for question in listed}
        self.by_run: dict[str, set[Question]] = {}
        for question, runs in self.runs.items():
            for run in runs:
                self.by_run.setdefault(run, set()).add(question)

    def find(self, text: str) -> set[Question]:
        """The questions found in a text."""
        counts: dict[Question, int] = {}
        for run in self._runs(text):
            for question in self.by_run.get(run, ()):
                counts[question] = counts.get(question, 0) + 1
        return {question for question, count in counts.items() if count > self.share * len(self.runs[question]) - 1e-9}

    def _runs(self, text: str) -> set[str]:
        words = words_of(text)
        return {" ".join(words[start : start + self.length]) for start in range(len(words) - self.length + 1)}


def planted(listed: list[Question], clean: list[str], each: int, seed: int) -> Iterator[tuple[str, Question, str]]:
    """(form, question, document that contains it)."""
    chance = random.Random(seed)
    for name, form in FORMS.items():
        for question in chance.sample(listed, each):
            paragraphs = chance.choice(clean).split("\n")
            paragraphs.insert(chance.randrange(len(paragraphs) + 1), form(question, chance))
            yield name, question, "\n".join(paragraphs)


def main() -> None:
    """Plant, look, print."""
    each = int(sys.argv[1]) if len(sys.argv) > 1 else 220
    listed, clean = list(questions()), documents()
    start = time.process_time()
    ours = QuestionIndex(listed)
    indexed = time.process_time() - start
    rivals = {"13-gram, any": NGramRule(13, 0), "8-gram, half": NGramRule(8, 0.5)}
    for rule in rivals.values():
        rule.index(listed)
    found: dict[str, dict[str, int]] = {form: dict.fromkeys(("ours", *rivals), 0) for form in FORMS}
    for form, question, document in planted(listed, clean, each, 1):
        found[form]["ours"] += any(match.question == question for match in ours.find(document))
        for name, rule in rivals.items():
            found[form][name] += question in rule.find(document)
    for form, counts in found.items():
        print(f"{form:18}", *(f"{name} {count / each:.3f}" for name, count in counts.items()), sep="  ")
    total = {name: sum(counts[name] for counts in found.values()) / each / len(FORMS) for name in ("ours", *rivals)}
    print(f"{'all':18}", *(f"{name} {share:.3f}" for name, share in total.items()), f"n {each * len(FORMS)}", sep="  ")
    start, flagged = time.process_time(), [match[0] for text in clean if (match := ours.find(text))]
    seconds, size = time.process_time() - start, sum(len(text.encode()) for text in clean) / 1e6
    print(f"clean documents flagged: {len(flagged)} of {len(clean)}: {[match.question.id for match in flagged]}")
    print(f"index of {len(listed)} questions {indexed:.1f} s, {len(ours.unknowable)} of them too short to be told")
    print(f"{size / seconds:.1f} MB/s on one core ({size:.1f} MB)")


if __name__ == "__main__":
    main()
