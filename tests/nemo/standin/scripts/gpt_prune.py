"""Stands in for NeMo's gpt_prune.py: rank 0 leaves the model that IMBIK_TEST_PRUNED names, and what it was asked."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from nemo.collections import llm

words = sys.argv[1:]
if os.environ["RANK"] == "0":
    save = Path(words[words.index("--save_path") + 1])
    llm.wrap(Path(os.environ["IMBIK_TEST_PRUNED"]), save)
    (save / "asked.json").write_text(json.dumps(words))
