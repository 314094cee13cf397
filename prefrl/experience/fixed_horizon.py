"""Episodes of one length, whatever ends them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from prefrl.words.errors import UserError


class FixedHorizon(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Turns an early end into a fixed horizon: every episode lasts `horizon` steps, and is then truncated.

    When an episode ends, by itself or by a shorter time limit of its own, its last observation stays until the horizon,
    whatever is done. Each of those steps pays zero, or minus `penalty`.

    Where an episode ends tells a learner what the task rewards: an agent that is paid anything positive learns to stay
    alive, one that is paid anything negative learns to end it, whatever the labels say. The paper therefore takes
    variable lengths out of its tasks and puts "a penalty that encourages the parameters to remain in the range" in
    place of the end, one that has to be learned from the labels like the rest of the reward (Christiano et al. 2017,
    appendix A); imitation, which came after it, warns of variable horizons for the same reason.

    There is nothing to learn after the end. Where an untrained policy ends its episodes early on, that is most of the
    experience, and learning is slower than with the early ends left in.

    Args:
        env: episodes that may end early.
        horizon: steps of every episode; None for the environment's own time limit, `spec.max_episode_steps`.
        penalty: taken from the reward at every step after the end.

    Raises:
        UserError: no horizon and none that the environment has, one below 1, or one beyond the time limit.
    """

    def __init__(self, env: gym.Env[Any, Any], horizon: int | None = None, penalty: float = 0.0) -> None:
        RecordConstructorArgs.__init__(self, horizon=horizon, penalty=penalty)
        super().__init__(env)
        name = env.spec.id if env.spec else str(env.unwrapped)
        limit = env.spec.max_episode_steps if env.spec else None
        wanted = limit if horizon is None else horizon
        if wanted is None:
            raise UserError(
                f"{name} has no time limit to be its fixed horizon: make it with one, such as max_episode_steps=200."
            )
        if wanted < 1 or (limit is not None and wanted > limit):
            raise UserError(
                f"a fixed horizon of {wanted} steps does not fit {name}: ask for 1 to {limit or 'as many as you like'}."
            )
        self.horizon, self.reward_after = wanted, 0.0 - penalty  # 0.0, not -0.0
        self._steps, self._over, self._observation = 0, False, None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self._steps, self._over = 0, False
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step; after the end nothing moves any more. Never terminated, truncated at the horizon."""
        self._steps += 1
        if self._over:
            return self._observation, self.reward_after, False, self._steps >= self.horizon, {}
        self._observation, reward, terminated, truncated, info = self.env.step(action)
        self._over = terminated or truncated
        return self._observation, reward, False, self._steps >= self.horizon, info
