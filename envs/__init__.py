"""The paper's environments, and worlds that can be solved, as a Gymnasium plugin: ids `prefrl/<Task>-v0`.

Importing this package registers them: `import prefrl_envs` before `gymnasium.make("prefrl/Hopper-v0")`, or
`gymnasium.make("prefrl_envs:prefrl/Hopper-v0")` without it: Gymnasium itself stopped loading plugins at 1.0. Programs
that look up the entry-point group `gymnasium.envs`, as `prefrl` does, need neither.
"""

from . import atari, exact, mujoco, mujoco_suites


def register_envs() -> None:
    """Enter the ids into Gymnasium's registry; the second and later calls change nothing."""
    mujoco.register()
    atari.register()
    mujoco_suites.register()
    exact.register()


register_envs()
