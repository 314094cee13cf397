"""PPO and A2C from stable-baselines3, TRPO from sb3-contrib, held to exact steps and to one schedule over the run.

stable-baselines3 restarts its schedules at every call of `learn` and overshoots to a whole rollout. Here the run's
progress drives the schedules, and rollouts are cut so that they add up to the steps asked for.
"""

from __future__ import annotations

import copy
import inspect
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common import torch_layers
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space_channels_first
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize, VecTransposeImage
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from prefrl.settings.resolved import Resolved
from prefrl.words.errors import UserError
from prefrl.words.lookup import did_you_mean, lookup
from prefrl.words.optimisers import restore_optimiser
from prefrl.words.spaces import is_image
from prefrl.words.tensors import load_tensors, save_tensors, size_of

LEARNERS: dict[str, str] = {
    "ppo": "stable_baselines3:PPO",
    "a2c": "stable_baselines3:A2C",
    "trpo": "sb3_contrib:TRPO",
}
POLICIES: dict[str, type[ActorCriticPolicy]] = {"MlpPolicy": ActorCriticPolicy, "CnnPolicy": ActorCriticCnnPolicy}
"""Those that can be saved: they need an observation to act, and no memory, no masks, no code of anybody's own."""
NAMED: dict[str, tuple[ModuleType, type]] = {
    "activation_fn": (torch.nn, torch.nn.Module),
    "features_extractor_class": (torch_layers, torch_layers.BaseFeaturesExtractor),
    "optimizer_class": (torch.optim, torch.optim.Optimizer),
}
"""Keys of `policy_kwargs` whose value is a class: where it is found by name, and what it must be."""
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

    def begin_anew(self) -> None:
        """Let the next reset begin new episodes."""
        self._at = None

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Nothing: whoever made the environments has seeded them, and stable-baselines3 would do it anew."""
        return [None] * self.num_envs

    def step_wait(self) -> VecEnvStepReturn:
        """Take the step."""
        self._at, rewards, dones, infos = self.venv.step_wait()
        return self._at, rewards, dones, infos


def learner_class(name: str) -> type[OnPolicyAlgorithm]:
    """The algorithm a name or import path stands for.

    Raises:
        UserError: unknown, not an on-policy algorithm of stable-baselines3, or one whose policy cannot be saved.
    """
    path = lookup("learner", name, LEARNERS) if ":" not in name else name
    found: Any = lookup("learner", path, {})
    if not (isinstance(found, type) and issubclass(found, OnPolicyAlgorithm)):
        raise UserError(
            f"learner {name!r} is {found!r}: it must be a subclass of stable-baselines3's OnPolicyAlgorithm."
        )
    aliases = found.policy_aliases
    for policy in [aliases[alias] for alias in POLICIES if alias in aliases] or list(aliases.values())[:1]:
        _check_policy(name, policy)
    return found


def _check_policy(learner: str, policy: type) -> None:
    """Refuse a policy that would be trained, and could not be saved or could not act again by itself.

    Raises:
        UserError: it is another than the two that can.
    """
    if policy not in POLICIES.values():
        known = " and ".join(kind.__name__ for kind in POLICIES.values())
        raise UserError(
            f"learner {learner!r} acts with {policy.__name__}, which a run cannot save and use again: it knows "
            f"stable-baselines3's {known}, which act on an observation alone, without masks or memory; take ppo, a2c, "
            f"trpo, or a learner that acts with these."
        )


def _class_named(key: str, name: str) -> type:
    """The class that a key of `policy_kwargs` names: "ReLU", or with its module, "torch.nn.ReLU".

    Raises:
        UserError: there is none of that name, or it is of another kind.
    """
    module, kind = NAMED[key]
    found = getattr(module, name.replace(":", ".").removeprefix(f"{module.__name__}."), None)
    if isinstance(found, type) and issubclass(found, kind):
        return found
    known = [n for n, other in vars(module).items() if isinstance(other, type) and issubclass(other, kind)]
    raise UserError(
        f"policy_kwargs has {key}={name!r}: it must be the name of a class of {module.__name__}, which a saved policy "
        f"can be made with again.{did_you_mean(name, known)}"
    )


def _as_json(policy_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What a policy is made with, for its file: classes by name, and nothing of the optimizer, which acts on nothing.

    Raises:
        UserError: something that JSON cannot say.
    """
    said: dict[str, Any] = {}
    for key, value in policy_kwargs.items():
        if key.startswith("optimizer_"):
            continue
        said[key] = value.__name__ if key in NAMED and isinstance(value, type) else value
        if said[key] is not value and getattr(NAMED[key][0], value.__name__, None) is not value:
            raise UserError(
                f"policy_kwargs has {key}={value.__qualname__} of {value.__module__}, and a policy's file can only "
                f"name classes of {NAMED[key][0].__name__}: take one of those."
            )
        try:
            json.dumps(said[key])
        except (TypeError, ValueError) as error:
            raise UserError(
                f"policy_kwargs has {key}={value!r:.100}, which cannot be written into the policy's file: give "
                f"numbers, words, lists and tables of them."
            ) from error
    return said


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
    if isinstance(given := settings.get("policy_kwargs"), Mapping):
        _as_json(_with_classes(given))


def _with_classes(policy_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """`policy_kwargs` with the classes that it names."""
    return {
        key: _class_named(key, value) if key in NAMED and isinstance(value, str) else value
        for key, value in (policy_kwargs or {}).items()
    }


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


def _number(value: Any) -> float | None:
    """A learner's measure as a number; None for what is none, such as a text or a histogram."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
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
        self._ongoing = Ongoing(env)
        self.env: VecEnv = self._ongoing
        self.normaliser = None
        if not is_image(env.observation_space):
            self.normaliser = VecNormalize(self.env, norm_reward=False, clip_obs=CLIP_OBSERVATIONS)
            self.env = self.normaliser
        algorithm = learner_class(name)
        kwargs: dict[str, Any] = {key: self._schedule(value) for key, value in settings.items()}
        takes = inspect.signature(algorithm).parameters
        if "policy_kwargs" in takes:  # Adam in one call for all weights; its epsilon is stable-baselines3's
            fused = {"optimizer_kwargs": {"eps": 1e-5, "fused": True}}
            given = _with_classes(kwargs.get("policy_kwargs"))
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
                asked = " ".join(f"{setting}={value}" for setting, value in settings.items())
                said = " ".join(f"{type(error).__name__}: {error}".split())
                raise UserError(
                    f"learner {name!r} cannot be made with {asked or 'its own settings':.150} ({said:.200}): change "
                    f"what is wrong with --set name=value."
                ) from error
        self._pay_rollouts(entropy_bonus)
        self.rollout_steps = self.model.n_steps
        self.model.set_logger(Logger(folder=None, output_formats=[]))
        self._check_readable()

    def _check_readable(self) -> None:
        """Make the policy once more from what will be saved of it, and see that the two are one.

        Raises:
            UserError: they are not, or it cannot be made: whatever was trained would be lost.
        """
        _check_policy(self.name, type(self.model.policy))
        rng = np.random.default_rng(0)
        space = self.env.observation_space
        shape = (8, *(space.shape or ()))
        shown = rng.integers(256, size=shape) if is_image(space) else rng.normal(size=shape)
        self.model.policy.set_training_mode(False)
        with torch.random.fork_rng(devices=[]), torch.no_grad():  # the run's own draws stay as they were
            about, tensors = self._content()
            try:
                again = _rebuilt(json.loads(json.dumps(about)), tensors, space, self.env.action_space)
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
            if self._draws_noise(step - 1):
                self.model.policy.reset_noise(self.env.num_envs)
            actions, _state = self.model.predict(observations)  # type: ignore[arg-type]
            observations, _rewards, _dones, _infos = self.env.step(actions)
            if self.due is not None and (step % self.rollout_steps == 0 or step == vector_steps):
                self.due()  # nobody learns from them: they count towards learned returns, and are let go

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
            self.model.learn(steps * self.env.num_envs, log_interval=None, reset_num_timesteps=False)  # type: ignore[arg-type]
        values = self.model.logger.name_to_value
        measures = {
            name.replace("train/", "learner_"): number
            for name, value in sorted(values.items())
            if name.startswith("train/") and (number := _number(value)) is not None
        }
        values.clear()
        return measures

    def begin_anew(self) -> None:
        """Begin new episodes everywhere at the next step: the environments are others now."""
        self._ongoing.begin_anew()
        self.model._last_obs = None

    def state(self) -> dict[str, Any]:
        """Networks, their optimisers, the running statistics of observations, and the counts of updates and steps."""
        rms = None if self.normaliser is None else self.normaliser.obs_rms
        assert rms is None or isinstance(rms, RunningMeanStd)
        return {
            "parameters": self.model.get_parameters(),
            "observations": None if rms is None else {"mean": rms.mean, "var": rms.var, "count": rms.count},
            "steps": self.model.num_timesteps,
            "updates": getattr(self.model, "_n_updates", None),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.model.set_parameters(state["parameters"], device=self.model.device)
        for name, saved in state["parameters"].items():
            part = recursive_getattr(self.model, name)
            if isinstance(part, torch.optim.Optimizer):
                restore_optimiser(part, saved)
        if self.normaliser is not None:
            rms, seen = self.normaliser.obs_rms, state["observations"]
            assert isinstance(rms, RunningMeanStd)
            rms.mean, rms.var, rms.count = seen["mean"], seen["var"], seen["count"]
        self.model.num_timesteps = state["steps"]
        if state["updates"] is not None:
            self.model._n_updates = state["updates"]

    def save(self, path: Path) -> None:
        """Write the policy's weights and its observation normalisation as safetensors."""
        about, tensors = self._content()
        save_tensors(path, tensors, about)

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
        made_with = _as_json({"use_sde": self.model.use_sde} | self.model.policy_kwargs)
        return {"policy": self.policy_name, "policy_kwargs": made_with}, tensors


def _rebuilt(
    about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], observation_space: Any, action_space: Any
) -> ActorCriticPolicy:
    """The policy that was saved as `Learner._content` says; files before `use_sde` was told show it by their shapes.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError: this is not what a policy for these spaces is made of.
    """
    kind = POLICIES[about["policy"]]
    if about["policy"] == "CnnPolicy" and not is_image_space_channels_first(observation_space):
        observation_space = VecTransposeImage.transpose_space(observation_space)
    weights = {n.removeprefix("policy."): t for n, t in tensors.items() if n.startswith("policy.")}
    explores_by_state = "log_std" in weights and weights["log_std"].ndim == 2
    made_with = {"use_sde": explores_by_state} | _with_classes(about["policy_kwargs"]) | {"ortho_init": False}
    _check_sizes(kind, (observation_space, action_space, lambda _: 0.0), made_with, weights)
    policy = kind(observation_space, action_space, lambda _: 0.0, **made_with)
    missing, unexpected = policy.load_state_dict(weights, strict=False)
    if unexpected:
        raise KeyError(unexpected[0])
    here = policy.state_dict()
    loaded = {here[name].data_ptr() for name in weights}
    if any(here[name].data_ptr() not in loaded for name in missing):
        raise KeyError(missing[0])
    policy.set_training_mode(False)
    return policy


def make_policy(config: Resolved, paid: VecEnv, due: Callable[[], NDArray[np.float32]] | None) -> Learner:
    """The learner that a run's configuration asks for, on environments that pay what it is to maximise."""
    return Learner(config.learner, paid, config.settings, config.seed, config.device, config.entropy_bonus, due)


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
            self.policy = _rebuilt(about, tensors, observation_space, action_space)
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
        self.mean = tensors["observation_mean"].numpy() if "observation_mean" in tensors else None
        self.std = np.sqrt(tensors["observation_var"].numpy() + 1e-8) if "observation_var" in tensors else None

    def act(self, observations: NDArray[Any], deterministic: bool = False) -> NDArray[Any]:
        """Actions for a batch of observations (n, *observation_shape), or for one.

        A policy that learned with `use_sde` explores by a noise that is a function of what it sees, and was drawn anew
        now and then; here it is drawn anew for each observation, so that actions have the same distribution.
        """
        if self.mean is not None and self.std is not None:
            scaled = (observations - self.mean) / self.std
            observations = np.clip(scaled, -CLIP_OBSERVATIONS, CLIP_OBSERVATIONS).astype(np.float32)
        if self.policy.use_sde and not deterministic:
            with torch.no_grad():
                self.policy.reset_noise(len(observations))
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
    # Noise that depends on the state is drawn as it is made, which needs contents; it is as wide as the last layer.
    plain = {name: value for name, value in policy_kwargs.items() if "sde" not in name and name != "squash_output"}
    nowhere = torch.device("meta")  # where tensors have shapes and no contents
    outline = type("Outline", (kind,), {"device": nowhere})
    with nowhere:
        shapes = {name: tensor.shape for name, tensor in outline(*made_of, **plain).state_dict().items()}
    for name, tensor in weights.items():
        if shapes.get(name) != tensor.shape and name != "log_std":
            raise ValueError(f"its {name} is of shape {tuple(tensor.shape)}, and is to be {shapes.get(name)}")
    if sum(math.prod(shape) for shape in shapes.values()) > MOST_SHARED * size_of(dict(weights)):
        raise ValueError("it describes more weights than it holds")
