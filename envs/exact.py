"""Exact worlds: small enough to be written down whole, so that whatever is learned in them has an answer to meet.

A world is six tables (`Tables`), which `env.unwrapped.tables` shows to whoever solves it: the optimal policy, its
values and its distance from the policy that was learned follow from them by arithmetic (`prefrl.exact`). The
environment itself reads nothing else, alone or as an array of copies.

Every episode begins in one of a few contexts, shown in full, and two episodes that begin in the same one can be
compared as wholes: `metadata["same_start"]` says so, and a segment is an episode.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

Array = NDArray[Any]

HORIZONS = {"ContextualBandit": 1, "Dialogue": 10, "TokenWriter": 10, "WholeText": 1}
"""Class -> most steps in an episode, whatever its arguments; the id is `prefrl/<class>-v0`."""
HOMES = {"ContextualBandit": "exact", "Dialogue": "exact", "TokenWriter": "texts", "WholeText": "texts"}
MOST_CELLS = 300_000  # states times actions, of a world that is still solved in a second
PAYS = ("reward", "advantage", "entropy-advantage")


def register() -> None:
    """Enter every world that is not there yet into Gymnasium's registry, as single and as vector environment."""
    for name, horizon in HORIZONS.items():
        if (env_id := f"prefrl/{name}-v0") not in gym.registry:
            gym.register(
                env_id,
                entry_point=f"prefrl_envs.{HOMES[name]}:{name}",
                vector_entry_point=f"prefrl_envs.exact_vector:{name}",
                max_episode_steps=horizon,
            )


class Tables(NamedTuple):
    """A finite world, written down: S states in which something can be done, A actions, B ways a step may go on.

    Attributes:
        observations: (S, d) float32, what each state shows; after the end, zeros are shown.
        start: (S,) the chance that an episode begins there.
        rewards: (S, A) what an action is paid.
        successors: (S, A, B) the states it may lead to; -1 is the end of the episode.
        chances: (S, A, B) how likely each of them is; B is 1 where nothing is left to chance.
        reference: (S, A) the policy that the world's optimum is anchored to: pi* is pi_ref exp(Q/beta) / Z.
    """

    observations: NDArray[np.float32]
    start: NDArray[np.float64]
    rewards: NDArray[np.float64]
    successors: NDArray[np.int64]
    chances: NDArray[np.float64]
    reference: NDArray[np.float64]


def about(segment_steps: int, reward: str) -> dict[str, Any]:
    """The metadata of a world whose segments are episodes, and are compared where they begin alike."""
    return {"render_modes": [], "segment_steps": segment_steps, "same_start": True, "reward": reward}


class FiniteWorld(gym.Env[NDArray[np.float32], np.int64]):
    """An environment that is its tables.

    Args:
        tables: of the world, paid by its reward.
        steps: the longest episode, and so the length of a segment.
        told: what `prefrl envs` says of the reward.
        pays: "reward"; or the soft advantage of the optimal policy, whose sum over a segment is minus its regret, so
            that a labeler who compares what was paid compares regrets (Hejna et al. 2024, arXiv 2310.13639). The
            optimal policy is that of the KL-regularised problem, beta log(pi*/pi_ref), with "advantage", and that of
            maximum entropy, beta log pi*, with "entropy-advantage".
        beta: of the optimal policy whose advantage is paid.

    Raises:
        ValueError: an argument out of range, or a world too large to be written down.
    """

    def __init__(self, tables: Tables, steps: int, told: str, pays: str, beta: float) -> None:
        if pays not in PAYS:
            raise ValueError(f"pays={pays!r}: a world pays {', '.join(PAYS[:-1])} or {PAYS[-1]}")
        if not 0 < beta < np.inf:
            raise ValueError(f"beta={beta}, the weight of the reference beside the reward, must be above zero")
        if pays != "reward":
            prior = tables.reference if pays == "advantage" else np.ones_like(tables.reference)
            tables = tables._replace(rewards=soft_advantages(tables, prior, beta))
        self.tables = Tables(*(_read_only(table) for table in tables))
        self.metadata = about(steps, told)
        self.observation_space = Box(0.0, 1.0, tables.observations.shape[1:], np.float32)
        self.action_space = Discrete(tables.rewards.shape[1])
        self._state = -1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self._state = int(begun(self.tables, 1, self.np_random)[0])
        return self.tables.observations[self._state].copy(), {}

    def step(self, action: np.int64) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One step; the end shows zeros.

        Raises:
            ResetNeeded: no episode has begun, or it is over.
        """
        if self._state < 0:
            raise ResetNeeded("call reset() before step(), and after an episode has ended.")
        reward = float(self.tables.rewards[self._state, action])
        self._state = int(moved(self.tables, np.array([self._state]), np.array([action]), self.np_random)[0])
        return shown(self.tables, np.array([self._state]))[0], reward, self._state < 0, False, {}


def soft_advantages(tables: Tables, prior: Array, beta: float) -> NDArray[np.float64]:
    """Q - V (S, A) of the policy that maximises the return less beta KL(pi || prior), undiscounted: beta log pi*/prior.

    V(s) = beta log sum_a prior(a|s) exp(Q(s, a) / beta), from the end backwards; a prior of ones counts the entropy.
    """
    value = np.zeros(len(tables.start) + 1)  # the last is the end's, where -1 points
    while True:
        q = tables.rewards + (tables.chances * value[tables.successors]).sum(-1)
        found = beta * np.logaddexp.reduce(q / beta + np.log(prior), axis=1)
        if np.array_equal(found, value[:-1]):  # every episode ends, so that a sweep for each of its steps is enough
            return np.asarray(q - found[:, None])
        value[:-1] = found


def check_range(name: str, value: int, least: int, most: int) -> None:
    """Refuse an argument out of its range.

    Raises:
        ValueError: it is.
    """
    if not least <= value <= most:
        raise ValueError(f"{name}={value} must lie between {least} and {most}")


def check_size(cells: int) -> None:
    """Refuse a world too large to be written down.

    Raises:
        ValueError: it has more than `MOST_CELLS` states times actions.
    """
    if cells > MOST_CELLS:
        raise ValueError(f"this world has {cells} states times actions, and at most {MOST_CELLS} are written down")


def _read_only(table: Array) -> Array:
    table = table.view()
    table.setflags(write=False)
    return table


def drawn(chances: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """A place (n,) for each row of chances (n, m)."""
    below = np.cumsum(chances, axis=-1)[:, :-1] <= rng.random(len(chances))[:, None]
    return np.asarray(below.sum(-1))


def begun(tables: Tables, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """So many states that episodes begin in, (count,)."""
    first = np.flatnonzero(tables.start)
    return np.asarray(first[drawn(np.broadcast_to(tables.start[first], (count, len(first))), rng)])


def moved(tables: Tables, states: Array, actions: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """The states (n,) that these actions (n,) lead to."""
    ways = tables.successors[states, actions]
    if ways.shape[1] == 1:
        return np.asarray(ways[:, 0])
    return np.asarray(ways[np.arange(len(ways)), drawn(tables.chances[states, actions], rng)])


def shown(tables: Tables, states: Array) -> NDArray[np.float32]:
    """Observations (n, d) of states (n,); zeros after the end."""
    observations = tables.observations[states]
    observations[states < 0] = 0
    return observations


class ContextualBandit(FiniteWorld):
    """A context arrives, one action is taken and paid, and the episode is over.

    | | |
    |---|---|
    | Observation | Box(0, 1, contexts): which context it is, one-hot |
    | Action | Discrete(actions) |
    | Reward | sin((context + 1)(action + 1)), numbers without a pattern and without ties |
    | Start | every context alike |
    | Horizon, segment | 1 step |
    | Reference | every action alike |

    Args:
        contexts: how many.
        actions: how many.
        pays: as `FiniteWorld` says.
        beta: as `FiniteWorld` says.

    Versions: v0, first.
    """

    metadata = about(1, "by context and action")

    def __init__(self, contexts: int = 4, actions: int = 6, pays: str = "reward", beta: float = 1.0) -> None:
        check_range("contexts", contexts, 1, 1000)
        check_range("actions", actions, 2, 1000)
        check_size(contexts * actions)
        one_step = (contexts, actions, 1)
        tables = Tables(
            observations=np.eye(contexts, dtype=np.float32),
            start=np.full(contexts, 1 / contexts),
            rewards=np.sin(np.outer(np.arange(contexts) + 1.0, np.arange(actions) + 1.0)),
            successors=np.full(one_step, -1),
            chances=np.ones(one_step),
            reference=np.full(one_step[:2], 1 / actions),
        )
        super().__init__(tables, 1, self.metadata["reward"], pays, beta)


class Dialogue(FiniteWorld):
    """Somebody asks, and asks again: how he takes an answer decides the context of the next.

    The contexts go from the worst mood, 0, to the best. Of the three answers, `explain` pays nothing and lifts the
    mood, `reply` pays 0.3 and leaves it, `flatter` pays 0.6 and lowers it; a good mood pays by itself, at every turn.
    Whoever sees each turn as a bandit flatters to the end. Whoever sees the whole talk explains first, and flatters
    in the last turn; how much is lost between the two is a matter of arithmetic.

    | | |
    |---|---|
    | Observation | Box(0, 1, contexts + turns): the context and the turn, each one-hot |
    | Action | Discrete(3): explain, reply, flatter |
    | Reward | 0, 0.3 or 0.6 by answer, and context / (contexts - 1) |
    | Next context | one up, the same, or one down by answer, within the range; with chance 1 - `certainty` the same |
    | Start | every context alike |
    | Horizon, segment | `turns` steps |
    | Reference | every answer alike |

    Args:
        contexts: how many.
        turns: in an episode.
        certainty: the chance that an answer has its effect.
        pays: as `FiniteWorld` says.
        beta: as `FiniteWorld` says.

    Versions: v0, first.
    """

    metadata = about(6, "the answer's and the mood's")

    def __init__(
        self, contexts: int = 4, turns: int = 6, certainty: float = 0.9, pays: str = "reward", beta: float = 1.0
    ) -> None:
        check_range("contexts", contexts, 2, 1000)
        check_range("turns", turns, 1, HORIZONS["Dialogue"])
        if not 0 <= certainty <= 1:
            raise ValueError(f"certainty={certainty} is a chance: it must lie between 0 and 1")
        turn, context = (part.ravel() for part in np.indices((turns, contexts)))
        effect = np.array([1, 0, -1])
        led_to = np.clip(context[:, None] + effect, 0, contexts - 1)
        stayed = np.broadcast_to(context[:, None], led_to.shape)
        next_turn = np.stack([led_to, stayed], axis=-1) + (turn[:, None, None] + 1) * contexts
        tables = Tables(
            observations=np.concatenate([np.eye(contexts)[context], np.eye(turns)[turn]], axis=1, dtype=np.float32),
            start=(turn == 0) / contexts,
            rewards=np.array([0.0, 0.3, 0.6]) + context[:, None] / (contexts - 1),
            successors=np.where(turn[:, None, None] == turns - 1, -1, next_turn),
            chances=np.broadcast_to([certainty, 1 - certainty], next_turn.shape),
            reference=np.full(led_to.shape, 1 / 3),
        )
        super().__init__(tables, turns, self.metadata["reward"], pays, beta)
