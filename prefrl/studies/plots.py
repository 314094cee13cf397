"""Learning curves as a figure, and results as a table: the learned reward beside the true one, every seed shown.

Matplotlib is imported only when something is drawn, and only its object interface is used.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefrl.settings.config import TRUE_REWARD
from prefrl.words.errors import UserError
from prefrl.words.stats import Curve, align_curves, interquartile_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Panels = Mapping[str, Mapping[str, Sequence[Curve]]]
Reference = Mapping[str, Mapping[str, Curve]]
Dashes = Literal["-", "--", "-."] | tuple[float, tuple[float, float]]

INK, MUTED, AXIS, GRID = "#24292f", "#57606a", "#afb8c1", "#e6e8eb"
# Okabe and Ito 2008, told apart by colour-blind readers too; without the yellow, which is lost on white, and with the
# wine of Tol 2021 as a seventh, so that every switch of an ablation has a colour of its own.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255")
DASHES: tuple[Dashes, ...] = ("-", "--", "-.")  # one for each turn through the palette
DOTTED: Dashes = (0, (1, 1.4))


@dataclass(frozen=True)
class Result:
    """One line of a table of results.

    Attributes:
        task: what was learned.
        arm: from what, for example "true reward" or "1400 labels".
        seeds: how many runs.
        iqm: interquartile mean of their final true returns.
        low: lower end of its interval; NaN if there is none.
        high: upper end.
        share: of the way from random actions to the true reward's result, 1 for all of it; None where that result is
            no better than random actions', or either is not known.
        random: mean true return of random actions; NaN if it is not known.
        no_way: whether the true reward's result is known to be no better.
    """

    task: str
    arm: str
    seeds: int
    iqm: float
    low: float
    high: float
    share: float | None
    random: float = math.nan
    no_way: bool = False


def learning_curves(
    panels: Panels,
    path: str | Path,
    *,
    title: str = "",
    reference: Reference | None = None,
    reference_label: str = "published",
    ends: Mapping[str, Mapping[str, float]] | None = None,
    ylabel: str = "true return",
) -> None:
    """Draw `curves_figure` into a file: PNG (160 dots per inch), or SVG or PDF if the suffix says so.

    The same curves give the same bytes. Missing folders are made.

    Raises:
        UserError: there is nothing to draw, or the suffix is none of these.
    """
    import matplotlib as mpl

    target = Path(path)
    undated: dict[str, dict[str, None]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    if target.suffix.lower() not in undated:
        raise UserError(f"a figure is drawn as .png, .svg or .pdf: got {target.name!r}; change its suffix.")
    figure = curves_figure(
        panels, title=title, reference=reference, reference_label=reference_label, ends=ends, ylabel=ylabel
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "prefrl"}):
        figure.savefig(target, metadata=undated[target.suffix.lower()])


def curves_figure(
    panels: Panels,
    *,
    title: str = "",
    reference: Reference | None = None,
    reference_label: str = "published",
    ends: Mapping[str, Mapping[str, float]] | None = None,
    ylabel: str = "true return",
) -> Figure:
    """True return against environment steps, one panel for each task: each seed faint, the interquartile mean bold.

    The bold line covers the steps that every seed covers. An arm looks the same in all panels; `TRUE_REWARD` is dark.

    Args:
        panels: for each task, arm and seed, (steps, returns); up to eight tasks fit comfortably. A curve without
            points is left out, and not counted.
        title: above everything; may be empty.
        reference: for each task and arm one curve from elsewhere, drawn dotted, in the arm's colour if the arm is
            among those of the panels.
        reference_label: what the dotted curves are, for the legend.
        ends: for each task and arm a value that the reference reaches later, marked at the right edge.
        ylabel: what the vertical axes show.

    Raises:
        UserError: there is no task, or none has a curve.
    """
    from matplotlib.figure import Figure

    tasks = list(panels)
    measured = {
        task: {arm: [curve for curve in curves if np.size(curve[0])] for arm, curves in panels[task].items()}
        for task in tasks
    }
    arms = {task: {arm: curves for arm, curves in measured[task].items() if curves} for task in tasks}
    if not any(arms.values()):
        raise UserError("there is nothing to draw: give at least one task with one arm that has one curve.")
    dotted = {task: dict((reference or {}).get(task, {})) for task in tasks}
    styles = _styles(arm for table in (arms, dotted) for task in tasks for arm in table[task])
    furthest = max(np.max(steps) for task in tasks for curves in arms[task].values() for steps, _ in curves)
    scale, unit = (1e6, "millions") if furthest >= 5e5 else (1e3, "thousands")

    columns = {1: 1, 2: 2, 3: 3, 4: 2, 5: 3, 6: 3}.get(len(tasks), 4)
    rows = math.ceil(len(tasks) / columns)
    width = {1: 5.6, 2: 8.0}.get(columns, 10.0)
    figure = Figure(
        figsize=(width, 0.7 * width / columns * rows + 0.9), dpi=160, facecolor="white", layout="constrained"
    )
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for place, (task, axes) in enumerate(zip(tasks, grid, strict=False)):
        _draw(axes, arms[task], dotted[task], styles, scale)
        room = (width / columns - 0.4) / 0.085  # characters of ten points, about
        axes.set_title(task, loc="left", fontsize=10 * min(1, room / len(task)), fontweight="bold", color=INK)
        if place + columns >= len(tasks):  # nothing below it
            axes.set_xlabel(f"environment steps ({unit})", fontsize=8.5, color=MUTED)
        if place % columns == 0 and ylabel:
            axes.set_ylabel(ylabel, fontsize=8.5, color=MUTED)
        for arm, value in (ends or {}).get(task, {}).items():
            if arm in styles:
                axes.plot(
                    [1.0], [value], "<", color=styles[arm][0], markersize=5, clip_on=False,
                    transform=axes.get_yaxis_transform(),
                )  # fmt: skip
    for axes in grid[len(tasks) :]:
        axes.remove()
    _add_legend(figure, title, arms, dotted, styles, reference_label, bool(ends))
    return figure


def result_table(rows: Iterable[Result], confidence: float = 0.95) -> str:
    """Results as a Markdown table whose columns also line up when read as plain text.

    A task's numbers have the same digits after the point, as many as its largest needs to show three figures.
    """
    results = list(rows)
    digits: dict[str, int] = {}
    for row in results:
        size = max((abs(x) for x in (row.iqm, row.low, row.high) if math.isfinite(x)), default=0.0)
        digits[row.task] = min(digits.get(row.task, 2), 0 if size >= 100 else 1 if size >= 10 else 2)
    header = ["task", "arm", "seeds", "IQM", "low", "high", f"of {TRUE_REWARD}"]
    cells = [
        [
            row.task.replace("|", "\\|"),
            row.arm.replace("|", "\\|"),
            str(row.seeds),
            *(_number(x, digits[row.task]) for x in (row.iqm, row.low, row.high)),
            _number(row.share, 2),
        ]
        for row in results
    ]
    widths = [max(len(row[i]) for row in [header, *cells]) for i in range(len(header))]
    rule = [":" + "-" * (w - 1) if i < 2 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    lines = [
        "| " + " | ".join(_pad(cell, i, widths) for i, cell in enumerate(row)) + " |" for row in [header, rule, *cells]
    ]
    notes = [f"IQM: interquartile mean over seeds; low, high: {confidence:.0%} bootstrap interval."]
    tasks = {row.task: row for row in results}.values()
    zeros = [f"{_number(row.random, digits[row.task])} on {row.task}" for row in tasks if math.isfinite(row.random)]
    if zeros:
        notes.append(
            f"of {TRUE_REWARD}: share of the way from random actions ({', '.join(zeros)}) to the true reward's IQM."
        )
    notes += [
        f"On {row.task} the true reward's IQM is no better than random actions: nothing can be a share of it."
        for row in tasks
        if row.no_way
    ]
    return "\n\n".join(["\n".join(lines), *notes]) + "\n"


def measures_table(runs: Mapping[str, Mapping[str, float]]) -> str:
    """Measures of each run as a Markdown table, a row for each measure and a column for each run."""
    names = list(next(iter(runs.values())))
    header = ["measure", *(run.replace("|", "\\|") for run in runs)]
    cells = [[name, *(_number(of[name], 3) for of in runs.values())] for name in names]
    widths = [max(len(row[i]) for row in [header, *cells]) for i in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        "| "
        + " | ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        + " |"
        for row in [header, rule, *cells]
    )


def _pad(cell: str, column: int, widths: Sequence[int]) -> str:
    return cell.ljust(widths[column]) if column < 2 else cell.rjust(widths[column])


def _number(x: float | None, digits: int) -> str:
    return "-" if x is None or math.isnan(x) else f"{x:z,.{digits}f}"


def _styles(arms: Iterable[str]) -> dict[str, tuple[str, Dashes]]:
    """Colour and dashes of each arm, in the order they are met, the true reward before all others."""
    others = [arm for arm in dict.fromkeys(arms) if arm != TRUE_REWARD]
    turns = ((PALETTE[i % len(PALETTE)], DASHES[i // len(PALETTE) % len(DASHES)]) for i in range(len(others)))
    return {TRUE_REWARD: (INK, DASHES[0]), **dict(zip(others, turns, strict=True))}


def _draw(
    axes: Axes,
    arms: Mapping[str, Sequence[Curve]],
    dotted: Mapping[str, Curve],
    styles: Mapping[str, tuple[str, Dashes]],
    scale: float,
) -> None:
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    order = [arm for arm in styles if arm in arms]
    halo = [withStroke(linewidth=3, foreground="white")]
    for arm in order:
        for curve in arms[arm]:
            x, (y,) = _aligned([curve])
            axes.plot(x / scale, y, color=styles[arm][0], alpha=0.3, linewidth=0.8)
    for arm in order:
        x, seeds = _aligned(arms[arm])
        if x.size:
            axes.plot(
                x / scale,
                interquartile_mean(seeds, axis=0),
                color=styles[arm][0],
                linestyle=styles[arm][1],
                linewidth=2,
                path_effects=halo,
                label=arm,
            )
    for arm, curve in dotted.items():
        x, (y,) = _aligned([curve])
        axes.plot(x / scale, y, color=styles[arm][0], linestyle=DOTTED, linewidth=1.6)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(AXIS)
    axes.tick_params(labelsize=8, labelcolor=MUTED, color=AXIS, length=3)
    axes.tick_params(axis="y", length=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
    axes.margins(x=0.01)


def _aligned(curves: Sequence[Curve]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Every step (m,) at which a seed was measured, while all seeds were, and their returns there (seeds, m)."""
    steps: list[ArrayLike] = [np.asarray(x, dtype=np.float64) for x, _ in curves]
    grid = np.unique(np.concatenate(steps))
    grid = grid[(grid >= max(np.min(x) for x in steps)) & (grid <= min(np.max(x) for x in steps))]
    return grid, align_curves(curves, grid)


def _add_legend(
    figure: Figure,
    title: str,
    arms: Mapping[str, Mapping[str, Sequence[Curve]]],
    dotted: Mapping[str, Mapping[str, Curve]],
    styles: Mapping[str, tuple[str, Dashes]],
    reference_label: str,
    has_ends: bool,
) -> None:
    """The title, and below it a line for each arm with how many seeds it has, and one for the dotted curves."""
    from matplotlib.lines import Line2D

    handles = []
    for arm, (colour, dashes) in styles.items():
        seeds = sorted(len(arms[task][arm]) for task in arms if arm in arms[task])
        if seeds:
            count = f"{seeds[0]}" if seeds[0] == seeds[-1] else f"{seeds[0]}–{seeds[-1]}"
            label = f"{arm} ({count} seed{'s' * (seeds[-1] > 1)})"
            handles.append(Line2D([], [], color=colour, linestyle=dashes, linewidth=2.4, label=label))
        elif any(arm in curves for curves in dotted.values()):
            label = f"{arm}, {reference_label}"
            handles.append(Line2D([], [], color=colour, linestyle=DOTTED, linewidth=1.8, label=label))
    if any(arm in curves for curves in dotted.values() for table in arms.values() for arm in table):
        handles.append(Line2D([], [], color=MUTED, linestyle=DOTTED, linewidth=1.8, label=reference_label))
    if has_ends:
        label = f"{reference_label}, at its end"
        handles.append(Line2D([], [], color=MUTED, linestyle="", marker="<", markersize=5, label=label))
    width = figure.get_figwidth()
    sizes = [0.55 + 0.065 * len(str(handle.get_label())) for handle in handles]  # inches, about
    fits = [n for n in range(1, len(sizes) + 1) if sum(max(sizes[i::n]) for i in range(n)) < width]
    columns = max(fits, default=1)
    figure.legend(
        handles=[
            handle for i in range(columns) for handle in handles[i::columns]
        ],  # it fills columns, and is read in rows
        loc="outside upper left",
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=1.8,
        columnspacing=1.6,
        title=textwrap.fill(title, int(8.2 * width)) or None,
        title_fontproperties={"size": 12, "weight": "bold"},
        alignment="left",
    ).get_title().set_color(INK)
