import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import sentence

from prefrl.queries.questions import labels_of
from prefrl.run import train
from prefrl.runs.resolve import resolve
from prefrl.settings.config import TrainConfig
from prefrl.words.errors import UserError

SMALL = TrainConfig(
    env="prefrl-tests/Target-v0", steps=1280, labels=20, n_envs=4, segment_steps=5, set=("n_steps=20", "batch_size=80"),
    initial_epochs=4, fit_updates=4, phases=6, tensorboard=False,
)  # fmt: skip


def test_rounds_ask_equal_parts_and_leave_the_reward_between_them() -> None:
    labels, live = labels_of(resolve(replace(SMALL, rounds=3)), 12)
    assert labels == [7, 0, 0, 0, 6, 0, 0, 0, 7, 0, 0, 0]
    assert live == [True, False, False, False] * 3
    labels, live = labels_of(resolve(replace(SMALL, rounds=2, freeze_reward_at=0.5)), 8)
    assert labels == [10, 0, 10, 0, 0, 0, 0, 0]
    assert live == [True, False, True, False, False, False, False, False]
    labels, live = labels_of(resolve(replace(SMALL, rounds=4)), 2)  # so few phases came of it
    assert labels == [10, 10]
    assert live == [True, True]


def test_a_round_keeps_the_answers_of_those_before(tmp_path: Path) -> None:
    folder = train(replace(SMALL, rounds=2, kl_beta=0.1, out=tmp_path / "run"), quiet=True)
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["labels_answered"] for row in rows] == ["10", "10", "10", "20", "20", "20"]
    fits = [float(row["train_loss"] or "nan") for row in rows]
    assert [math.isfinite(loss) for loss in fits] == [True, False, False, True, False, False]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"rounds": -1}, "rounds=-1"),
        ({"rounds": 7}, "rounds=7"),
        ({"rounds": 2, "schedule": "constant"}, "leave out"),
        ({"rounds": 2, "initial_labels": 0.1}, "leave out"),
        ({"rounds": 2, "overlap": True}, "leave out"),
        ({"rounds": 2, "session_labels": 5}, "leave out"),
        ({"reward_at": "end", "learner": "sac", "set": ()}, "reward_at=end"),
    ],
)
def test_rounds_that_cannot_be_are_one_sentence(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as error:
        resolve(replace(SMALL, **change))
    assert expected in sentence(error.value)
