"""Environments that are awkward in realistic ways: each is sound but for one thing."""

import time
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

ONE = spaces.Box(-1.0, 1.0, (1,), np.float32)
TWO = spaces.Box(-5.0, 5.0, (2,), np.float32)
NOW = 1.7e9  # seconds since 1970
PICTURE = spaces.Box(0, 255, (45, 45, 3), np.uint8)


class Awkward(gym.Env[Any, Any]):
    """A cart is pushed about and paid for being near 0; `how` says what is awkward about it."""

    metadata: Any = {"render_modes": []}  # noqa: RUF012

    def __init__(self, how: str = "", render_mode: str | None = None, limit: int = 0) -> None:
        self.how, self.render_mode, self.limit = how, render_mode, limit
        self.observation_space: Any = TWO
        self.action_space: Any = ONE
        self.pushed = 0.0
        self.centre, self.unit = ACTIONS.get(how, (ONE, 0.0, 1.0))[1:]
        if how in ACTIONS:
            self.action_space = ACTIONS[how][0]
        if how in SHOWN:
            self.observation_space = SHOWN[how]
        if how in ("render raises", "renders nothing"):
            self.metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
        if how == "no metadata":
            self.metadata = None
        if how == "constructor raises":
            raise LookupError("there is no\n robot at 10.0.0.7")
        if how == "constructor exits":
            raise SystemExit(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        leaks = self.how == "remembers" and hasattr(self, "x")
        rng = np.random.default_rng() if self.how == "nondeterministic" else self.np_random
        self.x = rng.uniform(-1, 1) + (0.01 * self.x if leaks else 0)
        self.v, self.count, self.score = 0.0, 0, 0.0
        if self.how == "reset without info":
            return self._seen()
        if self.how == "reset returns None":
            return None
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        if self.how == "whole actions":
            assert self.action_space.contains(action)
        if self.how == "changes the action":
            action *= 0.5
        self.count += 1
        push = np.clip((float(np.ravel(action)[0]) - self.centre) / self.unit, -1, 1)
        self.v = 0.8 * self.v + 0.2 * push
        self.x = float(np.clip(self.x + 0.2 * self.v, -4, 4))
        paid: Any = 1.0 - self.x**2
        self._misbehave()
        if self.how in PAID:
            paid = PAID[self.how](self, paid)
        self.score += float(np.ravel(paid)[0]) if self.how != "pays words" else 0.0
        ends = {
            "over at once": self.count >= 2,
            "falls early": abs(self.x) > 0.5,
            "falls late": self.count > 60 - 9 * self.x,
        }
        ended: Any = bool(ends.get(self.how, False))
        cut: Any = bool(self.limit and self.count >= self.limit)
        if self.how == "old step":
            return self._seen(), paid, ended, {}
        if self.how == "numpy flags":
            ended, cut = np.bool_(ended), np.bool_(cut)
        return self._seen(), paid, ended, cut, {"x": self.x, "nested": {"deep": [1, {2: self}]}, "none": None}

    def render(self) -> Any:
        if self.how == "render raises":
            raise RuntimeError("no window")
        return None

    def close(self) -> None:
        if self.how == "close raises":
            raise OSError("the port is gone")

    def _misbehave(self) -> None:
        """What happens in the step itself."""
        if self.how == "prints":
            print("step", self.count)
        if self.how == "warns":
            warnings.warn("the battery is low", stacklevel=2)
        if self.how == "slow":
            time.sleep(0.05)
        if self.how == "hangs" and self.count == 7:
            time.sleep(3600)
        if self.how == "exits" and self.count == 7:
            raise SystemExit(1)
        if self.how == "asserts without a word" and self.count == 7:
            assert self.count < 7

    def _seen(self) -> Any:
        plain = np.array([self.x, self.v], np.float32)
        if self.how == "shows NaN" and self.count > 3:
            return np.array([np.nan, self.v], np.float32)
        if self.how == "grows without end":
            return np.array([self.x * 10.0 ** min(self.count, 30), self.v])
        if self.how == "shows the score":
            return np.array([self.x, self.score], np.float32)
        if self.how == "same array":
            if not hasattr(self, "kept"):
                self.kept = np.zeros(2, np.float32)
            self.kept[:] = plain
            return self.kept
        return SEES[self.how](self, plain) if self.how in SEES else plain


def _picture(env: Awkward) -> np.ndarray:
    picture = np.zeros((45, 45, 3), np.uint8)
    picture[:, int(20 + 4 * env.x)] = 255
    return picture


ACTIONS: dict[str, tuple[Any, float, float]] = {
    "off centre": (spaces.Box(0.0, 10.0, (1,), np.float32), 5.0, 5.0),
    "strong": (spaces.Box(-500.0, 500.0, (1,), np.float32), 0.0, 500.0),
    "weak": (spaces.Box(-0.001, 0.001, (1,), np.float32), 0.0, 0.001),
    "float64 actions": (spaces.Box(-1.0, 1.0, (1,), np.float64), 0.0, 1.0),
    "no bounds": (spaces.Box(-np.inf, np.inf, (1,), np.float32), 0.0, 1.0),
    "whole actions": (spaces.Box(0, 20, (1,), np.int64), 10.0, 10.0),
    "counts from one": (spaces.Discrete(3, start=1), 2.0, 1.0),
    "a table of choices": (spaces.MultiDiscrete([[3, 3], [3, 3]]), 1.0, 1.0),
    "named actions": (spaces.Dict(push=ONE), 0.0, 1.0),
}
SHOWN: dict[str, Any] = {
    "shows the time": spaces.Box(-np.inf, np.inf, (2,), np.float64),
    "shows nothing but the time": spaces.Box(-np.inf, np.inf, (2,), np.float64),
    "grows without end": spaces.Box(-np.inf, np.inf, (2,), np.float64),
    "picture among others": spaces.Dict(screen=PICTURE, speed=ONE),
    "big picture among others": spaces.Dict(screen=spaces.Box(0, 255, (90, 90, 3), np.uint8), speed=ONE),
    "text among others": spaces.Dict(mission=spaces.Text(9), place=TWO),
    "no space": (2,),
    "flat picture of floats": spaces.Box(0.0, 1.0, (20, 20), np.float32),
}
SEES: dict[str, Any] = {
    "float64 for float32": lambda env, seen: seen.astype(np.float64),
    "a list": lambda env, seen: seen.tolist(),
    "out of bounds": lambda env, seen: 3 * seen + 9,
    "wrong shape": lambda env, seen: seen[:1] if env.count > 5 else seen,
    "shows the time": lambda env, seen: np.array([NOW + env.x, env.v]),
    "shows nothing but the time": lambda env, seen: NOW + seen.astype(np.float64),
    "picture among others": lambda env, seen: {"screen": _picture(env), "speed": seen[1:]},
    "big picture among others": lambda env, seen: {"screen": np.tile(_picture(env), (2, 2, 1)), "speed": seen[1:]},
    "text among others": lambda env, seen: {"mission": "go", "place": seen},
    "flat picture of floats": lambda env, seen: np.full((20, 20), (env.x + 4) / 8, np.float32),
}
PAID: dict[str, Any] = {
    "pays NaN": lambda env, paid: float("nan") if env.count == 9 else paid,
    "pays an array": lambda env, paid: np.array([paid]),
    "pays whole numbers": lambda env, paid: np.int64(round(9 * paid)),
    "pays words": lambda env, paid: "much",
    "pays always the same": lambda env, paid: 1.0,
    "pays at the end": lambda env, paid: float(env.x > 0) if env.count == 100 else 0.0,
}

gym.register("awkward/Cart-v0", Awkward, max_episode_steps=100)
gym.register("awkward/Random-v0", Awkward, max_episode_steps=100, nondeterministic=True)
gym.register("awkward/Endless-v0", Awkward)
