"""Speed beside imitation 1.0.1, a library that learns from preferences too.

    python -m benchmarks.speed --only c d e

Measured side by side on one torch thread each: `measure_training`, `measure_fitting`, `measure_scoring`. The peer runs
in a virtual environment of its own (runs/peer/venv), which is made with the versions pinned in peer/requirements.txt.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from prefrl.experience.backends import make_vec_env
from prefrl.experience.recorder import Recorder
from prefrl.queries.labelers import make_labeler
from prefrl.queries.strategies import best_first, disagreement
from prefrl.rewards.fit import Fit
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.run import train
from prefrl.runs.saved import load_run
from prefrl.settings.config import TrainConfig
from prefrl.settings.presets import MUJOCO
from prefrl.studies.evaluate import policy_return
from prefrl.words.process import for_small_networks

HERE = Path(__file__).parent
PEER = HERE / "peer" / "imitation_side.py"
PINS = HERE / "peer" / "requirements.txt"
VENV = Path("runs/peer/venv")

ENV = "HalfCheetah-v5"
PEER_ENV = "HalfCheetah-v4"  # the newest that its Gymnasium has; observations, actions and reward are the same
MEMBERS, SEGMENT_STEPS = 3, 50
LABELS, PER_STEPS = 700, 100_000
TUTORIAL_ITERATIONS, RECOMMENDED_ITERATIONS = 5, 60  # "num_iterations=5, # Set to 60 for better performance"


class Peer:
    """The peer, running: ask it by the name of a function of `benchmarks/peer/imitation_side.py`."""

    def __enter__(self) -> Peer:
        """Install it where it is not yet, and start it."""
        python, installed = VENV.absolute() / "bin" / "python", VENV / "requirements.txt"
        if not installed.exists() or installed.read_text(encoding="utf-8") != PINS.read_text(encoding="utf-8"):
            if not python.exists():
                subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(PINS)]
            subprocess.run(pip, check=True)
            installed.write_text(PINS.read_text(encoding="utf-8"))
        self._process = subprocess.Popen(
            [str(python), "-W", "ignore", str(PEER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.versions = self.ask("versions")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self._process.communicate()

    def ask(self, do: str, **arguments: Any) -> Any:
        """What the function returns for these arguments."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the peer failed at {do!r}, as it says above")
        return json.loads(answer)


def measure_training(pairs: int, steps: int, iterations: int) -> dict[str, Any]:
    """The whole loop at each one's defaults: the same steps and members, and 700 labels for each 100,000 steps.

    Args:
        pairs: seeds that both train.
        steps: asked of both.
        iterations: of the peer.

    Returns:
        `ratio`: the peer's wall seconds over ours, median over seeds; `rows`: for each seed and side, seconds, steps
        taken, and the mean true return of ten episodes of the policy at the end; `median_true_return` of each side.
    """
    rows = []
    same: dict[str, Any] = {"steps": steps, "labels": LABELS * steps // PER_STEPS, "members": MEMBERS}
    with Peer() as peer:
        for seed in range(pairs):
            ours = _in_turn(
                seed,
                lambda seed=seed: _train(seed=seed, **same),
                lambda seed=seed: peer.ask("train", env=PEER_ENV, seed=seed, iterations=iterations, **same),
            )
            rows.append({"seed": seed, "ours": ours[0], "peer": ours[1]})
        found = peer.versions
    return {
        "ratio": statistics.median(row["peer"]["seconds"] / row["ours"]["seconds"] for row in rows),
        "median_true_return": {
            side: statistics.median(row[side]["true_return"] for row in rows) for side in ("ours", "peer")
        },
        "peer_iterations": iterations,
        "rows": rows,
        "peer_versions": found,
    }


def measure_fitting(rounds: int = 5, updates: int = 100) -> dict[str, Any]:
    """Reward fitting on one thread, HalfCheetah's shapes: pair-updates (pairs x members x passes) per second.

    Returns:
        `ratio`: our rate over the peer's; `share`: our rate over the one that the same thread reaches on the matrix
        products of a fit and nothing else, float32, forward and backward; the rates themselves. Medians of rounds.
    """
    for_small_networks()
    recorder, r_hat = _experience()
    answers = make_labeler("oracle", ("oracle",), 0)(
        recorder.pairs(LABELS, SEGMENT_STEPS, np.random.default_rng(0)).queries()
    )
    fit = Fit(r_hat, np.random.default_rng(0), SEGMENT_STEPS, batch=MUJOCO.batch)
    fit.add(answers)
    sizes = (_inputs(recorder), *r_hat.hidden, 1)
    products = _products(sizes, MUJOCO.batch * 2 * SEGMENT_STEPS)
    fit.run(updates // 10)
    rows = []
    with Peer() as peer:
        peer.ask("prepare", pairs=LABELS, **_shapes(recorder, r_hat))
        for turn in range(rounds):
            ours, theirs = _in_turn(turn, lambda: _seconds(fit.run, updates), lambda: peer.ask("fit", epochs=2))
            limit = _seconds(_repeat, products, updates)
            pair_updates = updates * MUJOCO.batch * MEMBERS
            rows.append(
                {
                    "ours": pair_updates / ours,
                    "peer": theirs["pair_updates"] / theirs["seconds"],
                    "products": pair_updates / limit,
                }
            )
        found = peer.versions
    recorder.close()
    return {
        "ratio": statistics.median(row["ours"] / row["peer"] for row in rows),
        "share": statistics.median(row["ours"] / row["products"] for row in rows),
        "pair_updates_per_second": {side: statistics.median(row[side] for row in rows) for side in rows[0]},
        "rows": rows,
        "peer_versions": found,
    }


def measure_scoring(rounds: int = 5, candidates: int = 10_000) -> dict[str, Any]:
    """From recorded experience to the tenth of the candidate pairs that members disagree about most, on one thread.

    Returns:
        `ratio`: our rate over the peer's; the pairs per second themselves. Medians of rounds.
    """
    for_small_networks()
    recorder, r_hat = _experience()
    rng = np.random.default_rng(0)

    def choose() -> None:
        pairs = recorder.pairs(candidates, SEGMENT_STEPS, rng)
        pairs[best_first(disagreement, r_hat, pairs)[: candidates // 10]].queries()

    choose()
    rows = []
    with Peer() as peer:
        peer.ask("prepare", pairs=10, **_shapes(recorder, r_hat))
        for turn in range(rounds):
            ours, theirs = _in_turn(turn, lambda: _seconds(choose), lambda: peer.ask("score", candidates=candidates))
            rows.append({"ours": candidates / ours, "peer": candidates / theirs["seconds"]})
        found = peer.versions
    recorder.close()
    return {
        "ratio": statistics.median(row["ours"] / row["peer"] for row in rows),
        "pairs_per_second": {side: statistics.median(row[side] for row in rows) for side in rows[0]},
        "rows": rows,
        "peer_versions": found,
    }


def _train(**asked: Any) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        began = time.perf_counter()
        train(TrainConfig(env=ENV, out=out, **asked), quiet=True)
        seconds = time.perf_counter() - began
        run = load_run(out)
        returns = policy_return(run.policy.act, run.make_env(), episodes=10, seed=asked["seed"])
        return {"seconds": seconds, "steps": int(run.metrics["step"][-1]), "true_return": float(returns.mean())}


def _experience() -> tuple[Recorder, RewardEnsemble]:
    """100,000 steps of random actions, and an ensemble that has seen them."""
    envs = 32
    recorder = Recorder(make_vec_env(ENV, envs, 0), ENV, 0, keep_steps=100_000)
    recorder.reset()
    rng = np.random.default_rng(0)
    for _ in range(100_000 // envs):
        recorder.step(rng.uniform(-1, 1, (envs, *recorder.action_space.shape)).astype(np.float32))
    first = torch.Generator().manual_seed(0)
    r_hat = RewardEnsemble(recorder.observation_space, recorder.action_space, MEMBERS, generator=first)
    r_hat.observe(*recorder.recent(10_000)[:2])
    return recorder, r_hat


def _inputs(recorder: Recorder) -> int:
    return int(np.prod(recorder.observation_space.shape) + np.prod(recorder.action_space.shape))


def _shapes(recorder: Recorder, r_hat: RewardEnsemble) -> dict[str, Any]:
    return {
        "observation_size": recorder.observation_space.shape[0],
        "action_size": recorder.action_space.shape[0],
        "hidden": list(r_hat.hidden),
        "segment_steps": SEGMENT_STEPS,
        "members": MEMBERS,
    }


def _products(sizes: Sequence[int], steps: int) -> list[Callable[[], Any]]:
    """Every matrix product of one update of the members on this many steps, each done in the fastest way there is.

    Forward, a layer's inputs times its weights, which are the inputs of the next; backward, inputs times gradient for
    the weights, and gradient times weights for the layer below, which the first layer does not need.
    """
    weights = [torch.randn(MEMBERS, *shape) for shape in pairwise(sizes)]
    values = [torch.randn(MEMBERS, steps, size) for size in sizes]
    gradients = [torch.randn(MEMBERS, steps, size) for size in sizes]
    forward = [_fastest(values[layer], w, values[layer + 1]) for layer, w in enumerate(weights)]
    backward = []
    for layer, w in reversed(list(enumerate(weights))):
        backward.append(_fastest(values[layer].mT, gradients[layer + 1], torch.empty_like(w)))
        if layer:
            backward.append(_fastest(gradients[layer + 1], w.mT, gradients[layer]))
    return forward + backward


def _fastest(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> Callable[[], Any]:
    """The product of K pairs of matrices, into memory that is there already: as a batch, one by one, or transposed.

    Which is fastest depends on the shapes: a batch of products with a single column takes eight times as long as the
    same one by one.
    """
    ways = [
        lambda: torch.bmm(left, right, out=out),
        lambda: [torch.mm(*pair, out=one) for *pair, one in zip(left, right, out, strict=True)],
        lambda: torch.bmm(right.mT, left.mT, out=out.mT),
    ]
    return min(ways, key=lambda way: min(_seconds(_repeat, [way], 5) for _ in range(5)))


def _repeat(products: Sequence[Callable[[], Any]], times: int) -> None:
    with torch.no_grad():
        for _ in range(times):
            for product in products:
                product()


def _seconds(do: Callable[..., Any], *arguments: Any) -> float:
    began = time.perf_counter()
    do(*arguments)
    return time.perf_counter() - began


def _in_turn(turn: int, ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[Any, Any]:
    """Both, every other time in the other order, so that neither has the quieter machine."""
    if turn % 2 == 0:
        first = ours()
        return first, theirs()
    second = theirs()
    return ours(), second
