"""`imbik scale`: a scaling law from models of several sizes and training lengths, its back-test and its answers."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from flows.commands.console import ClusterOption, StoreOption, err, existing, fail, out

if TYPE_CHECKING:
    from tasks.analysis.scaling.answers import Oracle
    from tasks.analysis.scaling.backtest import Choice, Trial
    from tasks.analysis.scaling.forms import Form
    from tasks.analysis.scaling.ladder import Ladder
    from tasks.analysis.scaling.questions import Asked


class Kind(StrEnum):
    """Which models of a run are its points."""

    students = "students"
    teachers = "teachers"


def scale(
    points: Annotated[list[str], typer.Argument(help="CSV with columns params, tokens, loss; or names of runs.")],
    loss: Annotated[float | None, typer.Option(help="Loss to reach, nats per token: the cheapest way to it.")] = None,
    params: Annotated[
        float | None, typer.Option(help="Parameters: what they reach; with --loss, on what tokens.")
    ] = None,
    tokens: Annotated[
        float | None, typer.Option(help="Tokens: with --params, the loss; with --loss, the size.")
    ] = None,
    flops: Annotated[
        float | None, typer.Option(help="Budget in FLOPs: the best size; with --params, its loss.")
    ] = None,
    gpu_hours: Annotated[float | None, typer.Option(help="Budget in GPU-hours of the cluster's GPU.")] = None,
    cluster: ClusterOption = "slurm",
    floor: Annotated[float | None, typer.Option(help="Loss that no model goes below; default: a teacher's.")] = None,
    teacher_params: Annotated[float | None, typer.Option(help="Parameters of a teacher that runs beside.")] = None,
    # 2% of a loss of 2 nats is what 1.3 times the compute gains in Hoffmann et al.'s law
    tolerance: Annotated[float, typer.Option(help="Mean error in the back-test up to which a form is used, %.")] = 2.0,
    kind: Annotated[Kind, typer.Option(help="Models of a run that are its points.")] = Kind.students,
    plot: Annotated[Path | None, typer.Option(help="Figure (SVG); default: beside the points.")] = None,
    store: StoreOption = None,
) -> None:
    """Fit a scaling law to models of several sizes and training lengths, test it on the largest, and answer with it."""
    from tasks.analysis.scaling import backtest
    from tasks.analysis.scaling.forms import forms
    from tasks.analysis.scaling.questions import Asked

    given = {"loss": loss, "params": params, "tokens": tokens, "flops": flops, "gpu-hours": gpu_hours}
    _check(given | {"teacher-params": teacher_params, "tolerance": tolerance}, floor)
    ladder, teacher, figure = _points(points, existing(store), kind, floor, teacher_params)
    budget = _budget(flops, gpu_hours, cluster, teacher)
    competing = forms(ladder.floor)
    tried = backtest.trials(ladder, competing)
    out.print(_backtest(tried, competing))
    general = backtest.choose(ladder, competing, tried, tolerance / 100)
    in_size = backtest.choose_in_size(ladder, competing, tried, tolerance / 100, general)
    told = _Told(ladder, teacher, general, in_size, _best_error(tried, competing), tolerance)
    told.forms()
    told.draw(plot or figure)
    told.answer(Asked(loss=loss, params=params, tokens=tokens, budget=budget))


def _check(given: dict[str, float | None], floor: float | None) -> None:
    for name, value in given.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"--{name} is {value:g}; it must be a finite number above 0")
    if floor is not None and not (math.isfinite(floor) and floor >= 0):
        raise ValueError(f"--floor is {floor:g}; it must be a loss of 0 or above")
    has = {name for name, value in given.items() if value is not None}
    if {"flops", "gpu-hours"} <= has:
        raise ValueError("--flops and --gpu-hours are two budgets; give one of them")
    if {"loss", "params", "tokens"} <= has:
        raise ValueError("--loss, --params and --tokens leave nothing to answer; give two of them")
    if "tokens" in has and {"flops", "gpu-hours"} & has:
        raise ValueError("a budget decides the tokens; leave --tokens out, or give --params and --tokens alone")
    if "tokens" in has and not {"loss", "params"} & has:
        raise ValueError("--tokens alone asks nothing; add --params (the loss) or --loss (the size)")


def _points(
    points: list[str], root: Path, kind: Kind, floor: float | None, teacher_params: float | None
) -> tuple[Ladder, float, Path]:
    """The ladder, the parameters of its teacher, and where its figure goes."""
    from tasks.analysis.scaling.ladder import ladder, read_csv
    from tasks.analysis.scaling.runs import read_runs

    files = [Path(point) for point in points if point.endswith(".csv")]
    if files and len(files) < len(points):
        raise ValueError("points are CSV files or names of runs, not both; write the runs' points into the file")
    if files:
        rows = [row for file in files for row in read_csv(file)]
        made, teacher, figure = ladder(rows, floor or 0.0), teacher_params or 0.0, files[0].with_suffix(".scaling.svg")
    else:
        found = read_runs(root, points, kind.value)
        for sentence in found.left_out:
            out.print(f"left out: {sentence}", markup=False, highlight=False)
        made = ladder(found.rows, found.teacher_loss if floor is None else floor)
        teacher, figure = teacher_params or found.teacher_params, root / "runs" / points[0] / "scaling.svg"
    return made, teacher, figure


def _budget(flops: float | None, gpu_hours: float | None, cluster: str, teacher: float) -> float | None:
    """The budget in FLOPs."""
    if gpu_hours is None:
        return flops
    from conf.cluster import load_cluster
    from conf.estimate.flops import DISTILLED, TRAINED

    gpu = load_cluster(cluster, []).gpu
    if gpu is None:
        raise ValueError(f"--gpu-hours needs a GPU, and the cluster {cluster} names none; choose --cluster slurm")
    utilisation = DISTILLED if teacher else TRAINED
    budget = gpu_hours * 3600 * gpu.bf16_tflops * 1e12 * utilisation
    out.print(
        f"{gpu_hours:g} GPU-hours of {gpu.name} at {utilisation:.0%} of {gpu.bf16_tflops:g} TFLOP/s:"
        f" {budget:.3g} FLOPs",
        markup=False,
        highlight=False,
    )
    return budget


def _backtest(tried: list[Trial], competing: tuple[Form, ...]) -> Table:
    """Errors of each form at the largest points, which it had not seen."""
    table = Table(
        *("along", "fitted", "predicted", "reach", "nearest point"),
        *(form.name for form in competing),
        title="Back-test: mean (largest) error at the largest points, predicted from smaller ones",
        title_justify="left",
        header_style="bold",
    )
    for trial in tried:
        cells = []
        for form in competing:
            errors = trial.errors[form.name]
            cells.append("-" if isinstance(errors, str) else f"{abs(errors).mean():.1%} ({abs(errors).max():.1%})")
        table.add_row(
            trial.axis, str(trial.fitted), str(trial.predicted), f"{trial.reach:.1f}x", f"{trial.naive:.1%}", *cells
        )
    return table


def _best_error(tried: list[Trial], competing: tuple[Form, ...]) -> str:
    """How far off the best form was at the nearest split, for people."""
    errors = [
        (error, form.name)
        for trial in tried[:1]
        for form in competing
        if form.general and (error := trial.error(form.name)) is not None
    ]
    return "the best, the {1}, was off by {0:.1%}".format(*min(errors)) if errors else "none could be tested"


class _Told:
    """What is printed after the back-test: the chosen forms, the figure, the answers."""

    def __init__(
        self,
        ladder: Ladder,
        teacher: float,
        general: Choice | None,
        in_size: Choice | None,
        best_error: str,
        tolerance: float,
    ) -> None:
        from tasks.analysis.scaling.answers import oracle

        self.refusal = (
            f"no form predicted the ladder's largest points within {tolerance:g}%: {best_error}; add larger points, or"
            " raise --tolerance knowingly"
        )
        if in_size is None:
            raise ValueError(self.refusal)
        self.in_size = oracle(ladder, in_size, teacher=teacher)
        self.general = self.in_size if in_size is general else None
        if general and not self.general:
            self.general = oracle(ladder, general, teacher=teacher)

    def forms(self) -> None:
        """The forms in use, with their parameters and ranges."""
        for asked, used in (("", self.general), (" for other sizes at the longest training", self.in_size)):
            if used and not (asked and used is self.general):
                self._form(asked, used)
        if not self.general:
            out.print(f"other questions are not answered: {self.refusal}", markup=False, highlight=False)

    def _form(self, asked: str, used: Oracle) -> None:
        import numpy as np

        choice, drawn = used.choice, [fit.parameters for fit in used.resampled]
        table = Table("parameter", "value", "95% (bootstrap)", header_style="bold")
        for name, value in used.fit.parameters.items():
            low, high = np.quantile([one[name] for one in drawn], (0.025, 0.975))
            table.add_row(name, f"{value:.4g}", f"{low:.4g} to {high:.4g}")
        out.print(
            f"chosen{asked}: {choice.form.name}, loss = {choice.form.formula}; off by {choice.error:.1%} in the"
            " back-test",
            markup=False,
            highlight=False,
        )
        out.print(table)
        out.print(f"supported: {used.range()}", markup=False, highlight=False)

    def draw(self, path: Path) -> None:
        """Write the figure."""
        from conf.files import write_whole
        from tasks.report.plots import scaling

        try:
            write_whole(path, scaling.draw(self.general or self.in_size))
        except OSError as error:
            raise ValueError(f"{path} cannot be written: {error.strerror}; choose another --plot") from error
        out.print(f"figure: {path}", markup=False, highlight=False, soft_wrap=True)

    def answer(self, asked: Asked) -> None:
        """Every answer that is supported; exit code 2 if one is not."""
        from tasks.analysis.scaling.answers import Beyond
        from tasks.analysis.scaling.questions import questions

        refused = []
        for question in questions(asked, self.general, self.in_size, self.refusal):
            try:
                out.print(f"• {question()}", markup=False, highlight=False, soft_wrap=True)
            except Beyond as error:
                refused.append(str(error))
        for sentence in refused[:-1]:
            err.print(f"imbik: {sentence}", style="red", markup=False, highlight=False)
        if refused:
            fail(refused[-1])
