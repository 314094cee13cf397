"""Runs as one page that needs no server and no network: curves, questions and answers, how far to trust r-hat.

The page is `report.html`, a Jinja2 template; figures are inline SVG, clips data inside it.
"""

from __future__ import annotations

import base64
import io
import json
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prefrl.experience.clips import find_display
from prefrl.runs.runlog import read_table
from prefrl.runs.saved import SavedRun, load_run
from prefrl.settings.config import TrainConfig, arm_name, to_toml
from prefrl.studies.compare import Outcome, find_runs, panels, read_outcomes, results
from prefrl.studies.evaluate import Evaluation, evaluate_run
from prefrl.studies.plots import AXIS, GRID, INK, MUTED, PALETTE, curves_figure
from prefrl.studies.random_actions import random_returns
from prefrl.words.bradley_terry import probability
from prefrl.words.errors import UserError, blamed_on
from prefrl.words.files import read_text
from prefrl.words.preference import Preference, Segment, word_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEARNED, TRUE = PALETTE[0], INK
STRETCH = 250  # steps of an episode that a figure can show one by one
MOST_LOGGED = 1_500  # questions listed on a page; more are thinned out evenly
COLUMNS = (  # of metrics.csv, that the page shows
    "labels_asked",
    "labels_answered",
    "alarm",
    "learned_gain",
    "accuracy",
    "held_out_accuracy",
    "correlation",
)


@dataclass(frozen=True)
class Asked:
    """One question of the label log.

    Attributes:
        number: in the order of the answers, from 1.
        step: environment steps the policy had taken when the segments were cut.
        answer: left, right, equal or cannot tell; of more than two segments their places, from 1, as in "3>1=2".
        labeler: who answered.
        seconds: it took.
        true_returns: of left and right, or of all segments.
        predicted: P[left > right] by r-hat as it is at the end of the run; of an answer about more than two segments
            the share of its comparisons that r-hat orders as it does.
        agrees: whether that is on the answer's side, of more than two segments about half or more of it; None where the
            answer or the prediction takes none.
        kind: of the question.
        best: places of what was called best, from 0; none where nothing is better than the rest.
        sides: the segments, drawn; empty unless this question is shown.
    """

    number: int
    step: int
    answer: str
    labeler: str
    seconds: float
    true_returns: tuple[float, ...]
    predicted: float
    agrees: bool | None
    kind: str = "pair"
    best: tuple[int, ...] = ()
    sides: tuple[Side, ...] = ()

    @property
    def now(self) -> str:
        """What r-hat says of it, in words."""
        if math.isnan(self.predicted):
            return "-"
        return f"{100 * self.predicted:.0f} % {'for left' if self.kind == 'pair' else 'of it so'}"


@dataclass(frozen=True)
class Side:
    """One segment of a question that is shown.

    Attributes:
        clip: an animated picture as a data URL; empty if there is nothing to draw it from.
        learned: points of a line, "x,y x,y ...", in a box 100 wide and 30 high: what r-hat pays, step by step.
        true: the same of the true reward.
    """

    clip: str
    learned: str
    true: str


def write_page(folders: Sequence[Path], out: Path, clips: int = 12, steps: int = 10_000, trust: bool = False) -> None:
    """Write the page of these runs.

    Args:
        folders: run folders, or folders that hold some.
        out: the file, .html.
        clips: questions of each run that are shown with both segments.
        steps: of fresh behaviour that each reward model is judged on.
        trust: as of `prefrl.runs.saved.load_run`.

    Raises:
        UserError: there is no run, one cannot be read, or the file cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    if out.suffix != ".html" or not out.parent.is_dir():
        raise UserError(f"a report is an .html file in a folder that is there: got {str(out)!r}.")
    if clips < 0:
        raise UserError(f"clips={clips} must not be negative: 0 shows none.")
    find_display()  # before an environment is made: what draws may be chosen once
    runs = [load_run(folder, trust) for folder in find_runs(folders)]
    outcomes = read_outcomes([run.folder for run in runs])
    for run in runs:
        _check(run)
    figure = curves_figure(panels(outcomes))
    shown = []
    for place, (run, outcome) in enumerate(zip(runs, outcomes, strict=True), 1):
        if len(runs) > 1:  # each takes a minute or so
            print(f"{place} of {len(runs)}: {run.folder}", file=sys.stderr)
        shown.append(_run(run, outcome, clips, steps))
    environment = Environment(
        loader=PackageLoader("prefrl.studies", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(
        title=_title(outcomes),
        curves=_svg(figure),
        curves_width=round(110 * figure.get_figwidth()),
        results=results(outcomes, random_returns([run.folder for run in runs])) if len(runs) > 1 else [],
        runs=shown,
    )
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {str(out)!r}: {error.strerror}; give another file with --out.") from error


def _check(run: SavedRun) -> None:
    """Read all that the page needs of a run, before minutes are spent on measuring.

    Raises:
        UserError: some of it is not there, or is not what a run writes.
    """
    _versions(run.folder / "versions.json")
    if isinstance(run.config, TrainConfig):
        metrics = read_table(run.folder / "metrics.csv", *COLUMNS)
        if not all(math.isfinite(metrics[name][-1]) for name in ("labels_asked", "labels_answered")):
            raise UserError(f"the metrics.csv of {str(run.folder)!r} does not say how many labels were asked.")
        r_hat, _ = run.r_hat, run.policy
        for place, answer in enumerate(run.answers, 1):
            for segment in answer.query.segments:
                shown = (segment.observations.shape[1:], segment.actions.shape[1:])
                if shown != (r_hat.observation_space.shape, r_hat.action_space.shape):
                    raise UserError(
                        f"answer {place} of {str(run.folder)!r} is about observations and actions of shapes {shown[0]} "
                        f"and {shown[1]}, and its reward is of others: give a run as it was made."
                    )


def _title(outcomes: Sequence[Outcome]) -> str:
    tasks = list(dict.fromkeys(outcome.task for outcome in outcomes))
    if len(outcomes) == 1:
        return f"{outcomes[0].task}, {outcomes[0].arm}, seed {outcomes[0].seed}"
    return f"{len(outcomes)} runs on {', '.join(tasks)}"


def _run(run: SavedRun, outcome: Outcome, clips: int, steps: int) -> dict[str, Any]:
    """What the template shows of a run."""
    about: dict[str, Any] = {
        "name": f"{outcome.task}, {arm_name(run.config)}, seed {outcome.seed}",
        "folder": str(run.folder),
        "final": outcome.final,
        "seconds": outcome.seconds,
        "steps": int(run.metrics["step"][-1]),
        "settings": to_toml(run.config),
        "versions": {name: said for name, said in _versions(run.folder / "versions.json").items() if name != "modules"},
        "learned": isinstance(run.config, TrainConfig),
    }
    if not about["learned"]:
        return about
    with blamed_on(f"a clip of {str(run.folder)!r}", "give a run as it was made, or --clips 0"):
        asked = label_log(run, clips)
    found = evaluate_run(run, steps=steps)
    metrics = run.metrics
    return about | {
        "asked": int(metrics["labels_asked"][-1]),
        "answered": int(metrics["labels_answered"][-1]),
        "measures": found.measures,
        "alarms": [int(step) for step, on in zip(metrics["step"], metrics["alarm"], strict=True) if on],
        "gain_figure": _svg(gain_figure(metrics)),
        "agreement_figure": _svg(agreement_figure(metrics)),
        "reliability_figure": _svg(reliability_figure(found)),
        "episode_figure": _svg(episode_figure(found)),
        "log": asked,
        "shown": [question for question in asked if question.sides],
        "fresh_steps": steps,
        "stretch": STRETCH,
    }


def _versions(path: Path) -> dict[str, str]:
    """The versions that a run wrote down.

    Raises:
        UserError: there is no such file, or it is another's.
    """
    text = read_text(path)
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{str(path)!r} is not JSON ({error}): give the folder of a run.") from error
    if not isinstance(said, dict):
        raise UserError(f"{str(path)!r} does not name versions: give the folder of a run.")
    return {name: str(version) for name, version in said.items()}


def label_log(run: SavedRun, clips: int) -> list[Asked]:
    """The questions of a run in order of their answers, thinned out to `MOST_LOGGED`, with what r-hat says of each.

    Those shown with both segments are spread over the run, every other one among those that r-hat gets most wrong.
    """
    every = list(enumerate(run.answers, 1))
    logged = every[:: max(1, -(-len(every) // MOST_LOGGED))]
    predicted = [_predicted(run, answer) for _, answer in logged]
    surprise = [_surprise(answer, p) for p, (_, answer) in zip(predicted, logged, strict=True)]
    spread = np.linspace(0, len(logged) - 1, min(len(logged), (clips + 1) // 2)).astype(int).tolist()
    worst = [i for i in np.argsort(surprise)[::-1].tolist() if i not in spread][: max(0, clips - len(spread))]
    chosen = set(spread + worst if clips else [])
    draw = _clip_maker(run)
    log = []
    for place, ((number, answer), p) in enumerate(zip(logged, predicted, strict=True)):
        segments, is_pair = answer.query.segments, answer.query.kind == "pair"
        ranks = answer.ranks if answer.is_decided else (0,) * len(segments)
        decided = max(ranks) > 0 and not math.isnan(p) and (p != 0.5 or not is_pair)
        log.append(
            Asked(
                number=number,
                step=segments[0].step,
                answer=word_of(answer.mu, answer.choice),
                labeler=answer.labeler,
                seconds=answer.seconds,
                true_returns=tuple(float(segment.rewards.sum()) for segment in segments),
                predicted=p,
                agrees=((p > 0.5) == (ranks[0] == 0) if is_pair else p >= 0.5) if decided else None,
                kind=answer.query.kind,
                best=tuple(i for i, rank in enumerate(ranks) if rank == 0) if max(ranks) > 0 else (),
                sides=_sides(run, segments, draw) if place in chosen else (),
            )
        )
    return log


def _predicted(run: SavedRun, answer: Preference) -> float:
    """P[left > right], the mean over members, without the noise floor; of more than two see `Asked`."""
    returns = [run.r_hat.member_rewards(s.observations, s.actions).sum(1) for s in answer.query.segments]
    if answer.query.kind == "pair":
        return float(probability(returns[0], returns[1], floor=0.0).mean())
    if not answer.is_decided:
        return math.nan
    ranks = np.array(answer.ranks)
    wins = [
        float(probability(returns[i], returns[j], floor=0.0).mean()) for i, j in np.argwhere(ranks[:, None] < ranks)
    ]
    return float(np.mean(np.array(wins) > 0.5)) if wins else math.nan


def _surprise(answer: Preference, predicted: float) -> float:
    """How far what r-hat foretells is from what was said; 0 where nothing was."""
    if answer.query.kind == "pair":
        return abs(predicted - (0.5 if answer.mu is None else answer.mu))
    return 0.0 if math.isnan(predicted) else 1 - predicted


def _sides(run: SavedRun, segments: Sequence[Segment], draw: Callable[[Segment], str]) -> tuple[Side, ...]:
    learned = [run.r_hat.reward(s.observations, s.actions).astype(np.float64) for s in segments]
    true = [s.rewards for s in segments]
    return tuple(
        Side(draw(s), _line(of_learned, learned), _line(of_true, true))
        for s, of_learned, of_true in zip(segments, learned, true, strict=True)
    )


def _line(values: NDArray[np.float64], both: Sequence[NDArray[np.float64]]) -> str:
    """The values as points of a line in a box 100 by 30, on one scale with those of the other side."""
    low, high = min(v.min() for v in both), max(v.max() for v in both)
    across = np.linspace(0, 100, len(values)) if len(values) > 1 else np.full(1, 50.0)
    down = 28 - 26 * (values - low) / max(high - low, 1e-9)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))


def _clip_maker(run: SavedRun) -> Callable[[Segment], str]:
    """What turns a segment into an animated picture, or into nothing where it cannot be drawn."""
    try:
        clips: Any = import_module("prefrl.experience.clips")
    except ImportError:  # lines of reward alone
        return lambda segment: ""
    artist = clips.Artist(run.task)

    def draw(segment: Segment) -> str:
        with suppress(UserError):
            frames = artist.frames(segment)[:, ::2, ::2]
            data = clips.film(frames, clips.frame_rate(run.task, len(segment)), ".webp")
            return f"data:image/webp;base64,{base64.b64encode(data).decode()}"
        return ""

    return draw


def gain_figure(metrics: dict[str, list[float]]) -> Figure:
    """True return and learned gain as training goes, each on its own scale, with the steps of an alarm shaded."""
    figure, axes = _axes()
    scale, unit = _unit(metrics["step"])
    x = np.array(metrics["step"]) / scale
    other = axes.twinx()
    axes.plot(x, metrics["true_return"], color=TRUE, linewidth=1.8, label="true return")
    other.plot(x, metrics["learned_gain"], color=LEARNED, linewidth=1.8, label="learned gain")
    _alarm_bands(axes, x, metrics["alarm"])
    axes.set_ylabel("true return", fontsize=8.5, color=TRUE)
    other.set_ylabel("learned gain (deviations a step)", fontsize=8.5, color=LEARNED)
    other.tick_params(labelsize=8, labelcolor=LEARNED, color=AXIS, length=0)
    other.spines[["top", "left", "right"]].set_visible(False)
    axes.set_xlabel(f"environment steps ({unit})", fontsize=8.5, color=MUTED)
    return figure


def _alarm_bands(axes: Axes, x: NDArray[np.float64], alarm: Sequence[float]) -> None:
    before = np.concatenate([[0.0], x[:-1]])
    for left, right, on in zip(before, x, alarm, strict=True):
        if on:
            axes.axvspan(left, right, color=PALETTE[1], alpha=0.15, linewidth=0)


def agreement_figure(metrics: dict[str, list[float]]) -> Figure:
    """How well r-hat foretold fresh answers and held-out ones, and how well its returns follow the true ones."""
    figure, axes = _axes()
    scale, unit = _unit(metrics["step"])
    lines = {
        "accuracy": ("right about fresh pairs", LEARNED),
        "held_out_accuracy": ("right about held-out answers", PALETTE[2]),
        "correlation": ("correlation of segment returns", TRUE),
    }
    for name, (label, colour) in lines.items():
        axes.plot(np.array(metrics["step"]) / scale, metrics[name], color=colour, linewidth=1.6, label=label)
    axes.set_ylim(min([0.4, *(v for name in lines for v in metrics[name] if math.isfinite(v))]), 1.02)
    axes.set_xlabel(f"environment steps ({unit})", fontsize=8.5, color=MUTED)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="lower right")
    return figure


def reliability_figure(found: Evaluation) -> Figure:
    """How often r-hat was right by how sure it was; points as large as what they stand for."""
    figure, axes = _axes(4.2)
    curve = found.reliability
    axes.plot([0.5, 1], [0.5, 1], color=AXIS, linewidth=1, linestyle="--")
    axes.plot(curve.confidence, curve.accuracy, color=LEARNED, linewidth=1.2)
    share = curve.count / max(curve.count.sum(), 1)
    axes.scatter(curve.confidence, curve.accuracy, s=20 + 300 * share, color=LEARNED, alpha=0.7, linewidth=0)
    axes.set(xlim=(0.49, 1.01), ylim=(min(0.45, *curve.accuracy, 0.45) - 0.02, 1.02))
    axes.set_xlabel("how sure of the side it takes", fontsize=8.5, color=MUTED)
    axes.set_ylabel("how often right", fontsize=8.5, color=MUTED)
    return figure


def episode_figure(found: Evaluation) -> Figure:
    """Learned and true reward early in the last whole episode, each with zero mean and unit deviation there."""
    figure, axes = _axes(8.8)
    ends = [0, *found.ends.tolist()]
    begin, end = (ends[-2], ends[-1]) if len(ends) > 1 else (0, len(found.true))
    end = min(end, begin + STRETCH)
    lines = ((found.true, TRUE, "true reward", 2.6, 0.45), (found.learned, LEARNED, "learned reward", 1.2, 1.0))
    for values, colour, label, width, alpha in lines:
        part = values[begin:end]
        scaled = (part - part.mean()) / max(part.std(), 1e-9)
        axes.plot(scaled, color=colour, linewidth=width, label=label, alpha=alpha)
    axes.set_xlabel("step of the episode", fontsize=8.5, color=MUTED)
    axes.set_ylabel("deviations from its mean", fontsize=8.5, color=MUTED)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="lower right", ncols=2)
    return figure


def _axes(width: float = 5.6) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 3.0), facecolor="white", layout="constrained")
    axes = figure.subplots()
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(AXIS)
    axes.tick_params(labelsize=8, labelcolor=MUTED, color=AXIS, length=3)
    return figure, axes


def _unit(steps: Sequence[float]) -> tuple[float, str]:
    return (1e6, "millions") if steps[-1] >= 5e5 else (1e3, "thousands")


def _svg(figure: Figure) -> str:
    """The figure as an SVG element, its text kept as text."""
    import matplotlib as mpl

    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "prefrl", "font.family": "sans-serif"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]
