"""Text from web pages and PDF files, beside trafilatura called directly as datatrove calls it.

    python -m tests.bench.extraction

Reads ../shared/data: html/ (pages with the text that Readability expects) and pdf/. Agreement is by runs of four words;
speed is in processor time of one core. Cuts: each PDF file at five lengths, which must give all its text or a reason.
Writes results/extraction.md."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lxml.html
import pypdfium2
import trafilatura

from conf.extraction import Extract
from jobs.corpus.extract.html import read_html
from jobs.corpus.extract.pdf import read_pdf

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
RESULT = Path(__file__).with_name("results") / "extraction.md"
KEPT = (0.999, 0.95, 0.9, 0.75, 0.5)
SHIPPED = {"include_comments": False, "include_images": False, "favor_precision": True, "deduplicate": True}
"""What datatrove's extractor asks for."""
Reader = Callable[[bytes], str]


def runs(text: str) -> Counter[tuple[str, ...]]:
    """Runs of four words."""
    words = re.findall(r"\w+", text.lower())
    return Counter(zip(*(words[start:] for start in range(4)), strict=False))


def agreement(found: str, expected: str) -> tuple[float, float, float]:
    """Precision, recall and F1."""
    ours, theirs = runs(found), runs(expected)
    common = (ours & theirs).total()
    precision, recall = common / max(1, ours.total()), common / max(1, theirs.total())
    return precision, recall, 2 * precision * recall / max(1e-9, precision + recall)


def pages() -> dict[str, tuple[bytes, str]]:
    """Each page and its expected text."""
    found = {}
    for folder in sorted((SHARED / "html").iterdir()):
        expected = lxml.html.fromstring((folder / "expected.html").read_bytes().decode()).text_content()
        found[folder.name] = ((folder / "source.html").read_bytes(), str(expected))
    return found


def web(name: str, read: Reader) -> str:
    """A row of the table of web pages."""
    scores, seconds, empty = {}, 0.0, 0
    for page, (content, expected) in pages().items():
        start = time.process_time()
        text = read(content)
        seconds += time.process_time() - start
        scores[page], empty = agreement(text, expected), empty + (not text)
    mean = [sum(score[part] for score in scores.values()) / len(scores) for part in range(3)]
    worst = min(scores, key=lambda page: scores[page][2])
    figures = " | ".join(f"{value:.3f}" for value in mean)
    return f"| {name} | {figures} | {empty} | {worst} {scores[worst][2]:.2f} | {len(scores) / seconds:.0f} |"


def repeats(read: Reader) -> list[int]:
    """Characters of one page in six calls."""
    content = max(pages().values(), key=lambda page: len(page[1]))[0]
    return [len(read(content)) for _ in range(6)]


def pdfs() -> tuple[dict[str, dict[str, Any]], float, int]:
    """What becomes of each file, pages a second and pages."""
    answers, seconds = {}, 0.0
    for path in sorted((SHARED / "pdf").rglob("*.pdf")):
        content = path.read_bytes()
        start = time.process_time()
        answers[path.name] = read_pdf(content, Extract()) if content else {"reason": "empty"}
        seconds += time.process_time() - start
    count = sum(answer.get("pages", 0) for answer in answers.values())
    return answers, count / seconds, count


def cuts(answers: dict[str, dict[str, Any]]) -> dict[str, Counter[str]]:
    """What becomes of cut files by the share that is kept: where cut ones are quarantined, and where they are kept."""
    readable = {path: answers[path.name] for path in (SHARED / "pdf").rglob("*.pdf") if answers[path.name].get("pages")}
    found = {}
    for truncated in ("quarantine", "keep"):
        counts = Counter[str]()
        for path, answer in readable.items():
            content = path.read_bytes()
            for share in KEPT:
                got = read_pdf(content[: int(len(content) * share)], Extract(truncated=truncated))
                counts[
                    "as the whole file" if got == answer else str(got.get("reason", "other text")).partition(":")[0]
                ] += 1
        found[truncated] = counts
    return found


def main() -> None:
    """Run all and write the result."""
    logging.disable(logging.CRITICAL)  # trafilatura logs every page it cannot read
    rows = [
        web("imbik", lambda content: read_html(content, None, Extract()).get("text", "")),
        web("trafilatura as datatrove calls it", lambda content: trafilatura.extract(content, **SHIPPED) or ""),
        web("trafilatura's defaults", lambda content: trafilatura.extract(content) or ""),
    ]
    answers, speed, count = pdfs()
    reasons = "\n".join(f"- {name}: {one['reason']}" for name, one in answers.items() if "reason" in one)
    cut = "\n".join(
        f"- `truncated: {name}`: " + ", ".join(f"{n} {what}" for what, n in counts.most_common())
        for name, counts in cuts(answers).items()
    )
    ours = repeats(lambda content: read_html(content, None, Extract()).get("text", ""))
    shipped = repeats(lambda content: trafilatura.extract(content, **SHIPPED) or "")
    RESULT.write_text(
        f"""# Text from web pages and PDF files

`python -m tests.bench.extraction`, trafilatura {trafilatura.__version__}, pypdfium2 {pypdfium2.PYPDFIUM_INFO};
one core, in processor time. {len(pages())} pages; the expected text is Readability's, which favours what
extracts articles.

| | precision | recall | F1 | empty | worst page | pages/s |
|---|---:|---:|---:|---:|---|---:|
{chr(10).join(rows)}

Characters of one page in six calls: imbik {ours}, trafilatura as datatrove calls it {shipped}.

PDF: {len(answers)} files, {count} pages, {speed:.0f} pages/s; {sum("text" in one for one in answers.values())} give
text, the others say why:

{reasons}

Each readable file cut at {", ".join(f"{share:.1%}" for share in KEPT)} of its length:

{cut}
"""
    )
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
