"""SAC, TD3 and TQC from stable-baselines3 and sb3-contrib, which learn again and again from what they have seen.

What a step is paid changes with r-hat. Before every phase all rewards in the replay buffer are made those that would be
paid now (PEBBLE, Lee et al. 2021, arXiv 2106.05091, section 4.2), so that a critic never learns from two rewards at
once. Mean and deviation of what is paid are those of the whole buffer, not of the newest behaviour: they settle as it
fills, where a moving window would change the reward of one and the same step for as long as the policy improves.

Observations are as the environment shows them, as in every published result with these learners. A running
normalisation would change the inputs of critics and of all that is replayed by what was seen last.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecEnv

from prefrl.experience.memory import check_room
from prefrl.policies.learners import as_json, check_policy, check_settings, with_classes
from prefrl.policies.on_policy import Ongoing, made, measures_of, restore_parameters, scheduled
from prefrl.policies.policy import rebuilt
from prefrl.policies.state_entropy import StateEntropy
from prefrl.words.errors import UserError
from prefrl.words.spaces import encoded_size
from prefrl.words.tensors import save_tensors

ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
LOOKS = 20  # times that states are compared anew in unsupervised exploration
AFTER_RESET = 100  # updates of new critics before the policy goes on; PEBBLE's


class Replayer:
    """A policy that learns from all it has seen, paid as it would be paid now.

    Args:
        name: key of `prefrl.policies.learners.REPLAYERS` or import path.
        env: environments whose reward has been chosen already.
        settings: keyword arguments of the algorithm; a value "lin_x" falls linearly from x to zero over the run.
            `train_freq` counts steps of each environment, after which `gradient_steps` updates follow; `action_noise`
            is the deviation of what is added to actions between -1 and 1.
        seed: of networks, actions and minibatches.
        device: "cpu" or "cuda".
        paid_again: rewards (vector_steps, n_envs) of the newest so many vector steps, oldest first, as paid now.
        due: rewards (steps, n_envs) of the steps just taken, where the environment pays none as it steps.
        reward_std: deviation of what unsupervised exploration is paid.
        unsupervised: explore by reaching states unlike those seen.

    Raises:
        UserError: unknown learner, settings it does not take or cannot be made with, or a buffer that does not fit into
            memory.
    """

    def __init__(
        self,
        name: str,
        env: VecEnv,
        settings: Mapping[str, Any],
        seed: int,
        device: str,
        paid_again: Callable[[int], NDArray[np.float32]],
        due: Callable[[], NDArray[np.float32]] | None = None,
        reward_std: float = 1.0,
        unsupervised: bool = False,
    ) -> None:
        check_settings(name, settings)
        self.name, self.progress, self.paid_again, self.due = name, 0.0, paid_again, due
        self._entropy = StateEntropy(env.observation_space, reward_std) if unsupervised else None
        self.env = Ongoing(env)
        kwargs = {key: scheduled(value, lambda: self.progress) for key, value in settings.items()}
        kwargs["policy_kwargs"] = with_classes(kwargs.get("policy_kwargs"))
        shape = env.action_space.shape or ()
        if "action_noise" in kwargs:
            kwargs["action_noise"] = NormalActionNoise(np.zeros(shape), np.full(shape, kwargs["action_noise"]))
        steps = kwargs.setdefault("buffer_size", 1_000_000)
        each = 4 * (2 * encoded_size(env.observation_space) + encoded_size(env.action_space) + 3)
        fewer = "replay fewer (--set buffer_size=STEPS)"
        check_room(steps * each, f"{steps:,} steps of replayed experience", fewer)
        self.model = made(name, "MlpPolicy", self.env, settings, seed=seed, device=device, **kwargs)
        self.model.set_logger(Logger(folder=None, output_formats=[]))
        self.rollout_steps: int = self.model.train_freq.frequency
        self._updates = self.model.gradient_steps
        self._owed = 0  # updates that are due, times `rollout_steps`
        check_policy(self.name, type(self.model.policy))
        self._check_readable()

    @property
    def buffer(self) -> ReplayBuffer:
        """What is replayed: rows of a step of each environment; actions in it are scaled to between -1 and 1."""
        buffer: ReplayBuffer = self.model.replay_buffer
        return buffer

    def explore(self, vector_steps: int) -> None:
        """Act before anybody is asked anything, at random or to reach new states; the critics then begin anew."""
        entropy, envs = self._entropy, self.env.num_envs
        at_random = vector_steps * envs if entropy is None else self.model.learning_starts
        self.model.learning_starts = min(at_random, vector_steps * envs)
        taken, looked = 0, -vector_steps
        while taken < vector_steps:
            steps = min(self.rollout_steps, vector_steps - taken)
            learns = entropy is not None and self.model.num_timesteps >= self.model.learning_starts
            if entropy is not None and learns and taken - looked >= vector_steps / LOOKS:
                rows, looked = self._rows(self.buffer.size()), taken
                seen = self.buffer.observations[rows]
                self.buffer.rewards[rows] = entropy.fit(seen.reshape(-1, *seen.shape[2:])).reshape(-1, envs)
            self._act(steps, entropy if learns else None)
            taken += steps
        if entropy is not None:
            self._reset_critics()

    def learn(self, rollouts: list[int], progress: Callable[[], float]) -> dict[str, float]:
        """Have everything in the buffer paid anew; then act, and learn, for so many steps of each environment each.

        Args:
            rollouts: steps of each environment between two blocks of updates.
            progress: share of the run done, which the schedules follow.

        Returns:
            The algorithm's own measures of its last updates (learner_critic_loss, learner_ent_coef, ...).
        """
        if size := self.buffer.size():
            self.buffer.rewards[self._rows(size)] = self.paid_again(size)
        for steps in rollouts:
            self.progress = progress()
            self._act(steps)
        return measures_of(self.model)

    def _act(self, steps: int, entropy: StateEntropy | None = None) -> None:
        """Take so many steps of each environment, then as many updates as they are worth."""
        learns = self.model.num_timesteps + steps * self.env.num_envs > self.model.learning_starts
        self._owed += steps * self._updates if learns else 0
        self.model.gradient_steps, self._owed = divmod(self._owed, self.rollout_steps)
        self.model.train_freq = TrainFreq(steps, TrainFrequencyUnit.STEP)
        self.model.learn(
            steps * self.env.num_envs,
            callback=_Collected(lambda: self._pay(steps, entropy)),
            log_interval=None,
            reset_num_timesteps=False,
        )

    def _pay(self, steps: int, entropy: StateEntropy | None) -> None:
        """Put the rewards of the steps just taken into the buffer."""
        rows = self._rows(min(steps, self.buffer.buffer_size))
        due = None if self.due is None else self.due()
        if entropy is not None:
            seen = self.buffer.observations[rows]
            self.buffer.rewards[rows] = entropy.reward(seen.reshape(-1, *seen.shape[2:])).reshape(len(rows), -1)
        elif due is not None:
            self.buffer.rewards[rows] = due[-len(rows) :]

    def _rows(self, newest: int) -> NDArray[np.int64]:
        """Places of the newest rows of the buffer, oldest first."""
        return np.arange(self.buffer.pos - newest, self.buffer.pos) % self.buffer.buffer_size

    def _reset_critics(self) -> None:
        """Critics that know nothing, and a hundred updates to come: what they had learned was another reward."""
        policy = self.model.policy
        policy.critic.load_state_dict(policy.make_critic().state_dict())
        policy.critic_target.load_state_dict(policy.critic.state_dict())
        policy.critic.optimizer.state = defaultdict(dict)
        self._owed += AFTER_RESET * self.rollout_steps

    def begin_anew(self) -> None:
        """Begin new episodes everywhere at the next step: the environments are others now, as after a time limit."""
        self.env.begin_anew()
        self.model._last_obs = None
        if self.buffer.size():
            newest = self._rows(1)
            self.buffer.timeouts[newest] = 1 - self.buffer.dones[newest] * (1 - self.buffer.timeouts[newest])
            self.buffer.dones[newest] = 1

    def state(self) -> dict[str, Any]:
        """Networks, optimisers, the entropy's weight, counts, the generator of random actions, and what is replayed.

        Most of it is the buffer: 4 bytes for each number of two observations, an action, and three more, each step.
        """
        variables = self.model._get_torch_save_params()[1]
        size = self.buffer.size()
        return {
            "parameters": self.model.get_parameters(),
            "variables": {name: recursive_getattr(self.model, name) for name in variables},
            "steps": self.model.num_timesteps,
            "updates": self.model._n_updates,
            "learning_starts": self.model.learning_starts,
            "owed": self._owed,
            "actions": self.model.action_space.np_random.bit_generator.state,
            "buffer": {name: getattr(self.buffer, name)[:size] for name in ARRAYS},
            "place": self.buffer.pos,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned, in environments made anew."""
        restore_parameters(self.model, state["parameters"])
        for name, value in state["variables"].items():
            recursive_getattr(self.model, name).data.copy_(value)
        self.model.num_timesteps, self.model._n_updates = state["steps"], state["updates"]
        self.model.learning_starts, self._owed = state["learning_starts"], state["owed"]
        self.model.action_space.np_random.bit_generator.state = state["actions"]
        for name, rows in state["buffer"].items():
            getattr(self.buffer, name)[: len(rows)] = rows
        self.buffer.pos = state["place"]
        self.buffer.full = len(state["buffer"]["rewards"]) == self.buffer.buffer_size
        self.begin_anew()

    def save(self, path: Path) -> None:
        """Write the weights that act as safetensors."""
        about, tensors = self._content()
        save_tensors(path, tensors, about)

    def _content(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """What is saved: how the policy is made, as JSON has it, and the tensors of its actor."""
        made_with = as_json({name: said for name, said in self.model.policy_kwargs.items() if name != "use_sde"})
        about = {"policy": type(self.model.policy).__name__, "policy_kwargs": made_with}
        return about, {f"policy.actor.{name}": tensor for name, tensor in self.model.actor.state_dict().items()}

    def _check_readable(self) -> None:
        """Make the policy once more from what will be saved of it, and see that the two act alike.

        Raises:
            UserError: they do not, or it cannot be made: whatever was trained would be lost.
        """
        space = self.env.observation_space
        shown = np.random.default_rng(0).normal(size=(8, *(space.shape or ()))).astype(space.dtype)
        with torch.random.fork_rng(devices=[]):  # the run's own draws stay as they were
            about, tensors = self._content()
            try:
                again = rebuilt(json.loads(json.dumps(about)), tensors, space, self.env.action_space)
                live, read = (policy.predict(shown, deterministic=True)[0] for policy in (self.model.policy, again))
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                said = " ".join(f"{type(error).__name__}: {error}".split())
                raise UserError(
                    f"the policy of learner {self.name!r} cannot be made again from what is saved of it ({said:.200}): "
                    f"change its policy_kwargs, or take another learner."
                ) from error
        if not np.allclose(live, read, rtol=1e-3, atol=1e-4):
            raise UserError(
                f"the policy of learner {self.name!r} acts otherwise when it is made again from what is saved of it: "
                f"change its policy_kwargs, or take another learner."
            )


class _Collected(BaseCallback):
    """Calls when the steps of a rollout are in the buffer, before they are learned from."""

    def __init__(self, then: Callable[[], None]) -> None:
        super().__init__()
        self.then = then

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.then()
