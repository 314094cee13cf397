"""A run read back from its folder acts as it did."""

import numpy as np

from prefrl.run import train
from prefrl.runs.saved import load_run
from prefrl.settings.config import TrainConfig
from prefrl.settings.values import name_value


def test_a_run_with_settings_of_its_own_is_read_back_with_them(tmp_path):
    asked = ("use_sde=true", "n_steps=16", "batch_size=32", 'policy_kwargs={activation_fn = "ReLU", net_arch = [8, 8]}')
    config = TrainConfig(env="Pendulum-v1", labels=4, steps=640, n_envs=4, segment_steps=10, explore_steps=160)
    config = TrainConfig(**{**vars(config), "set": asked, "out": tmp_path / "run"})
    run = load_run(train(config, quiet=True))
    kept = name_value(run.config.set, "learner setting")
    assert kept.items() >= name_value(asked, "learner setting").items()
    observations = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    sure = run.policy.act(observations, deterministic=True)
    assert len(np.unique(sure)) > 1
    drawn = np.array([run.policy.act(observations) for _ in range(60)])
    spread = drawn.std(axis=0)
    assert spread.min() > 0.05  # of each observation by itself
    assert abs(np.corrcoef(drawn[:, 0, 0], drawn[:, 1, 0])[0, 1]) < 0.5  # and drawn for each
