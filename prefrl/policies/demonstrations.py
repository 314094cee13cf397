"""Demonstrations: steps of somebody who knows how.

They are acted anew by a run's policy, read from a local Minari dataset, or what `prefrl revise` kept.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prefrl.experience.recorder import Recorder
from prefrl.experience.task import Task
from prefrl.policies.policy import Policy
from prefrl.words.errors import UserError, install
from prefrl.words.preference import Segment
from prefrl.words.process import drawing_from
from prefrl.words.spaces import same_inputs
from prefrl.words.tensors import load_tensors

FILE = "demonstrations.safetensors"


class Demonstrations(NamedTuple):
    """Steps of demonstrations, in order.

    Attributes:
        observations: (n, *observation_shape), as the environment showed them.
        actions: (n, *action_shape), as the environment received them.
    """

    observations: NDArray[Any]
    actions: NDArray[Any]


def check_demonstrations(names: Sequence[str], observation_space: Any, action_space: Any) -> None:
    """Whether each of these can be read, and is of these spaces; no step of it is read.

    Raises:
        UserError: it cannot, or is not.
    """
    for name in names:
        if (policy := _policy_of(name)) is not None:
            Policy(policy, observation_space, action_space)
            continue
        if (kept := _kept(name)) is not None:
            shapes = [tuple(part.shape[1:]) for part in kept]
            if shapes != [observation_space.shape, action_space.shape]:
                raise UserError(
                    f"the demonstrations {name!r} have observations and actions of shapes {shapes[0]} and {shapes[1]}, "
                    f"and this environment's are {observation_space.shape} and {action_space.shape}: give "
                    f"demonstrations of the same environment."
                )
            continue
        dataset = _minari(name)
        for space, theirs in ((observation_space, dataset.observation_space), (action_space, dataset.action_space)):
            if not same_inputs(space, theirs):
                raise UserError(
                    f"the demonstrations {name!r} are of the space {' '.join(str(theirs).split()):.120}, and this "
                    f"environment has {' '.join(str(space).split()):.120}: give demonstrations of the same environment."
                )


def read_demonstrations(names: Sequence[str], task: Task, n_envs: int, steps: int, seed: int) -> Demonstrations:
    """All of these, one after the other.

    Args:
        names: folders of runs, whose policies act here; ids of local Minari datasets, or their folders; folders that
            `prefrl revise` made.
        task: the environment.
        n_envs: copies of it that a policy acts in.
        steps: that each policy takes, over all of them; they are none of the run's.
        seed: of the environments, and of what policies draw.

    Raises:
        UserError: one of them cannot be read.
    """
    parts = []
    for number, name in enumerate(names):
        policy = _policy_of(name)
        if policy is not None:
            recorder = _acted(policy, task, n_envs, steps, _seed(seed, number))
            parts.append(Demonstrations(*recorder.recent(steps)[:2]))
            recorder.close()
        else:
            parts.append(_kept(name) or _read(name))
    return Demonstrations(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _policy_of(name: str) -> Path | None:
    """The policy of a run's folder, or one that is named itself; None where the name is of something else."""
    path = Path(name)
    path = path / "policy.safetensors" if path.is_dir() else path
    return path if path.is_file() else None


def _kept(name: str) -> Demonstrations | None:
    """What `prefrl revise` kept in this folder; None where it is another.

    Raises:
        UserError: it cannot be read.
    """
    path = Path(name) / FILE
    if not path.is_file():
        return None
    tensors, _ = load_tensors(path)
    found = [tensors[part].numpy() for part in Demonstrations._fields if part in tensors]
    if len(found) < 2 or len(found[0]) != len(found[1]) or not len(found[0]):
        raise UserError(f"{str(path)!r} holds no demonstrations: an observation and an action for each step.")
    return Demonstrations(*found)


def demonstrated(
    names: Sequence[str],
    task: Task,
    n_envs: int,
    steps: int,
    seed: int,
    count: int,
    segment_steps: int,
) -> list[Segment]:
    """Segments of demonstrations, as many of each source as equal shares allow, in an order of chance.

    Args:
        names: as of `read_demonstrations`, but for what `prefrl revise` kept.
        task: the environment.
        n_envs: copies of it that a policy acts in.
        steps: that each policy takes, over all of them.
        seed: of all that is drawn.
        count: segments.
        segment_steps: steps in each.

    Raises:
        UserError: one of them cannot be read, or has no segment so long.
    """
    rng, segments = np.random.default_rng((seed, count, segment_steps)), list[Segment]()
    for number, (name, part) in enumerate(zip(names, np.array_split(np.zeros(count), len(names)), strict=True)):
        policy, drawn_by = _policy_of(name), _seed(seed, number)
        if policy is not None:
            recorder = _acted(policy, task, n_envs, steps, drawn_by)
            segments += [pair.left for pair in recorder.pairs(len(part), segment_steps, rng).queries()]
            recorder.close()
        else:
            segments += _windows(name, task.env_id, drawn_by, len(part), segment_steps, rng)
    rng.shuffle(segments)
    return segments


def check_segments(names: Sequence[str]) -> None:
    """Whether segments can be cut from each of these.

    Raises:
        UserError: there are none of these, or there is one of steps without episodes.
    """
    kept = [name for name in names if _policy_of(name) is None and _kept(name) is not None]
    if kept or not names:
        raise UserError(
            f"demonstration_labels compare segments of demonstrations with the policy's, and "
            f"{f'{kept[0]!r} holds steps without their episodes' if kept else 'there are none'}: give runs' folders or "
            f"Minari datasets with --demonstrations."
        )


def _seed(seed: int, number: int) -> int:
    """Of what a source is acted with: it has nothing in common with those of the run's own environments."""
    return int(np.random.SeedSequence((seed, number, 1)).generate_state(1)[0]) >> 1


def _acted(path: Path, task: Task, n_envs: int, steps: int, seed: int) -> Recorder:
    """What a saved policy does, as it explores: the policy that is cloned from it is to vary as it does."""
    with drawing_from(seed):
        recorder = Recorder(task.make_vec(n_envs, seed), task.env_id, seed, -(-steps // n_envs) * n_envs)
        policy = Policy(path, recorder.observation_space, recorder.action_space)
        observations: Any = recorder.reset()
        for _ in range(-(-steps // n_envs)):
            observations, *_ = recorder.step(policy.act(observations))
    return recorder


def _windows(
    name: str, env_id: str, seed: int, count: int, segment_steps: int, rng: np.random.Generator
) -> list[Segment]:
    """Windows of a Minari dataset's episodes, each as likely as any other."""
    episodes = [episode for episode in _minari(name).iterate_episodes() if len(episode.actions) >= segment_steps]
    if not episodes:
        raise UserError(f"the Minari dataset {name!r} has no episode of {segment_steps} steps, which a segment has.")
    starts = np.array([len(episode.actions) - segment_steps + 1 for episode in episodes])
    segments = []
    for place in rng.integers(starts.sum(), size=count):
        number = int(np.searchsorted(np.cumsum(starts), place, side="right"))
        offset, episode = int(place - starts[:number].sum()), episodes[number]
        part = slice(offset, offset + segment_steps)
        observations, actions = np.asarray(episode.observations)[part], np.asarray(episode.actions)[part]
        rewards = np.asarray(episode.rewards, np.float64)[part]
        segments.append(Segment(observations, actions, rewards, env_id, 0, seed, 0, int(episode.id), offset))
    return segments


def _read(name: str) -> Demonstrations:
    seen, acted = [], []
    for episode in _minari(name).iterate_episodes():
        acted.append(np.asarray(episode.actions))
        seen.append(np.asarray(episode.observations)[: len(acted[-1])])  # what the last action led to is no step
    if not acted:
        raise UserError(f"the Minari dataset {name!r} has no episode: give one that has.")
    return Demonstrations(np.concatenate(seen), np.concatenate(acted))


def _minari(name: str) -> Any:
    """A local Minari dataset, by its folder, or by its id below MINARI_DATASETS_PATH or ~/.minari/datasets.

    Raises:
        UserError: there is none, or it cannot be read; nothing is fetched.
    """
    home = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
    places = [place / "data" for place in (Path(name), home / name)]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise UserError(
            f"there are no demonstrations {name!r}: give a finished run's folder, or a Minari dataset that is in "
            f"{str(home)!r} already (`minari download {name}` fetches one)."
        )
    try:
        from minari import MinariDataset

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return MinariDataset(found)
    except ImportError as error:
        raise UserError(f"Minari datasets need the package minari: {install('exchange')}.") from error
    except (OSError, KeyError, ValueError, TypeError, AssertionError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"the Minari dataset {str(found.parent)!r} cannot be read: {said:.200}.") from error
