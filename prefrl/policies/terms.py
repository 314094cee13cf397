"""Terms of the reward that come from the policy itself: what it costs to leave a reference policy.

The learner maximises r - beta (log pi - log pi_ref), whose optimum is pi proportional to pi_ref exp(Q / beta), Q the
soft action value, and on a single step pi_ref exp(r / beta) (Jaques et al. 2017; Ziegler et al. 2019, equation 2;
Ouyang et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy

from prefrl.policies.reference import AT_ONCE, Reference, divergence
from prefrl.words.errors import UserError

FIRST_BETA = 0.2  # where a target is given and no beta (Ziegler et al. 2019, and TRL's PPO after them)
MOST_CHANGE = 0.2  # share by which a phase changes an adaptive beta at most (Ziegler et al. 2019, equation 3)


class Taken(NamedTuple):
    """A step of every environment, below the learner's normalisation.

    Attributes:
        observations: (n_envs, *observation_shape) acted on, as the environments showed them.
        dones: (n_envs,) where an episode ended with it.
        whole: environments in which that episode was a whole one.
    """

    observations: NDArray[Any]
    dones: NDArray[np.bool_]
    whole: list[int]


class Anchor:
    """-beta (log pi(a|s) - log pi_ref(a|s)) in each reward, for actions as they were drawn, before any clipping.

    What is paid is the log-ratio of the action that was drawn, as the policy gradient needs it. What is logged is the
    divergence of the two distributions in closed form, summed over the steps of whole episodes: it has the log-ratio's
    mean, and none of its variance over actions.

    Args:
        beta: in the unit of the reward before it is scaled: log-odds of the answers' likelihood for a learned reward.
            With a target, what it begins with.
        target: nats of an episode that beta is adapted to, each phase by beta *= 1 + clip(KL / target - 1, -0.2, 0.2);
            None leaves it fixed.
        unit: what one unit of the reward before it is scaled is paid as, which the term is scaled by as well.
        reference: pi_ref; None takes the policy as its training begins.
    """

    def __init__(
        self, beta: float, target: float | None, unit: Callable[[], float], reference: Reference | None = None
    ) -> None:
        self.beta, self.target, self.unit, self.reference = beta, target, unit, reference
        self._running: NDArray[np.float64] | None = None  # of each environment's episode so far
        self._episodes: list[float] = []

    def begin(self, policy: Callable[[], Reference], n_envs: int) -> None:
        """Training begins, in the midst of episodes; the policy as it is now is the reference, unless there is one.

        Raises:
            UserError: the reference's actions have another density than the policy's.
        """
        own = policy()
        # It has not diverged yet from itself; how far it has from another, since these episodes began, is not known.
        self._running = np.full(n_envs, np.nan if self.reference else 0.0)
        self.reference = self.reference or own
        if self.reference.squashes != own.squashes:
            raise UserError(
                "the reference squashes its actions and the policy does not, or the other way round, so that their "
                "densities cannot be compared: give both the same squash_output in policy_kwargs."
            )

    def begin_anew(self) -> None:
        """New episodes begin everywhere."""
        if self._running is not None:
            self._running[:] = 0.0

    @torch.no_grad()
    def cost(self, policy: ActorCriticPolicy, rollout: RolloutBuffer, steps: Sequence[Taken]) -> NDArray[np.float32]:
        """What is taken from the rewards (t, n_envs) of the rollout just collected.

        Args:
            policy: that collected it, as it still is.
            rollout: its observations as the policy had them, and its actions.
            steps: the same steps, as the environments had them.
        """
        assert self.reference is not None and self._running is not None, "training has not begun"
        shape = rollout.rewards.shape
        seen = torch.from_numpy(rollout.observations.reshape(-1, *rollout.obs_shape))
        raw = np.concatenate([step.observations for step in steps])
        actions = torch.from_numpy(rollout.actions.reshape(len(raw), -1))
        ratios, apart = [], []
        for at in (slice(begin, begin + AT_ONCE) for begin in range(0, len(raw), AT_ONCE)):
            here = policy.get_distribution(seen[at].to(policy.device))
            there = self.reference.distribution(raw[at])
            drawn = _as_drawn(policy, actions[at].to(policy.device))
            ratios.append(here.log_prob(drawn) - there.log_prob(drawn))
            apart.append(divergence(here, there))
        self._count(torch.cat(apart).cpu().numpy().reshape(shape), steps)
        cost: NDArray[np.float32] = torch.cat(ratios).cpu().numpy().reshape(shape)
        return np.float32(self.beta * self.unit()) * cost if self.beta else np.zeros(shape, np.float32)

    def _count(self, apart: NDArray[np.float32], steps: Sequence[Taken]) -> None:
        """Add each step's divergence to its episode's."""
        assert self._running is not None
        for nats, step in zip(apart, steps, strict=True):
            self._running += nats
            self._episodes += self._running[step.whole].tolist()
            self._running[step.dones] = 0.0

    def measures(self) -> dict[str, float]:
        """A phase's kl, mean nats of the whole episodes that ended in it, and its kl_beta; then beta is adapted."""
        counted = [nats for nats in self._episodes if np.isfinite(nats)]
        self._episodes.clear()
        kl, beta = float(np.mean(counted)) if counted else float("nan"), self.beta
        if self.target is not None and counted:
            self.beta *= 1 + float(np.clip(kl / self.target - 1, -MOST_CHANGE, MOST_CHANGE))
        return {"kl": kl, "kl_beta": beta}

    def state(self) -> dict[str, Any]:
        """The reference, and beta; a checkpoint begins all episodes anew."""
        assert self.reference is not None, "training has not begun"
        return {"beta": self.beta, "reference": self.reference.state()}

    def restore(self, state: Mapping[str, Any], made_of: Callable[..., Reference], n_envs: int) -> None:
        """Go on from what `state` returned, in this many environments, where new episodes begin.

        Args:
            state: as it was.
            made_of: a reference for this policy's spaces, of the two parts that `Reference.state` names.
            n_envs: environments.
        """
        self.reference = made_of(**state["reference"])
        self.beta, self._running = state["beta"], np.zeros(n_envs)


def _as_drawn(policy: ActorCriticPolicy, actions: torch.Tensor) -> torch.Tensor:
    """Actions (n, d) of a rollout as the policy's distribution takes them: a single choice has no second dimension."""
    return actions.long().flatten() if isinstance(policy.action_space, spaces.Discrete) else actions.float()
