"""What is known of benchmarks without their questions, against what was published about them."""

from __future__ import annotations

from conf.benchmarks import BENCHMARKS, LEAST_CHANCE, NUM_QUESTIONS, PROGRAMS, SCORED_CHOICES

PUBLISHED = {
    "gsm8k": 1319,  # Cobbe et al., 2021: 8.5K problems, 1K of them for testing (1,319)
    "math": 500,  # Lightman et al., 2023
    "arc_easy": 5197 - 2251 - 570,  # Clark et al., 2018, table 1: all, train, dev
    "arc_challenge": 2590 - 1119 - 299,
    "humaneval": 164,  # Chen et al., 2021
    "mbpp": 974 - 10 - 90 - 374,  # Austin et al., 2021: all, prompts, validation, fine-tuning
    "hellaswag": 10042,  # Zellers et al., 2019: validation
    "winogrande": 1267,  # Sakaguchi et al., 2020: development
    "mmlu_pro": 12032,  # Wang et al., 2024
    "ifeval": 541,  # Zhou et al., 2023
}
OPTIONS = {"arc_easy": 5, "arc_challenge": 5, "hellaswag": 4, "winogrande": 2, "mmlu_pro": 10}


def test_a_whole_split_has_its_published_size() -> None:
    assert PUBLISHED == NUM_QUESTIONS
    assert set(PUBLISHED) == set(BENCHMARKS)


def test_guessing_is_right_once_in_so_many_options() -> None:
    assert {name: round(1 / chance) for name, chance in LEAST_CHANCE.items()} == OPTIONS
    assert all(chance * OPTIONS[name] == 1 for name, chance in LEAST_CHANCE.items())
    assert not set(PROGRAMS) & set(LEAST_CHANCE) and set(SCORED_CHOICES) < set(LEAST_CHANCE)
