"""Whether a person could be shown it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

from prefrl.check.words import Finding, one_line, package

LIBRARIES = ("egl", "osmesa")  # without a screen, the faster first
NAMED = 'name it "package:Id-v0", after the module that registers it, so that another process finds it.'


def rendering_finding(
    base: Any, env_id: str | None = None, kwargs: dict[str, Any] | None = None, seconds: float = 120.0
) -> Finding:
    """Whether a person could be shown it, tried in a process of its own: a missing display may end the process.

    Args:
        base: the environment, unwrapped.
        env_id: by which the other process makes it anew, importing its package; None for its own.
        kwargs: arguments of the environment, over those that it is registered with.
        seconds: that drawing may take.
    """
    from prefrl.experience.environments import as_sent

    fix = "declare 'rgb_array' in metadata['render_modes'] and return (h, w, 3) uint8 from render(), or ask an oracle."
    modes = (getattr(base, "metadata", None) or {}).get("render_modes") or []
    if "rgb_array" not in modes:
        says = f"it has no render mode 'rgb_array' (it has {list(modes)}): a person cannot be shown it."
        return Finding("rendering", "warning", says, fix)
    spec = getattr(base, "spec", None)
    name: Any = env_id or (spec.id if spec else None)
    if name is None:
        says = "it cannot be drawn in a process of its own: it was registered under no id."
        return Finding("rendering", "warning", says, NAMED)
    about = {"sent": as_sent(name, spec) if spec else {"env_id": name}, "kwargs": kwargs or {}}
    try:
        asked = json.dumps(about)
    except (TypeError, ValueError):  # an argument that only this process has; the id has it where it is registered
        asked = json.dumps({"sent": {"env_id": name}, "kwargs": {}})
    said = draw_apart(asked, None, seconds)
    if "error" in said and "MUJOCO_GL" not in os.environ and {"mujoco", "dm_control"} & sys.modules.keys():
        for library in LIBRARIES:
            if "error" not in draw_apart(asked, library, seconds):
                says = f"it can be drawn where MUJOCO_GL={library} is set, and it is not; oracles need no pictures."
                return Finding("rendering", "warning", says, f"set MUJOCO_GL={library} before people are asked.")
    if "error" in said:
        says = f"it cannot be drawn for a person ({said['error']}); oracles need no pictures."
        otherwise = NAMED if "another process does not know" in said["error"] else fix
        return Finding("rendering", "warning", says, package(said["error"], otherwise))
    if not said["varies"]:
        return Finding("rendering", "warning", "render() returns a picture of one colour.", fix)
    return Finding("rendering", "ok", f"a person can be shown it, {said['shape'][1]} x {said['shape'][0]} pixels.")


def draw_apart(asked: str, library: str | None, seconds: float = 120.0) -> dict[str, Any]:
    """Make, reset and draw an environment in another process.

    Args:
        asked: which, as JSON: its id, which imports its package there, and arguments.
        library: what MUJOCO_GL is set to; None leaves it as it is.
        seconds: that it may take.

    Returns:
        shape and varies (whether its pixels differ), or error, a clause.
    """
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)} | (
        {"MUJOCO_GL": library, "PYOPENGL_PLATFORM": library} if library else {}
    )
    command = [sys.executable, "-P", "-c", "from prefrl.check.drawing import draw; draw()"]
    try:
        done = subprocess.run(
            command, input=asked.encode(), capture_output=True, env=environ, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"it took more than {seconds:.0f} s"}
    try:
        said: dict[str, Any] = json.loads(done.stdout.decode().splitlines()[-1])
    except (IndexError, ValueError):
        code = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
        return {"error": f"drawing it ended the process, {code}"}
    return said


def draw() -> None:
    """The other process of `draw_apart`: draw the environment that standard input specifies, and say what came out."""
    import gymnasium

    from prefrl.experience.clips import without_screen
    from prefrl.experience.environments import arrive
    from prefrl.experience.pictures import picture

    without_screen()
    about = json.load(sys.stdin)
    try:
        name = arrive(about["sent"]).rpartition(":")[2]
        kwargs = {**about["kwargs"], "render_mode": "rgb_array"}
        env: Any = gymnasium.make(name, disable_env_checker=True, **kwargs)
        env.reset(seed=0)
        drawn = picture(env.render())
        said: dict[str, Any] = {"shape": drawn.shape, "varies": bool((drawn != drawn.flat[0]).any())}
    except ValueError as error:
        said = {"error": f"it draws {error}"}
    except Exception as error:  # whatever drawing raises is the answer
        said = {"error": one_line(error)}
    print("\n" + json.dumps(said), flush=True)
    os._exit(0)  # a half-made OpenGL context may abort the process when it is torn down
