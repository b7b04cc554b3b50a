"""The section on stored logits."""

from __future__ import annotations

import json
from pathlib import Path

from tasks.report.sections.logits import read_logits, section


def test_size_and_missing_probability_are_printed(tmp_path: Path) -> None:
    splits = {"train": {"rows": 900, "left_out": 0.0123, "x": 1}, "validation": {"rows": 100, "left_out": 0.02}}
    manifest = {"top_k": 8, "vocab_size": 32_000, "splits": splits}
    (tmp_path / "logits.json").write_text(json.dumps(manifest))
    for name, size in (("a.safetensors", 30_000), ("b.safetensors", 20_000), ("c.json", 99)):
        (tmp_path / name).write_bytes(b"0" * size)
    stored = read_logits(str(tmp_path))
    assert stored is not None and stored.bytes == 50_000
    text = section(stored)
    assert text and text.sentences == (
        "Offline distillation reads the teacher's top 8 logits of 32,000 per token: 1,000 tokens, 0.1 MB, 50 bytes per"
        " token. The teacher was not loaded.",
        "The stored logits leave out 1.23% of the teacher's probability on the training tokens and 2.00% on the"
        " validation tokens.",
    )


def test_without_logits_there_is_no_section() -> None:
    assert read_logits(None) is None
    assert section(None) is None
