"""What learning from preferences costs, and where the time goes: goals, measured and wanted side by side.

    python -m benchmarks.speed            # the table of the README, an hour or so
    python -m benchmarks.speed --quick    # the same goals, smaller, in minutes

Every goal is a ratio of two things measured in turns in one run, so that it travels between machines; absolute times do
not. Prints measured beside wanted, writes results/speed.json, and exits with 1 when a goal is missed.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks import speed_peer
from prefrl.queries.labelers import make_labeler
from prefrl.runs.runlog import PARTS, read_table, versions

README = Path(__file__).parent.parent / "README.md"
RESULTS = Path(__file__).parent / "results" / "speed.json"
PREFRL = [sys.executable, "-c", "import sys; from prefrl.cli import main; sys.exit(main())"]
PLAIN = [sys.executable, "-m", "benchmarks.plain"]
LABELS_OF_A_MILLION, PHASES_OF_A_MILLION = 700, 50
MARK = "<!-- python -m benchmarks.speed --report -->"


@dataclass(frozen=True)
class Speed:
    """Goals of speed, each a ratio measured side by side."""

    quick: bool = False
    """Smaller runs: a first answer in minutes."""
    only: tuple[str, ...] = ()
    """Letters of the goals to measure; all of them if none is given."""
    report: bool = False
    """Only rebuild the README's table from the committed data."""


@dataclass(frozen=True)
class Goal:
    """One row of the table.

    Attributes:
        what: the ratio, in words.
        most: the bound, from above; None if it is from below.
        least: the bound, from below.
        measured: the ratio.
        raw: what it was taken from.
        commit: of what was measured.
    """

    what: str
    measured: float
    most: float | None = None
    least: float | None = None
    raw: Any = None
    commit: str = ""

    @property
    def met(self) -> bool:
        """Whether the bound holds."""
        return (self.most is None or self.measured <= self.most) and (self.least is None or self.measured >= self.least)


def run(command: list[str], *arguments: object) -> dict[str, Any]:
    """Run a command in a process of its own: wall seconds, peak resident bytes, and what it printed last, if JSON.

    Raises:
        RuntimeError: it failed; what it said is in the message.
    """
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen([*command, *map(str, arguments)], stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)  # the one way to a single child's peak
        wall = time.perf_counter() - start
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
    process.returncode = os.waitstatus_to_exitcode(status)  # or Popen waits for it once more
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, [*command[-1:], *arguments]))} failed: {' '.join(lines[-5:])}")
    printed = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    return {**printed, "wall": wall, "peak_bytes": usage.ru_maxrss * 1024}


def in_turns(pairs: int, *sides: Callable[[int], dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Each side once for every pair, every other time in the other order; (pairs, sides)."""
    rows = []
    for pair in range(pairs):
        order = range(len(sides)) if pair % 2 == 0 else reversed(range(len(sides)))
        row: dict[int, dict[str, Any]] = {side: sides[side](pair) for side in order}
        rows.append([row[side] for side in range(len(sides))])
    return rows


def median_ratio(rows: list[list[dict[str, Any]]], over: int, under: int, key: str = "wall") -> float:
    """The median over pairs of one side's number over another's."""
    return statistics.median(row[over][key] / row[under][key] for row in rows)


def loop_and_memory(quick: bool) -> dict[str, Goal]:
    """`train` over stable-baselines3's PPO alone, and over `baseline`, at the same steps and settings: a and g."""
    steps, pairs = (60_000, 2) if quick else (1_000_000, 3)
    labels = LABELS_OF_A_MILLION * steps // 1_000_000
    phases = PHASES_OF_A_MILLION * steps // 1_000_000  # one fit and one choice for as many steps as in a million

    def plain(pair: int) -> dict[str, Any]:
        return run(PLAIN, "--steps", steps, "--seed", 100 + pair)

    def ours(pair: int, *arm: object) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            asked = ("--steps", steps, "--phases", phases, "--seed", 100 + pair, "--out", out, "--no-tensorboard")
            measured = run(PREFRL, *arm, *asked)
            timing = read_table(out / "timing.csv")
            return measured | {part: sum(timing[part]) for part in PARTS}

    rows = in_turns(
        pairs,
        plain,
        lambda pair: ours(pair, "baseline"),
        lambda pair: ours(pair, "train", "--labels", labels),
        lambda pair: ours(pair, "train", "--labels", labels, "--overlap"),
    )
    what = f"`train` over plain PPO, wall time, HalfCheetah, {steps:,} steps, {labels} labels"
    return {
        "a": Goal(what, median_ratio(rows, 2, 0), most=1.10, raw=rows),
        "a2": Goal("the same, with the fit beside the learning (`--overlap`)", median_ratio(rows, 3, 0), most=1.05),
        "a3": Goal("`train` over `baseline`, the same steps", median_ratio(rows, 2, 1), most=1.10),
        "g": Goal("peak resident memory of the same", median_ratio(rows, 2, 0, "peak_bytes"), most=1.25),
    }


def defaults(quick: bool) -> dict[str, Goal]:
    """b: our environments and settings over stable-baselines3's own."""
    steps = 20_000 if quick else 1_000_000
    steps = steps // 2048 * 2048
    rows = in_turns(
        1,
        lambda pair: run(PLAIN, "--steps", steps, "--seed", 100 + pair),
        lambda pair: run(PLAIN, "--steps", steps, "--seed", 100 + pair, "--own-defaults"),
    )
    what = "steps/s of our environments and PPO settings over stable-baselines3's own, same network, epochs and steps"
    return {"b": Goal(what, median_ratio(rows, 1, 0, "seconds"), least=1.8, raw=rows)}


def beside_the_peer(quick: bool) -> dict[str, Goal]:
    """c, d and e: the library imitation, at the settings its documentation recommends."""
    steps = 8_000 if quick else 100_000
    iterations = speed_peer.RECOMMENDED_ITERATIONS * steps // 100_000  # as many steps in each, in a short run as well
    recommended = speed_peer.measure_training(1, steps, iterations)
    fitting = speed_peer.measure_fitting(2 if quick else 5)
    scoring = speed_peer.measure_scoring(2 if quick else 5)
    what = {
        "c": "wall time of `imitation` over `train`, same steps and labels, the iterations its tutorial recommends",
        "c2": "the same with the few iterations that its tutorial runs",
        "d1": "pair-updates/s of the reward's fit over `imitation`'s, one thread",
        "d2": "pair-updates/s of the reward's fit over those that its matrix products alone would allow",
        "e": "candidate pairs scored per second over `imitation`'s",
    }
    goals = {
        "c": Goal(what["c"], recommended["ratio"], least=10.0, raw=recommended),
        "d1": Goal(what["d1"], fitting["ratio"], least=5.0, raw=fitting),
        "d2": Goal(what["d2"], fitting["share"], least=0.6),
        "e": Goal(what["e"], scoring["ratio"], least=10.0, raw=scoring),
    }
    if not quick:  # in a short run the iterations are as few anyway
        tutorial = speed_peer.measure_training(3, steps, speed_peer.TUTORIAL_ITERATIONS)
        goals["c2"] = Goal(what["c2"], tutorial["ratio"], least=10.0, raw=tutorial)
    return goals


def growth(quick: bool) -> dict[str, Goal]:
    """f: one phase's fit and choice with eight times the answers."""
    from prefrl.queries.strategies import disagreement, select
    from prefrl.rewards.fit import Fit
    from prefrl.settings.presets import MUJOCO
    from prefrl.words.process import for_small_networks

    for_small_networks()
    recorder, r_hat = speed_peer._experience()
    rng, seconds = np.random.default_rng(0), {}
    for answers in (700, 1400, 2800, 5600):
        count = answers // PHASES_OF_A_MILLION
        fit = Fit(r_hat, rng, speed_peer.SEGMENT_STEPS, batch=MUJOCO.batch)
        pairs = recorder.pairs(answers, speed_peer.SEGMENT_STEPS, rng)
        fit.add(make_labeler("oracle", ("oracle",), 0)(pairs.queries()))
        times = []
        for _ in range(3 if quick else 7):
            start = time.perf_counter()
            select(disagreement, r_hat, recorder.pairs(10 * count, speed_peer.SEGMENT_STEPS, rng), count).queries()
            fit.run(MUJOCO.fit_updates)
            times.append(time.perf_counter() - start)
        seconds[answers] = statistics.median(times)
    recorder.close()
    what = "one phase's fit and choice at 5,600 answers over 700 (eight times as many)"
    return {"f": Goal(what, seconds[5600] / seconds[700], most=8.0, raw={"seconds": seconds})}


def pixels(quick: bool) -> dict[str, Goal]:
    """h: Atari on a CPU, in proportion to a run of 10M steps with 5,500 answers after its first fit."""
    steps, pairs = (4_096, 1) if quick else (40_960, 3)
    share = steps / 10_000_000
    phases = 2
    # What a phase of the long run spends on 200,000 steps, spent on as many as there are here.
    updates = max(1, round(64 * PHASES_OF_A_MILLION * share / (phases - 1)))

    def train(pair: int) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            asked = ("--labels", 20, "--steps", steps, "--seed", 100 + pair, "--phases", phases, "--out", out)
            fit = ("--fit-updates", updates, "--initial-epochs", 1, "--no-tensorboard")
            ran = run([*PREFRL, "train", "--env", "prefrl/Pong-v0"], *asked, *fit)
            timing = read_table(out / "timing.csv")
            rate = {"steps_per_second": steps / timing["seconds"][-1], "peak_bytes": ran["peak_bytes"]}
            return rate | {part: sum(timing[part]) for part in PARTS}

    def plain(pair: int) -> dict[str, Any]:
        ran = run(PLAIN, "--env", "prefrl/Pong-v0", "--steps", steps, "--seed", 100 + pair)
        return {"steps_per_second": ran["steps"] / ran["seconds"], "peak_bytes": ran["peak_bytes"]}

    rows = in_turns(pairs, plain, train)
    what = "Pong on a CPU: steps/s of `train` over plain PPO on the same environments"
    return {"h": Goal(what, median_ratio(rows, 1, 0, "steps_per_second"), least=0.85, raw=rows)}


FIRST_STEP = """
import os
from prefrl.experience.recorder import Recorder
Recorder.step_wait = lambda self: os._exit(0)
from prefrl.cli import main
main(["train", "--labels", "700", "--out", {out!r}])
"""


def start_up(quick: bool) -> dict[str, Goal]:
    """i: seconds from the command to its help, and to the first environment step."""
    times = 3 if quick else 7
    helped = [run([*PREFRL, "--help"])["wall"] for _ in range(times)]
    begun = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            begun.append(run([sys.executable, "-c", FIRST_STEP.format(out=f"{folder}/run")])["wall"])
    to_help, to_step = statistics.median(helped), statistics.median(begun)
    return {
        "i1": Goal("seconds of `prefrl --help`", to_help, most=0.5, raw=helped),
        "i2": Goal("seconds from `prefrl train` to its first environment step", to_step, most=4.0, raw=begun),
    }


QUESTIONS: dict[str, Callable[[bool], dict[str, Goal]]] = {  # by the letters of their goals
    "ag": loop_and_memory,
    "b": defaults,
    "cde": beside_the_peer,
    "f": growth,
    "h": pixels,
    "i": start_up,
}


def table(goals: dict[str, Goal]) -> str:
    """Measured beside wanted, as Markdown."""
    lines = ["| | what | measured | goal | |", "| :- | :--- | -------: | ---: | :- |"]
    for letter, goal in goals.items():
        bound = f"<= {goal.most:g}" if goal.most is not None else f">= {goal.least:g}"
        lines.append(f"| {letter} | {goal.what} | {goal.measured:.2f} | {bound} | {'met' if goal.met else 'missed'} |")
    return "\n".join(lines)


def read_goals() -> dict[str, Goal]:
    """The committed measurements."""
    return {letter: Goal(**goal) for letter, goal in json.loads(RESULTS.read_text())["goals"].items()}


def report() -> None:
    """Write the table of the committed measurements into the README."""
    before, after = README.read_text().split(MARK, 1)[0], README.read_text().rsplit(MARK, 1)[1]
    README.write_text(f"{before}{MARK}\n{table(read_goals())}\n{MARK}{after}")


def main(ask: Speed) -> int:
    """Measure, print, and write the raw numbers; 1 when a goal is missed."""
    if ask.report:
        report()
        return 0
    goals: dict[str, Goal] = {}
    commit = versions()["commit"]
    for letters, measure in QUESTIONS.items():
        if not ask.only or set(letters) & set(ask.only):
            found = measure(ask.quick)
            print("\n".join(table(found).splitlines()[2:]), flush=True)
            goals |= found
    if not ask.quick:
        old = json.loads(RESULTS.read_text())["goals"] if RESULTS.exists() else {}
        new = {letter: asdict(goal) | {"commit": commit} for letter, goal in goals.items()}
        merged = dict(sorted((old | new).items()))
        machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
        RESULTS.write_text(json.dumps({"machine": machine, "versions": versions(), "goals": merged}, indent=1) + "\n")
        report()
    print(table(goals))
    return 0 if all(goal.met for goal in goals.values()) else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Speed)))
