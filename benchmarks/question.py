"""What the questions share: a grid that says which runs there are, committed data, the paper's curves, a report.

A question is `grids/NAME.toml`, which `prefrl sweep` runs; `results/NAME/`, which keeps every seed's curve and what
made it; and `python -m benchmarks.NAME`, which takes in the runs that have finished since, draws, and writes its part
of `benchmarks/README.md`. Nothing waits for the whole grid: a report says what is missing.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from benchmarks.committed import (
    Claim,
    Key,
    Question,
    borrow,
    gather,
    missing,
    outcomes,
    panel_of,
    random_returns,
    run,
    stale,
)
from benchmarks.fresh import share_of_stale
from benchmarks.paper import Compared, beside_paper, curves_of, end_of
from prefrl.studies.compare import Outcome, panels
from prefrl.studies.plots import learning_curves
from prefrl.words.errors import UserError
from prefrl.words.stats import Curve, bootstrap_share_interval, interquartile_mean, probability_of_improvement

HERE = Path(__file__).parent
README = HERE / "README.md"
FRONT = HERE.parent / "README.md"


@dataclass(frozen=True)
class Ask:
    """Take in finished runs, and report from the committed data."""

    check: bool = False
    """Compare with the paper; exit 1 where the results fall short of it."""
    gather: bool = True
    """Take in the runs that have finished, and those that other questions have committed."""
    run: bool = False
    """Run what is missing or stale first. Ctrl-C stops it, and the same command goes on."""


def comparable(runs: Sequence[Outcome]) -> list[Outcome]:
    """The runs of tasks that every arm has been run on, and of the seeds that all of them have there.

    So that every task weighs the same and every arm is judged on the same tasks and seeds, however much of a grid is
    still missing.
    """
    arms = {o.arm for o in runs}
    tasks = {task for task in {o.task for o in runs} if {o.arm for o in runs if o.task == task} == arms}
    seeds = [{o.seed for o in runs if (o.task, o.arm) == (task, arm)} for task in tasks for arm in arms]
    common = set.intersection(*seeds) if seeds else set()
    return [o for o in runs if o.task in tasks and o.seed in common]


def references(runs: Sequence[Outcome], reference: str) -> dict[str, tuple[float, float]]:
    """Random actions' return and the reference arm's on each task of comparable runs on which the second is better."""
    random = random_returns()
    found: dict[str, tuple[float, float]] = {}
    runs = comparable(runs)
    for task in dict.fromkeys(o.task for o in runs if o.task in random):
        best = [o.final for o in runs if (o.task, o.arm) == (task, reference)]
        if best and interquartile_mean(best) > random[task]:
            found[task] = random[task], interquartile_mean(best)
    return found


def gains(runs: Sequence[Outcome], reference: str) -> dict[str, list[np.ndarray]]:
    """Each arm's comparable runs, task by task of `references`, as what they add to random actions' return."""
    random = random_returns()
    gained: dict[str, list[np.ndarray]] = {}
    every = comparable(runs)
    for task in references(runs, reference):
        of_task = [o for o in every if o.task == task]
        for arm in dict.fromkeys(o.arm for o in of_task):
            gained.setdefault(arm, []).append(np.array([o.final for o in of_task if o.arm == arm]) - random[task])
    return gained


def scores(runs: Sequence[Outcome], reference: str) -> dict[str, list[np.ndarray]]:
    """Each arm's comparable runs, task by task, as shares of the way from random actions to the reference's result."""
    gained = gains(runs, reference)
    return {
        arm: [of_task / interquartile_mean(best) for of_task, best in zip(tasks, gained[reference], strict=True)]
        for arm, tasks in gained.items()
    }


def worse_than(runs: Sequence[Outcome], reference: str, most: Mapping[str, float], words: str) -> list[Claim]:
    """For each arm a sentence about how much of the reference's result it reaches, and whether it is below `most`."""
    said: list[Claim] = []
    shares = scores(runs, reference)
    for arm, bound in most.items():
        if arm in shares:
            reached = interquartile_mean(np.concatenate(shares[arm]))
            sentence = f"{arm} reaches {reached:.2f} of the {reference}; {words} below {bound:.2f}."
            said.append((sentence, reached < bound))
        else:
            said.append((f"{arm} has not been run beside the {reference}; {words} below {bound:.2f}.", None))
    return said


def leaderboard(
    runs: Sequence[Outcome], reference: str, ranked: bool = False, outdated: Collection[Key] = frozenset()
) -> str:
    """A Markdown table: each arm's interquartile mean over all tasks of those shares, and its 95 % interval.

    An arm with a run among the outdated is marked as stale.
    """
    rows = []
    gained, shares = gains(runs, reference), scores(runs, reference)
    marked = {o.arm for o in comparable(runs) if (o.task, o.arm, o.seed) in outdated}
    for arm, tasks in shares.items():
        every = np.concatenate(tasks)
        interval = "-"  # of the reference, which is what is divided by, and of one run a task, which has no spread
        if arm != reference and all(len(of_task) > 1 for of_task in tasks):
            low, high = bootstrap_share_interval(gained[arm], gained[reference], np.random.default_rng(0))
            interval = f"{low:z.2f} to {high:z.2f}"
        named = f"{arm} (stale)" if arm in marked else arm
        rows.append((named, len(tasks), len(every), interquartile_mean(every), interval))
    if ranked:
        rows.sort(key=lambda row: -row[3])
    table = [("arm", "tasks", "runs", f"share of {reference}", "95 % interval")]
    table += [(arm, str(tasks), str(runs), f"{mean:z.2f}", interval) for arm, tasks, runs, mean, interval in rows]
    return markdown(table, text=1) if rows else ""


def by_task(runs: Sequence[Outcome], reference: str) -> str:
    """A Markdown table: the reference's return on each task, and each other arm's share of the way to it from random.

    Interquartile means over seeds, which a pooled number hides.
    """
    shares = scores(runs, reference)
    others = [arm for arm in shares if arm != reference]
    table = [("task", "random actions", reference, *others)]
    for place, (task, returns) in enumerate(references(runs, reference).items()):
        reached = (interquartile_mean(shares[arm][place]) for arm in others)
        table.append((panel_of(task), *(f"{x:z,.4g}" for x in returns), *(f"{share:z.2f}" for share in reached)))
    return markdown(table, text=1)


def improvements(runs: Sequence[Outcome], reference: str) -> str:
    """A sentence: for each arm the chance that its run beats one of the reference, over tasks, with its interval."""
    gained = gains(runs, reference)
    said = []
    for arm, tasks in gained.items():
        if arm != reference:
            found = probability_of_improvement(tasks, gained[reference], np.random.default_rng(0))
            said.append("{} {:.2f} (95 % interval {:.2f} to {:.2f})".format(arm, *found))
    return f"The chance that a run beats one of the {reference} on its task, averaged over tasks: {', '.join(said)}."


def comparison_table(compared: Sequence[Compared], unlike: Sequence[str] = ()) -> str:
    """The comparison as Markdown; tasks of other levels than the paper's are marked."""
    table = [("task", "arm", "ours", "paper, same step", "ours is", "paper, its end", "ours is")]
    for c in compared:
        here, end = (("-" if math.isnan(x) else f"{x:z,.4g}", c.verdict(x)) for x in (c.here, c.end))
        table.append((panel_of(c.task) + " (share)" * (c.task in unlike), c.arm, f"{c.ours:z,.4g}", *here, *end))
    return markdown(table, text=2)


def draw(question: Question) -> None:
    """The question's figure: ours as `prefrl.studies.plots` draws it, the paper's dotted, marks where those end."""
    runs = outcomes(question)
    paper = curves_of(question.figure) if question.figure else {}
    dotted: dict[str, dict[str, Curve]] = {}
    ends: dict[str, dict[str, float]] = {}
    for task in dict.fromkeys(o.task for o in runs if o.task not in question.unlike):
        name = panel_of(task)
        panel = paper.get(name, {})
        last = max(np.max(o.curve[0]) for o in runs if o.task == task)
        furthest = max((np.max(curve[0]) for curve in panel.values()), default=0.0)
        for arm, theirs in question.names.items():
            if theirs in panel:
                steps, returns = (np.asarray(part) for part in panel[theirs])
                if math.isfinite(end := end_of((steps, returns), furthest)):
                    ends.setdefault(name, {})[arm] = end
                if (steps <= last).any():
                    dotted.setdefault(name, {})[arm] = (steps[steps <= last], returns[steps <= last])
    learning_curves(
        {panel_of(task): arms for task, arms in panels(runs).items()},
        question.folder / "figure.png",
        reference=dotted,
        reference_label="Christiano et al. 2017",
        ends=ends,
    )


def report(question: Question) -> str:
    """What was found, in Markdown, from the committed data: figure, scores, claims, and the paper's values."""
    runs = outcomes(question)
    so_far = " so far" if missing(question) else ""
    said = {True: f"Yes{so_far}", False: f"No{so_far}", None: "Not yet"}
    claims = "\n".join(f"- {said[holds]}: {sentence}" for sentence, holds in question.claims(runs))
    scored = {o.arm for o in runs} - {question.reference}
    parts = [
        f"![True return by steps, task by task](results/{question.name}/figure.png)",
        leaderboard(runs, question.reference, question.ranked, stale(question)) if scored else "",
        claims,
        comparison_table(beside_paper(question, runs), question.unlike) if question.figure else "",
    ]
    return "\n\n".join(part for part in parts if part)


def check(question: Question) -> bool:
    """Print how the results compare with the paper's; whether they hold up, which takes something to compare."""
    runs = outcomes(question)
    if not runs:
        raise UserError(f"there is nothing to check yet: {missing(question)}")
    compared, claims = beside_paper(question, runs), question.claims(runs)
    print(comparison_table(compared, question.unlike))
    for sentence, holds in claims:
        print(f"{'not yet' if holds is None else 'yes' if holds else 'no'}: {sentence}")
    print(missing(question))
    if question.banded:
        verdicts = [row.verdict(row.here) for row in compared]
        return "below" not in verdicts and any(verdict != "hidden" for verdict in verdicts)
    return bool(claims) and all(holds is True for _, holds in claims)


def markdown(table: Sequence[Sequence[str]], text: int) -> str:
    """Rows, the first of them the header, as a Markdown table that lines up; the first `text` columns are words."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    rule = [":" + "-" * (w - 1) if i < text else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    cells = [
        [c.ljust(w) if i < text else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        for row in table
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in [cells[0], rule, *cells[1:]])


def write_between(path: Path, mark: str, text: str) -> None:
    """Put the text between the two lines <!-- mark --> of a file.

    Raises:
        UserError: the file does not have the two.
    """
    line = f"<!-- {mark} -->"
    parts = path.read_text(encoding="utf-8").split(line)
    if len(parts) != 3:
        raise UserError(f"{path.name} has {len(parts) - 1} lines {line!r}, and two are needed, around what is written.")
    path.write_text(f"{parts[0]}{line}\n{text}\n{line}{parts[2]}", encoding="utf-8")


def section(question: Question, body: str) -> str:
    """A question's part of the README: heading, protocol, how much is stale, what was found and what is missing."""
    command = f"python -m benchmarks.{question.name}"
    lacking = missing(question)
    sweeps = "\n".join(f"prefrl sweep benchmarks/grids/{name}.toml" for name in question.grids)
    found = outcomes(question)
    hours = sum(o.seconds for o in found) / 3600
    paid = f"{len(found)} runs took {hours:.1f} hours of one core each." if found else ""
    return "\n\n".join(
        part
        for part in (
            f"## {question.title} `{command}`",
            question.about.strip(),
            f"```\n{sweeps}\n{command}\n```",
            share_of_stale(len(stale(question)), len(found)),
            body.strip() if found else "",
            " ".join(part for part in (paid, lacking) if part),
        )
        if part
    )


def main(
    question: Question,
    body: Callable[[Question], str] = report,
    figure: Callable[[Question], None] | None = draw,
    after: Callable[[], None] | None = None,
) -> None:
    """The command of a question.

    Args:
        question: which.
        body: what was found, in Markdown.
        figure: draws it; None for nothing to see.
        after: what else is rewritten.
    """
    ask = tyro.cli(Ask, prog=f"python -m benchmarks.{question.name}", description=question.title)
    try:
        if ask.check:
            if question.figure is None:
                raise UserError(f"the paper does not ask what {question.name} asks: leave out --check.")
            sys.exit(0 if check(question) else 1)
        if ask.gather or ask.run:
            print(f"{gather(question)} finished runs taken in, {borrow(question)} from other questions.")
        if ask.run:
            run(question)
        found = bool(outcomes(question))
        if found and figure:
            figure(question)
        text = section(question, body(question) if found else "")
        write_between(README, question.name, text)
        if found and after is not None:
            after()
        print(text)
    except UserError as error:
        print(f"benchmarks.{question.name}: {error}", file=sys.stderr)
        sys.exit(2)
