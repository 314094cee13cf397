"""Direct methods: the policy itself explains the answers, with no reward model and no reinforcement learning between.

The model is the policy's implicit reward (`prefrl.policies.implicit`), fitted to the answers; the agent only acts. What
is asked, answered, recorded and measured is what it is for a learned reward.

DPO and IPO take an answer to compare sums of rewards (Rafailov et al. 2023, arXiv 2305.18290; Azar et al. 2024, arXiv
2310.12036), which the sum of log-ratios is up to what the first state and the state after the last are worth:
sum beta log(pi / pi_ref) = sum r + V(s_T) - V(s_0). Compare whole episodes from one start, and that cancels. Compare
segments of an episode, as everywhere in control, and the policy is biased by it. CPL takes an answer to compare regrets
(Hejna et al. 2024, arXiv 2310.13639), of which the sum of log-probabilities is all there is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.utils import set_random_seed
from torch import Tensor

from prefrl.experience.backends import CUT_SHORT
from prefrl.experience.recorder import Recorder
from prefrl.policies.direct_fit import DirectFit, Start
from prefrl.policies.implicit import ImplicitReward
from prefrl.policies.likelihood import AT_ONCE, AT_ONCE_IMAGES, RawPolicy
from prefrl.policies.policy import read_policy
from prefrl.policies.reference import FILE, divergence, find_reference
from prefrl.rewards.models import LearnedModel
from prefrl.settings.config import AT_THE_START
from prefrl.settings.resolved import DirectOptions, Resolved, ResolvedTrain
from prefrl.words.direct_losses import cpl, dpo, ipo
from prefrl.words.errors import UserError
from prefrl.words.tensors import save_tensors


@dataclass(frozen=True)
class Direct:
    """A method whose model is the policy, as `prefrl.policies.methods.METHODS` has it.

    Attributes:
        loss: of left sums, right sums and mu, under a run's options.
        is_anchored: whether the sums are of log pi - log pi_ref, or of log pi.
    """

    loss: Callable[[Tensor, Tensor, Tensor, DirectOptions], Tensor]
    is_anchored: bool

    def __call__(
        self, config: Resolved, env: Recorder, fit_rng: np.random.Generator, watch_rng: np.random.Generator
    ) -> tuple[LearnedModel, DirectAgent]:
        """The model and the agent of a run, as `prefrl.policies.methods.make_method` says."""
        assert isinstance(config, ResolvedTrain) and config.direct is not None, "the run is of another method"
        options, begins_as = config.direct, config.reference or AT_THE_START
        set_random_seed(config.seed)
        policy = _first_policy(config, begins_as, env)
        policy.to(config.device)
        spaces = env.observation_space, env.action_space
        r_hat = ImplicitReward(policy, self.is_anchored, options.beta, *spaces, config.reward_std)
        r_hat.to(config.device)
        fit = DirectFit(
            r_hat,
            lambda left, right, mu: self.loss(left, right, mu, options),
            fit_rng,
            config.segment_steps,
            Start(options.clone_segments, options.clone_epochs, begins_as != AT_THE_START),
            lambda: _learning_rate(config.settings["learning_rate"], env.steps / config.steps),
            config.batch,
            options.held_out,
            options.segment_discount,
            config.max_answers,
        )
        model = LearnedModel(config, env, r_hat, fit, watch_rng)
        return model, DirectAgent(r_hat, model, config.settings["n_steps"])


DIRECT: dict[str, Direct] = {
    "dpo": Direct(lambda left, right, mu, c: dpo(left, right, mu, c.beta, c.label_smoothing), is_anchored=True),
    "ipo": Direct(lambda left, right, mu, c: ipo(left, right, mu, c.beta), is_anchored=True),
    "cpl": Direct(lambda left, right, mu, c: cpl(left, right, mu, c.beta, c.conservative), is_anchored=False),
    "cpl_kl": Direct(lambda left, right, mu, c: cpl(left, right, mu, c.beta, c.conservative), is_anchored=True),
}
"""By what `--method` calls them; CPL-KL is CPL of log pi - log pi_ref."""


def _first_policy(config: ResolvedTrain, begins_as: str, env: Recorder) -> RawPolicy:
    """The policy that a run begins with: a fresh one, or that of a run's folder or a policy's file.

    Raises:
        UserError: it cannot be made as asked.
    """
    spaces = env.observation_space, env.action_space
    if begins_as != AT_THE_START:
        about, tensors = read_policy(find_reference(begins_as))
        try:
            if about["policy_kwargs"].get("use_sde"):
                raise ValueError("it explores by a noise that depends on the state")
            policy = RawPolicy.remade(*spaces, about, tensors)
        except Exception as error:  # whatever is made of what somebody else wrote
            said = " ".join(str(error).split())
            raise UserError(
                f"a direct method cannot begin with the policy of {begins_as!r} ({said:.200}): give one that "
                f"ppo, a2c, trpo or a direct method has saved on this environment."
            ) from error
    else:
        kwargs = config.settings.get("policy_kwargs", {})
        try:
            policy = RawPolicy.fresh(*spaces, kwargs)
        except Exception as error:  # whatever stable-baselines3 raises
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(
                f"a policy cannot be made with policy_kwargs={kwargs} ({said:.200}): change --set policy_kwargs."
            ) from error
    if not config.settings["learn_std"] and hasattr(policy.policy, "log_std"):
        policy.policy.log_std.requires_grad_(False)
    return policy


def _learning_rate(told: float | str, progress: float) -> float:
    """A number, or "lin_x", which falls from x to zero over the run."""
    return float(told.removeprefix("lin_")) * (1 - progress) if isinstance(told, str) else told


class DirectAgent:
    """Acts with the policy that its model fits, and learns nothing from what comes of it.

    Args:
        r_hat: the policy, its reference if it has one, and the reward that they imply.
        model: whose environments it acts in, paid by that reward for whoever looks on.
        rollout_steps: of each environment that are paid at one time.
    """

    def __init__(self, r_hat: ImplicitReward, model: LearnedModel, rollout_steps: int) -> None:
        self.r_hat, self.env, self.due, self.rollout_steps = r_hat, model.paid, model.due, rollout_steps
        self._at: Any = None  # what the environments show; None where they are to begin anew
        self._apart = np.zeros(self.env.num_envs)  # nats of each environment's episode so far
        self._episodes: list[float] = []

    def explore(self, vector_steps: int) -> None:
        """Act with the policy as it is."""
        for begin in range(0, vector_steps, self.rollout_steps):
            self._act(min(self.rollout_steps, vector_steps - begin))

    def learn(self, rollouts: list[int], progress: Callable[[], float]) -> dict[str, float]:
        """Act for so many steps of each environment.

        Returns:
            kl: where there is a reference, mean divergence of the policy from it, in nats of a whole episode, over
            those that ended.
        """
        self._episodes.clear()
        for steps in rollouts:
            self._act(steps)
        if self.r_hat.reference is None:
            return {}
        return {"kl": float(np.mean(self._episodes)) if self._episodes else math.nan}

    def _act(self, steps: int) -> None:
        seen, ends = [], []
        for _ in range(steps):
            at: Any = self.env.reset() if self._at is None else self._at
            seen.append(at.copy())
            self._at, _rewards, dones, infos = self.env.step(self.r_hat.policy.act(at))
            ends.append((dones.copy(), [int(e) for e in np.flatnonzero(dones) if CUT_SHORT not in infos[e]]))
        self.due()  # nobody learns from them: they count towards learned returns, and are let go
        if self.r_hat.reference is not None:
            apart = self._divergence(np.concatenate(seen)).reshape(steps, -1)
            for nats, (dones, whole) in zip(apart, ends, strict=True):
                self._apart += nats
                self._episodes += self._apart[whole].tolist()
                self._apart[dones] = 0.0

    @torch.no_grad()
    def _divergence(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """KL(pi || pi_ref) at each of these (n, *observation_shape), over actions before any clipping, as PPO's is."""
        policy, reference = self.r_hat.policy, self.r_hat.reference
        assert reference is not None
        at_once = AT_ONCE_IMAGES if policy.is_image else AT_ONCE
        shown = torch.split(policy.shown(observations), at_once)
        apart = [divergence(policy.distribution(part), reference.distribution(part)) for part in shown]
        return np.asarray(torch.cat(apart).cpu(), np.float32)

    def begin_anew(self) -> None:
        """Begin new episodes everywhere at the next step: the environments are others now."""
        self._at = None
        self._apart[:] = 0.0

    def save(self, path: Path) -> None:
        """Write the policy, and its reference beside it, as any learner's are."""
        save_tensors(path, self.r_hat.policy.content(), self.r_hat.policy.about)
        if self.r_hat.reference is not None:
            save_tensors(path.with_name(FILE), self.r_hat.reference.content(), self.r_hat.reference.about)

    def state(self) -> dict[str, Any]:
        """Nothing: the policy is the model's, and a checkpoint begins all episodes anew."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing, as there is nothing."""
