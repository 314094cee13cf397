"""PPO and A2C from stable-baselines3, TRPO from sb3-contrib, held to exact steps and to one schedule over the run.

stable-baselines3 restarts its schedules at every call of `learn` and overshoots to a whole rollout. Here the run's
progress drives the schedules, and rollouts are cut so that they add up to the steps asked for.
"""

from __future__ import annotations

import copy
import inspect
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from prefrl.experience.backends import CUT_SHORT
from prefrl.policies.learners import (
    LEARNERS,
    POLICIES,
    as_json,
    check_policy,
    check_settings,
    learner_class,
    with_classes,
)
from prefrl.policies.pixels import Held
from prefrl.policies.policy import CLIP_OBSERVATIONS, Policy, rebuilt
from prefrl.policies.reference import FILE, Reference
from prefrl.policies.terms import Anchor, Taken
from prefrl.words.errors import UserError
from prefrl.words.optimisers import quick, restore_optimiser
from prefrl.words.spaces import is_image
from prefrl.words.tensors import save_tensors

__all__ = ["LEARNERS", "Learner", "Policy", "check_settings", "learner_class", "plan"]  # as `prefrl.learners` had them


class Ongoing(VecEnvWrapper):
    """A VecEnv that begins once: a later reset gives the observations it is at, and breaks no episode off.

    stable-baselines3 resets the environments at its first call of `learn`; by then the untrained policy has acted.
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self._at: Any = None
        self.keeps = False  # the steps that are taken, for `pop`
        self._taken: list[Taken] = []

    def reset(self) -> Any:
        """Begin, or go on where the environments are."""
        if self._at is None:
            self._at = self.venv.reset()
        return self._at

    def begin_anew(self) -> None:
        """Let the next reset begin new episodes."""
        self._at = None

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Nothing: whoever made the environments has seeded them, and stable-baselines3 would do it anew."""
        return [None] * self.num_envs

    def step_wait(self) -> VecEnvStepReturn:
        """Take the step."""
        before = self._at.copy() if self.keeps else None
        self._at, rewards, dones, infos = self.venv.step_wait()
        if before is not None:
            whole = [env for env in np.flatnonzero(dones).tolist() if CUT_SHORT not in infos[env]]
            self._taken.append(Taken(before, dones.copy(), whole))
        return self._at, rewards, dones, infos

    def pop(self) -> list[Taken]:
        """The steps taken since the last call."""
        taken, self._taken = self._taken, []
        return taken


def _number(value: Any) -> float | None:
    """A learner's measure as a number; None for what is none, such as a text or a histogram."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return None


def made(name: str, policy: str | type[BasePolicy], env: VecEnv, settings: Mapping[str, Any], **kwargs: Any) -> Any:
    """The algorithm of a learner.

    Args:
        name: of the learner.
        policy: its class, or stable-baselines3's name for it.
        env: where it acts.
        settings: as they were asked for.
        kwargs: as the algorithm takes them.

    Raises:
        UserError: it refuses them.
    """
    try:
        algorithm: Any = learner_class(name)
        return algorithm(policy, env, **kwargs)
    except Exception as error:  # its own checks of its settings: assertions and anything else
        asked = " ".join(f"{setting}={value}" for setting, value in settings.items())
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"learner {name!r} cannot be made with {asked or 'its own settings':.150} ({said:.200}): change "
            f"what is wrong with --set name=value."
        ) from error


def restore_parameters(model: BaseAlgorithm, parameters: Mapping[str, Any]) -> None:
    """Give a learner the weights and the optimisers of `get_parameters` back, in the memory layout that they had."""
    model.set_parameters(dict(parameters), device=model.device)
    for name, saved in parameters.items():
        part = recursive_getattr(model, name)
        if isinstance(part, torch.optim.Optimizer):
            restore_optimiser(part, saved)


def measures_of(model: BaseAlgorithm) -> dict[str, float]:
    """An algorithm's own measures of its last update (learner_loss, learner_approx_kl, ...), which it forgets."""
    values = model.logger.name_to_value
    measures = {
        name.replace("train/", "learner_"): number
        for name, value in sorted(values.items())
        if name.startswith("train/") and (number := _number(value)) is not None
    }
    values.clear()
    return measures


def scheduled(value: Any, progress: Callable[[], float]) -> Any:
    """A "lin_x" as a schedule that follows the run's progress, not that of one call of `learn`."""
    if not (isinstance(value, str) and value.startswith("lin_")):
        return value
    start = float(value.removeprefix("lin_"))
    return lambda _: start * (1 - progress())


def plan(vector_steps: int, rollout_steps: int, phases: int) -> list[list[int]]:
    """Rollout lengths, phase by phase, that add up to `vector_steps` exactly.

    Rollouts are as near to `rollout_steps` as equal shares allow, and phases to equal numbers of rollouts; a run of
    fewer rollouts than `phases` has a phase for each rollout.
    """
    rollouts = max(1, round(vector_steps / rollout_steps))
    lengths = np.diff(np.linspace(0, vector_steps, rollouts + 1).astype(int))
    return [part.tolist() for part in np.array_split(lengths, min(phases, rollouts))]


class Learner:
    """A policy that learns from whatever reward its environment pays.

    Vector observations are normalised by their running mean and standard deviation and clipped at 10.

    Args:
        name: key of `LEARNERS` or import path.
        env: environments whose reward has been chosen already.
        settings: keyword arguments of the algorithm; a value "lin_x" falls linearly from x to zero over the run.
        seed: of networks, actions and minibatches.
        device: "cpu" or "cuda".
        entropy_bonus: added to what the algorithm's own `ent_coef` is. An algorithm without one (TRPO; paper,
            appendix A.1) gets -entropy_bonus * log pi(a|s) in each reward: in expectation the policy's entropy.
        due: rewards (steps, n_envs) of the rollout just collected, where the environment pays none as it steps:
            `LearnedReward.due`.
        anchor: holds the policy near a reference. The observation statistics then stay as they are when training
            begins, so that inputs mean the same to both.
        start: what the policy knows before it first acts; it is given the learner. The observation statistics then stay
            as it leaves them.

    Raises:
        UserError: unknown learner, or settings it does not take or cannot be made with.
    """

    def __init__(
        self,
        name: str,
        env: VecEnv,
        settings: Mapping[str, Any],
        seed: int,
        device: str = "cpu",
        entropy_bonus: float = 0.0,
        due: Callable[[], NDArray[np.float32]] | None = None,
        anchor: Anchor | None = None,
        start: Callable[[Learner], None] | None = None,
    ) -> None:
        check_settings(name, settings)
        self.name, self.progress, self.due, self.anchor, self.start = name, 0.0, due, anchor, start
        self._ongoing = Ongoing(env)
        self.env: VecEnv = self._ongoing
        self.normaliser = None
        if not is_image(env.observation_space):
            self.normaliser = VecNormalize(self.env, norm_reward=False, clip_obs=CLIP_OBSERVATIONS)
            self.env = self.normaliser
        algorithm = learner_class(name)
        kwargs: dict[str, Any] = {key: scheduled(value, lambda: self.progress) for key, value in settings.items()}
        takes = inspect.signature(algorithm).parameters
        if "policy_kwargs" in takes:  # Adam in one call for all weights; its epsilon is stable-baselines3's
            fused = {"optimizer_kwargs": {"eps": 1e-5, "fused": True}}
            given = with_classes(kwargs.get("policy_kwargs"))
            kwargs["policy_kwargs"] = given if "optimizer_class" in given else fused | given
        own = takes.get("ent_coef")
        if entropy_bonus and own is not None:
            kwargs["ent_coef"] = kwargs.get("ent_coef", own.default) + entropy_bonus
            entropy_bonus = 0.0
        self.policy_name = "CnnPolicy" if is_image(env.observation_space) else "MlpPolicy"
        with warnings.catch_warnings():  # rollouts are cut anyway, so a last minibatch may be smaller than the others
            warnings.filterwarnings("ignore", "You have specified a mini-batch size")
            warnings.filterwarnings("ignore", "You are trying to run .* on the GPU")  # vectors go there if asked to
            policy = POLICIES[self.policy_name]
            self.model: OnPolicyAlgorithm = made(name, policy, self.env, settings, seed=seed, device=device, **kwargs)
        self._pay_rollouts(entropy_bonus)
        self.rollout_steps = self.model.n_steps
        self.model.set_logger(Logger(folder=None, output_formats=[]))
        self._held = None
        if self.normaliser is None:  # frames; what vectors compute stays what it was to the bit
            self._held = Held()
            self.model.policy.optimizer = quick(self.model.policy.optimizer)
        self._check_readable()

    def _check_readable(self) -> None:
        """Make the policy once more from what will be saved of it, and see that the two are one.

        Raises:
            UserError: they are not, or it cannot be made: whatever was trained would be lost.
        """
        check_policy(self.name, type(self.model.policy))
        rng = np.random.default_rng(0)
        space = self.env.observation_space
        shape = (8, *(space.shape or ()))
        shown = rng.integers(256, size=shape) if is_image(space) else rng.normal(size=shape)
        self.model.policy.set_training_mode(False)
        with torch.random.fork_rng(devices=[]), torch.no_grad():  # the run's own draws stay as they were
            about, tensors = self._content()
            try:
                again = rebuilt(json.loads(json.dumps(about)), tensors, space, self.env.action_space)
                assert isinstance(again, ActorCriticPolicy)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                said = " ".join(f"{type(error).__name__}: {error}".split())
                raise UserError(
                    f"the policy of learner {self.name!r} cannot be made again from what is saved of it ({said:.200}): "
                    f"change its policy_kwargs, or take another learner."
                ) from error
            choices = copy.deepcopy(self.env.action_space)
            choices.seed(0)
            actions = np.stack([choices.sample() for _ in shown])
            judged = []
            for policy in (self.model.policy, again):
                observations, _ = policy.obs_to_tensor(shown.astype(space.dtype))
                chosen = torch.as_tensor(actions, dtype=torch.float32).reshape(len(actions), -1).to(policy.device)
                chosen = chosen.long().flatten() if isinstance(choices, spaces.Discrete) else chosen
                values, log_probs, _ = policy.evaluate_actions(observations, chosen)
                judged.append(torch.cat([values.flatten(), log_probs.flatten()]).cpu())
        live, read = judged
        if not torch.allclose(live, read, rtol=1e-3, atol=1e-4, equal_nan=True):
            raise UserError(
                f"the policy of learner {self.name!r} acts otherwise when it is made again from what is saved of it: "
                f"change its policy_kwargs, or take another learner."
            )

    def _pay_rollouts(self, entropy_bonus: float) -> None:
        """Have a rollout's rewards completed when it has been collected, just before returns are computed from them.

        What the buffer holds by then is what the environment paid, and the value of what time limits cut off.
        """
        buffer = self.model.rollout_buffer
        compute = buffer.compute_returns_and_advantage

        def paid(*args: Any, **kwargs: Any) -> None:
            if self.due is not None:
                buffer.rewards += self.due()
            if entropy_bonus:
                buffer.rewards -= entropy_bonus * buffer.log_probs
            if self.anchor is not None:
                buffer.rewards -= self.anchor.cost(self.model.policy, buffer, self._ongoing.pop())
            compute(*args, **kwargs)

        buffer.compute_returns_and_advantage = paid  # type: ignore[method-assign]

    def explore(self, vector_steps: int) -> None:
        """Act with the policy as it begins, learning nothing: the random policy *network* of the paper (appendix A)."""
        if self.start is not None:
            self.start(self)
            self._hold_statistics()
        observations = self.env.reset()
        for step in range(1, vector_steps + 1):
            if self._draws_noise(step - 1):
                self.model.policy.reset_noise(self.env.num_envs)
            actions, _state = self.model.predict(observations)  # type: ignore[arg-type]
            observations, _rewards, _dones, _infos = self.env.step(actions)
            if self.due is not None and (step % self.rollout_steps == 0 or step == vector_steps):
                self.due()  # nobody learns from them: they count towards learned returns, and are let go
        if self.anchor is not None:
            self.anchor.begin(lambda: self._frozen(*self._content()), self.env.num_envs)
            self._ongoing.keeps = True
            self._hold_statistics()

    def _frozen(self, about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Reference:
        """A reference for these environments, of what is saved of a policy."""
        return Reference(about, tensors, self._ongoing.observation_space, self.env.action_space, self.model.device)

    def _hold_statistics(self) -> None:
        """Observations are normalised by the statistics of now, from now on."""
        if self.normaliser is not None:
            self.normaliser.training = False

    def take_statistics(self, mean: NDArray[Any], var: NDArray[Any], count: float) -> None:
        """Normalise observations by these means and variances of so many; those of images are left alone."""
        if self.normaliser is not None:
            rms = self.normaliser.obs_rms
            assert isinstance(rms, RunningMeanStd)
            rms.mean, rms.var, rms.count = mean, var, count

    def _draws_noise(self, step: int) -> bool:
        """Whether a policy with `use_sde` draws its noise anew before this step of exploring, as learning does."""
        if not self.model.use_sde:
            return False
        every = self.model.sde_sample_freq
        since = step % self.rollout_steps
        return since == 0 or (every > 0 and since % every == 0)

    def learn(self, rollouts: list[int], progress: Callable[[], float]) -> dict[str, float]:
        """Collect and learn from rollouts of the given lengths.

        Args:
            rollouts: steps of each environment in each rollout.
            progress: share of the run done, which the schedules follow.

        Returns:
            The algorithm's own measures of its last update (learner_loss, learner_approx_kl, ...).
        """
        for steps in rollouts:
            if self.model.rollout_buffer.buffer_size != steps:
                self.model.n_steps = self.model.rollout_buffer.buffer_size = steps
            self.progress = progress()
            self.model.learn(
                steps * self.env.num_envs,
                callback=self._held,
                log_interval=None,  # type: ignore[arg-type]
                reset_num_timesteps=False,
            )
        return measures_of(self.model) | (self.anchor.measures() if self.anchor is not None else {})

    def begin_anew(self) -> None:
        """Begin new episodes everywhere at the next step: the environments are others now."""
        self._ongoing.begin_anew()
        self.model._last_obs = None
        if self.anchor is not None:
            self.anchor.begin_anew()

    def state(self) -> dict[str, Any]:
        """Networks, their optimisers, the running statistics of observations, and the counts of updates and steps."""
        rms = None if self.normaliser is None else self.normaliser.obs_rms
        assert rms is None or isinstance(rms, RunningMeanStd)
        return {
            "parameters": self.model.get_parameters(),
            "observations": None if rms is None else {"mean": rms.mean, "var": rms.var, "count": rms.count},
            "steps": self.model.num_timesteps,
            "updates": getattr(self.model, "_n_updates", None),
            "anchor": None if self.anchor is None else self.anchor.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        restore_parameters(self.model, state["parameters"])
        if state["observations"] is not None:
            self.take_statistics(**state["observations"])
        self.model.num_timesteps = state["steps"]
        if state["updates"] is not None:
            self.model._n_updates = state["updates"]
        if self.anchor is not None:
            self.anchor.restore(state["anchor"], self._frozen, self.env.num_envs)
            self._ongoing.keeps = True
        if self.anchor is not None or self.start is not None:
            self._hold_statistics()

    def save(self, path: Path) -> None:
        """Write the policy's weights and its observation normalisation as safetensors, and its reference beside it."""
        about, tensors = self._content()
        save_tensors(path, tensors, about)
        if self.anchor is not None and self.anchor.reference is not None:
            self.anchor.reference.save(path.with_name(FILE))

    def _content(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """What is saved: how the policy is made, as JSON has it, and its tensors."""
        tensors: dict[str, torch.Tensor] = {}
        kept = set()
        for name, tensor in self.model.policy.state_dict().items():
            if tensor.data_ptr() not in kept:  # layers that actor and critic share have several names
                kept.add(tensor.data_ptr())
                tensors[f"policy.{name}"] = tensor
        if self.normaliser is not None:
            rms = self.normaliser.obs_rms
            assert isinstance(rms, RunningMeanStd)
            tensors |= {"observation_mean": torch.as_tensor(rms.mean), "observation_var": torch.as_tensor(rms.var)}
        made_with = as_json({"use_sde": self.model.use_sde} | self.model.policy_kwargs)
        return {"policy": self.policy_name, "policy_kwargs": made_with}, tensors
