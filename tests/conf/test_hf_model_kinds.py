"""What kind of checkpoint a path holds, told without opening what could run code."""

from __future__ import annotations

import json
import tarfile
from contextlib import nullcontext
from pathlib import Path

import pytest

from conf.hf_model import check_no_nemo, mixes_experts


@pytest.mark.parametrize(
    ("name", "made", "told"),
    [
        ("model.nemo", "text", "is a NeMo 1 archive"),
        ("model.nemo", None, "is a NeMo 1 archive"),
        ("disguised", "tar", "is a NeMo 1 archive"),
        ("nemo2", "weights context", "is a NeMo 2 checkpoint"),
        ("half", "weights", None),
        ("notes", "text", None),
    ],
)
def test_a_nemo_checkpoint_is_known_without_opening_it(
    name: str, made: str | None, told: str | None, tmp_path: Path
) -> None:
    path = tmp_path / name
    if made == "tar":
        tarfile.open(path, "w").close()
    elif made == "text":
        path.write_text("no archive")
    for folder in (made or "").split() if made not in ("tar", "text") else ():
        (path / folder).mkdir(parents=True)
    with pytest.raises(ValueError, match=told) if told else nullcontext():
        check_no_nemo(path)


@pytest.mark.parametrize(
    ("config", "mixes"),
    [({"model_type": "qwen3_moe"}, True), ({"model_type": "llama"}, False), ({"model_type": "x"}, False), ({}, False)],
)
def test_a_known_family_with_experts_mixes_them(config: dict[str, str], mixes: bool, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert mixes_experts(tmp_path) is mixes


def test_a_folder_without_a_config_mixes_nothing(tmp_path: Path) -> None:
    assert mixes_experts(tmp_path) is False
