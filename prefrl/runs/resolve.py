"""A configuration checked against its environment, with every default filled in, before anything is written."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, overload

import gymnasium as gym
import torch

from prefrl.experience.backends import DRAWS, find_backends
from prefrl.experience.clips import how_shown
from prefrl.experience.environments import find_spec
from prefrl.experience.guard import short
from prefrl.experience.task import Task
from prefrl.experience.wrappers import needed
from prefrl.policies.demonstrations import check_demonstrations, check_segments
from prefrl.policies.learners import check_settings, check_spaces, replays
from prefrl.policies.methods import method_fields
from prefrl.policies.policy import Policy
from prefrl.policies.reference import find_reference
from prefrl.policies.terms import FIRST_BETA
from prefrl.queries.exchange import inherit
from prefrl.queries.labelers import LABELERS, find_factory, is_shown_to_a_model
from prefrl.queries.oracle import parse_teacher
from prefrl.queries.questions import segments_in
from prefrl.queries.store import Store, check_free, check_url
from prefrl.queries.strategies import find_strategy
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.runs.checkpoint import has_any
from prefrl.runs.runlog import is_finished
from prefrl.settings import presets
from prefrl.settings.config import AT_THE_START, BaselineConfig, TrainConfig, folder_name, slug
from prefrl.settings.resolved import Resolved, ResolvedTrain
from prefrl.settings.values import as_toml, name_value
from prefrl.words.errors import UserError, install
from prefrl.words.lookup import did_you_mean, lookup
from prefrl.words.schedules import SCHEDULES, in_sessions, label_counts
from prefrl.words.spaces import channels_first, encoded_size, is_image, same_inputs

MOST_PICTURES = 20_000  # kept for people, some 5 kB each
LATELY = 50_000  # steps that the reward's scale is taken from, where the learner learns from each step once
LONG_EPISODE = 1_000  # steps, where an environment sets no limit
LONG_GAME = 2_500  # agent steps of a long game of Pong; an Atari game's own limit is ten times that, and seldom met
MOST_SEED = 2**31 - 1  # EnvPool's; numpy's own generator, which stable-baselines3 seeds, would take twice as much
FOR_PEOPLE = ("patience", "keep_up", "slowdown", "oracle_after")


@overload
def resolve(config: TrainConfig, resume: bool = False) -> ResolvedTrain: ...
@overload
def resolve(config: BaselineConfig, resume: bool = False) -> Resolved: ...
def resolve(config: BaselineConfig, resume: bool = False) -> Resolved:
    """The configuration with no field left open, or one sentence about the first thing wrong with it.

    Args:
        config: what was asked for.
        resume: the run has begun; its folder and its questions are there.

    Raises:
        UserError: anything that the run could not do as asked.
    """
    _check_numbers(config)
    replayed = replays(config.learner)
    _check_replaying(config, replayed)
    find_backends(config.backend)
    if config.workers is not None and (config.workers < 1 or config.backend not in ("auto", "subprocess")):
        raise UserError(
            f"workers={config.workers} with backend {config.backend}: it is a number of processes, 1 or more, and they "
            f"are backend subprocess."
        )
    env = look_at(replace(config, wrapper=config.wrapper or ()) if resume else config)
    check_spaces(config.learner, config.env, *env.spaces)
    preset = env.preset
    replay = presets.REPLAY_PRESETS.get(config.learner, presets.OF_OWN) if replayed else presets.NOTHING
    by_method = method_fields(config, preset)
    settings = by_method.get("settings") or {
        **preset.learners.get(config.learner, {}),
        **({"buffer_size": min(config.steps, presets.MOST_REPLAYED)} if replayed else {}),
        **replay.settings,
        **env.tuned.get(config.learner, {}),
        **name_value(config.set, "learner setting"),
    }
    if not by_method:
        check_settings(config.learner, settings)
    if config.device not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device {config.device!r}: it is auto, cpu or cuda.")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda was asked for and torch sees no CUDA device: use auto or cpu.")
    if config.wandb and not _is_installed("wandb"):
        raise UserError(f"logging to Weights & Biases needs its package: {install('wandb')}.")
    fastest = "cuda" if env.is_image and torch.cuda.is_available() else "cpu"
    open_fields = {field.name for field in fields(config) if getattr(config, field.name) is None}
    by_family = {name: value for name, value in {**vars(preset), **replay.fields}.items() if name in open_fields}
    n_envs = config.n_envs or _divisor(config.steps, replay.fields.get("n_envs", preset.n_envs))
    segment_steps = getattr(config, "segment_steps", None) or min(
        replay.fields.get("segment_steps", env.segment_steps), env.horizon or math.inf
    )
    known: dict[str, Any] = {
        **by_family,
        "n_envs": n_envs,
        "env_kwargs": env.kwargs,
        "wrapper": env.wrappers or config.wrapper,
        "set": tuple(f"{name}={as_toml(value)}" for name, value in settings.items()),
        "settings": settings,
        "taken": env.told(config.learner, settings, segment_steps if isinstance(config, TrainConfig) else None),
        "explore_steps": _explore_steps(config, n_envs, segment_steps),
        "clip_reward": env.clip_reward if config.clip_reward is None else config.clip_reward,
        "device": fastest if config.device == "auto" else config.device,
        "out": Path(config.out or _folder(config)),
    }
    if session_steps := config.session_steps or by_family.get("session_steps"):
        known["phases"] = max(1, round((config.steps - known["explore_steps"]) / session_steps))
    known |= _reference(config, env) | _start(config, env)
    known["ten_episodes"] = _ten_episodes(env, n_envs)
    known["checkpoint_every"] = known["ten_episodes"] if config.checkpoint_every is None else config.checkpoint_every
    if isinstance(config, TrainConfig):
        known["segment_steps"] = segment_steps
        known["pairs"] = config.pairs or ("same-start" if env.same_start else None)
        known["reward_from"] = _reward_from(config, env)
        known |= {"strategy": config.strategy or "disagreement"} | by_method
        find_strategy(known["strategy"])
        _check_names(config, resume)
        _check_idle(config)
        _check_rounds(config)
        if config.demonstration_labels:
            check_segments(known.get("demonstrations", ()))
        if config.rounds:
            known["initial_labels"] = 1 / config.rounds
        known["keep_steps"] = keep_steps = preset.keep_steps if config.keep_steps is None else config.keep_steps
        room = {"explore_steps": known["explore_steps"], "keep_steps": keep_steps}
        known["k"] = segments_in(config, direct=bool(by_method))
        _check_labels(config, segment_steps, env.horizon, room, n_envs, known["k"])
        if config.session_labels is not None:
            phases = known.get("phases", config.phases)
            in_sessions(config.labels, max(1, round(config.freeze_reward_at * phases)), config.session_labels)
        if not resume:
            with Store(":memory:") as empty:
                inherit(empty, config.labels_from, config.env, segment_steps)
        if config.labeler == "human" or is_shown_to_a_model(config.labeler, config.constitution):
            known |= _for_people(config, env, keep_steps)
    # Both arms take the reward's scale from as many steps as a run with labels remembers. Of stacked frames, the oldest
    # that it remembers are parts of later observations alone.
    remembered = known.get("keep_steps") or getattr(config, "keep_steps", None) or preset.keep_steps
    older = channels_first(env.spaces[0].shape or ())[0] - 1 if env.is_image else 0
    known["replay_steps"] = settings["buffer_size"] if replayed else 0
    window = config.reward_window or known["replay_steps"] or LATELY
    known["reward_window"] = min(window, max(n_envs, remembered - older * n_envs, known["replay_steps"]))
    if not isinstance(config, TrainConfig):
        known["keep_steps"] = known["reward_window"]
    if not resume:
        _check_folder(known["out"])
    kind = ResolvedTrain if isinstance(config, TrainConfig) else Resolved
    return kind(**{field.name: getattr(config, field.name) for field in fields(config)} | known)


@dataclass(frozen=True)
class EnvironmentFacts:
    """What the configuration needs to know of the environment.

    Attributes:
        name: of the environment.
        family: whose settings it begins from.
        why: it is that family, a clause.
        tuned: settings by learner over those of the family.
        kwargs: arguments it is made with.
        wrappers: around it.
        flattened: what its observations are before they become vectors; empty where they are as they are.
        horizon: steps after which an episode is cut off; None if it is not.
        segment_steps: the segment length that suits it.
        is_image: whether it shows pixels.
        clip_reward: whether its true reward is clipped for a learner.
        same_start: whether its segments are compared where they begin an episode alike.
        spaces: of its observations and actions.
    """

    name: str
    family: str
    why: str
    tuned: Mapping[str, Mapping[str, Any]]
    kwargs: tuple[str, ...]
    wrappers: tuple[str, ...]
    flattened: str
    horizon: int | None
    segment_steps: int
    is_image: bool
    clip_reward: bool
    same_start: bool
    spaces: tuple[gym.Space[Any], gym.Space[Any]]

    @property
    def preset(self) -> presets.Preset:
        """Of its family."""
        return presets.FAMILIES[self.family]

    def settings_of(self, learner: str) -> dict[str, Any]:
        """What a learner begins from."""
        return {**self.preset.learners.get(learner, {}), **self.tuned.get(learner, {})}

    def told(self, learner: str, settings: Mapping[str, Any], segment_steps: int | None) -> str:
        """What a run on it begins from, and why, for whoever begins one.

        Args:
            learner: of the run.
            settings: of the learner.
            segment_steps: of the run; None where nothing is asked.
        """
        chosen = [f"discount {settings['gamma']:g}"] if "gamma" in settings else []
        chosen += [f"segments of {segment_steps} steps"] if segment_steps else []
        limit = f"a horizon of {self.horizon:,} steps" if self.horizon else "no time limit"
        changed = [f"around it is {wrapper}" for wrapper in self.wrappers]
        changed += [f"observations {self.flattened} are flattened into a vector"] if self.flattened else []
        begins = f"from preset {self.family}" if learner in self.preset.learners else f"from {learner}'s own settings"
        why = "they suit any environment" if learner in presets.REPLAY_PRESETS else self.why
        return (
            f"{self.name} begins {begins}, because {why}; with {limit}{''.join(f', {each}' for each in chosen)}"
            f"{''.join(f'; {each}' for each in changed)}. "
            f"--preset NAME takes another, --set name=value changes one setting."
        )


def look_at(config: BaselineConfig) -> EnvironmentFacts:
    """Make the environment once, and look at it.

    Raises:
        UserError: it cannot be made, or a reward cannot be learned on its spaces.
    """
    spec = find_spec(config.env)
    kwargs = config.env_kwargs
    if kwargs is None:
        is_gymnasium_mujoco = str(spec.entry_point).startswith("gymnasium.envs.mujoco")
        kwargs = presets.ENV_KWARGS.get(spec.name, ()) if is_gymnasium_mujoco else ()
    if config.preset is not None and config.preset not in presets.FAMILIES:
        raise UserError(
            f"unknown preset {config.preset!r}: it is one of {', '.join(presets.FAMILIES)}."
            f"{did_you_mean(config.preset, presets.FAMILIES)}"
        )
    task = Task.of(replace(config, env_kwargs=kwargs))
    env = task.make()
    if config.wrapper is None and (wrappers := needed(env.action_space)):
        env.close()
        task = replace(task, wrappers=wrappers)
        env = task.make()
    encoded_size(env.observation_space)
    rate = env.metadata.get("render_fps")
    facts = presets.Facts(
        spec.id,
        str(spec.entry_point),
        is_image(env.observation_space),
        isinstance(env.action_space, gym.spaces.Box),
        (env.spec or spec).max_episode_steps,  # as it was made: an argument may have changed it
        float(rate) if isinstance(rate, int | float) and 0 < rate < math.inf else None,
        hasattr(env.unwrapped, "tables"),
    )
    family, why = (config.preset, "it was asked for") if config.preset else presets.family(facts)
    if family in presets.BY_HORIZON:
        known = {"gamma": presets.discount(facts.horizon)}
        tuned: Mapping[str, Mapping[str, Any]] = dict.fromkeys(presets.FAMILIES[family].learners, known)
    else:
        tuned = {} if config.preset else presets.TASKS.get(presets.task(facts.env_id, facts.entry_point), {})
    found = EnvironmentFacts(
        name=config.env,
        family=family,
        why=why,
        tuned=tuned,
        kwargs=kwargs,
        wrappers=task.wrappers,
        flattened=_before_flattening(env),
        horizon=facts.horizon,
        segment_steps=int(env.metadata.get("segment_steps") or presets.segment_steps(facts, family)),
        is_image=facts.is_image,
        clip_reward=bool(env.metadata.get("clip_reward", False)),
        same_start=bool(env.metadata.get("same_start", False)),
        spaces=(env.observation_space, env.action_space),
    )
    env.close()
    return found


def _before_flattening(env: gym.Env[Any, Any]) -> str:
    """The observations that Gymnasium's wrapper makes a vector of, in short; empty where it does not."""
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.wrappers.FlattenObservation):
            return short(env.env.observation_space)
        env = env.env
    return ""


def _check_replaying(config: BaselineConfig, replayed: bool) -> None:
    """Refuse what only one of the two kinds of learner can do."""
    if config.unsupervised and not replayed:
        raise UserError(
            f"unsupervised first steps are learned from again and again, and learner {config.learner!r} learns from "
            f"each step once: leave it out, or take sac."
        )
    if replayed and (config.kl_beta or config.kl_target or config.reference):
        raise UserError(
            f"a reference holds policies that learn from each step once, and learner {config.learner!r} replays: leave "
            f"kl_beta, kl_target and reference out, or take ppo."
        )
    if replayed and (config.start_from is not None or config.demonstrations):
        raise UserError(
            f"learner {config.learner!r} cannot begin with what another has learned: leave start_from and "
            f"demonstrations out, or take ppo."
        )
    if replayed and isinstance(config, TrainConfig) and config.reward_at == "end":
        raise UserError(
            f"reward_at=end sums an episode as it ends, and learner {config.learner!r} is paid each step anew: leave "
            f"it out, or take ppo."
        )
    if replayed and isinstance(config, TrainConfig) and config.entropy_bonus:
        raise UserError(
            f"entropy_bonus={config.entropy_bonus} is for learners without an entropy of their own, and "
            f"{config.learner!r} is none: leave it out, or set ent_coef (--set ent_coef=0.1)."
        )


def _for_people(config: TrainConfig, env: EnvironmentFacts, keep_steps: int) -> dict[str, Any]:
    """What is otherwise where people answer: environments that can be drawn, pictures that fit into memory.

    Raises:
        UserError: this environment, or this backend, has nothing to show to people.
    """
    shown = how_shown(Task.of(replace(config, env_kwargs=env.kwargs, wrapper=env.wrappers)))
    if shown == "frames":  # they are there, whatever steps the environment
        return {}
    if config.backend not in ("auto", DRAWS):
        raise UserError(
            f"backend {config.backend} keeps nothing that a clip can be drawn from: use auto or {DRAWS} for people."
        )
    if config.workers is not None:
        raise UserError(
            "workers: environments in other processes keep nothing that a clip can be drawn from; leave it out."
        )
    return {"backend": DRAWS, "is_drawn": True} | (
        {} if shown == "joints" else {"keep_steps": min(keep_steps, MOST_PICTURES)}
    )


def _ten_episodes(env: EnvironmentFacts, n_envs: int) -> int:
    """Steps in which ten of the longest episodes pass in every environment: the least from checkpoint to checkpoint.

    Environments are made anew at each, which cuts the episodes that run. Too often, and none would ever end.
    """
    longest = min(env.horizon or LONG_GAME, LONG_GAME) if env.is_image else env.horizon or LONG_EPISODE
    return 10 * longest * n_envs


def _explore_steps(config: BaselineConfig, n_envs: int, segment_steps: int) -> int:
    """The untrained policy's steps: what is asked for, or 2 % of all and room for two segments in each environment."""
    if config.steps % n_envs:
        below = config.steps // n_envs * n_envs
        raise UserError(
            f"steps={config.steps} cannot be taken {n_envs} environments at a time: ask for {below or n_envs} or "
            f"{below + n_envs} steps, or another n_envs."
        )
    steps = config.explore_steps
    if steps is None:
        steps = n_envs * max(2 * segment_steps, round(0.02 * config.steps / n_envs))
    if steps % n_envs or not 0 <= steps < config.steps:
        raise UserError(
            f"explore_steps={steps} must be a multiple of n_envs={n_envs} and below steps={config.steps}: take more "
            f"steps, or fewer environments."
        )
    return steps


def _check_names(config: TrainConfig, resume: bool) -> None:
    find_factory(config.labeler)
    schedule = lookup("schedule", config.schedule, SCHEDULES)
    label_counts(config.labels, min(config.phases, 1000), 0.0, schedule)  # of one's own, it may be none
    if config.store is not None:
        check_url(config.store)
        if not resume:
            check_free(config.store)
    for teacher in config.teachers:
        parse_teacher(teacher)


def _check_rounds(config: TrainConfig) -> None:
    """Refuse rounds that could not be, and what says otherwise when labels are asked.

    Raises:
        UserError: there are such.
    """
    if not config.rounds:
        return
    if not 0 < config.rounds <= min(config.phases, config.labels):
        raise UserError(
            f"rounds={config.rounds} must be 0 (none) or more, and as many as there are phases ({config.phases}) and "
            f"labels ({config.labels}) at most: each asks some, and trains for a phase or longer."
        )
    if (
        config.initial_labels not in (None, 1 / config.rounds)
        or config.schedule != TrainConfig.schedule
        or config.session_labels is not None
        or config.overlap
    ):
        raise UserError(
            "rounds say when labels are asked, in equal parts, and that the reward rests between them: leave out "
            "schedule, initial_labels, session_labels and overlap."
        )


def _check_idle(config: TrainConfig) -> None:
    """Refuse options that nobody here would read, and whoever gives them expects something of.

    `second_opinions` is none: the store keeps a question open for another person, whoever answered it first.
    """
    usual, own = TrainConfig(), config.labeler not in LABELERS
    if config.constitution is not None and config.labeler != "judge":
        raise UserError(
            f"constitution={config.constitution} is what a judge goes by, and labeler {config.labeler!r} does not read "
            f"it: leave it out, or use --labeler judge."
        )
    if config.labeler != "human":
        for name in FOR_PEOPLE:
            if (value := getattr(config, name)) != getattr(usual, name):
                raise UserError(
                    f"{name}={value} says how training waits for people, and labeler {config.labeler!r} asks none: "
                    f"leave it out, or ask them with --labeler human."
                )
    never = own or config.labeler == "judge" or (config.labeler == "human" and config.oracle_after is None)
    if never and tuple(config.teachers) != usual.teachers:
        raise UserError(
            f"teachers={' '.join(config.teachers)} say how the oracle answers, and with labeler {config.labeler!r} it "
            f"never does: leave them out, or use --labeler oracle, or human with --oracle-after."
        )


def _reward_from(config: TrainConfig, env: EnvironmentFacts) -> Path | None:
    """The folder of a finished reward, which is there, fits the environment, and comes with no labels.

    Raises:
        UserError: it is not, or does not; or there is none, and no labels either.
    """
    if config.reward_from is None:
        if not config.labels and not config.labels_from:
            raise UserError(
                "labels=0 must be more than zero, unless reward_from pays a finished reward or labels_from has answers."
            )
        return None
    if config.labels:
        raise UserError(
            f"reward_from={str(config.reward_from)!r} pays a finished reward and asks nothing, and labels="
            f"{config.labels} asks: set labels to 0."
        )
    folder = Path(_of_this_run(str(config.reward_from), config))
    r_hat = RewardEnsemble.load(folder / "reward.safetensors")
    for here, theirs in zip(env.spaces, (r_hat.observation_space, r_hat.action_space), strict=True):
        if not same_inputs(here, theirs):
            raise UserError(
                f"the reward of {str(folder)!r} was learned on {' '.join(str(theirs).split()):.120}, and "
                f"{config.env} has {' '.join(str(here).split()):.120}: give a run on the same environment."
            )
    return folder


def _reference(config: BaselineConfig, env: EnvironmentFacts) -> dict[str, Any]:
    """What the policy is held near, and by how much; both None where by nothing.

    Raises:
        UserError: a reference that is no policy for this environment.
    """
    if not (config.kl_beta or config.kl_target or config.reference):
        return {"kl_beta": None}
    beta = config.kl_beta
    if config.kl_target and beta == 0:
        raise UserError("kl_target adapts kl_beta by factors, and 0 stays 0: give a kl_beta above 0, or leave it out.")
    reference = config.reference or AT_THE_START
    if reference != AT_THE_START:
        reference = _of_this_run(reference, config)
        Policy(find_reference(reference), *env.spaces)
    usual = FIRST_BETA if config.kl_target else 0.0
    return {"kl_beta": usual if beta is None else beta, "reference": reference}


def _start(config: BaselineConfig, env: EnvironmentFacts) -> dict[str, Any]:
    """What the policy begins with.

    Raises:
        UserError: a policy, or demonstrations, that cannot be read or are of other spaces.
    """
    names = tuple(_of_this_run(name, config) for name in config.demonstrations)
    if config.start_from is None:
        check_demonstrations(names, *env.spaces)
        return {"demonstrations": names}
    if names:
        raise UserError("start_from takes a policy's weights and demonstrations clone behaviour: give one of them.")
    start = _of_this_run(config.start_from, config)
    Policy(find_reference(start), *env.spaces)
    return {"start_from": start}


def _of_this_run(name: str, config: BaselineConfig) -> str:
    """A name in which {env} and {seed} stand for this run's, as folders have them."""
    return name.replace("{env}", slug(config.env)).replace("{seed}", str(config.seed))


def _check_labels(
    config: TrainConfig, segment_steps: int, horizon: int | None, room: dict[str, int], n_envs: int, k: int
) -> None:
    if horizon is not None and segment_steps > horizon:
        raise UserError(
            f"segment_steps={segment_steps} is longer than an episode of {config.env}, which ends after {horizon} "
            f"steps: ask for {horizon} or fewer."
        )
    number = "two" if k == 2 else k
    for name, steps in room.items():
        least = (segment_steps - 1 + -(-k // n_envs)) * n_envs  # of one environment, segments begin a step apart
        if steps < least:
            raise UserError(
                f"{name}={steps} over {n_envs} environments holds no {number} segments of {segment_steps} steps: take "
                f"at least {least}."
            )
    shown = k * config.labels * segment_steps
    if shown > config.steps:
        raise UserError(
            f"{config.labels} labels cannot fit in {config.steps} steps: they show {shown} steps of behaviour "
            f"({number} segments of {segment_steps} each), so ask for {config.steps // (k * segment_steps)} labels or "
            f"fewer."
        )


def _check_numbers(config: BaselineConfig) -> None:
    positive = ["steps", "n_envs", "phases", "reward_window", "reward_std", "session_steps", "kl_target"]
    positive += ["demonstration_steps", "cloning_epochs"]
    if isinstance(config, TrainConfig):
        positive += ["candidates", "segment_steps", "keep_steps", "members", "reward_learning_rate"]
        positive += ["batch", "initial_epochs", "fit_updates", "max_answers", "freeze_reward_at", "session_labels"]
        if config.demonstration_labels < 0:
            raise UserError(f"demonstration_labels={config.demonstration_labels} must be 0 (none) or more.")
        if config.labels < 0:
            raise UserError(f"labels={config.labels} must be more than zero.")
        if config.objective not in ("preference", "target"):
            raise UserError(f"unknown objective {config.objective!r}: it is preference or target.")
        if config.reward_at not in ("step", "end"):
            raise UserError(f"unknown reward_at {config.reward_at!r}: it is step or end.")
        for name in ("patience", "oracle_after"):
            if (value := getattr(config, name)) is not None and not value >= 0:
                raise UserError(f"{name}={value} is a time in seconds: it must be zero or more.")
        if not 1 <= config.slowdown < math.inf:
            raise UserError(f"slowdown={config.slowdown} must be 1 (training never waits for people) or more.")
        for name in ("noise_floor", "initial_labels", "freeze_reward_at", "keep_up", "second_opinions"):
            value = getattr(config, name)
            if value is not None and not 0 <= value <= 1:
                raise UserError(f"{name}={value} is a share: it must lie between 0 and 1.")
        if config.noise_floor == 1:
            raise UserError("noise_floor=1 takes every answer for chance, which teaches nothing: it must be below 1.")
        if config.l2 is not None and not 0 <= config.l2 < math.inf:
            raise UserError(f"l2={config.l2} must be zero (no penalty) or more.")
    for name in positive:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"{name}={value} must be more than zero.")
    if config.kl_beta is not None and not 0 <= config.kl_beta < math.inf:
        raise UserError(f"kl_beta={config.kl_beta} is what a nat costs: it must be 0 (nothing) or more.")
    if config.checkpoint_every is not None and config.checkpoint_every < 0:
        raise UserError(
            f"checkpoint_every={config.checkpoint_every} is a number of steps: it must be 0 (none) or more."
        )
    if not 0 <= config.seed <= MOST_SEED:
        raise UserError(f"seed={config.seed} must be zero or more, and {MOST_SEED} at most.")


def _is_installed(package: str) -> bool:
    """Whether it can be imported; a folder of that name that happens to lie here is no package."""
    found = importlib.util.find_spec(package)
    return found is not None and found.origin is not None


def _divisor(steps: int, most: int) -> int:
    """The largest number of environments, `most` at most, that divides the steps; `most` if none of half that does."""
    return next((n for n in range(most, most // 2, -1) if steps % n == 0), most)


def _folder(config: BaselineConfig) -> Path:
    return Path("runs") / slug(config.env) / folder_name(config)


def _check_folder(folder: Path) -> None:
    if has_any(folder) and not is_finished(folder):
        raise UserError(
            f"the run in {str(folder)!r} was stopped before its end: `prefrl train --resume {folder}` goes on with it; "
            f"for another run choose another --out."
        )
    if folder.exists():
        raise UserError(f"the run folder {str(folder)!r} exists already: choose another with --out, or remove it.")
    parent = next(p for p in [*folder.absolute().parents] if p.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise UserError(f"cannot write the run folder {str(folder)!r}: no permission to write in {str(parent)!r}.")
