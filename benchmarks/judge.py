"""How far a judge can be trusted, before anything is learned from it; and what its principles make of a policy.

    python -m benchmarks.judge              # 500 pairs, four judges, some minutes
    prefrl sweep benchmarks/grids/judge.toml
    python -m benchmarks.judge --runs runs/judge   # and how far each principle holds in the policies of these runs

The pairs are of behaviour between random and a trained policy's. Each is put to the oracle, to a judge whose principles
are predicates, and to three models behind a server of this machine, which read the clips' numbers: one that says which
clip went further forward, one that in addition says "the first" on one question in five without looking, so that of an
even pair it chooses the first with 0.6, and one that throws a coin. Agreement is over pairs that both decide.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from prefrl.experience.recorder import Recorder
from prefrl.experience.task import Task
from prefrl.queries.constitution import Constitution, Endpoint, Principle, read_constitution
from prefrl.queries.judge import Judge
from prefrl.queries.oracle import make_oracle
from prefrl.runs.runlog import is_finished, versions
from prefrl.runs.saved import load_run
from prefrl.settings.config import read_run
from prefrl.words.preference import Preference, Query
from prefrl.words.process import for_small_networks

RESULTS = Path(__file__).parent / "results" / "judge.json"
PRINCIPLES = Path(__file__).parent / "principles.toml"
TASK, PAIRS, STEPS = "HalfCheetah-v5", 500, 30
FIRST = 0.2  # of the questions are answered "the first" by the biased model, whatever is shown
EPISODES = 5


@dataclass(frozen=True)
class Ask:
    """Measure judges on pairs, and principles in policies."""

    runs: Path | None = None
    """Folder of the finished runs of grids/judge.toml; without, judges alone are measured."""


def recorded(rng: np.random.Generator) -> list[Query]:
    """Pairs of behaviour that goes from rest to full torques, so that some are easy and some are not."""
    env = Recorder(Task(TASK).make_vec(8, 100), TASK, 100, 20_000)
    env.reset()
    drift = rng.uniform(-1, 1, size=(8, *env.action_space.shape))  # type: ignore[misc]
    for step in range(2_500):
        if step % 50 == 0:
            drift = rng.uniform(-1, 1, size=drift.shape)
        env.step(np.clip(drift + rng.normal(0, 0.5, drift.shape), -1, 1).astype(np.float32))
    queries = env.pairs(PAIRS, STEPS, rng).queries()
    env.close()
    return queries


@contextmanager
def served(answer: Callable[[float, float], str]) -> Iterator[str]:
    """A server of chat completions on this machine, whose model sees how fast both clips went forward."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            text = " ".join(part["text"] for part in request["messages"][0]["content"])
            _, *clips = re.split(r"Clip [AB]:", text)
            speeds = [
                np.mean([float(row.split(", ")[8]) for row in re.findall(r"observation \[([^\]]*)", clip)])
                for clip in clips
            ]
            message = {"role": "assistant", "content": answer(float(speeds[0]), float(speeds[1]))}
            choices = [{"index": 0, "finish_reason": "stop", "message": message}]
            usage = {"prompt_tokens": len(text) // 4, "completion_tokens": 1, "total_tokens": len(text) // 4 + 1}
            reply = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
            sent = json.dumps({**reply, "choices": choices, "usage": usage}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def models(rng: np.random.Generator) -> dict[str, Callable[[float, float], str]]:
    """The three, each a function of both clips' speeds."""

    def honest(first: float, second: float) -> str:
        return "A" if first > second else "B"

    return {
        "an honest model": honest,
        "a model that leans to the first": lambda a, b: "A" if rng.random() < FIRST else honest(a, b),
        "a coin": lambda a, b: "AB"[int(rng.random() < 0.5)],
    }


def beside_oracle(said: Sequence[Preference], truth: Sequence[Preference]) -> dict[str, float]:
    """How often the same was said of a pair that both decided, with its 95 % interval, and how many both decided."""
    both = [(s.mu, t.mu) for s, t in zip(said, truth, strict=True) if {s.mu, t.mu} <= {0.0, 1.0}]
    alike = sum(one == other for one, other in both)
    share = alike / len(both)
    half = 1.96 * np.sqrt(share * (1 - share) / len(both))
    return {"agreement": share, "low": share - half, "high": share + half, "decided": len(both)}


def judged(rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Every judge on the same pairs."""
    queries = recorded(rng)
    truth = make_oracle(("oracle",), 0)(queries)
    found = {"principles": beside_oracle(Judge(read_constitution(PRINCIPLES))(queries), truth)}
    asked = Principle("forward", question="Which clip goes further forward?")
    for name, answer in models(rng).items():
        with served(answer) as url, tempfile.TemporaryDirectory() as cache:
            endpoint = Endpoint(url, "numbers", key="", shows="numbers", frames=6, parallel=1)
            judge = Judge(Constitution((asked,), endpoint=endpoint), Path(cache))
            found[name] = beside_oracle(judge(queries), truth) | judge.measures()
        print(name, found[name], flush=True)
    return found


def kept(folder: Path) -> dict[str, Any]:
    """How far each principle holds of an untrained policy's behaviour and of a run's policy, and its true return."""
    run, principles = load_run(folder), read_constitution(PRINCIPLES)
    env = run.make_env()
    shares: dict[str, dict[str, float]] = {}
    returns = []
    for who in ("before", "after"):
        seen, taken = [], []
        rng = np.random.default_rng(run.config.seed)
        for episode in range(EPISODES):
            observation, _ = env.reset(seed=1000 + episode)
            env.action_space.seed(int(rng.integers(2**31)))
            done, paid = False, 0.0
            while not done:
                action = run.policy.act(observation[None])[0] if who == "after" else env.action_space.sample()
                seen.append(observation)
                taken.append(action)
                observation, reward, terminated, truncated, _ = env.step(action)
                paid, done = paid + float(reward), terminated or truncated
            returns += [paid] if who == "after" else []
        steps = np.stack(seen), np.stack(taken)
        checked = [p for p in principles.principles if p.predicate is not None]
        shares[who] = {p.name: float(np.mean(p.predicate(*steps))) for p in checked if p.predicate}
    env.close()
    return {"seed": run.config.seed, "arm": run.config.arm, "true_return": float(np.mean(returns)), **shares}


def main(ask: Ask) -> int:
    """Measure, and write the raw numbers; 1 where a judge is not what was planted."""
    for_small_networks()
    data = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    if ask.runs is None:
        data |= {"judges": judged(np.random.default_rng(100)), "versions": versions()}
    else:
        finished = sorted(path.parent for path in ask.runs.rglob("result.json") if is_finished(path.parent))
        data["policies"] = [kept(folder) for folder in finished if read_run(folder).arm]
    RESULTS.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    judges = data["judges"]
    leaning, coin = judges["a model that leans to the first"], judges["a coin"]
    as_planted = abs(leaning["judge_first_share"] - 0.6) < 0.04 and coin["low"] < 0.5 < coin["high"]
    print(json.dumps(data, indent=1))
    return int(not as_planted)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Ask)))
