"""Best-of-n: n episodes from one start, of which a reward keeps the best; what that reaches, and how far it strays.

It optimises a reward without training a policy, and is what the optimisation of a policy is held against (Nakano et al.
2021, arXiv 2112.09332; Gao et al. 2023, arXiv 2210.10760, section 2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import gammaln

from prefrl.experience.guard import Guard
from prefrl.policies.policy import Policy
from prefrl.policies.reference import FILE, find_reference
from prefrl.runs.saved import SavedRun
from prefrl.settings.config import TrainConfig
from prefrl.words.errors import UserError, blamed_on
from prefrl.words.process import drawing_from
from prefrl.words.stats import bootstrap_interval

Act = Callable[[NDArray[Any]], NDArray[Any]]
Score = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]


def divergence_of(n: int) -> float:
    """Log n - (n - 1)/n: nats by which the best of n differs from one of them, where no two score the same; else fewer.

    Of a few outcomes it is a bound and no equality (Beirami et al. 2024, arXiv 2401.01879).
    """
    return float(np.log(n) - (n - 1) / n)


def chances_of_best(scores: Float[NDArray[np.floating], " m"], n: int) -> NDArray[np.float64]:
    """The chance that each of m is kept, where n of them are drawn without putting back and the best is kept, (m,).

    A mean by these is the mean over all C(m, n) choices, which is unbiased and has the least variance that m episodes
    allow (Nakano et al. 2021). Those that score the same are alike.

    Raises:
        ValueError: n is not between 1 and m.
    """
    m = len(scores)
    if not 1 <= n <= m:
        raise ValueError(f"the best of {n} cannot be drawn from {m}")
    rank = np.arange(m + 1.0)  # so many are worse
    with np.errstate(invalid="ignore"):
        log_choices = gammaln(rank + 1) - gammaln(n + 1) - gammaln(np.maximum(rank - n, 0) + 1)
    below = np.where(rank >= n, np.exp(log_choices - log_choices[m]), 0.0)  # all n among the first so many
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    upto = np.cumsum(count)
    share: NDArray[np.float64] = (below[upto] - below[upto - count]) / count
    return share[place]


def episodes_from(
    env: gym.Env[Any, Any], act: Act, score: Score | None, seeds: Sequence[int], n: int, draws: int = 0
) -> tuple[Float[NDArray[np.float64], "s n"], Float[NDArray[np.float64], "s n"]]:
    """Of n episodes from each reset seed, what each scores and its true return, (s, n) both.

    Args:
        env: with its own reward.
        act: observations (1, *observation_shape) to actions (1, *action_shape).
        score: observations (t, *) and actions (t, *) to what each step scores (t,); None for the true reward.
        seeds: of the resets; what an environment draws as it goes is then the same in all n too.
        n: episodes from each.
        draws: seed of what the policy draws.

    Raises:
        UserError: the environment failed, or paid what is no finite number.
    """
    env = Guard(env)
    scores, returns = np.zeros((len(seeds), n)), np.zeros((len(seeds), n))
    with drawing_from(draws):
        for start, seed in enumerate(seeds):
            for number in range(n):
                observation, _ = env.reset(seed=seed)
                seen, taken, paid, done = [], [], 0.0, False
                while not done:
                    action = act(np.asarray(observation)[None])[0]
                    seen.append(np.array(observation))
                    taken.append(action)
                    observation, reward, terminated, truncated, _ = env.step(action)
                    paid, done = paid + float(reward), terminated or truncated
                returns[start, number] = paid
                scores[start, number] = paid if score is None else score(np.stack(seen), np.stack(taken)).sum()
    return scores, returns


def best_of(
    run: SavedRun, n: Sequence[int], starts: int = 20, policy: str | None = None, seed: int = 0
) -> dict[int, dict[str, float]]:
    """What the best of n episodes by a run's reward is worth, by that reward and by the true one.

    Args:
        run: whose r-hat keeps the best; the true reward does where it has none.
        n: how many are drawn, each anew.
        starts: reset seeds, each of which the largest n episodes begin from.
        policy: that draws them, a run's folder or a policy.safetensors; None for the run's reference.
        seed: of the first start, and of what the policy draws.

    Returns:
        For each n: nats (`divergence_of`), true_return with the _low and _high of its 95 % interval over starts, and,
        where the run learned one, learned_return in log-odds, up to what a step is worth on average.

    Raises:
        UserError: the run has no reference, or no reward model; n or starts out of range.
    """
    if not n or min(n) < 1 or starts < 1 or seed < 0:
        raise UserError(f"n={' '.join(map(str, n))}, starts={starts} and seed={seed}: n and starts are 1 or more.")
    named = run.folder / FILE if policy is None else find_reference(policy)
    if not named.is_file():
        raise UserError(
            f"{str(run.folder)!r} was held near no reference that episodes could be drawn from: name a run or a "
            f"policy.safetensors with --policy."
        )
    learned = isinstance(run.config, TrainConfig)
    played = f"{run.config.env} with the policy {str(named)!r}"
    with blamed_on(played, "`prefrl check` says what is wrong with it"):
        env = run.make_env()
        act = Policy(named, env.observation_space, env.action_space).act
        score = run.r_hat.reward if learned else None
        scores, returns = episodes_from(env, act, score, range(seed, seed + starts), max(n), seed)
        env.close()
    rng = np.random.default_rng(seed)
    found = {}
    for count in n:
        kept = np.stack([chances_of_best(of_start, count) for of_start in scores])
        true = (kept * returns).sum(1)
        low, high = bootstrap_interval([true], np.mean, rng)
        found[count] = {
            "nats": divergence_of(count),
            **({"learned_return": float((kept * scores).sum(1).mean()) / run.r_hat.unit} if learned else {}),
            "true_return": float(true.mean()),
            "true_return_low": low,
            "true_return_high": high,
        }
    return found
