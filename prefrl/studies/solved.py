"""How far a run has come in a world that can be solved: its policy beside the optimum, by enumeration."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefrl.exact.solver import expected_kl, expected_return, solve, total_variation
from prefrl.exact.world import World
from prefrl.policies.policy import Policy
from prefrl.policies.reference import FILE
from prefrl.rewards.reward_model import RewardEnsemble
from prefrl.runs.saved import SavedRun
from prefrl.settings.config import BaselineConfig, PreferenceConfig
from prefrl.words.errors import UserError


def standing(run: SavedRun, beta: float | None = None) -> dict[str, float]:
    """A run's policy against the best one in view of its reference, exactly; nothing is sampled.

    Args:
        run: that has finished, in an exact world.
        beta: what a nat of divergence from the reference costs; None for what it cost the run.

    Returns:
        total_variation from the optimum, of whole episodes, the mean over where they begin; of_the_reward, the total
        variation between the optimum of r-hat and that of the true reward, and of_the_policy, that between the policy
        and the optimum of r-hat (both NaN where no reward model was learned); true_return, best_return and
        reference_return; kl and best_kl, nats an episode from the reference; and shortfall, what the optimum has more
        of the return less beta times its KL.

    Raises:
        UserError: the environment cannot be enumerated, or beta is below 0.
    """
    beta = beta_of(run.config) if beta is None else beta
    if not 0 <= beta < np.inf:
        raise UserError(f"beta={beta}, what a nat of divergence from the reference costs, must be zero or more.")
    world = world_of(run)
    best, policy = solve(world, beta).policy, run.policy.probabilities(world.observations)
    of_the_reward = of_the_policy = np.nan
    if (run.folder / "reward.safetensors").is_file():
        learned = solve(world.paying(log_odds(run.r_hat, world)), beta).policy
        of_the_reward, of_the_policy = total_variation(world, learned, best), total_variation(world, policy, learned)
    returns = [expected_return(world, of) for of in (policy, best)]
    nats = [expected_kl(world, of) for of in (policy, best)]
    worth = [gained - beta * cost for gained, cost in zip(returns, nats, strict=True)] if beta else returns
    return {
        "total_variation": total_variation(world, policy, best),
        "of_the_reward": of_the_reward,
        "of_the_policy": of_the_policy,
        "true_return": returns[0],
        "best_return": returns[1],
        "reference_return": expected_return(world, world.reference / world.reference.sum(axis=1, keepdims=True)),
        "kl": nats[0],
        "best_kl": nats[1],
        "shortfall": worth[1] - worth[0],
        "beta": beta,
    }


def world_of(run: SavedRun) -> World:
    """A run's world, anchored to the policy that the run was held near; without one, as the method supposes.

    Raises:
        UserError: its environment cannot be enumerated.
    """
    env = run.make_env()
    world = World.of(env)
    env.close()
    if (run.folder / FILE).is_file():
        reference = Policy(run.folder / FILE, env.observation_space, env.action_space)
        return world.anchored(reference.probabilities(world.observations))
    if isinstance(run.config, PreferenceConfig) and run.config.method == "cpl":  # supposes maximum entropy
        return world.anchored(np.ones_like(world.rewards))
    return world


def log_odds(r_hat: RewardEnsemble, world: World) -> NDArray[np.float64]:
    """What r-hat says of every action in every state, (S, A), in log-odds of the answers."""
    states, actions = world.rewards.shape
    shown: Any = world.observations.repeat(actions, axis=0)
    said = r_hat.reward(shown, np.tile(np.arange(actions), states)).astype(np.float64)
    return np.asarray(said.reshape(states, actions) / r_hat.unit)


def beta_of(config: BaselineConfig) -> float:
    """What a nat of divergence from the reference cost a run: kl_beta, or a direct method's beta; 0 for nothing."""
    if isinstance(config, PreferenceConfig) and config.method != "reward":
        return config.beta or 0.0
    return config.kl_beta or 0.0
