"""Whether a person could be shown it."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from typing import Any

from prefrl.check.words import DISPLAY, PACKAGES, Finding, one_line, package


def rendering_finding(base: Any) -> Finding:
    """Whether a person could be shown it, tried in a process of its own: a missing display may end the process."""
    fix = "declare 'rgb_array' in metadata['render_modes'] and return (h, w, 3) uint8 from render(), or ask an oracle."
    modes = base.metadata.get("render_modes") or []
    if "rgb_array" not in modes:
        says = f"it has no render mode 'rgb_array' (it has {list(modes)}): a person cannot be shown it."
        return Finding("rendering", "warning", says, fix)
    uses_mujoco = any("mujoco" in kind.__module__ for kind in type(base).__mro__)
    try:
        spec = pickle.dumps(base.spec)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        says = f"it cannot be drawn in a process of its own: {one_line(error)}."
        return Finding("rendering", "warning", says, "register it by an importable entry point, 'module:Class'.")
    said = draw_apart(spec, None)
    if "error" in said and uses_mujoco and "MUJOCO_GL" not in os.environ:
        for library in ("egl", "osmesa"):
            if "error" not in draw_apart(spec, library):
                says = f"it can be drawn where MUJOCO_GL={library} is set, and it is not; oracles need no pictures."
                return Finding("rendering", "warning", says, f"set MUJOCO_GL={library} before people are asked.")
    if "error" in said:
        says = f"it cannot be drawn for a person ({said['error']}); oracles need no pictures."
        return Finding("rendering", "warning", says, package(said["error"], PACKAGES[DISPLAY] if uses_mujoco else fix))
    if not said["varies"]:
        return Finding("rendering", "warning", "render() returns a picture of one colour.", fix)
    return Finding("rendering", "ok", f"a person can be shown it, {said['shape'][1]} x {said['shape'][0]} pixels.")


def draw_apart(spec: bytes, library: str | None) -> dict[str, Any]:
    """Make, reset and draw an environment in another process.

    Args:
        spec: Gymnasium's specification, pickled; it goes to our own process and nowhere else.
        library: what MUJOCO_GL is set to; None leaves it as it is.

    Returns:
        shape and varies (whether its pixels differ), or error, a clause.
    """
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)} | ({"MUJOCO_GL": library} if library else {})
    command = [sys.executable, "-c", "from prefrl.check.drawing import draw; draw()"]
    try:
        done = subprocess.run(command, input=spec, capture_output=True, env=environ, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return {"error": "it took more than two minutes"}
    try:
        said: dict[str, Any] = json.loads(done.stdout.decode().splitlines()[-1])
    except (IndexError, ValueError):
        code = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
        return {"error": f"drawing it ended the process, {code}"}
    return said


def draw() -> None:
    """The other process of `draw_apart`: draw the environment that standard input specifies, and say what came out."""
    import gymnasium

    from prefrl.experience.pictures import picture

    try:
        env: Any = gymnasium.make(pickle.load(sys.stdin.buffer), render_mode="rgb_array", disable_env_checker=True)
        env.reset(seed=0)
        drawn = picture(env.render())
        said: dict[str, Any] = {"shape": drawn.shape, "varies": bool((drawn != drawn.flat[0]).any())}
    except ValueError as error:
        said = {"error": f"it draws {error}"}
    except Exception as error:  # whatever drawing raises is the answer
        said = {"error": one_line(error)}
    print("\n" + json.dumps(said), flush=True)
    os._exit(0)  # a half-made OpenGL context may abort the process when it is torn down
