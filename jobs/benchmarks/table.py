"""The benchmarks, one a row. Prompts, worked examples and stop strings are those of lm-eval's tasks of these names."""

from __future__ import annotations

from jobs.benchmarks import choices, expressions, letters, math_examples, numerals, programs, rules
from jobs.benchmarks.question import Benchmark

MBPP_EXAMPLES = tuple(
    programs.mbpp({"task_id": number, "text": text, "code": code, "test_list": tests})
    for number, text, code, tests in (
        (
            2,
            "Write a function to find the similar elements from the given two tuple lists.",
            "def similar_elements(test_tup1, test_tup2):\r\n  res = tuple(set(test_tup1) & set(test_tup2))\r\n"
            "  return (res) ",
            [
                "assert similar_elements((3, 4, 5, 6),(5, 7, 4, 10)) == (4, 5)",
                "assert similar_elements((1, 2, 3, 4),(5, 4, 3, 7)) == (3, 4)",
                "assert similar_elements((11, 12, 14, 13),(17, 15, 14, 13)) == (13, 14)",
            ],
        ),
        (
            3,
            "Write a python function to identify non-prime numbers.",
            "import math\r\ndef is_not_prime(n):\r\n    result = False\r\n"
            "    for i in range(2,int(math.sqrt(n)) + 1):\r\n        if n % i == 0:\r\n            result = True\r\n"
            "    return result",
            [
                "assert is_not_prime(2) == False",
                "assert is_not_prime(10) == True",
                "assert is_not_prime(35) == True",
            ],
        ),
        (
            4,
            "Write a function to find the largest integers from a given list of numbers using heap queue algorithm.",
            "import heapq as hq\r\ndef heap_queue_largest(nums,n):\r\n  largest_nums = hq.nlargest(n, nums)\r\n"
            "  return largest_nums",
            [
                "assert heap_queue_largest( [25, 35, 22, 85, 14, 65, 75, 22, 58],3)==[85, 75, 65] ",
                "assert heap_queue_largest( [25, 35, 22, 85, 14, 65, 75, 22, 58],2)==[85, 75] ",
                "assert heap_queue_largest( [25, 35, 22, 85, 14, 65, 75, 22, 58],5)==[85, 75, 65, 58, 35]",
            ],
        ),
    )
)
ARC_KEYS = "id, question and answerKey with choices of text and label (AI2's nested form or the hub's)"

ROWS = (
    Benchmark(
        name="gsm8k",
        kind="number",
        hub="openai/gsm8k",
        hub_config="main",
        keys="question and answer (ending with #### and a number)",
        parse=numerals.gsm8k,
        shots=5,
        drawn=True,
        stops=("Question:", "</s>", "<|im_end|>"),
        max_new_tokens=256,
    ),
    Benchmark(
        name="math",
        kind="expression",
        hub="HuggingFaceH4/MATH-500",
        words=("math",),
        keys="problem and solution (with \\boxed{...})",
        parse=expressions.math,
        shots=4,
        examples=math_examples.EXAMPLES,
        stops=("Problem:",),
        max_new_tokens=1024,
    ),
    Benchmark(
        name="arc_easy",
        kind="choice",
        hub="allenai/ai2_arc",
        hub_config="ARC-Easy",
        words=("easy",),
        keys=ARC_KEYS,
        parse=choices.arc,
        drawn=True,
    ),
    Benchmark(
        name="arc_challenge",
        kind="choice",
        hub="allenai/ai2_arc",
        hub_config="ARC-Challenge",
        words=("challenge",),
        keys=ARC_KEYS,
        parse=choices.arc,
        drawn=True,
        by_length=True,
    ),
    Benchmark(
        name="humaneval",
        kind="code",
        hub="openai/openai_humaneval",
        words=("humaneval",),
        keys="task_id, prompt, entry_point, canonical_solution and test",
        parse=programs.humaneval,
        chat=programs.humaneval_chat,
        stops=("\nclass", "\ndef", "\n#", "\nif", "\nprint"),
        max_new_tokens=1024,
    ),
    Benchmark(
        name="mbpp",
        kind="code",
        hub="google-research-datasets/mbpp",
        hub_config="full",
        words=("mbpp",),
        keys="task_id, text, code and test_list",
        parse=programs.mbpp,
        wanted=programs.mbpp_test,
        shots=3,
        examples=MBPP_EXAMPLES,
        delimiter="",
        stops=("[DONE]",),
        max_new_tokens=256,
    ),
    Benchmark(
        name="hellaswag",
        kind="choice",
        hub="Rowan/hellaswag",
        words=("hellaswag",),
        split="validation",
        keys="ind, activity_label, ctx_a, ctx_b, endings and label",
        parse=choices.hellaswag,
        drawn=True,
        spare_draws=1,
        by_length=True,
    ),
    Benchmark(
        name="winogrande",
        kind="choice",
        hub="allenai/winogrande",
        hub_config="winogrande_xl",
        words=("winogrande",),
        split="validation",
        keys="sentence (with a gap _), option1, option2 and answer (1 or 2)",
        parse=choices.winogrande,
        drawn=True,
        spare_draws=1,
    ),
    Benchmark(
        name="ifeval",
        kind="rules",
        hub="google/IFEval",
        words=("ifeval", "input_data"),
        split="train",
        keys="key, prompt, instruction_id_list and kwargs (a mapping for each instruction)",
        parse=rules.ifeval,
        max_new_tokens=1280,
    ),
    Benchmark(
        name="mmlu_pro",
        kind="letter",
        hub="TIGER-Lab/MMLU-Pro",
        words=("mmlu",),
        examples_split="validation",
        keys="question_id, question, options, answer, cot_content and category",
        parse=letters.mmlu_pro,
        description=letters.description,
        shots=5,
        stops=("Question:",),
        max_new_tokens=2048,
    ),
)
BENCHMARKS = {row.name: row for row in ROWS}
