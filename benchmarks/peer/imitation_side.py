"""The peer's side of `benchmarks.speed_peer`: runs inside its own virtual environment, and knows nothing of prefrl.

Each line read is a request as JSON, {"do": NAME, ...arguments}; each line written is the answer as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from imitation.algorithms import preference_comparisons as pc
from imitation.data.types import TrajectoryWithRew
from imitation.policies.base import FeedForward32Policy, NormalizeFeaturesExtractor
from imitation.rewards.reward_nets import BasicRewardNet, NormalizedRewardNet, RewardEnsemble
from imitation.util import logger
from imitation.util.networks import RunningNorm
from imitation.util.util import make_vec_env
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy

LIBRARIES = ("imitation", "stable-baselines3", "gymnasium", "mujoco", "torch", "numpy")


def silent() -> Any:
    """A logger that writes nothing, which costs least."""
    return logger.configure(tempfile.mkdtemp(), format_strs=[])


def ensemble(observations: spaces.Space, actions: spaces.Space, members: int, **net: Any) -> RewardEnsemble:
    """Members as its own configuration of ensembles makes them, inputs normalised as in its tutorial."""
    nets = [BasicRewardNet(observations, actions, normalize_input_layer=RunningNorm, **net) for _ in range(members)]
    return RewardEnsemble(observations, actions, [NormalizedRewardNet(net, RunningNorm) for net in nets])


def versions() -> dict[str, str]:
    return {name: version(name) for name in LIBRARIES}


def train(env: str, steps: int, labels: int, members: int, seed: int, iterations: int) -> dict[str, float]:
    """Its preference comparisons tutorial, with an ensemble.

    An iteration trains for whole rollouts, and samples whole episodes of eight environments, twice, besides: sixty take
    a million steps where 100,000 are asked for.

    Returns:
        Wall seconds; environment steps taken, those it samples besides training included; mean true return of ten
        episodes of the policy at the end.
    """
    torch.manual_seed(seed)
    began = time.perf_counter()
    rng = np.random.default_rng(seed)
    venv = make_vec_env(env, rng=rng)
    reward_net = ensemble(venv.observation_space, venv.action_space, members)
    agent = PPO(
        policy=FeedForward32Policy,
        policy_kwargs={
            "features_extractor_class": NormalizeFeaturesExtractor,
            "features_extractor_kwargs": {"normalize_class": RunningNorm},
        },
        env=venv,
        seed=seed,
        n_steps=2048 // venv.num_envs,
        batch_size=64,
        ent_coef=0.01,
        learning_rate=2e-3,
        clip_range=0.1,
        gae_lambda=0.95,
        gamma=0.97,
        n_epochs=10,
    )
    comparisons = pc.PreferenceComparisons(
        pc.AgentTrainer(
            algorithm=agent, reward_fn=reward_net, venv=venv, exploration_frac=0.05, rng=rng, custom_logger=silent()
        ),
        reward_net,
        num_iterations=iterations,
        fragmenter=pc.RandomFragmenter(warning_threshold=0, rng=rng),
        preference_gatherer=pc.SyntheticGatherer(rng=rng),
        reward_trainer=pc.EnsembleTrainer(pc.PreferenceModel(reward_net), pc.CrossEntropyRewardLoss(), rng, epochs=3),
        fragment_length=100,
        transition_oversampling=1,
        initial_comparison_frac=0.1,
        initial_epoch_multiplier=4,
        query_schedule="hyperbolic",
        custom_logger=silent(),
    )
    comparisons.train(total_timesteps=steps, total_comparisons=labels)
    seconds = time.perf_counter() - began
    taken = sum(venv.env_method("get_total_steps"))
    fresh = make_vec_env(env, rng=np.random.default_rng(seed), n_envs=1)
    returns, _ = evaluate_policy(agent.policy, fresh, n_eval_episodes=10, deterministic=False)
    return {"seconds": seconds, "steps": int(taken), "true_return": float(returns)}


class Reward:
    """Its reward ensemble on random experience of a given shape, for `fit` and `score`."""

    def __init__(
        self, observation_size: int, action_size: int, hidden: list[int], pairs: int, segment_steps: int, members: int
    ) -> None:
        rng = np.random.default_rng(0)
        self.segment_steps, self.members = segment_steps, members
        self.trajectories = [
            TrajectoryWithRew(
                obs=rng.normal(size=(1001, observation_size)),
                acts=rng.uniform(-1, 1, (1000, action_size)).astype(np.float32),
                infos=None,
                terminal=True,
                rews=rng.normal(size=1000).astype(np.float32),
            )
            for _ in range(100)
        ]
        net = ensemble(
            spaces.Box(-np.inf, np.inf, (observation_size,), np.float64),
            spaces.Box(-1, 1, (action_size,), np.float32),
            members,
            hid_sizes=hidden,
        )
        model = pc.PreferenceModel(net)
        self.trainer = pc.EnsembleTrainer(model, pc.CrossEntropyRewardLoss(), rng, epochs=1, custom_logger=silent())
        random = pc.RandomFragmenter(rng, warning_threshold=0, custom_logger=silent())
        self.active = pc.ActiveSelectionFragmenter(model, random, fragment_sample_factor=10, custom_logger=silent())
        fragments = random(self.trajectories, segment_steps, pairs)
        self.answers = pc.PreferenceDataset()
        self.answers.push(fragments, pc.SyntheticGatherer(rng=rng, custom_logger=silent())(fragments))

    def fit(self, epochs: int) -> dict[str, float]:
        """Passes over the answers, by each member over its own bootstrap."""
        began = time.perf_counter()
        self.trainer.train(self.answers, epoch_multiplier=epochs)
        return {"seconds": time.perf_counter() - began, "pair_updates": epochs * len(self.answers) * self.members}

    def score(self, candidates: int) -> dict[str, float]:
        """Draw candidates, and choose the tenth of them that members disagree about most."""
        began = time.perf_counter()
        chosen = self.active(self.trajectories, self.segment_steps, candidates // 10)
        assert len(chosen) == candidates // 10
        return {"seconds": time.perf_counter() - began}


def main() -> None:
    answers, complaints = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  its progress bars and tables
    sys.excepthook = lambda *error: traceback.print_exception(*error, file=complaints)
    torch.set_num_threads(1)  # faster for networks of this size, for it too
    reward: Reward | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        do = asked.pop("do")
        if do == "prepare":
            reward = Reward(**asked)
            answer: Any = None
        else:
            answer = {"versions": versions, "train": train}.get(do, getattr(reward, do, None))(**asked)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
