"""What the READMEs claim is what the committed data says, and every question can be asked."""

import csv
import math
from dataclasses import replace
from importlib import import_module
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
    committed,
    figure2,
    figure3_smoke,
    figure5,
    hacking,
    paper,
    question,
    rankings,
    reward_fit,
    scale,
    target_kl,
    tuning,
)
from prefrl.rewards.fit import Fit
from prefrl.run import train
from prefrl.runs.resolve import resolve
from prefrl.settings.config import BaselineConfig, TrainConfig, arm_name
from prefrl.settings.values import name_value
from prefrl.studies.batch import run_one
from prefrl.studies.compare import Outcome
from prefrl.words.errors import UserError

MODULES = [import_module(f"benchmarks.{path.stem}") for path in sorted(question.HERE.glob("[a-z]*.py"))]
QUESTIONS = {module.QUESTION.name: module for module in MODULES if hasattr(module, "QUESTION")}
HOPPER, PENDULUM = "prefrl/Hopper-v0", "prefrl/InvertedPendulum-v0"


def between(path: Path, mark: str) -> str:
    return path.read_text().split(f"<!-- {mark} -->")[1].strip()


def test_the_first_screen_is_figure_2():
    assert between(question.FRONT, "table") == figure2.front().strip()
    assert "results/figure2/figure.png" in between(question.FRONT, "figure")


def test_the_table_of_the_rewards_fit_is_what_its_data_says_and_has_every_setting():
    assert between(question.README, "reward_fit") == reward_fit.table()
    with reward_fit.DATA.open(newline="") as file:
        rows = [(r["task"], int(r["seed"]), r["setting"]) for r in csv.DictReader(file)]
    assert rows == list(product(reward_fit.TASKS, reward_fit.SEEDS, reward_fit.SETTINGS))


def test_the_table_of_rankings_is_what_its_data_says_and_no_arm_took_longer_than_the_pairs():
    assert between(question.README, "rankings") == rankings.table()
    rows = rankings.rows()
    assert [tuple(row[key] for key in rankings.KEY) for row in rows] == rankings.ROWS
    seconds = {tuple(row[key] for key in rankings.KEY): float(row["seconds"]) for row in rows}
    assert all(time <= seconds[(*key[:3], "pairs")] for key, time in seconds.items())


def test_the_table_of_the_scale_is_what_its_data_says():
    assert between(question.README, "scale") == scale.report()


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_has_its_grid_and_its_part_of_the_page_says_what_its_data_says(name):
    module = QUESTIONS[name]
    asked = module.QUESTION
    arms = {arm for _, arm, _ in asked.planned()}
    assert asked.reference in arms
    assert set(asked.names) <= arms
    found = question.outcomes(asked)
    body = getattr(module, "body", question.report)(asked) if found else ""
    assert between(question.README, name) == question.section(asked, body).strip()
    draw = getattr(module, "draw", question.draw)
    if found and draw:
        committed = (asked.folder / "figure.png").read_bytes()
        draw(asked)
        assert (asked.folder / "figure.png").read_bytes() == committed


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_arm_can_be_run_as_asked_and_what_random_actions_are_worth_is_known(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random, seen = committed.random_returns(), set()
    for (task, arm, _), (job, _) in QUESTIONS[name].QUESTION.planned().items():
        assert math.isfinite(random[task])
        waits = any(getattr(job.config, name, None) for name in ("reward_from", "start_from", "demonstrations"))
        if arm not in seen and not waits:  # for another run, which leaves what this one begins with
            seen.add(arm)
            assert resolve(job.config).steps == job.config.steps


def test_the_updates_that_figure_3_is_priced_by_are_those_that_a_run_makes(tmp_path, monkeypatch):
    made, run = [], Fit.run
    monkeypatch.setattr(Fit, "run", lambda fit, updates: made.append(updates) or run(fit, updates))
    asked = {"labels": 60, "segment_steps": 25}
    config = TrainConfig(env="CartPole-v1", steps=3000, set=("n_steps=64",), out=tmp_path / "run", **asked)
    train(replace(config, tensorboard=False), quiet=True)
    assert sum(made) == figure3_smoke.fit_updates(config) > 0
    assert figure3_smoke.fit_updates(BaselineConfig(env="CartPole-v1", steps=3000)) == 0


def test_an_arm_of_an_ablation_differs_from_the_original_by_its_switch():
    configs = {arm: vars(job.config) for (_, arm, _), (job, _) in reversed(figure5.QUESTION.planned().items())}
    original = configs["original"]
    assert {
        arm: {
            name: v for name, v in config.items() if v != original[name] and name not in ("arm", "out", "env", "seed")
        }
        for arm, config in configs.items()
    } == {
        "original": {},
        "random queries": {"strategy": "uniform"},
        "no ensemble": {"members": 1, "strategy": "uniform"},
        "no online queries": {"initial_labels": 1.0},
        "no regularisation": {"l2": 0.0},
        "no segments": {"segment_steps": 1},
        "target": {"objective": "target"},
    }


def test_the_papers_curves_end_where_its_figure_does():
    """Read off by eye: cheetah's true reward ends at about 4,200, hopper's 700 labels at about 4,490."""
    figure = paper.curves_of(2)
    assert len(figure) == 8
    assert paper.end_of(figure["HalfCheetah"]["true reward"], 2e7) == pytest.approx(4200, rel=0.03)
    assert paper.end_of(figure["Hopper"]["700 synthetic"], 2e7) == pytest.approx(4490, rel=0.03)
    assert paper.end_of(figure["InvertedDoublePendulum"]["350 synthetic"], 2e7) == pytest.approx(920, rel=0.2)
    pendulum = figure["InvertedPendulum"]
    assert math.isnan(paper.end_of(pendulum["700 synthetic"], 2e6))  # it goes on behind the others
    assert paper.plateau_of(pendulum, "700 synthetic", 2e6) == pytest.approx(1374, abs=1)
    assert paper.plateau_of(pendulum, "750 human", 2e6) == paper.end_of(pendulum["750 human"], 2e6)


def test_a_gap_of_the_papers_curve_is_not_bridged_where_it_leaps():
    curve = (np.array([1.0, 2.0, 9.0]), np.array([0.0, 1.0, 50.0]))
    assert paper.value_at(curve, 1.5, 5.0) == 0.5
    assert paper.value_at(curve, 1.0, 5.0) == 0.0
    assert paper.value_at(curve, 9.0, 100.0) == 50.0
    assert math.isnan(paper.value_at(curve, 5.0, 5.0))
    assert math.isnan(paper.value_at(curve, 9.5, 100.0))


def made_up(task: str, arm: str, final: float, seed: int = 0, last: float = 2e6) -> Outcome:
    return Outcome(task, arm, seed, (np.array([last / 2, last]), np.array([0.0, final])), 1.0)


def test_scores_are_shares_of_the_way_from_random_actions_to_the_reference():
    low = committed.random_returns()[HOPPER]
    runs = [made_up(HOPPER, "true reward", low + 1000 + d, seed) for seed, d in enumerate((-10, 10))]
    runs += [made_up(HOPPER, "700 labels", low + 500 + d, seed) for seed, d in enumerate((-100, 100))]
    shares = question.scores(runs, "true reward")
    np.testing.assert_allclose(shares["700 labels"][0], [0.4, 0.6])
    lines = question.leaderboard(runs, "true reward").splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    (line,), (best,) = ([row for row in table if row[0] == arm] for arm in ("700 labels", "true reward"))
    assert best == ["true reward", "1", "2", "1.00", "-"]  # what is divided by
    assert line[:4] == ["700 labels", "1", "2", "0.50"]
    bounds = [float(bound) for bound in line[4].split(" to ")]
    assert bounds == pytest.approx([400 / 1010, 600 / 990], abs=0.01)  # both are drawn anew
    assert " to " not in question.leaderboard([o for o in runs if o.seed == 0], "true reward")  # one seed has no spread
    assert question.scores([made_up(HOPPER, "true reward", low - 1)], "true reward") == {}


def test_arms_are_compared_on_the_tasks_and_seeds_that_all_have():
    walker, ant = "prefrl/Walker2d-v0", "prefrl/Ant-v0"
    keys = [*product([HOPPER, walker], ("true reward", "700 labels"), range(2)), (HOPPER, "true reward", 2)]
    everywhere = [made_up(task, arm, 1.0, seed) for task, arm, seed in keys]
    runs = [*everywhere, made_up(ant, "true reward", 1.0)]
    assert question.comparable(runs) == everywhere[:-1]
    assert question.comparable(everywhere[1:]) == [o for o in everywhere if o.seed == 1]
    assert question.comparable([]) == []


def test_where_ours_lies_of_the_papers_band():
    panel = paper.curves_of(2)["Hopper"]
    here = float(np.interp(2e6, *panel["700 synthetic"]))
    (row,) = paper.beside_paper(figure2.QUESTION, [made_up(HOPPER, "700 labels", here)])
    values = np.concatenate([curve[1] for curve in panel.values()])
    assert (row.ours, row.here) == pytest.approx((here, here))
    assert row.band == pytest.approx((values.max() - values.min()) / 10)
    assert (row.verdict(row.here), row.verdict(row.end)) == ("inside", "below")
    for off, said in ((1.1, "above"), (0.9, "inside"), (-0.9, "inside"), (-1.1, "below")):
        ours = made_up(HOPPER, "700 labels", here + off * row.band)
        (other,) = paper.beside_paper(figure2.QUESTION, [ours])
        assert other.verdict(other.here) == said
    (early,) = paper.beside_paper(figure2.QUESTION, [made_up(HOPPER, "700 labels", here, last=100.0)])
    assert early.verdict(early.here) == "hidden"


def test_tasks_of_other_levels_are_compared_on_the_way_to_the_true_rewards_end():
    low = committed.random_returns()[PENDULUM]
    runs = [made_up(PENDULUM, arm, low + 100, last=2e5) for arm in ("true reward", "700 labels")]
    rows = {row.arm: row for row in paper.beside_paper(figure2.QUESTION, runs)}
    panel = paper.curves_of(2)["InvertedPendulum"]
    assert panel["true reward"][0][-1] < 0.2 * 2e6  # it goes on behind the others, the highest of which ends at 1,374
    assert rows["700 labels"].ours == pytest.approx(1374, rel=0.01)
    double = [made_up("prefrl/InvertedDoublePendulum-v0", arm, 9000.0) for arm in ("true reward", "700 labels")]
    rows = {row.arm: row for row in paper.beside_paper(figure2.QUESTION, double)}
    assert rows["700 labels"].ours == pytest.approx(rows["true reward"].end)
    assert paper.beside_paper(figure2.QUESTION, runs[1:]) == []  # nothing to scale it by


def test_claims_say_how_it_turned_out():
    low = committed.random_returns()[HOPPER]
    runs = [made_up(HOPPER, arm, low + gain) for arm, gain in (("original", 100), ("target", 50), ("no segments", 90))]
    words = "of the original; by the paper's words it should be below 0.80."
    assert figure5.claims(runs) == [
        (f"no segments reaches 0.90 {words}", False),
        (f"target reaches 0.50 {words}", True),
        ("no online queries has not been run beside the original; by the paper's words it should be below 1.00.", None),
    ]
    runs = [made_up(HOPPER, arm, low + gain) for arm, gain in (("true reward", 100), ("700 labels", 96))]
    (first, yes), (second, no) = figure2.goals(runs)
    assert (first, yes) == ("700 labels reach 0.96 of the true reward's result; hoped for 0.95.", True)
    assert "on 0 of 1 tasks (none)" in second
    assert not no


def test_hacking_shows_what_the_reward_model_says_and_takes_finished_rewards_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(committed, "HERE", tmp_path)
    monkeypatch.setattr("benchmarks.fresh.CODE", tmp_path / "code.json")
    (tmp_path / "grids").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "random_actions.csv").write_text("task,true_return\nPendulum-v1,-2500\n")
    top = (
        'out = "runs"\nenv = "Pendulum-v1"\nsteps = 4_000\nphases = 4\nsegment_steps = 10\nn_envs = 4\n'
        'set = ["n_steps=100"]\ntensorboard = false\ninitial_epochs = 2\nseed = 7\n'
    )
    frozen = '[[grid]]\narm = "frozen reward"\nlabels = 20\nfreeze_reward_at = 0.25\n'
    fresh = '[[grid]]\narm = "fresh"\nlabels = 0\nreward_from = "runs/{env}/frozen-reward-seed{seed}"\n'
    for name, block in (("hacking", f'{frozen}[[grid]]\ncommand = "baseline"\n'), ("transfer", fresh)):
        (tmp_path / "grids" / f"{name}.toml").write_text(top + block)
    for job, _ in hacking.QUESTION.planned().values():  # transfer comes after what it needs
        run_one(job.config)
    assert committed.gather(hacking.QUESTION) == 3
    hacking.draw(hacking.QUESTION)
    assert (hacking.QUESTION.folder / "figure.png").exists()
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in hacking.body(hacking.QUESTION).splitlines()
    ]
    assert [line[:4] for line in lines if line[0] == "Pendulum"] == [
        ["Pendulum", "frozen reward", "1", "0"],
        ["Pendulum", "true reward", "1", "-"],
        ["Pendulum", "fresh", "1", "0"],
    ]
    assert {o.arm for o in question.outcomes(hacking.QUESTION, "learned_gain")} == {"frozen reward", "fresh"}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A question with a grid of two short runs, in folders of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(committed, "HERE", tmp_path)
    monkeypatch.setattr("benchmarks.fresh.CODE", tmp_path / "code.json")
    monkeypatch.setattr(question, "README", tmp_path / "README.md")
    (tmp_path / "grids").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "random_actions.csv").write_text("task,true_return\nPendulum-v1,-2500\n")
    (tmp_path / "README.md").write_text("# Page\n\n<!-- small -->\n\n<!-- small -->\n")
    (tmp_path / "grids" / "small.toml").write_text(
        'out = "runs"\nenv = "Pendulum-v1"\nsteps = 4_000\nlabels = 20\nphases = 4\nsegment_steps = 10\nn_envs = 4\n'
        'set = ["n_steps=100"]\ntensorboard = false\ninitial_epochs = 2\nseed = [0, 1]\n'
    )
    return committed.Question(
        "small", "Small?", "About.", ("small",), reference="20 labels", measures=("learned_gain",)
    )


def ask(asked, monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["small", *arguments])
    question.main(asked)


def test_a_report_works_on_what_is_there_and_says_what_is_missing(small, tmp_path, monkeypatch, capsys):
    ask(small, monkeypatch)
    assert "2 of 2 runs are missing (0.008 million steps)." in between(tmp_path / "README.md", "small")
    first, second = (job.config for job, _ in small.planned().values())
    train(first, quiet=True)
    ask(small, monkeypatch)
    page = between(tmp_path / "README.md", "small")
    assert "1 of 2 runs are missing" in page
    assert "1 runs took" in page
    assert "share of" not in page  # there is nothing beside the reference yet
    assert (small.folder / "figure.png").exists()
    with (small.folder / "runs.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["arm"], row["seed"], row["steps"]) == ("20 labels", "0", "4000")
    assert row["commit"]
    assert row["torch"]
    assert float(row["seconds"]) > 0
    assert row["command"] == "prefrl sweep benchmarks/grids/small.toml"
    first.out.rename(tmp_path / "gone")  # the run is gone, and its data stays
    train(second, quiet=True)
    ask(small, monkeypatch)
    assert "missing" not in between(tmp_path / "README.md", "small")
    gains = [o.curve[1] for o in question.outcomes(small, "learned_gain")]
    assert [len(gain) for gain in gains] == [4, 4]
    assert not np.array_equal(*gains)
    with pytest.raises(SystemExit, match="2"):
        ask(small, monkeypatch, "--check")
    assert "leave out --check" in capsys.readouterr().err


def test_runs_of_other_steps_and_settings_are_not_of_the_question(small, tmp_path, capsys):
    (job, _), _ = small.planned().values()
    assert isinstance(job.config, TrainConfig)
    assert arm_name(job.config) == "20 labels"
    grid = tmp_path / "grids" / "small.toml"
    train(job.config, quiet=True)
    assert committed.gather(small) == 1
    asked = grid.read_text()
    grid.write_text(asked.replace("4_000", "8_000"))
    assert committed.gather(small) == 0
    assert question.outcomes(small) == []
    (small.folder / "runs.csv").unlink()
    grid.write_text(asked.replace("n_steps=100", "n_steps=50"))
    assert committed.gather(small) == 0
    assert not (small.folder / "runs.csv").exists()
    assert "holds a run with" in capsys.readouterr().err


def test_what_is_missing_is_run_in_a_clone_that_has_the_data_alone(small, tmp_path, monkeypatch):
    (first, _), (second, _) = small.planned().values()
    train(first.config, quiet=True)
    ask(small, monkeypatch)
    first.config.out.rename(tmp_path / "not-in-this-clone")
    assert list(committed.lacking(small).values()) == [second]
    ask(small, monkeypatch, "--run")
    assert not first.config.out.exists()
    assert second.config.out.exists()
    assert committed.lacking(small) == {}
    assert "missing" not in between(tmp_path / "README.md", "small")


def test_runs_that_fail_are_said_to(small, tmp_path, monkeypatch, capsys):
    grid = tmp_path / "grids" / "small.toml"
    grid.write_text(grid.read_text() + 'labeler = "broken:labeler"\n')
    (tmp_path / "broken.py").write_text(
        "def labeler(seed):\n    def answer(queries):\n        raise ValueError\n    return answer\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        ask(small, monkeypatch, "--run")
    assert "2 of 2 runs failed" in capsys.readouterr().err


def test_a_run_is_made_once_whatever_questions_call_it(small, tmp_path):
    """Another question has the first run under a name of its own; a run without what `small` keeps does not count."""
    (tmp_path / "grids" / "other.toml").write_text(
        (tmp_path / "grids" / "small.toml").read_text().replace("seed = [0, 1]", 'seed = 0\narm = "theirs"')
    )
    other = committed.Question("other", "Other?", "About.", ("other",), reference="theirs", measures=small.measures)
    unmeasured = replace(other, measures=())
    (job, _), *_ = other.planned().values()
    train(job.config, quiet=True)
    assert (committed.gather(unmeasured), committed.borrow(small)) == (1, 0)
    assert (committed.gather(other), committed.borrow(small)) == (1, 1)
    assert committed.borrow(small) == 0  # it has it now
    (mine,) = committed.outcomes(small, "learned_gain")
    (theirs,) = committed.outcomes(other, "learned_gain")
    assert (mine.arm, theirs.arm) == ("20 labels", "theirs")
    np.testing.assert_array_equal(mine.curve, theirs.curve)
    with (small.folder / "runs.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["command"] == "prefrl sweep benchmarks/grids/other.toml"
    for name in ("runs.csv", "curves.csv"):
        (small.folder / name).unlink()
    grid = tmp_path / "grids" / "other.toml"
    grid.write_text(grid.read_text().replace("labels = 20", "labels = 30"))
    assert committed.borrow(small) == 0


@pytest.mark.parametrize(("gain", "code"), [(-3000.0, 1), (3000.0, 0)])
def test_the_check_fails_where_ours_lies_below(monkeypatch, capsys, gain, code):
    here = float(np.interp(2e6, *paper.curves_of(2)["Hopper"]["700 synthetic"]))
    monkeypatch.setattr(question, "outcomes", lambda asked: [made_up(HOPPER, "700 labels", here + gain)])
    monkeypatch.setattr("sys.argv", ["figure2", "--check"])
    with pytest.raises(SystemExit, match=str(code)):
        question.main(figure2.QUESTION)
    assert ("below" if code else "above") in capsys.readouterr().out


def test_the_check_fails_where_there_is_nothing_to_compare(monkeypatch, capsys):
    hidden = made_up("prefrl/Ant-v0", "700 labels", -5000.0)  # the paper's curve lies behind others there
    switch = made_up("prefrl/Ant-v0", "target", -5000.0)  # and the original has not been run
    for asked, run in ((figure2.QUESTION, hidden), (figure5.QUESTION, switch)):
        monkeypatch.setattr(question, "outcomes", lambda asked, run=run: [run])
        monkeypatch.setattr("sys.argv", [asked.name, "--check"])
        with pytest.raises(SystemExit, match="1"):
            question.main(asked)
    assert "hidden" in (said := capsys.readouterr().out)
    assert "not yet: target has not been run beside the original" in said


def test_a_page_without_room_for_the_question_is_explained(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing here")
    with pytest.raises(UserError, match="two are needed"):
        question.write_between(page, "figure2", "text")
    assert page.read_text() == "nothing here"


def test_the_presets_are_what_the_tuning_chose(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planned = tuning.QUESTION.planned()
    for task in dict.fromkeys(task for task, _, _ in planned):
        config = planned[task, f"700 labels, {tuning.CHOSEN[question.panel_of(task)]}", 100][0].config
        preset, asked = resolve(replace(config, set=(), reward_std=None)), resolve(config)
        assert preset.reward_std == asked.reward_std
        of_preset, of_asked = (name_value(c.set, "setting") for c in (preset, asked))
        of_asked["target_kl"] = of_preset.get("target_kl", math.inf)  # chosen later, by another question
        assert {"policy_kwargs": {}, "target_kl": math.inf, **of_preset} == {"policy_kwargs": {}, **of_asked}


def test_the_presets_bound_the_policys_updates_where_that_was_chosen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for task in dict.fromkeys(task for task, _, _ in figure2.QUESTION.planned()):
        settings = name_value(resolve(TrainConfig(env=task)).set, "learner setting")
        assert settings.get("target_kl") == target_kl.CHOSEN.get(question.panel_of(task))
