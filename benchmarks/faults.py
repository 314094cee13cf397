"""What a run survives, to the byte: it is killed at random moments, resumed, and compared with the unbroken run.

    python -m benchmarks.faults            # some ten minutes
    python -m benchmarks.faults --report   # only the README's table, from the committed data

Every kind of run is made once without a break. Then it is begun again and again, stopped at a moment drawn at random,
by SIGKILL, by SIGTERM, by a disk that is full or by an environment that fails, and resumed with `prefrl train
--resume`. No label may be lost; `metrics.csv`, `reward.safetensors` and `policy.safetensors` must be those of the
unbroken run; and the store must hold the same questions in the same order, with the same answers by the same labelers.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import tyro
from gymnasium import spaces

from benchmarks.same_bytes import FILES, PREFRL, answer
from prefrl.queries.store import NothingThereError, Store
from prefrl.runs.runlog import versions

RESULTS = Path(__file__).parent / "results" / "faults.json"
README = Path(__file__).parent.parent / "README.md"
MARK = "<!-- python -m benchmarks.faults --report -->"
SHORT = "--steps 30720 --labels 40 --checkpoint-every 8192 --no-tensorboard"
KINDS = {
    "ppo, EnvPool": f"train --env HalfCheetah-v5 {SHORT}",
    "ppo, Gymnasium's classes": f"train --env HalfCheetah-v5 --backend gymnasium --overlap {SHORT}",
    "a2c, irrational teachers": f"train --env Hopper-v5 --learner a2c --teachers stochastic mistake skip {SHORT}",
    "trpo": f"train --env prefrl/Walker2d-v0 --learner trpo {SHORT}",
    "true reward": "baseline --env HalfCheetah-v5 --steps 30720 --checkpoint-every 8192 --no-tensorboard",
    "a person": "train --env HalfCheetah-v5 --labeler human --patience inf --steps 16384 --labels 20 "
    "--checkpoint-every 4096 --no-tensorboard",
    "Pong": "train --env prefrl/Pong-v0 --steps 4096 --labels 12 --keep-steps 2048 --set n_steps=64 n_epochs=1 "
    "--checkpoint-every 1024 --fit-updates 2 --initial-epochs 1 --no-tensorboard",
    "an environment of others": "train --env benchmarks.faults:Fragile-v0 --steps 12000 --labels 40 "
    "--checkpoint-every 3000 --set n_steps=64 n_epochs=4 --no-tensorboard",
}


class FragileEnv(gym.Env[Any, Any]):
    """Walks on a line; raises after as many steps, over all in the process, as the variable FRAGILE_STEPS says."""

    left = int(os.environ.get("FRAGILE_STEPS", -1))
    observation_space = spaces.Box(-10, 10, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Begin near the middle."""
        super().reset(seed=seed)
        self.place = float(self.np_random.uniform(-1, 1))
        return self._shown(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Walk; far from the middle the episode ends."""
        FragileEnv.left -= 1
        if FragileEnv.left == 0:
            raise RuntimeError("the motor is hot")
        self.place = float(np.clip(self.place + 0.1 * action[0] + self.np_random.normal(0, 0.02), -9, 9))
        return self._shown(), -abs(self.place - 1), abs(self.place) > 3, False, {}

    def _shown(self) -> Any:
        return np.array([self.place, self.place**2], np.float32)


gym.register("Fragile-v0", FragileEnv, max_episode_steps=50)


@dataclass(frozen=True)
class Ask:
    """Stop runs, resume them, and compare."""

    kills: int = 50
    """SIGKILLs in all, spread over the kinds of run."""
    seed: int = 0
    """Of the moments."""
    kinds: tuple[str, ...] = tuple(KINDS)
    """Which kinds of run; what is committed of the others stays."""
    report: bool = False
    """Only rebuild the README's table from the committed data."""


def begin(command: str, folder: Path, **environ: str) -> subprocess.Popen[bytes]:
    """A run that has been started, with somebody to answer if it asks a person."""
    running = subprocess.Popen(
        [*PREFRL, *command.split(), "--out", str(folder)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        env=os.environ | environ,
    )  # fmt: skip
    return _answered(command, folder, running)


def resume(command: str, folder: Path) -> int:
    """Go on with a run to its end; the exit status."""
    words = [*PREFRL, "train", "--resume", str(folder)]
    running = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return _answered(command, folder, running).wait()


def _answered(command: str, folder: Path, running: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    if "human" in command:
        threading.Thread(target=answer, args=(folder / "labels.sqlite", running), daemon=True).start()
    return running


def given(folder: Path) -> list[tuple[str, float | None, str]]:
    """Every answer in the run's store, in order: question, mu, labeler."""
    try:
        with Store.reading(folder / "labels.sqlite") as store:
            return [(p.query.key, p.mu, p.labeler) for p in store.answers()[0]]
    except NothingThereError:  # it was stopped before it had asked anything
        return []


def outcome(kind: str, how: str, whole: Path, folder: Path, before: list[Any], about: dict[str, Any]) -> dict[str, Any]:
    """What became of a run that was stopped and resumed."""
    after = given(folder)
    files = [name for name in FILES if (whole / name).exists()]
    return {
        "kind": kind,
        "how": how,
        **about,
        "lost": len(set(before) - set(after)),
        "equal": all((whole / f).read_bytes() == (folder / f).read_bytes() for f in files),
        "store": after == given(whole),
    }


def stopped(kind: str, whole: Path, seconds: float, how: str, moment: float, place: Path) -> dict[str, Any]:
    """Begin a run, stop it after this share of an unbroken run's seconds, resume it, and see what became of it."""
    command, folder = KINDS[kind], place / "stopped"
    shutil.rmtree(folder, ignore_errors=True)
    if how == "environment":
        running = begin(command, folder, FRAGILE_STEPS=str(int(moment * 12000)))
        running.wait()
    else:
        running = begin(command, folder)
        began = time.monotonic()
        while running.poll() is None and time.monotonic() - began < moment * seconds:
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL if how == "SIGKILL" else signal.SIGTERM)
        running.wait()
    before = given(folder)
    kept = sorted(path.name for path in (folder / "checkpoints").glob("*.safetensors"))
    about = {"moment": round(moment, 3), "kept_at": int(kept[-1].split("-")[0]) if kept else 0}
    if (folder / "result.json").exists():  # it had come to its end
        return outcome(kind, how, whole, folder, before, about | {"resumed": False})
    if not kept:  # nothing to go on from: its labels are there, and start another run
        lost = len(set(before) - set(given(folder)))
        return {"kind": kind, "how": how, **about, "resumed": False, "lost": lost, "equal": None, "store": None}
    status = resume(command, folder)
    return outcome(kind, how, whole, folder, before, about | {"resumed": True, "status": status})


def full_disk(kind: str, whole: Path, place: Path) -> dict[str, Any] | None:
    """A run whose disk is full half way, resumed when there is room; None where no small disk can be made."""
    disk = place / "disk"
    disk.mkdir(exist_ok=True)
    size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    mount = ["mount", "-t", "tmpfs", "-o", f"size={int(0.6 * size)}", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        return None
    try:
        folder = disk / "stopped"
        begin(KINDS[kind], folder).wait()
        before = given(folder)
        subprocess.run(["mount", "-o", f"remount,size={10 * size}", str(disk)], check=True)
        kept = sorted(path.name for path in (folder / "checkpoints").glob("*.safetensors"))
        about = {"moment": None, "kept_at": int(kept[-1].split("-")[0]) if kept else 0}
        status = resume(KINDS[kind], folder)
        return outcome(kind, "full disk", whole, folder, before, about | {"resumed": True, "status": status})
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def table(rows: list[dict[str, Any]]) -> str:
    """How each kind of run came out of each kind of stop."""
    lines = ["| run | stopped by | times | resumed | labels lost | files equal to the byte | store equal |"]
    lines += ["| :-- | :-- | --: | --: | --: | --: | --: |"]
    for kind, how in dict.fromkeys((row["kind"], row["how"]) for row in rows):
        these = [row for row in rows if (row["kind"], row["how"]) == (kind, how)]
        went_on = [row for row in these if row["equal"] is not None]
        resumed, lost = sum(row["resumed"] for row in these), sum(row["lost"] for row in these)
        equal, store = (f"{sum(bool(row[name]) for row in went_on)} of {len(went_on)}" for name in ("equal", "store"))
        lines.append(f"| {kind} | {how} | {len(these)} | {resumed} | {lost} | {equal} | {store} |")
    return "\n".join(lines)


def of_kind(kind: str, kills: int, seed: int, place: Path) -> list[dict[str, Any]]:
    """Every stop of one kind of run, beside one run without a break."""
    rng, began, whole = np.random.default_rng((seed, *kind.encode())), time.monotonic(), place / kind
    assert begin(KINDS[kind], whole).wait() == 0, kind
    seconds, rows = time.monotonic() - began, []
    plan = ["SIGKILL"] * kills + ["SIGTERM"] + ["environment"] * (3 if "Fragile" in KINDS[kind] else 0)
    for how in plan:
        rows.append(stopped(kind, whole, seconds, how, float(rng.uniform(0.55, 1)), place))
        print(rows[-1], flush=True)
    if kind == next(iter(KINDS)) and (row := full_disk(kind, whole, place)):
        rows.append(row)
        print(row, flush=True)
    return rows


def keep(kind: str, rows: list[dict[str, Any]]) -> None:
    """Put the rows of one kind into the committed data, in place of those that it had."""
    data = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"rows": []}
    others = [row for row in data["rows"] if row["kind"] != kind]
    made = [{**row, "commit": versions()["commit"]} for row in rows]
    every = sorted(others + made, key=lambda row: list(KINDS).index(row["kind"]))
    RESULTS.write_text(json.dumps({"rows": every}, indent=1) + "\n", encoding="utf-8")


def main(ask: Ask) -> int:
    """Stop and resume as asked; 1 where something was lost or is unequal."""
    if not ask.report:
        with tempfile.TemporaryDirectory() as scratch:
            for number, kind in enumerate(KINDS):
                if kind in ask.kinds:
                    keep(kind, of_kind(kind, len(range(number, ask.kills, len(KINDS))), ask.seed, Path(scratch)))
    data = json.loads(RESULTS.read_text(encoding="utf-8"))
    before, _, after = README.read_text(encoding="utf-8").split(MARK)
    commits = ", ".join(sorted({row["commit"] for row in data["rows"]}))
    said = f"Measured at {commits}. What was not resumed had come to its end before, or had no checkpoint yet."
    shown = f"{MARK}\n{table(data['rows'])}\n\n{said}\n{MARK}"
    README.write_text(f"{before}{shown}{after}", encoding="utf-8")
    return int(any(row["lost"] or row["equal"] is False or row["store"] is False for row in data["rows"]))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Ask)))
