"""What a policy reached at so many nats, from made-up runs."""

from dataclasses import replace

import numpy as np

from benchmarks import overoptimisation, question
from benchmarks.overoptimisation import QUESTION, body, draw, followed
from prefrl.studies.compare import Outcome

STEPS = np.array([1000.0, 2000.0, 3000.0, 4000.0])
MADE_UP = {
    "kl": (STEPS[1:], np.array([0.0, 4.0, 9.0])),  # no episode ended in the first phase
    "true_return": (STEPS, np.array([5.0, 10.0, 30.0, 20.0])),
    "learned_return": (STEPS, np.array([0.0, 1.0, 2.0, 3.0])),
}


def test_runs_are_shown_by_answers_and_beta_and_the_best_beside_the_end(tmp_path, monkeypatch):
    def outcomes(asked, measure="true_return"):
        return [
            Outcome("Hopper-v5", arm, seed, MADE_UP[measure], 1.0)
            for arm in ("50 answers, beta 0", "700 answers, beta 0.3", "start")
            for seed in (0, 1)
        ]

    monkeypatch.setattr(question, "outcomes", outcomes)
    found = followed()
    assert list(found) == [("Hopper-v5", 50, "0"), ("Hopper-v5", 700, "0.3")]
    for seeds in found.values():
        assert len(seeds) == 2
        np.testing.assert_array_equal(seeds[0], [[0, 4, 9], [10, 30, 20], [1, 2, 3]])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in body(QUESTION).splitlines()]
    assert ["Hopper", "50", "0", "2", "30", "4", "20", "9"] in rows
    monkeypatch.setattr("benchmarks.committed.HERE", tmp_path)
    draw(replace(QUESTION, name="made_up"))
    assert (tmp_path / "results" / "made_up" / "figure.png").exists()


def test_every_arm_of_the_second_grid_follows_a_reward_of_the_first():
    arms = {arm for _, arm, _ in QUESTION.planned()}
    assert {arm for arm in arms if overoptimisation.ARM.fullmatch(arm)} == {
        f"{answers} answers, beta {beta}" for answers in (50, 200, 700) for beta in ("0", "0.03", "0.3")
    }
    rewards = {
        str(job.config.out) for job, _ in QUESTION.planned().values() if job.config.out.name.startswith("labels")
    }
    for job, _ in QUESTION.planned().values():
        if follows := getattr(job.config, "reward_from", None):
            place = str(follows).replace("{env}", job.config.env).replace("{seed}", str(job.config.seed))
            assert place in rewards
