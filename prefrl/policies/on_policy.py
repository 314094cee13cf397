"""PPO and A2C from stable-baselines3, TRPO from sb3-contrib, held to exact steps and to one schedule over the run.

stable-baselines3 restarts its schedules at every call of `learn` and overshoots to a whole rollout. Here the run's
progress drives the schedules, and rollouts are cut so that they add up to the steps asked for.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space_channels_first
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize, VecTransposeImage
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from prefrl.words.errors import UserError
from prefrl.words.lookup import did_you_mean, lookup
from prefrl.words.spaces import is_image
from prefrl.words.tensors import load_tensors, save_tensors, size_of

LEARNERS: dict[str, str] = {
    "ppo": "stable_baselines3:PPO",
    "a2c": "stable_baselines3:A2C",
    "trpo": "sb3_contrib:TRPO",
}
CLIP_OBSERVATIONS = 10.0
MOST_LAYERS = 1_000  # that a saved policy may describe
MOST_SHARED = 8  # names at most that one weight goes by, where actor and critic share layers


class Ongoing(VecEnvWrapper):
    """A VecEnv that begins once: a later reset gives the observations it is at, and breaks no episode off.

    stable-baselines3 resets the environments at its first call of `learn`; by then the untrained policy has acted.
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self._at: Any = None

    def reset(self) -> Any:
        """Begin, or go on where the environments are."""
        if self._at is None:
            self._at = self.venv.reset()
        return self._at

    def step_wait(self) -> VecEnvStepReturn:
        """Take the step."""
        self._at, rewards, dones, infos = self.venv.step_wait()
        return self._at, rewards, dones, infos


def learner_class(name: str) -> type[OnPolicyAlgorithm]:
    """The algorithm a name or import path stands for.

    Raises:
        UserError: unknown, or not an on-policy algorithm of stable-baselines3.
    """
    path = lookup("learner", name, LEARNERS) if ":" not in name else name
    found: Any = lookup("learner", path, {})
    if not (isinstance(found, type) and issubclass(found, OnPolicyAlgorithm)):
        raise UserError(
            f"learner {name!r} is {found!r}: it must be a subclass of stable-baselines3's OnPolicyAlgorithm."
        )
    return found


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Whether a learner takes these settings, as far as its signature says.

    Raises:
        UserError: it does not.
    """
    parameters = inspect.signature(learner_class(name)).parameters
    takes = {n for n in parameters if not n.startswith("_")} - {"policy", "env", "seed", "device", "self"}
    for setting, value in settings.items():
        if setting not in takes:
            hint = did_you_mean(setting, takes) or f" It has {', '.join(sorted(takes))}."
            raise UserError(f"learner {name!r} has no setting {setting!r}.{hint}")
        if isinstance(value, str) and value.startswith("lin_"):
            try:
                float(value.removeprefix("lin_"))
            except ValueError as error:
                raise UserError(
                    f"{setting}={value} is no schedule: write lin_ and a number, such as lin_3e-4."
                ) from error
        if wanted := _wanted(parameters[setting], value):
            raise UserError(f"{setting}={value!r} is no setting of learner {name!r}: it must be {wanted}.")


def _wanted(parameter: inspect.Parameter, value: Any) -> str | None:
    """What a setting must be and this value is not, by the parameter's default and annotation; None if it will do."""
    default = parameter.default
    kind = parameter.annotation
    kind = kind if isinstance(kind, str) else inspect.formatannotation(kind)
    is_number = type(value) in (int, float) and not math.isnan(value)
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if kind == "int":
        counts = isinstance(default, int) and default > 0  # n_steps and the like; -1 and 0 mean something else
        fits = type(value) is int and (value > 0 or not counts)
        return None if fits else f"a whole number{' above zero' if counts else ''}"
    if kind in ("float", "float | None", "Optional[float]"):
        return None if is_number else "a number"
    if type(default) in (int, float) and "str" not in kind and "Any" not in kind:
        falls = isinstance(value, str) and value.startswith("lin_")
        return None if is_number or falls else "a number, or lin_ and the number that it falls from, such as lin_3e-4"
    if kind.lower().startswith(("dict", "optional[dict")):
        return None if isinstance(value, dict) else "a table, such as {net_arch = [64, 64]}"
    return None


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
    ) -> None:
        check_settings(name, settings)
        self.name, self.progress, self.due = name, 0.0, due
        self.env: VecEnv = Ongoing(env)
        self.normaliser = None
        if not is_image(env.observation_space):
            self.normaliser = VecNormalize(self.env, norm_reward=False, clip_obs=CLIP_OBSERVATIONS)
            self.env = self.normaliser
        algorithm = learner_class(name)
        kwargs: dict[str, Any] = {key: self._schedule(value) for key, value in settings.items()}
        takes = inspect.signature(algorithm).parameters
        if "policy_kwargs" in takes:  # Adam in one call for all weights; its epsilon is stable-baselines3's
            fused = {"optimizer_kwargs": {"eps": 1e-5, "fused": True}}
            given = kwargs.get("policy_kwargs") or {}
            kwargs["policy_kwargs"] = given if "optimizer_class" in given else fused | given
        own = takes.get("ent_coef")
        if entropy_bonus and own is not None:
            kwargs["ent_coef"] = kwargs.get("ent_coef", own.default) + entropy_bonus
            entropy_bonus = 0.0
        self.policy_name = "CnnPolicy" if is_image(env.observation_space) else "MlpPolicy"
        with warnings.catch_warnings():  # rollouts are cut anyway, so a last minibatch may be smaller than the others
            warnings.filterwarnings("ignore", "You have specified a mini-batch size")
            warnings.filterwarnings("ignore", "You are trying to run .* on the GPU")  # vectors go there if asked to
            try:
                self.model = algorithm(self.policy_name, self.env, seed=seed, device=device, **kwargs)
            except Exception as error:  # its own checks of its settings: assertions and anything else
                given = " ".join(f"{setting}={value}" for setting, value in settings.items())
                said = " ".join(f"{type(error).__name__}: {error}".split())
                raise UserError(
                    f"learner {name!r} cannot be made with {given or 'its own settings':.150} ({said:.200}): change "
                    f"what is wrong with --set name=value."
                ) from error
        self._pay_rollouts(entropy_bonus)
        self.rollout_steps = self.model.n_steps
        self.model.set_logger(Logger(folder=None, output_formats=[]))

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
            compute(*args, **kwargs)

        buffer.compute_returns_and_advantage = paid  # type: ignore[method-assign]

    def _schedule(self, value: Any) -> Any:
        """A "lin_x" as a schedule that follows the run's progress, not that of one call of `learn`."""
        if not (isinstance(value, str) and value.startswith("lin_")):
            return value
        start = float(value.removeprefix("lin_"))
        return lambda _: start * (1 - self.progress)

    def explore(self, vector_steps: int) -> None:
        """Act with the policy as it is, learning nothing: the random policy *network* of the paper (appendix A)."""
        observations = self.env.reset()
        for step in range(1, vector_steps + 1):
            actions, _state = self.model.predict(observations)  # type: ignore[arg-type]
            observations, _rewards, _dones, _infos = self.env.step(actions)
            if self.due is not None and (step % self.rollout_steps == 0 or step == vector_steps):
                self.due()  # nobody learns from them: they count towards learned returns, and are let go

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
            self.model.learn(steps * self.env.num_envs, log_interval=None, reset_num_timesteps=False)  # type: ignore[arg-type]
        values = self.model.logger.name_to_value
        measures = {
            k.replace("train/", "learner_"): float(v) for k, v in sorted(values.items()) if k.startswith("train/")
        }
        values.clear()
        return measures

    def save(self, path: Path) -> None:
        """Write the policy's weights and its observation normalisation as safetensors."""
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
        acting = {k: v for k, v in self.model.policy_kwargs.items() if not k.startswith("optimizer_")}
        about = {"policy": self.policy_name, "policy_kwargs": acting}
        save_tensors(path, tensors, about)


class Policy:
    """A saved policy: observations as the environment gives them in, actions out.

    Args:
        path: the `policy.safetensors` of a run.
        observation_space: of the environment.
        action_space: of the environment.

    Raises:
        UserError: no policy there, or one for other spaces.
    """

    def __init__(self, path: Path | str, observation_space: Any, action_space: Any) -> None:
        if not Path(path).is_file():
            raise UserError(f"there is no policy at {str(path)!r}: give the policy.safetensors of a finished run.")
        tensors, about = load_tensors(path)
        try:
            kind = {"MlpPolicy": ActorCriticPolicy, "CnnPolicy": ActorCriticCnnPolicy}[about["policy"]]
            if about["policy"] == "CnnPolicy" and not is_image_space_channels_first(observation_space):
                observation_space = VecTransposeImage.transpose_space(observation_space)
            weights = {n.removeprefix("policy."): t for n, t in tensors.items() if n.startswith("policy.")}
            acting = {**about["policy_kwargs"], "ortho_init": False}  # the weights are there
            _check_sizes(kind, (observation_space, action_space, lambda _: 0.0), acting, weights)
            self.policy = kind(observation_space, action_space, lambda _: 0.0, **acting)
            missing, unexpected = self.policy.load_state_dict(weights, strict=False)
            if unexpected:
                raise KeyError(unexpected[0])
            here = self.policy.state_dict()
            loaded = {here[name].data_ptr() for name in weights}
            if any(here[name].data_ptr() not in loaded for name in missing):
                raise KeyError(missing[0])
            self.mean = tensors["observation_mean"].numpy() if "observation_mean" in tensors else None
            shapes = {tensors[name].shape for name in ("observation_mean", "observation_var") if name in tensors}
            if shapes - {torch.Size(observation_space.shape)}:
                raise ValueError(f"its observations are of shape {[*map(tuple, shapes)]}")
            if not all(tensor.isfinite().all() for tensor in tensors.values()):
                raise ValueError("it holds numbers that are not finite")
            if "observation_var" in tensors and (tensors["observation_var"] < 0).any():
                raise ValueError("it holds variances below zero")
        except Exception as error:  # whatever is made of what somebody else wrote
            said = " ".join(str(error).split())
            raise UserError(f"{str(path)!r} is not a policy for this environment: {said:.200}.") from error
        self.policy.set_training_mode(False)
        self.std = np.sqrt(tensors["observation_var"].numpy() + 1e-8) if "observation_var" in tensors else None

    def act(self, observations: NDArray[Any], deterministic: bool = False) -> NDArray[Any]:
        """Actions for a batch of observations (n, *observation_shape), or for one."""
        if self.mean is not None and self.std is not None:
            scaled = (observations - self.mean) / self.std
            observations = np.clip(scaled, -CLIP_OBSERVATIONS, CLIP_OBSERVATIONS).astype(np.float32)
        return self.policy.predict(observations, deterministic=deterministic)[0]


def _check_sizes(
    kind: type[ActorCriticPolicy],
    made_of: tuple[Any, ...],
    policy_kwargs: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
) -> None:
    """See that a policy has the weights that its file holds, before memory is taken for them.

    Args:
        kind: of policy.
        made_of: its first arguments.
        policy_kwargs: the others, as the file has them.
        weights: in the file, by name.

    Raises:
        ValueError: it has others, or more layers.
    """
    if str(policy_kwargs).count(",") > MOST_LAYERS:
        raise ValueError(f"its policy_kwargs have more than {MOST_LAYERS} parts")
    nowhere = torch.device("meta")  # where tensors have shapes and no contents
    outline = type("Outline", (kind,), {"device": nowhere})
    with nowhere:
        shapes = {name: tensor.shape for name, tensor in outline(*made_of, **policy_kwargs).state_dict().items()}
    for name, tensor in weights.items():
        if shapes.get(name) != tensor.shape:
            raise ValueError(f"its {name} is of shape {tuple(tensor.shape)}, and is to be {shapes.get(name)}")
    if sum(math.prod(shape) for shape in shapes.values()) > MOST_SHARED * size_of(dict(weights)):
        raise ValueError("it describes more weights than it holds")
