"""Whether two versions of the code make the same runs, byte for byte.

    python -m benchmarks.same_bytes record before      # in a checkout of the one
    python -m benchmarks.same_bytes record after       # in a checkout of the other
    python -m benchmarks.same_bytes compare before after

A change that only moves code must leave `metrics.csv`, `reward.safetensors` and `policy.safetensors` of every kind of
run as they were. Each kind is one short run by the command line; a person is a program that answers each question by
the true rewards, in the order asked.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import tyro
from safetensors.numpy import load_file

from prefrl.queries.store import Store
from prefrl.words.errors import UserError

PREFRL = [sys.executable, "-c", "import sys; from prefrl.cli import main; sys.exit(main())"]
FILES = ("metrics.csv", "reward.safetensors", "policy.safetensors")
CHEETAH = "train --env HalfCheetah-v5 --steps 20480 --labels 40"
KINDS = {
    "plain": CHEETAH,
    "overlap": f"{CHEETAH} --overlap",
    "frozen": f"{CHEETAH} --freeze-reward-at 0.5",
    "irrational": f"{CHEETAH} --teachers stochastic mistake skip equal right80",
    "target": f"{CHEETAH} --objective target --max-answers 20",
    "a2c": f"{CHEETAH} --learner a2c",
    "trpo": f"{CHEETAH} --learner trpo --entropy-bonus 0.01",
    "ends early": "train --env CartPole-v1 --steps 12000 --labels 60",
    "pixels": "train --env prefrl/Pong-v0 --steps 2560 --labels 12 --keep-steps 2560 --set n_steps=64",
    "human": "train --env HalfCheetah-v5 --steps 10240 --labels 12 --labeler human --patience inf",
    "baseline": "baseline --env HalfCheetah-v5 --steps 20480",
    "baseline, ends early": "baseline --env CartPole-v1 --steps 12000",
}


def record(out: tyro.conf.Positional[Path]) -> None:
    """Make one run of each kind in this folder."""
    for name, command in KINDS.items():
        folder = out / name
        running = subprocess.Popen([*PREFRL, *command.split(), "--out", str(folder), "--no-tensorboard"])
        if "human" in command:
            threading.Thread(target=answer, args=(folder / "labels.sqlite", running), daemon=True).start()
        if running.wait():
            sys.exit(f"{name}: the run failed.")


def answer(store: Path, running: subprocess.Popen[bytes]) -> None:
    """Be a person who prefers the higher true return, until the run ends."""
    while running.poll() is None:
        try:
            if store.exists():
                with Store(store) as questions:
                    for lease in questions.lease("scripted", 1, 60.0):
                        left, right = (questions.segment(clip) for clip in lease.clips)
                        assert left is not None
                        assert right is not None
                        gap = left.rewards.sum() - right.rewards.sum()
                        questions.answer(lease.key, "scripted", lease.ticket, float(gap > 0), 3.0)
        except UserError:  # the file is there before its tables are
            pass
        threading.Event().wait(0.05)


def compare(before: tyro.conf.Positional[Path], after: tyro.conf.Positional[Path]) -> int:
    """Print which files of which runs are equal; how many are not."""
    unequal = 0
    for name in KINDS:
        for file in FILES:
            one, other = (folder / name / file for folder in (before, after))
            if not one.exists() and not other.exists():
                continue
            there = one.exists() and other.exists()
            said = "equal" if there and one.read_bytes() == other.read_bytes() else "UNEQUAL"
            if there and said == "UNEQUAL" and file.endswith(".safetensors") and _numbers(one) == _numbers(other):
                said = "equal numbers, another header"
            unequal += said == "UNEQUAL"
            print(f"{said}: {name}, {file}")
    return unequal


def _numbers(path: Path) -> dict[str, bytes]:
    """What a file of tensors holds, by name."""
    return {name: array.tobytes() for name, array in load_file(path).items()}


if __name__ == "__main__":
    chosen = tyro.extras.subcommand_cli_from_dict({"record": record, "compare": compare})
    sys.exit(bool(chosen))
