"""The rows of the table say what lm-eval's tasks of these names say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lm_eval
import pytest
import yaml

from jobs.benchmarks.table import BENCHMARKS, MBPP_EXAMPLES

SHIPPED = Path(lm_eval.__file__).parent / "tasks"


TASKS = {
    "gsm8k": "gsm8k/gsm8k.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "humaneval": "humaneval/humaneval.yaml",
    "mbpp": "mbpp/mbpp.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "winogrande": "winogrande/default.yaml",
    "mmlu_pro": "mmlu_pro/mmlu_pro_law.yaml",
}


class Loader(yaml.SafeLoader):
    """Reads `!function` as a name: importing some tasks' code would ask the hub."""


Loader.add_constructor("!function", lambda loader, node: ("function", loader.construct_scalar(node)))


def shipped_task(path: Path) -> dict[str, Any]:
    task = yaml.load(path.read_text(), Loader)
    return (shipped_task(path.parent / task.pop("include")) | task) if "include" in task else task


@pytest.mark.parametrize("name", [*TASKS, "ifeval", "math"])
def test_examples_and_lengths_are_lm_evals(name: str) -> None:
    """`max_gen_toks` is 256 where a task says none; MATH's solutions were cut by that, so ours may be longer."""
    files = TASKS | {"ifeval": "ifeval/ifeval.yaml", "math": "minerva_math/minerva_math_algebra.yaml"}
    task, benchmark = shipped_task(SHIPPED / files[name]), BENCHMARKS[name]
    assert benchmark.shots == (task.get("num_fewshot") or 0)
    if task["output_type"] == "generate_until":
        length = 1024 if name == "math" else task["generation_kwargs"].get("max_gen_toks", 256)
        assert benchmark.max_new_tokens == length
        assert list(benchmark.stops) == task["generation_kwargs"]["until"]
    else:
        assert (benchmark.max_new_tokens, benchmark.stops) == (0, ())
    if task.get("training_split") or task.get("fewshot_split"):
        first = task.get("fewshot_config", {}).get("sampler") == "first_n"
        assert benchmark.drawn is not first
        assert benchmark.spare_draws == (0 if first or task.get("test_split") else 1)


def test_options_are_compared_by_length_where_published_scores_are() -> None:
    """Open LLM Leaderboard 1: `acc_norm` of ARC-Challenge and HellaSwag, `acc` of WinoGrande."""
    assert {name for name, row in BENCHMARKS.items() if row.by_length} == {"arc_challenge", "hellaswag"}


def test_worked_tasks_of_mbpp_are_its_first_three() -> None:
    """Google's prompt has tasks 2, 3 and 4 of its file."""
    assert [one.id for one in MBPP_EXAMPLES] == ["2", "3", "4"]
    assert [one.tests.count("assert") for one in MBPP_EXAMPLES] == [3, 3, 3]


def test_worked_problems_of_math_end_in_their_answers() -> None:
    """Minerva's four: each boxed answer is told once more at the end."""
    examples = BENCHMARKS["math"].examples
    assert [one.gold for one in examples] == ["[2,5)", "24", "16", "-\\frac{2}{3}"]
    for one in examples:
        assert one.answer.endswith(f"Final Answer: The final answer is ${one.gold}$. I hope it is correct.")
