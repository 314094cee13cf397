"""Environments awkward in realistic ways: the right verdict for each, and a fix that works when it is followed."""

import re
import time
from collections.abc import Sequence
from typing import Any

import pytest
from awkward import Awkward

from prefrl.check import CheckConfig, examine
from prefrl.check.words import Finding

Found = dict[str, Finding]


def check(
    how: str, *kwargs: str, env: str = "Cart", wrapper: Sequence[str] | None = None, seconds: float = 600
) -> Found:
    """The findings by name; each is a sentence on a line, with a fix where it is not ok."""
    about = CheckConfig(
        f"awkward/{env}-v0",
        env_kwargs=(f"how={how}", *kwargs),
        wrapper=None if wrapper is None else tuple(wrapper),
        steps=400,
        seconds=seconds,
    )
    found = examine(about)
    for finding in found:
        assert finding.says.endswith((".", "?")), finding
        assert "\n" not in finding.says + finding.fix
        assert bool(finding.fix) == (finding.level != "ok"), finding
    return {finding.name: finding for finding in found}


def levels(found: Found) -> dict[str, str]:
    """All that is not ok, but for how fast it is; most of these cannot be drawn."""
    left_out = ("rendering", "speed")
    return {name: each.level for name, each in found.items() if each.level != "ok" and name not in left_out}


def wrapper_in(text: str) -> str:
    """The wrapper that a line or its fix says to give."""
    found = re.search(r'--wrapper "([^"]+)"', text)
    assert found, text
    return found[1]


SOUND = {
    "": (),
    "a list": (),
    "same array": (),
    "numpy flags": (),
    "pays an array": ("api",),
    "pays whole numbers": (),
    "float64 for float32": ("api",),
    "out of bounds": ("api",),
    "remembers": (),  # an instance that was used: no two runs have one
    "changes the action": (),
    "prints": (),
    "warns": (),
    "float64 actions": (),
    "nondeterministic": ("seeding",),
    "pays at the end": ("ties",),
    "render raises": (),
    "renders nothing": (),
    "over at once": ("ending",),
    "whole actions": (),
    "flat picture of floats": ("image",),
    "picture among others": ("image",),
    "shows the time": ("precision",),
    "off centre": (),
    "strong": (),
    "weak": (),
}
"""What a run takes as it is, and lines that warn."""


@pytest.mark.parametrize("how", SOUND)
def test_what_can_be_learned_on_is_fit(how: str) -> None:
    found = check(how)
    assert "fail" not in levels(found).values(), levels(found)
    assert set(levels(found)) - {"length", "api"} <= set(SOUND[how]), [found[name] for name in levels(found)]
    assert set(SOUND[how]) - {"api"} <= set(levels(found))
    assert found["settings"].says.startswith("awkward/Cart-v0 begins from preset continuous")


UNSOUND = {
    "shows NaN": ("finite", "observation 0 is nan"),
    "pays NaN": ("finite", "the reward is nan"),
    "grows without end": ("finite", "observation 0 is"),
    "shows nothing but the time": ("precision", "which float32 cannot hold (2 of 2"),
    "shows the score": ("score", "observation 1 is the sum of the rewards so far"),
    "pays words": ("steps", "ValueError at step 0 of episode 0"),
    "pays always the same": ("ties", "100% equal"),
    "wrong shape": ("steps", "an observation of shape (1,) where (2,) was declared"),
    "old step": ("steps", "not enough values to unpack (expected 5, got 4)"),
    "reset without info": ("steps", "in the reset of episode 0"),
    "reset returns None": ("steps", "in the reset of episode 0"),
    "asserts without a word": ("steps", "AssertionError at step 6 of episode 0"),
    "exits": ("steps", "SystemExit at step 6 of episode 0"),
    "constructor raises": ("made", "LookupError: there is no robot at 10.0.0.7"),
    "constructor exits": ("made", "SystemExit: 3"),
    "no bounds": ("made", "they need finite bounds"),
    "counts from one": ("made", "they must count from 0"),
    "a table of choices": ("made", "a table: the learners take a row"),
    "named actions": ("made", "they must be Box, Discrete, MultiDiscrete or MultiBinary"),
    "big picture among others": ("made", "24301 numbers and not an image"),
    "text among others": ("made", "do not flatten into a vector"),
    "no space": ("made", "which is no space of Gymnasium's"),
    "no metadata": ("made", "declares the metadata None, which is no dict"),
    "close raises": ("made", "failed as it was closed, with OSError: the port is gone"),
}


@pytest.mark.parametrize("how", UNSOUND)
def test_what_makes_learning_go_wrong_fails(how: str) -> None:
    found = check(how)
    line, says = UNSOUND[how]
    assert found[line].level == "fail"
    assert says in found[line].says
    assert [name for name, level in levels(found).items() if level == "fail"] == [line]


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("no bounds", "made"),
        ("counts from one", "made"),
        ("a table of choices", "made"),
        ("big picture among others", "made"),
        ("text among others", "made"),
        ("picture among others", "image"),
        ("shows the time", "precision"),
        ("shows nothing but the time", "precision"),
    ],
)
def test_the_wrapper_that_a_line_names_mends_it(how: str, line: str) -> None:
    before = check(how)[line]
    after = check(how, wrapper=[wrapper_in(before.says + before.fix)])
    assert after.get(line, after["made"]).level == "ok", after
    assert "fail" not in levels(after).values()
    assert ("picture" in how) == ("45 x 45" in (says := after.get("image", after["made"]).says) or "90 x 90" in says)


@pytest.mark.parametrize("how", ["off centre", "strong", "weak"])
def test_actions_are_rescaled_and_it_is_said(how: str) -> None:
    assert "a run puts gymnasium.wrappers:RescaleAction" in check(how)["actions"].says
    bare = check(how, wrapper=[])["actions"]
    assert bare.level == "warning"
    assert check(how, wrapper=[wrapper_in(bare.fix)]).get("actions") is None


def test_a_fixed_horizon_is_advised_where_it_holds_few_steps() -> None:
    late, early, once = (check(how)["ending"] for how in ("falls late", "falls early", "over at once"))
    assert {each.level for each in (late, early, once)} == {"warning"}
    assert late.fix.startswith("train with --fixed-horizon")
    assert early.fix.startswith("leave the ends in: with --fixed-horizon ")
    assert once.fix.startswith("leave the ends in: with --fixed-horizon 98% of such steps")


def test_no_simulator_is_failed_for_what_it_draws_by_itself() -> None:
    told = check("nondeterministic")["seeding"]
    assert "nondeterministic=True" in told.fix
    assert check("nondeterministic", env="Random")["seeding"].level == "ok"
    assert check("remembers")["seeding"].level == "ok"


def test_a_time_limit_of_its_own_or_one_that_is_given() -> None:
    endless = check("", env="Endless")["horizon"]
    assert endless.level == "warning"
    assert "--env-kwargs max_episode_steps=1000" in endless.fix
    assert check("", "max_episode_steps=50", env="Endless")["horizon"].level == "ok"
    assert check("", "limit=40", env="Endless")["horizon"].says == "the time limit is its own."


def test_a_slow_simulator_is_told_first_and_the_check_ends_in_time() -> None:
    began, seconds = time.monotonic(), 8.0
    found = check("slow", seconds=seconds)
    assert time.monotonic() - began < 2.5 * seconds  # what is made, fitted to arrays and drawn comes to it
    assert list(found)[:2] == ["made", "speed"]
    assert found["speed"].level == "warning"
    assert "--workers" in found["speed"].fix
    assert "fail" not in levels(found).values()


def test_a_step_that_never_ends_is_named() -> None:
    began = time.monotonic()
    found = check("hangs", seconds=8)
    assert time.monotonic() - began < 25
    assert found["steps"].level == "fail"
    assert "at step 6 of episode 0" in found["steps"].says


def test_lines_come_as_they_are_known(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from prefrl.check import look, run_check

    seen: list[str] = []
    said: list[Any] = []

    def looked(config: CheckConfig) -> Any:
        for finding in look(config):
            seen.append(finding.name)
            yield finding
            said.append(capsys.readouterr().out)

    monkeypatch.setattr("prefrl.check.look", looked)
    run_check(CheckConfig("awkward/Cart-v0", steps=400))
    assert all(name in text for name, text in zip(seen, said, strict=False))


def test_an_assertion_without_a_word_is_told_by_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def reset(self: Awkward, *, seed: int | None = None, options: Any = None) -> Any:
        assert options is None or seed is None, ""
        return plain(self, seed=seed, options=options)

    plain = Awkward.reset
    monkeypatch.setattr(Awkward, "reset", reset)
    found = check("")
    assert "fail" not in levels(found).values()
    assert found["api"].level == "ok" or "AssertionError at test_awkward.py line" in found["api"].says
