"""What a learner is paid: r-hat where the environment would show its reward, or the true reward, brought to one scale.

`LearnedReward` and `ScaledTrueReward` are live in the loop, over a vector environment; `LearnedRewardEnv` puts a saved,
frozen reward model on any single environment. Where r-hat pays, the true reward is not passed on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from prefrl.experience.backends import CUT_SHORT
from prefrl.experience.guard import Guard, short
from prefrl.experience.recorder import SAMPLE, Recorder
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.words.errors import UserError
from prefrl.words.scale import bounded, offset_and_scale
from prefrl.words.spaces import same_inputs


class LearnedReward(VecEnvWrapper):
    """A VecEnv paid by an ensemble as it is at each step; the true reward is dropped unread.

    Args:
        venv: the environments.
        r_hat: the ensemble, which may go on learning.
        expose_true_reward: put each environment's own reward in `info["true_reward"]`, for evaluation only.
        late: pay nothing at the step. `due` then has the rewards of every step since it was last called, for the
            price of one call of the ensemble: what `prefrl.Learner` takes at the end of a rollout.
        at_the_end: pay an episode's sum at its last step, and nothing before, as a text is paid that is judged whole.
    """

    def __init__(
        self,
        venv: VecEnv,
        r_hat: RewardEnsemble,
        expose_true_reward: bool = False,
        late: bool = False,
        at_the_end: bool = False,
    ) -> None:
        super().__init__(venv)
        self.r_hat, self.expose_true_reward, self.late, self.at_the_end = r_hat, expose_true_reward, late, at_the_end
        self._unpaid: list[tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_], list[int]]] = []
        self._returns = np.zeros(venv.num_envs)
        self._episode_returns: list[float] = []

    def reset(self) -> NDArray[Any]:
        """Begin a new episode everywhere."""
        observations = self.venv.reset()
        assert isinstance(observations, np.ndarray)
        self._observations = observations.copy()
        self._returns[:] = 0
        self._unpaid.clear()
        return observations

    def step_async(self, actions: NDArray[Any]) -> None:
        """Send the actions on, and keep them for the reward."""
        self._actions = actions.copy()
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Take the step, and pay r-hat(o, a) for it: one call for all environments."""
        observations, true_rewards, dones, infos = self.venv.step_wait()
        assert isinstance(observations, np.ndarray)
        whole = [int(env) for env in np.flatnonzero(dones) if CUT_SHORT not in infos[env]] if dones.any() else []
        self._unpaid.append((self._observations, self._actions, dones.copy(), whole))
        self._observations = observations.copy()
        rewards = np.zeros(self.num_envs, np.float32) if self.late else self.due()[0]
        if self.expose_true_reward:
            infos = [{**info, "true_reward": float(r)} for info, r in zip(infos, true_rewards, strict=True)]
        return observations, rewards, dones, infos

    def due(self) -> NDArray[np.float32]:
        """The rewards of the steps not paid yet, oldest first: (steps, n_envs), as the ensemble is now."""
        steps, self._unpaid = self._unpaid, []
        if not steps:
            return np.zeros((0, self.num_envs), np.float32)
        observations, actions = (np.concatenate(side) for side in ([s[0] for s in steps], [s[1] for s in steps]))
        rewards = self.worth(observations, actions).reshape(len(steps), self.num_envs)
        for paid, (_, _, dones, whole) in zip(rewards, steps, strict=True):
            self._returns += paid
            self._episode_returns += self._returns[whole].tolist()
            if self.at_the_end:
                paid[:] = np.where(dones, self._returns, 0)
            self._returns[dones] = 0
        return rewards

    def worth(self, observations: NDArray[Any], actions: NDArray[Any]) -> NDArray[np.float32]:
        """What these steps are paid, (n,), as the ensemble is now."""
        return bounded(self.r_hat.reward(observations, actions), self.r_hat.reward_std)

    def pop_returns(self) -> NDArray[np.float64]:
        """Returns (e,), in the reward as it was paid, of the episodes finished since the last call."""
        returns, self._episode_returns = self._episode_returns, []
        return np.array(returns)


class ScaledTrueReward(VecEnvWrapper):
    """A VecEnv that pays its own reward, brought to the scale that a learned reward has.

    Args:
        recorder: the environments.
        reward_std: standard deviation of what is paid.
        clip: take rewards as at most 1 and at least -1 first (paper, A.2, on Atari).
    """

    def __init__(self, recorder: Recorder, reward_std: float, clip: bool = False) -> None:
        super().__init__(recorder)
        self.bound = 1.0 if clip else np.inf
        self.reward_std, self.offset, self.scale = reward_std, 0.0, 1.0

    def normalise(self, window: NDArray[np.float64], kept: float) -> None:
        """Take the scale from these rewards, as `RewardEnsemble.normalise_outputs` does from those that it gives.

        Mean and deviation are those of `SAMPLE` steps at most, evenly spaced, which r-hat is asked about too; how far
        one lies from their mean is looked for in the whole window, since a sample may miss rewards that are rare.

        Args:
            window: recent rewards (vector steps, n_envs), oldest first.
            kept: share of their mean that is paid (`prefrl.words.scale.kept_mean`).
        """
        if not window.size:
            return
        window = window.clip(-self.bound, self.bound)
        sample = window[:: max(1, -(-window.size // SAMPLE))]
        mean = sample.reshape(-1).mean()
        furthest = np.abs(window - mean).max()
        offset, scale = offset_and_scale(mean, sample.reshape(-1).std(), furthest, kept, np.float64(self.scale))
        self.offset, self.scale = float(offset), float(scale)

    def reset(self) -> Any:
        """Begin a new episode everywhere."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Take the step, and pay its scaled true reward."""
        observations, rewards, dones, infos = self.venv.step_wait()
        return observations, self.worth(rewards), dones, infos

    def worth(self, rewards: NDArray[Any]) -> NDArray[Any]:
        """What steps of these true rewards are paid, as the scale is now."""
        rewards = rewards.clip(-self.bound, self.bound)
        return bounded((rewards - self.offset) / self.scale * self.reward_std, self.reward_std)


class LearnedRewardEnv(gym.Wrapper[Any, Any, Any, Any]):
    """A single environment that pays a saved, frozen reward model's reward in place of its own.

    Args:
        env: the environment; its spaces must have the shapes the model was trained on.
        model: folder of a run, path of a `reward.safetensors`, or a RewardEnsemble.
        expose_true_reward: put the environment's own reward in `info["true_reward"]`, for evaluation only.

    Raises:
        UserError: no model there, or one for other spaces.
    """

    def __init__(
        self, env: gym.Env[Any, Any], model: RewardEnsemble | Path | str, expose_true_reward: bool = False
    ) -> None:
        super().__init__(Guard(env))
        if not isinstance(model, RewardEnsemble) and Path(model).is_dir():
            model = Path(model) / "reward.safetensors"
        self.r_hat = model if isinstance(model, RewardEnsemble) else RewardEnsemble.load(model)
        self.expose_true_reward = expose_true_reward
        for name in ("observation_space", "action_space"):
            mine, theirs = getattr(env, name), getattr(self.r_hat, name)
            if not same_inputs(mine, theirs):
                raise UserError(
                    f"the reward model was learned on {name} {short(theirs)}, and this environment has {short(mine)}: "
                    f"prefrl.load_run(folder).make_env() makes it as the run had it."
                )

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self._observation, info = self.env.reset(**kwargs)
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step, paid by the reward model."""
        reward = self.r_hat.reward(np.asarray(self._observation)[None], np.asarray(action)[None]).item()
        self._observation, true_reward, terminated, truncated, info = self.env.step(action)
        if self.expose_true_reward:
            info = {**info, "true_reward": float(true_reward)}
        return self._observation, reward, terminated, truncated, info
