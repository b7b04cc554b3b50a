"""datatrove's filters on documents: `python filters_peer.py FILE`, under an interpreter that has datatrove and spaCy.

The file is JSON: documents by source, and the expressions for words and ends of sentences, or null for datatrove's own.
Prints JSON: for each source and group of rules the documents removed, the texts edited, and processor seconds."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.utils import text as datatrove_text
from datatrove.utils.word_tokenizers import WordTokenizer


class Expressions(WordTokenizer):
    """Our expressions as a tokenizer of datatrove."""

    def __init__(self, words: str, ends: list[str]) -> None:
        super().__init__()
        self.words = re.compile(words, re.VERBOSE)
        self.ascii_ends, self.ends = map(re.compile, ends)

    def word_tokenize(self, text: str) -> list[str]:
        return self.words.findall(text)

    def sent_tokenize(self, text: str) -> list[str]:
        raise NotImplementedError

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        ends = self.ascii_ends if text.isascii() else self.ends
        return [(0, end) for end in (*(found.end() for found in ends.finditer(text)), len(text))]


def judged(kind: Any, texts: list[str]) -> dict[str, Any]:
    """What one filter does to the documents of a source."""
    datatrove_text.split_into_parts.cache_clear()
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
    start, removed = time.process_time(), []
    for number, document in enumerate(documents):
        result = kind.filter(document)
        if not (result[0] if isinstance(result, tuple) else result):
            removed.append(number)
    seconds = time.process_time() - start
    return {"removed": removed, "texts": [document.text for document in documents], "seconds": seconds}


def main(task: dict[str, Any]) -> None:
    """All groups on all sources."""
    language: Any = Expressions(task["words"], task["ends"]) if task["words"] else "en"
    kinds = {
        "repetition": GopherRepetitionFilter(language=language),
        "gopher": GopherQualityFilter(language=language),
        "c4": C4QualityFilter(language=language, filter_no_terminal_punct=False),
        "fineweb": FineWebQualityFilter(language=language),
    }
    GopherQualityFilter(language=language).filter(Document(text="Loads its words once.", id="0"))
    found = {
        source: {name: judged(kind, texts) for name, kind in kinds.items()} for source, texts in task["texts"].items()
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
