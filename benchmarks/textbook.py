"""What the textbook's estimators cost, and what its learners come to, in a world where the truth is known.

    python -m benchmarks.textbook            # a minute; writes results/textbook, and the README's part
    python -m benchmarks.textbook --report   # draws and writes what is there

The world is a dialogue of four turns (`prefrl/Dialogue-v0`); gradients and values are exact (`prefrl.exact`), so that
bias is bias, and no other estimate's noise.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import tyro
from matplotlib.figure import Figure
from scipy.special import softmax

from benchmarks.question import markdown, write_between
from prefrl.exact.sampling import (
    Batch,
    Moments,
    episode_gradients,
    gae,
    importance_estimates,
    moments,
    returns_to_go,
    rollouts,
)
from prefrl.exact.solver import evaluate, expected_kl, expected_return, solve
from prefrl.exact.textbook import LEARNERS, learn, policy_gradient
from prefrl.exact.world import World
from prefrl.runs.runlog import versions

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "textbook"
LAMBDAS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0)
EPISODES = 50_000  # of the policy whose gradient is estimated
RATES = {"TRPO": 0.01, "PPO, penalty": 1.0, "PPO, clip": 1.0}  # the others' is 2; TRPO's are nats
ASKED = 50  # episodes that say what another policy would return
HOW: dict[str, dict[str, bool]] = {
    "by episode": {},
    "by decision": {"per_decision": True},
    "weighted": {"weighted": True},
}
BATCH, BATCHES, SEEDS = 64, 200, 10

Row = dict[str, str | float]


@dataclass(frozen=True)
class Ask:
    """Bias, variance and learning curves of the textbook's policy gradients."""

    report: bool = False
    """Measure nothing: draw, and write into benchmarks/README.md, what results/textbook holds."""


def world() -> World:
    """Four turns, so that a dialogue has 24 ** 4 ways to go at most."""
    return World.make("prefrl/Dialogue-v0", turns=4)


def measure_advantages() -> Iterator[Row]:
    """Moments of the gradient by how steps are weighed, with three critics."""
    talk, rng = world(), np.random.default_rng(1)
    policy = softmax(np.random.default_rng(0).normal(size=talk.rewards.shape), axis=1)
    truth, value = policy_gradient(talk, policy), evaluate(talk, policy).value
    batch = rollouts(talk, policy, EPISODES, rng)
    critics = {"true": value, "halved": value / 2, "zero": np.zeros_like(value)}
    length = float(np.linalg.norm(truth))

    def row(estimator: str, critic: str, lam: float | str, found: Moments) -> Row:
        return {
            "estimator": estimator,
            "critic": critic,
            "lambda": lam,
            "bias": found.bias / length,
            "bias_by_chance": found.bias_error / length,
            "deviation": np.sqrt(found.variance) / length,
        }

    yield row("REINFORCE", "", "", moments(episode_gradients(batch, policy, returns_to_go(batch)), truth))
    for name, critic in critics.items():
        for lam in LAMBDAS:
            yield row("GAE", name, lam, moments(episode_gradients(batch, policy, gae(batch, critic, lam)), truth))


def measure_importance() -> Iterator[Row]:
    """Moments of a return as a few episodes of another policy say it, from ever farther away."""
    talk, rng = world(), np.random.default_rng(2)
    logits = np.random.default_rng(0).normal(size=talk.rewards.shape)
    policy, best = softmax(logits, axis=1), solve(talk, 0.3).policy
    batch = rollouts(talk, policy, EPISODES, rng)
    parts = [Batch(*(part[at : at + ASKED] for part in batch)) for at in range(0, EPISODES, ASKED)]
    for share in (0.1, 0.2, 0.3, 0.5, 0.7, 0.9):
        target = (1 - share) * policy + share * best
        truth = expected_return(talk, target)
        for name, how in HOW.items():
            estimates = [importance_estimates(part, policy, target, **how).mean() for part in parts]
            found = moments(np.array(estimates), truth)
            yield {
                "estimator": name,
                "nats": expected_kl(talk, target, policy),
                "bias": found.bias,
                "bias_by_chance": found.bias_error,
                "deviation": np.sqrt(found.variance),
            }


def measure_learning() -> Iterator[Row]:
    """The exact return of each learner's policy before each batch."""
    talk = world()
    for name, learner in LEARNERS.items():
        for seed in range(SEEDS):
            rng = np.random.default_rng([seed, 3])
            curve = islice(learn(talk, learner, RATES.get(name, 2.0), BATCH, rng), BATCHES + 1)
            for batch, (gained, _) in enumerate(curve):
                if batch % 5 == 0:
                    yield {"learner": name, "seed": seed, "episodes": batch * BATCH, "return": gained}


MEASURED = {"advantages": measure_advantages, "importance": measure_importance, "learning": measure_learning}


def write(name: str, rows: Iterable[Row]) -> None:
    """One table of raw numbers."""
    held = list(rows)
    RESULTS.mkdir(parents=True, exist_ok=True)
    with (RESULTS / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(held[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in held)


def read(name: str) -> list[dict[str, str]]:
    """What `write` wrote."""
    with (RESULTS / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def draw() -> None:
    """Three panels: bias against deviation over lambda, importance sampling, learning."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    rows = read("advantages")
    for critic in ("true", "halved", "zero"):
        mine = [row for row in rows if row["critic"] == critic]
        x, y = ([float(row[name]) for row in mine] for name in ("deviation", "bias"))
        left.plot(x, y, marker="o", markersize=3, label=f"critic {critic}")
        for at in (0, -1):
            left.annotate(f"λ {float(mine[at]['lambda']):g}", (x[at], y[at]), fontsize=7, xytext=(3, 3),
                          textcoords="offset points")  # fmt: skip
    left.set(xlabel="deviation of one episode, gradient lengths", ylabel="bias, gradient lengths")
    left.legend(frameon=False, fontsize=8)
    rows = read("importance")
    for name in dict.fromkeys(row["estimator"] for row in rows):
        mine = [row for row in rows if row["estimator"] == name]
        middle.plot([float(r["nats"]) for r in mine], [float(r["deviation"]) for r in mine], marker="o", markersize=3,
                    label=name)  # fmt: skip
    middle.set(xlabel="KL(asked about || acted), nats an episode", ylabel=f"deviation of {ASKED} episodes' estimate")
    middle.legend(frameon=False, fontsize=8)
    talk = world()
    right.axhline(expected_return(talk, solve(talk, 0.0).policy), color="0.6", linewidth=1, linestyle="--")
    for name, curves in by_learner().items():
        right.plot(sorted(curves), [np.mean(curves[at]) for at in sorted(curves)], label=name)
    right.set(xlabel="episodes", ylabel="exact expected return, mean of ten seeds")
    right.legend(frameon=False, fontsize=8)
    figure.savefig(RESULTS / "figure.png", dpi=130, metadata={"Software": None})


def by_learner() -> dict[str, dict[int, list[float]]]:
    """Returns of all seeds, by learner and episodes."""
    found: dict[str, dict[int, list[float]]] = {}
    for row in read("learning"):
        found.setdefault(row["learner"], {}).setdefault(int(row["episodes"]), []).append(float(row["return"]))
    return found


def report() -> str:
    """Both tables."""
    rows = [["weighed by", "critic", "bias", "by chance", "deviation"]]
    for row in read("advantages"):
        if row["lambda"] in ("", *map("{:.6g}".format, (0.0, 0.4, 0.8, 0.95, 1.0))):
            weighed = f"GAE, lambda {float(row['lambda']):g}" if row["lambda"] else "returns to go (REINFORCE)"
            numbers = [f"{float(row[name]):.3f}" for name in ("bias", "bias_by_chance", "deviation")]
            rows.append([weighed, row["critic"] or "-", *numbers])
    talk = world()
    best, first = expected_return(talk, solve(talk, 0.0).policy), expected_return(talk, talk.reference)
    learned = [["learner", "share of the way to the optimum", "least", "most"]]
    for name, curves in by_learner().items():
        shares = (np.array(curves[max(curves)]) - first) / (best - first)
        learned.append([name, *(f"{share:.3f}" for share in (shares.mean(), shares.min(), shares.max()))])
    return (
        f"![Bias, variance and learning](results/textbook/figure.png)\n\n{markdown(rows, 2)}\n\n"
        f"Of one episode's gradient, in lengths of the exact one, from {EPISODES:,} episodes; by chance: what the bias "
        f"of this many would be were there none.\n\n{markdown(learned, 1)}\n\n"
        f"After {BATCHES} batches of {BATCH} episodes, {SEEDS} seeds: mean, least and most. Commit "
        f"{json.loads((RESULTS / 'versions.json').read_text(encoding='utf-8'))['commit']}."
    )


def main(ask: Ask) -> None:
    """Measure, draw and write."""
    if not ask.report:
        made_with = versions()  # before anything here is written, and the commit with it no longer the one that is
        for name, measure in MEASURED.items():
            write(name, measure())
        (RESULTS / "versions.json").write_text(json.dumps(made_with, indent=1) + "\n", encoding="utf-8")
    draw()
    write_between(HERE / "README.md", "textbook", report())


if __name__ == "__main__":
    main(tyro.cli(Ask))
