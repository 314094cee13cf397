"""Tuned settings per family of environments, and the paper's segment length per task.

A family is chosen by what an environment is: what it shows, what it takes, how long its episodes are. Tasks that were
tuned are known by their exact id and by the package that they come from, never by a word in their id.

Tuned on seeds 100 and up, never on those reported; benchmarks/README.md says how. A setting given by the user
(`--set name=value`) replaces the family's, and `--preset` the family.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Preset:
    """What a family of environments starts from.

    All but `learners` are fields of the configuration, and what they are where the configuration leaves them open.

    Attributes:
        n_envs: environments in parallel.
        segment_steps: steps in a segment where neither the environment nor `SEGMENT_STEPS` says.
        reward_std: standard deviation of the reward given to the learner (paper, A.1: 1; A.2: 0.05 on Atari).
        max_answers: fit to the newest answers only (paper, A.2: 3,000 on Atari).
        learners: keyword arguments of each learner, by stable-baselines3's names; "lin_x" falls linearly from x to
            zero over the run. Under "direct" those of the direct methods (`prefrl.policies.direct_options`).
        initial_labels: share of the labels asked before training (paper, A.1: 0.25; A.2: 500 of 5,500).
        keep_steps: newest steps that questions are drawn from.
        reward_learning_rate: Adam's step size for the reward ensemble.
        l2: first weight of its L2 penalty.
        batch: answers in a minibatch of the reward's fit.
        initial_epochs: passes over the first answers (paper, appendix A: 200 on Atari).
        fit_updates: gradient steps of the reward's fit per phase.
        entropy_bonus: added to `ent_coef` only when learning from a learned reward (paper, A.1: 0.01).
    """

    n_envs: int
    segment_steps: int
    reward_std: float
    learners: Mapping[str, Mapping[str, Any]]
    initial_labels: float = 0.25
    keep_steps: int = 100_000
    reward_learning_rate: float = 6e-3
    l2: float = 3e-2
    batch: int = 32
    initial_epochs: int = 60
    fit_updates: int = 32
    entropy_bonus: float = 0.0
    max_answers: int | None = None


MUJOCO = Preset(
    n_envs=32,
    segment_steps=30,
    # The paper's 1 (A.1) is for TRPO, to whose step it is nothing. PPO's critic is slow to learn returns in the
    # hundreds, and its gradient, clipped together with the policy's, drowns that one.
    reward_std=0.1,
    learners={
        "ppo": {
            "n_steps": 64,
            "batch_size": 128,
            "n_epochs": 10,
            "gamma": 0.995,  # as the paper's TRPO, A.1
            "gae_lambda": 0.97,
            "learning_rate": "lin_1e-3",
        },
        "a2c": {"n_steps": 16, "gamma": 0.99, "gae_lambda": 0.95, "learning_rate": "lin_7e-4"},
        "trpo": {"n_steps": 128, "batch_size": 512, "gamma": 0.995, "gae_lambda": 0.97, "target_kl": 0.02},
        "direct": {"n_steps": 64, "learning_rate": 3e-4},
    },
)
CLASSIC = Preset(
    n_envs=8,
    segment_steps=25,
    reward_std=1.0,
    reward_learning_rate=1e-3,
    l2=1e-4,
    batch=64,
    fit_updates=16,
    learners={
        "ppo": {
            "n_steps": 256,
            "batch_size": 256,
            "n_epochs": 10,
            "gamma": 0.95,
            "gae_lambda": 0.95,
            "learning_rate": "lin_1e-3",
        },
        "a2c": {"n_steps": 8, "gamma": 0.95, "gae_lambda": 0.9, "learning_rate": "lin_7e-4"},
        "trpo": {"n_steps": 256, "batch_size": 256, "gamma": 0.95, "gae_lambda": 0.95},
        "direct": {"n_steps": 64, "learning_rate": 1e-3},
    },
)
PIXELS = Preset(
    n_envs=8,
    segment_steps=25,
    reward_std=0.05,
    initial_labels=500 / 5500,
    keep_steps=20_000,
    reward_learning_rate=1e-3,
    l2=1e-4,
    batch=16,
    initial_epochs=200,
    fit_updates=64,
    max_answers=3000,
    learners={
        "ppo": {
            "n_steps": 128,
            "batch_size": 256,
            "n_epochs": 4,
            "learning_rate": "lin_2.5e-4",
            "clip_range": "lin_0.1",
            "ent_coef": 0.01,
        },
        "a2c": {"n_steps": 5, "learning_rate": "lin_7e-4", "ent_coef": 0.01},
        "trpo": {"n_steps": 128, "batch_size": 256},
        "direct": {"n_steps": 128, "learning_rate": 1e-4},
    },
)
# What a stranger begins from. Both take their discount from the horizon (`discount`), and with it returns may be in the
# hundreds, so that the reward is scaled as on MuJoCo. Rollouts have MuJoCo's 2,048 steps, of half as many environments:
# many a simulator takes a second to make one.
CONTINUOUS = replace(
    MUJOCO,
    n_envs=16,
    learners={**MUJOCO.learners, "ppo": {**MUJOCO.learners["ppo"], "n_steps": 128}},
)
DISCRETE = replace(
    CONTINUOUS,
    # Where nearly every step pays the same, larger steps of the fit taught CartPole nothing (benchmarks/README.md).
    reward_learning_rate=CLASSIC.reward_learning_rate,
    l2=CLASSIC.l2,
    batch=CLASSIC.batch,
    fit_updates=CLASSIC.fit_updates,
    learners={
        **CONTINUOUS.learners,
        "ppo": {**CONTINUOUS.learners["ppo"], "batch_size": 256, "ent_coef": 0.01},
    },
)
EXACT = Preset(
    n_envs=32,
    segment_steps=1,
    reward_std=1.0,
    reward_learning_rate=3e-3,
    l2=0.0,  # what is learned is held against exact numbers, and a penalty would move them
    batch=64,
    fit_updates=64,
    learners={  # undiscounted, as the closed forms are
        "ppo": {
            "n_steps": 64,
            "batch_size": 512,
            "n_epochs": 8,
            "gamma": 1.0,
            "gae_lambda": 0.95,
            "learning_rate": "lin_1e-2",  # to come near an optimum, and to stand still there
        },
        "a2c": {"n_steps": 8, "gamma": 1.0, "gae_lambda": 0.95, "learning_rate": "lin_1e-3"},
        "trpo": {"n_steps": 32, "batch_size": 256, "gamma": 1.0, "gae_lambda": 0.95},
        "direct": {"n_steps": 32, "learning_rate": 1e-3},
    },
)
FAMILIES = {
    "mujoco": MUJOCO,
    "classic": CLASSIC,
    "pixels": PIXELS,
    "continuous": CONTINUOUS,
    "discrete": DISCRETE,
    "exact": EXACT,
}
BY_HORIZON = ("continuous", "discrete")
"""Families whose discount and segment length follow from the environment's own horizon and step rate."""


@dataclass(frozen=True)
class ReplayPreset:
    """What a learner that replays its experience starts from, on any family of environments.

    Attributes:
        settings: its keyword arguments, as in `Preset.learners`; `train_freq` counts steps of each environment.
        fields: of the configuration, where it leaves them open, in place of the family's.
    """

    settings: Mapping[str, Any]
    fields: Mapping[str, Any]


# A critic learns returns of any size as easily (Adam, no gradient is shared with the policy), and the entropy's weight
# follows the reward's. Many environments and updates in blocks, half as many as steps: what suits a CPU.
REPLAYED = {"n_envs": 16, "reward_std": 1.0, "unsupervised": True}
IN_BLOCKS = {"learning_rate": 3e-4, "batch_size": 256, "train_freq": 4, "gradient_steps": 32, "learning_starts": 1000}
ENTROPY = {"ent_coef": "auto_0.1"}  # as PEBBLE has it; from 1 it takes ten thousand updates to come down to there
REPLAY_PRESETS = {
    "sac": ReplayPreset(IN_BLOCKS | ENTROPY, REPLAYED),
    "td3": ReplayPreset(IN_BLOCKS | {"action_noise": 0.1}, REPLAYED),
    "tqc": ReplayPreset(IN_BLOCKS | ENTROPY, REPLAYED),
    # PEBBLE's code on DMControl (Lee et al. 2021, arXiv 2106.05091): an update a step, sessions of questions every
    # 20,000. Two updates follow two steps, since stable-baselines3 counts the delay of its targets within such a block.
    "pebble": ReplayPreset(
        ENTROPY
        | {
            "learning_rate": 5e-4,
            "batch_size": 1024,
            "train_freq": 2,
            "gradient_steps": 2,
            "target_update_interval": 2,
            "learning_starts": 1000,
            "policy_kwargs": {"net_arch": [1024, 1024]},
        },
        REPLAYED
        | {
            "n_envs": 1,
            "segment_steps": 50,
            "session_steps": 20_000,
            "reward_learning_rate": 3e-4,
            "batch": 128,
            "initial_epochs": 50,
            "fit_updates": 50,
            "l2": 0.0,
        },
    ),
}
OF_OWN = ReplayPreset({}, REPLAYED)  # a learner by its import path, which starts from its own settings
NOTHING = ReplayPreset({}, {})  # of a learner that learns from each step once
MOST_REPLAYED = 1_000_000  # steps: stable-baselines3's own


TASKS: dict[str, Mapping[str, Mapping[str, Any]]] = {
    # A wide first policy throws these on their backs, or to the ground, and there they learn to slide. After a narrow
    # one, larger minibatches did better. Where a rollout's updates took the policy furthest, a target KL holds it.
    "Ant": {
        "ppo": {
            "gamma": 0.99,
            "gae_lambda": 0.95,
            "batch_size": 512,
            "policy_kwargs": {"log_std_init": -2.0},
            "target_kl": 0.03,
        },
    },
    "HalfCheetah": {
        "ppo": {"gamma": 0.99, "gae_lambda": 0.95, "batch_size": 512, "policy_kwargs": {"log_std_init": -2.0}},
    },
    "Walker2d": {
        "ppo": {"gamma": 0.99, "gae_lambda": 0.95, "batch_size": 512, "policy_kwargs": {"log_std_init": -1.0}},
    },
    # At the usual discounts it settles for a slow stroke (Franceschetti et al. 2022, arXiv 2208.07587).
    "Swimmer": {"ppo": {"gamma": 0.9999, "gae_lambda": 0.98}},
    "Reacher": {"ppo": {"gamma": 0.99, "gae_lambda": 0.95, "target_kl": 0.03}},
    "InvertedPendulum": {"ppo": {"gamma": 0.99, "gae_lambda": 0.95}},
    "InvertedDoublePendulum": {"ppo": {"gamma": 0.99, "gae_lambda": 0.95}},
}
"""Learner settings of a task, by the name in its id, over those of its family."""

SEGMENT_STEPS = {
    # The paper's 1.5 seconds at the display rates of rl-teacher's tasks: 15 to 60 steps (paper, A.1).
    "Reacher": 15,
    "InvertedPendulum": 15,
    "InvertedDoublePendulum": 15,
    "HalfCheetah": 30,
    "Ant": 30,
    "Humanoid": 30,
    "Walker2d": 45,
    "Hopper": 60,
    "Swimmer": 60,
}

INSTRUCTION = "Choose the clip that shows the better behaviour."
INSTRUCTIONS = {
    "Reacher": "Choose the clip in which the arm's tip is nearer to the red target.",
    "InvertedPendulum": "Choose the clip in which the pole stays more upright.",
    "InvertedDoublePendulum": "Choose the clip in which both poles stand higher and steadier.",
    "Pendulum": "Choose the clip in which the pendulum points up more, and rests there.",
    "HalfCheetah": "Choose the clip in which the cheetah runs forward (to the right) faster.",
    "HalfCheetahOneLeg": "Choose the clip in which the cheetah moves forward on one leg, the other off the ground.",
    "Ant": "Choose the clip in which the ant walks forward better.",
    "Walker2d": "Choose the clip in which the walker stays upright and walks forward (to the right) faster.",
    "Hopper": "Choose the clip in which the hopper stays upright and hops forward (to the right) faster.",
    "HopperBackflip": "Choose the clip in which the hopper turns over backwards more, and lands on its foot.",
    "Swimmer": "Choose the clip in which the swimmer moves forward faster.",
    "BeamRider": "Choose the clip in which more ships are hit and the player survives.",
    "Breakout": "Choose the clip in which more bricks break and no ball is lost.",
    "Enduro": "Choose the clip in which the player passes more cars.",
    "EnduroLevel": "Choose the clip in which the player drives level with the other cars, passing none.",
    "Pong": "Choose the clip in which the right paddle (green) plays better.",
    "Qbert": "Choose the clip in which more cubes change colour and the player survives.",
    "Seaquest": "Choose the clip in which the submarine hits more, picks up divers and keeps its air.",
    "SpaceInvaders": "Choose the clip in which more invaders are hit and the player survives.",
}
"""What people are told to look for, by the name in an id; paper, appendix B, in fewer words."""

# The paper removes terminations that would tell the learner about the task (paper, appendix A).
ENV_KWARGS = dict.fromkeys(("Ant", "Hopper", "Humanoid", "Walker2d"), ("terminate_when_unhealthy=false",))


HOMES = {None: ("gymnasium.envs.", "ale_py."), "prefrl": ("prefrl_envs.",), "ALE": ("ale_py.",)}
"""Packages, by the namespace of an id, whose tasks the tables above are about."""


def task(env_id: str, entry_point: str) -> str:
    """The name that the tables above have for a task; empty for any that only happens to be called so.

    Args:
        env_id: in Gymnasium's registry.
        entry_point: of its class, "package.module:Class".
    """
    found = re.fullmatch(r"(?:(\w+)/)?(\w+)-v\d+", env_id)
    return found[2] if found and entry_point.startswith(HOMES.get(found[1], ("no package",))) else ""


@dataclass(frozen=True)
class Facts:
    """What an environment is, as far as its settings depend on it.

    Attributes:
        env_id: in Gymnasium's registry.
        entry_point: of its class, "package.module:Class".
        is_image: whether it shows pixels.
        is_continuous: whether actions are real numbers.
        horizon: steps after which an episode is cut off; None if it is not.
        steps_per_second: of the time that its pictures show; None where it does not say.
        is_exact: whether it shows its tables (`prefrl.exact.world`).
    """

    env_id: str
    entry_point: str
    is_image: bool
    is_continuous: bool
    horizon: int | None = None
    steps_per_second: float | None = None
    is_exact: bool = False


def family(facts: Facts) -> tuple[str, str]:
    """The family an environment belongs to, and why, as a clause."""
    if facts.is_image:
        return "pixels", "it shows pixels"
    if facts.entry_point.startswith(("gymnasium.envs.mujoco.", "prefrl_envs.mujoco:")):
        return "mujoco", "it is one of the MuJoCo tasks that this was tuned on"
    if task(facts.env_id, facts.entry_point) == "Pendulum":
        return "classic", "this was tuned on it"
    if facts.is_exact:
        return "exact", "it shows its tables, from which everything is known exactly"
    if facts.is_continuous:
        return "continuous", "it shows numbers and takes real-valued actions"
    return "discrete", "it shows numbers and takes choices"


def discount(horizon: int | None) -> float:
    """The discount of an environment that nobody tuned: what comes half an episode later still counts e^-1.

    Between 0.95 and 0.995, where a critic of few steps still learns; 0.99 where there is no horizon.
    """
    return 0.99 if horizon is None else round(min(max(1 - 2 / horizon, 0.95), 0.995), 4)


def segment_steps(facts: Facts, preset: str) -> int:
    """Steps in a segment where the environment does not say: the task's, the paper's 1.5 seconds, or the family's."""
    if known := SEGMENT_STEPS.get(task(facts.env_id, facts.entry_point)):
        usual = known
    elif preset in BY_HORIZON and facts.steps_per_second:
        usual = round(min(max(1.5 * facts.steps_per_second, 15), 50))
    else:
        usual = FAMILIES[preset].segment_steps
    return min(usual, facts.horizon or usual)
