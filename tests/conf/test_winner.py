"""The margins of a winner, as the help says them."""

from __future__ import annotations

import math
import re
from typing import get_args

from conf.benchmarks import BenchmarkName
from conf.winner import MARGINS, WinnerConfig


def test_every_metric_has_the_margin_that_the_help_says() -> None:
    help_text = str(WinnerConfig.model_fields["margin"].description)
    (told,) = re.findall(r"empty: ([\d.]+) nats, or ([\d.]+) of the questions", help_text)
    nats, share = map(float, told)
    assert (
        dict.fromkeys(("val_loss", "kl_teacher"), nats) | dict.fromkeys(("mmlu", *get_args(BenchmarkName)), share)
        == MARGINS
    )
    assert round(math.exp(nats) - 1, 2) == 0.02, "2% of the perplexity"
