"""Stands in for NeMo's gpt_train.py: prints progress as NeMo does and leaves checkpoints and events; with no steps left
it goes on."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from nemo.collections import llm

words = sys.argv[1:]
given = {word: words[place + 1] for place, word in enumerate(words[:-1]) if word.startswith("--")}
assert Path(given["--data_paths"] + ".bin").is_file()
assert (Path(given["--teacher_path"]) / "weights" / "config.json").is_file()
steps, every = int(given["--max_steps"]), int(given["--val_check_interval"])
if os.environ["RANK"] == "0":
    logs = Path(given["--log_dir"]) / given["--name"]
    events = logs / "version_0" / "events.out.tfevents.1"
    events.parent.mkdir(parents=True)
    lines = []
    for step in range(steps):
        print(
            f"Training epoch 0, iteration {step}/{steps - 1} | lr: 1e-05 | global_step: {step} | reduced_train_loss:"
            f" {2 - step / 10:.4}"
        )
        if (step + 1) % every == 0:
            loss = abs(step - 3) + 1.5
            lines.append(json.dumps([step, float(step), loss]))
            name = f"distill--val_loss={loss:.2f}-step={step}-consumed_samples={8 * (step + 1)}.0"
            last = [f"{name}-last"] if step == steps - 1 else []
            for checkpoint in (name, *last):
                llm.wrap(Path(given["--model_path"]) / "weights", logs / "checkpoints" / checkpoint)
    events.write_text("\n".join(lines))
