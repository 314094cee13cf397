"""Every thread that computes treats subnormal numbers as zero, and nobody else's thread is changed by that."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import AnyEnv

from prefrl import cli
from prefrl.baseline import run_baseline
from prefrl.experience.recorder import Recorder
from prefrl.rewards.fit import Fit
from prefrl.rewards.networks import MLPs
from prefrl.rewards.paid import LearnedRewardEnv
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.run import train
from prefrl.settings.config import BaselineConfig, TrainConfig
from prefrl.words.process import flushes_subnormals, for_small_networks

BOX = spaces.Box(-9, 9, (2,), np.float32)


def in_a_new_thread(do: Callable[[], Any]) -> Any:
    """What this returns in a thread that treats subnormal numbers as they are."""

    def fresh() -> Any:
        torch.set_flush_denormal(False)
        return do()

    with ThreadPoolExecutor(1) as beside:
        return beside.submit(fresh).result()


def test_torch_and_numpy_treat_subnormal_numbers_as_zero_and_so_do_threads_that_are_started_then() -> None:
    def products() -> list[float]:
        small = np.full(64, 1e-30, np.float32)
        return [float((small * small * np.float32(1e20)).max()), float(torch.tensor(1e-30).mul(1e-12))]

    def ours() -> list[float | bool]:
        before = flushes_subnormals()
        for_small_networks()
        found: list[float] = []
        then = threading.Thread(target=lambda: found.extend(products()))
        then.start()
        then.join()
        return [before, flushes_subnormals(), *products(), *found]

    assert in_a_new_thread(lambda: float(torch.tensor(1e-30).mul(1e-12))) > 0
    assert in_a_new_thread(ours) == [False, True, 0.0, 0.0, 0.0, 0.0]


def test_a_reward_model_flushes_in_somebody_elses_program_and_leaves_its_thread_as_it_was() -> None:
    r_hat = RewardEnsemble(BOX, BOX, hidden=())
    assert isinstance(r_hat.network, MLPs)
    with torch.no_grad():
        r_hat.network.weights[0].fill_(1e-39)
        r_hat.network.biases[0].zero_()
    env = LearnedRewardEnv(AnyEnv(BOX, BOX), r_hat)

    def theirs() -> tuple[float, bool]:
        env.reset(seed=0)
        return env.step(np.ones(2, np.float32))[1], flushes_subnormals()

    assert in_a_new_thread(theirs) == (0.0, False)
    torch.set_flush_denormal(False)
    with pytest.raises(ValueError, match="reshape"):  # an error leaves it as it was too
        r_hat.reward(np.ones((1, 5), np.float32), np.ones((1, 5), np.float32))
    assert not flushes_subnormals()
    assert in_a_new_thread(lambda: [for_small_networks(), env.step(np.ones(2, np.float32)), flushes_subnormals()][-1])


def test_both_arms_step_learn_and_fit_with_subnormal_numbers_as_zero(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[tuple[str, str], bool] = {}

    def spied(kind: type, name: str) -> None:
        method = getattr(kind, name)

        def spy(*args: Any, **kwargs: Any) -> Any:
            seen[name, threading.current_thread().name] = flushes_subnormals()
            return method(*args, **kwargs)

        monkeypatch.setattr(kind, name, spy)

    spied(Fit, "refit")
    spied(Recorder, "step_wait")
    shared: dict[str, Any] = {"env": "CartPole-v1", "steps": 4_000, "preset": "classic", "tensorboard": False}
    asked = TrainConfig(labels=20, overlap=True, out=tmp_path / "learned", **shared)
    in_a_new_thread(lambda: train(asked, quiet=True))
    in_a_new_thread(lambda: run_baseline(BaselineConfig(out=tmp_path / "true", **shared), quiet=True))
    assert len({thread for name, thread in seen if name == "refit"}) == 2  # beside the learning as well
    assert all(seen.values()), seen


@pytest.mark.parametrize("command", ["evaluate", "report", "video"])
def test_every_command_that_computes_on_a_finished_run_does_too(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)

    def door() -> bool:
        cli.main([command, "no-such-run"])
        return flushes_subnormals()

    assert in_a_new_thread(door)
