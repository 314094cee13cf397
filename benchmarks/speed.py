"""What learning from preferences costs, and where the time goes: goals, measured and wanted side by side.

    python -m benchmarks.speed             # the rows of the README's table that are stale: all of them take an hour
    python -m benchmarks.speed --only a c2 # these, with those that share their runs
    python -m benchmarks.speed --quick     # the same goals, smaller, in minutes

Every goal is a ratio of two things measured in turns in one run, so that it travels between machines; absolute times do
not. Prints measured beside wanted, writes results/speed.json after each group of rows, so that the same command goes on
after Ctrl-C, and exits with 1 when a goal is missed. A row keeps its commit and hashes of its settings and code, and is
stale where the code has changed since (`benchmarks.fresh`).
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks import speed_peer
from benchmarks.fresh import is_current, remember, share_of_stale
from prefrl.queries.labelers import make_labeler
from prefrl.queries.strategies import best_first, disagreement
from prefrl.rewards.fit import Fit
from prefrl.runs.fingerprint import function_hashes, modules_from, short_hash
from prefrl.runs.runlog import PARTS, read_table, versions
from prefrl.settings.presets import MUJOCO
from prefrl.words.errors import UserError
from prefrl.words.process import for_small_networks

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
    """Rows to measure, such as a c2 i, stale or not. Default: those that are stale or lacking."""
    report: bool = False
    """Only rebuild the README's table from the committed data."""


BOUNDS: dict[str, tuple[str, float]] = {
    "a": ("<=", 1.07),
    "a2": ("<=", 1.03),
    "a3": ("<=", 1.10),
    "a4": ("<=", 1.02),
    "b": (">=", 1.8),
    "c": (">=", 10.0),
    "c2": (">=", 10.0),
    "d1": (">=", 5.0),
    "d2": (">=", 0.6),
    "e": (">=", 10.0),
    "f": ("<=", 8.0),
    "g": ("<=", 1.25),
    "h": (">=", 0.85),
    "i1": ("<=", 0.5),
    "i2": ("<=", 4.0),
    "j1": (">=", 1.5),
    "j2": (">=", 0.75),
    "j3": (">=", 0.9),
}
"""What every row is held to."""


@dataclass(frozen=True)
class Goal:
    """One row of the table.

    Attributes:
        what: the ratio, in words.
        measured: the ratio.
        raw: what it was taken from.
        commit: of what was measured.
        settings: hash of the settings of the runs it was taken from.
        code: hash of the code that made it.
    """

    what: str
    measured: float
    raw: Any = None
    commit: str = ""
    settings: str = ""
    code: str = ""

    @property
    def is_stale(self) -> bool:
        """Whether what made it has changed since, or was not recorded."""
        return not is_current(self.code)


def is_met(row: str, goal: Goal) -> bool:
    """Whether the row's bound holds."""
    side, bound = BOUNDS[row]
    return goal.measured <= bound if side == "<=" else goal.measured >= bound


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
    """`train` and `baseline` over stable-baselines3's PPO alone, at the same steps and settings: a to a4, and g."""
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
            return measured | {part: sum(timing[part]) for part in PARTS} | made_by(out)

    rows = in_turns(
        pairs,
        plain,
        lambda pair: ours(pair, "baseline"),
        lambda pair: ours(pair, "train", "--labels", labels),
        lambda pair: ours(pair, "train", "--labels", labels, "--overlap"),
    )
    what = f"`train` over plain PPO, wall time, HalfCheetah, {steps:,} steps, {labels} labels"
    return {
        "a": Goal(what, median_ratio(rows, 2, 0), raw=rows),
        "a2": Goal("the same, with the fit beside the learning (`--overlap`)", median_ratio(rows, 3, 0)),
        "a3": Goal("`train` over `baseline`, the same steps", median_ratio(rows, 2, 1)),
        "a4": Goal("`baseline` over plain PPO, the same steps", median_ratio(rows, 1, 0)),
        "g": Goal("peak resident memory of the same", median_ratio(rows, 2, 0, "peak_bytes")),
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
    return {"b": Goal(what, median_ratio(rows, 1, 0, "seconds"), raw=rows)}


def training(quick: bool) -> dict[str, Goal]:
    """c: beside the library imitation, at the settings its documentation recommends."""
    steps = 8_000 if quick else 100_000
    iterations = speed_peer.RECOMMENDED_ITERATIONS * steps // 100_000  # as many steps in each, in a short run as well
    found = speed_peer.measure_training(1, steps, iterations) | in_this_process()
    what = "wall time of `imitation` over `train`, same steps and labels, the iterations its tutorial recommends"
    return {"c": Goal(what, found["ratio"], raw=found)}


def training_as_in_the_tutorial(quick: bool) -> dict[str, Goal]:
    """c2: the same with few iterations, as many as there are in a short run of the one above."""
    pairs, steps = (1, 8_000) if quick else (3, 100_000)
    found = speed_peer.measure_training(pairs, steps, speed_peer.TUTORIAL_ITERATIONS) | in_this_process()
    return {"c2": Goal("the same with the few iterations that its tutorial runs", found["ratio"], raw=found)}


def fitting(quick: bool) -> dict[str, Goal]:
    """d1 and d2: the reward's fit."""
    found = speed_peer.measure_fitting(2 if quick else 5) | in_this_process()
    ours = "pair-updates/s of the reward's fit over"
    return {
        "d1": Goal(f"{ours} `imitation`'s, one thread", found["ratio"], raw=found),
        "d2": Goal(f"{ours} those that its matrix products alone would allow", found["share"]),
    }


def scoring(quick: bool) -> dict[str, Goal]:
    """e: candidate pairs."""
    found = speed_peer.measure_scoring(2 if quick else 5) | in_this_process()
    return {"e": Goal("candidate pairs scored per second over `imitation`'s", found["ratio"], raw=found)}


def growth(quick: bool) -> dict[str, Goal]:
    """f: one phase's fit and choice with eight times the answers."""
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
            pairs = recorder.pairs(10 * count, speed_peer.SEGMENT_STEPS, rng)
            pairs[best_first(disagreement, r_hat, pairs)[:count]].queries()
            fit.run(MUJOCO.fit_updates)
            times.append(time.perf_counter() - start)
        seconds[answers] = statistics.median(times)
    recorder.close()
    what = "one phase's fit and choice at 5,600 answers over 700 (eight times as many)"
    return {"f": Goal(what, seconds[5600] / seconds[700], raw={"seconds": seconds} | in_this_process())}


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
            return rate | {part: sum(timing[part]) for part in PARTS} | made_by(out)

    def plain(pair: int) -> dict[str, Any]:
        ran = run(PLAIN, "--env", "prefrl/Pong-v0", "--steps", steps, "--seed", 100 + pair)
        rate = {"steps_per_second": ran["steps"] / ran["seconds"], "peak_bytes": ran["peak_bytes"]}
        return rate | {name: ran[name] for name in MADE_BY}

    rows = in_turns(pairs, plain, train)
    what = "Pong on a CPU: steps/s of `train` over plain PPO on the same environments"
    return {"h": Goal(what, median_ratio(rows, 1, 0, "steps_per_second"), raw=rows)}


def pixels_as_the_paper(quick: bool) -> dict[str, Goal]:
    """j1 to j3: A2C on Atari, a long run's fits in proportion, the first among them."""
    steps, pairs = (6_400, 1) if quick else (81_920, 3)
    share, phases, answers = steps / 10_000_000, 2, 16
    # 200 passes over the 510 answers of 5,600 that are asked at first, then 64 updates in each of 50 phases.
    first, later = max(1, round(6_400 * share)), max(1, round(64 * PHASES_OF_A_MILLION * share / (phases - 1)))
    task = ("--env", "prefrl/Pong-v0", "--learner", "a2c", "--n-envs", 16, "--steps", steps)

    def plain(pair: int) -> dict[str, Any]:
        ran = run(PLAIN, *task, "--seed", 100 + pair)
        return {"learned_per_second": ran["steps"] / ran["learning"]} | {name: ran[name] for name in MADE_BY}

    def ours(pair: int, *arm: object) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            asked = ("--seed", 100 + pair, "--phases", phases, "--out", out, "--no-tensorboard")
            run(PREFRL, *arm, *task, *asked)
            timing = read_table(out / "timing.csv")
            rate = {
                "steps_per_second": steps / timing["seconds"][-1],
                "learned_per_second": steps / sum(timing["learn"]),
            }
            return rate | {part: sum(timing[part]) for part in PARTS} | made_by(out)

    fits = ("--labels", 2 * answers, "--initial-labels", 0.5, "--initial-epochs", first, "--fit-updates", later)
    rows = in_turns(
        pairs,
        plain,
        lambda pair: ours(pair, "baseline"),
        lambda pair: ours(pair, "train", *fits),
        lambda pair: ours(pair, "train", *fits, "--overlap"),
    )
    rate, what = "steps_per_second", "Pong on a CPU, steps/s of"
    return {
        "j1": Goal(
            f"{what} our A2C over stable-baselines3's", median_ratio(rows, 1, 0, "learned_per_second"), raw=rows
        ),
        "j2": Goal(f"{what} `train` with A2C over `baseline`, all fits included", median_ratio(rows, 2, 1, rate)),
        "j3": Goal("the same with the fits beside the learning (`--overlap`)", median_ratio(rows, 3, 1, rate)),
    }


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
    import prefrl.cli  # noqa: F401  # whose code both run

    begins = {"modules": modules_from("prefrl.cli")}
    return {
        "i1": Goal("seconds of `prefrl --help`", to_help, raw={"seconds": helped} | begins),
        "i2": Goal("seconds from `prefrl train` to its first environment step", to_step, raw={"seconds": begun}),
    }


MEASURES: dict[tuple[str, ...], Callable[[bool], dict[str, Goal]]] = {  # by the rows that they make
    ("a", "a2", "a3", "a4", "g"): loop_and_memory,
    ("b",): defaults,
    ("c",): training,
    ("c2",): training_as_in_the_tutorial,
    ("d1", "d2"): fitting,
    ("e",): scoring,
    ("f",): growth,
    ("h",): pixels,
    ("i1", "i2"): start_up,
    ("j1", "j2", "j3"): pixels_as_the_paper,
}
MADE_BY = ("settings", "modules")


def made_by(folder: Path) -> dict[str, Any]:
    """What a finished run says that it was made by."""
    said = json.loads((folder / "versions.json").read_text(encoding="utf-8"))
    return {name: said[name] for name in MADE_BY}


def in_this_process() -> dict[str, Any]:
    """The modules behind what is measured here, without a run of its own."""
    return {"modules": modules_from("benchmarks.speed_peer")}


def split(raw: Any) -> tuple[Any, list[dict[str, Any]]]:
    """Raw numbers without what made them, and that: the `settings` and `modules` of each part that says so."""
    if isinstance(raw, list):
        parts = [split(part) for part in raw]
        return [part for part, _ in parts], [about for _, found in parts for about in found]
    if isinstance(raw, dict):
        parts = {name: split(part) for name, part in raw.items() if name not in MADE_BY}
        own = {name: raw[name] for name in MADE_BY if name in raw}
        found = [about for _, below in parts.values() for about in below]
        return {name: part for name, (part, _) in parts.items()}, [own, *found] if own else found
    return raw, []


def measured(measure: Callable[[bool], dict[str, Goal]], quick: bool) -> dict[str, Goal]:
    """The rows that one measure makes, each with its commit and with hashes of the settings and the code behind it."""
    commit = versions()["commit"]  # before this writes its own results
    goals, abouts = {}, []
    for row, goal in measure(quick).items():
        raw, about = split(goal.raw)
        goals[row] = replace(goal, raw=raw, commit=commit)
        abouts += about
    modules = {name: found for about in abouts for name, found in about.get("modules", {}).items()}
    here = function_hashes(__spec__.name if __spec__ else __name__, Path(__file__).read_text(encoding="utf-8"))
    modules |= {name: found for name, found in here.items() if name.endswith(f":{measure.__name__}")}
    settings = short_hash(json.dumps(sorted({about["settings"] for about in abouts if "settings" in about})))
    code = "" if quick else remember(modules)
    return {row: replace(goal, settings=settings, code=code) for row, goal in goals.items()}


def to_measure(ask: Speed, there: dict[str, Goal]) -> list[Callable[[bool], dict[str, Goal]]]:
    """What was asked for, or else what makes a row that is stale or lacking.

    Raises:
        UserError: there is no such row.
    """
    for asked in ask.only:
        if asked not in BOUNDS and asked not in {row[0] for row in BOUNDS}:
            raise UserError(f"there is no row {asked!r}: they are {', '.join(BOUNDS)}.")
    wanted = {row for row in BOUNDS if row in ask.only or (row[0] in ask.only and row[0] not in BOUNDS)}
    if not ask.only:
        wanted = {row for row in BOUNDS if ask.quick or row not in there or there[row].is_stale}
    return [measure for rows, measure in MEASURES.items() if wanted & set(rows)]


def table(goals: dict[str, Goal]) -> str:
    """Measured beside wanted, as Markdown, and above it how much is stale."""
    outdated = {row for row, goal in goals.items() if (goal.code and goal.is_stale) or not goal.code}
    lines = ["| | what | measured | goal | |", "| :- | :--- | -------: | ---: | :- |"]
    for row, goal in goals.items():
        side, bound = BOUNDS[row]
        verdict = ("met" if is_met(row, goal) else "missed") + (", stale" if row in outdated else "")
        lines.append(f"| {row} | {goal.what} | {goal.measured:.2f} | {side} {bound:g} | {verdict} |")
    said = share_of_stale(len(outdated), len(goals), "rows")
    return "\n".join([said, "", *lines] if said else lines)


def read_goals() -> dict[str, Goal]:
    """The committed measurements."""
    if not RESULTS.exists():
        return {}
    return {row: Goal(**goal) for row, goal in json.loads(RESULTS.read_text(encoding="utf-8"))["goals"].items()}


def report() -> None:
    """Write the table of the committed measurements into the README."""
    text = README.read_text(encoding="utf-8")
    before, after = text.split(MARK, 1)[0], text.rsplit(MARK, 1)[1]
    README.write_text(f"{before}{MARK}\n{table(read_goals())}\n{MARK}{after}", encoding="utf-8")


def keep(goals: dict[str, Goal]) -> None:
    """Put these rows in the place of the committed ones, and into the README's table."""
    merged = {row: asdict(goal) for row, goal in sorted((read_goals() | goals).items())}
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    found = {"machine": machine, "versions": versions(), "goals": merged}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    report()


def main(ask: Speed) -> int:
    """Measure, print, and write the raw numbers; 1 when a goal is missed, 2 when there is no such row."""
    if ask.report:
        report()
        return 0
    goals: dict[str, Goal] = {}
    try:
        measures = to_measure(ask, read_goals())
    except UserError as error:
        print(f"benchmarks.speed: {error}", file=sys.stderr)
        return 2
    for measure in measures:
        found = measured(measure, ask.quick)
        goals |= found
        print(table(found), flush=True)
        if not ask.quick:
            keep(found)
    shown = goals if ask.quick else read_goals()
    print(table(shown))
    return 0 if all(is_met(row, goal) for row, goal in shown.items()) else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Speed)))
