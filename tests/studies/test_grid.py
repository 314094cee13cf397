"""A grid file asks for these runs, in this order, in these folders; a mistake in it is one sentence."""

import re
from pathlib import Path

import pytest
from helpers import sentence

from prefrl.settings.config import BaselineConfig, TrainConfig, arm_name, slug
from prefrl.studies.grid import Job, read_grid
from prefrl.words.errors import UserError

FIGURE = """
out = "runs/figure"
env = ["prefrl/Hopper-v0", "prefrl/InvertedPendulum-v0"]
seed = [0, 1]
steps = 2_000_000
members = 5

[[grid]]
command = "baseline"

[[grid]]
labels = [1400, 700]

[[grid]]
arm = "random queries"
strategy = "uniform"
gpus = 0.5

[[override]]
when = {env = "prefrl/InvertedPendulum-v0"}
steps = 200_000

[[override]]
when = {env = ["prefrl/InvertedPendulum-v0", "prefrl/Reacher-v0"], labels = 1400}
reward_learning_rate = 1e-4
cpus = 2
"""


@pytest.fixture
def read(tmp_path):
    def read_text(text: str) -> list[Job]:
        (tmp_path / "question.toml").write_text(text)
        return read_grid(tmp_path / "question.toml")

    return read_text


def test_a_figure_is_a_product_of_tasks_arms_and_seeds(read):
    jobs = read(FIGURE)
    assert [str(job.config.out) for job in jobs[:8]] == [
        "runs/figure/prefrl-Hopper-v0/true-reward-seed0",
        "runs/figure/prefrl-InvertedPendulum-v0/true-reward-seed0",
        "runs/figure/prefrl-Hopper-v0/labels1400-seed0",
        "runs/figure/prefrl-Hopper-v0/labels700-seed0",
        "runs/figure/prefrl-InvertedPendulum-v0/labels1400-seed0",
        "runs/figure/prefrl-InvertedPendulum-v0/labels700-seed0",
        "runs/figure/prefrl-Hopper-v0/random-queries-seed0",
        "runs/figure/prefrl-InvertedPendulum-v0/random-queries-seed0",
    ]
    assert [job.config.seed for job in jobs] == [0] * 8 + [1] * 8
    assert [arm_name(job.config) for job in jobs[:4]] == ["true reward", "true reward", "1400 labels", "700 labels"]
    assert jobs[0] == Job(
        BaselineConfig(env="prefrl/Hopper-v0", steps=2_000_000, out=jobs[0].config.out), cpus=1, gpus=0
    )
    assert jobs[4] == Job(
        TrainConfig(
            env="prefrl/InvertedPendulum-v0",
            labels=1400,
            steps=200_000,
            members=5,
            reward_learning_rate=1e-4,
            out=jobs[4].config.out,
        ),
        cpus=2,
        gpus=0,
    )
    assert jobs[6] == Job(
        TrainConfig(
            env="prefrl/Hopper-v0",
            arm="random queries",
            strategy="uniform",
            steps=2_000_000,
            members=5,
            out=jobs[6].config.out,
        ),
        cpus=1,
        gpus=0.5,
    )


def test_a_file_without_blocks_is_one_block_beside_its_name(read):
    jobs = read('env = "Pendulum-v1"\nlabels = 50\n')
    assert [job.config for job in jobs] == [
        TrainConfig(env="Pendulum-v1", labels=50, out=Path("runs/sweep/question/Pendulum-v1/labels50-seed0"))
    ]


def test_arms_are_told_apart_by_whatever_is_listed(read):
    jobs = read(
        """
        labels = [20, 40]
        members = [1, 3]
        set = [["n_steps=50", "gamma=0.9"], []]
        teachers = ["mistake", "skip"]
        """
    )
    assert [arm_name(job.config) for job in jobs[:3]] == [
        "20 labels, members 1, set n_steps=50 gamma=0.9",
        "20 labels, members 1, set ",
        "20 labels, members 3, set n_steps=50 gamma=0.9",
    ]
    assert len({job.config.out for job in jobs}) == 8
    assert {(job.config.set, job.config.teachers) for job in jobs} == {
        (("n_steps=50", "gamma=0.9"), ("mistake", "skip")),
        ((), ("mistake", "skip")),
    }
    named = read('arm = "ours"\nlabels = [20, 40]\n')
    assert [arm_name(job.config) for job in named] == ["ours, labels 20", "ours, labels 40"]


def test_a_later_override_wins_and_defaults_can_be_asked_about(read):
    (job,) = read(
        """
        [[override]]
        when = {schedule = "annealed", command = "train"}
        labels = 30
        steps = 1000
        [[override]]
        when = {schedule = ["annealed"]}
        steps = 2000
        """
    )
    assert (job.config.steps, job.config.labels) == (2000, 30)
    assert job.config.out.name == "labels30-seed0"


def test_an_override_replaces_learner_settings_by_name(read):
    (job,) = read(
        """
        set = ["gamma=0.9", "batch_size=64"]
        [[override]]
        when = {labels = 700}
        set = ["gamma=0.99", "target_kl=0.03"]
        teachers = ["mistake"]
        """
    )
    assert job.config.set == ("batch_size=64", "gamma=0.99", "target_kl=0.03")
    assert job.config.teachers == ("mistake",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lables = 5", "'lables', which has no place there. Did you mean 'labels'?"),
        ("labels = 'many'", "it takes int"),
        ("labels = [10, 'many']", "sets labels = 'many': it takes int"),
        ("env = []", "give it a value"),
        ("out = 3", "the path of a folder"),
        ("cpus = 0", "cpus = 0: it takes a share of one, or a whole number, more than 0."),
        ("gpus = -1", "0 or more"),
        ("gpus = 1.5", "a whole number"),
        ("gpus = inf", "a whole number"),
        ("gpus = true", "a whole number"),
        ("cpus = [1, 2]", "cpus = [1, 2]"),
        ("command = 'tain'", "it is train or baseline"),
        ("command = ['train']", "it is train or baseline"),
        ("backend = 5", "backend = 5: it takes str"),
        ("objective = 5", "objective = 5: it takes Literal"),
        ("grid = 3", "begin each with [[grid]]"),
        ("[grid]\nlabels = 3", "begin each with [[grid]]"),
        ("[[grid]]\ncommand = 'baseline'\nlabels = 3", "[[grid]] 1, sets 'labels', which has no place there"),
        ("[[grid]]\nlabels = 3\n[[grid]]\nlables = 3", "[[grid]] 2, sets 'lables'"),
        ("[[grid]]\nout = 'elsewhere'", "sets 'out', which has no place there"),
        ("[[grid]]\nlabels = 3\n[[grid]]\nlabels = 3\nmembers = 5", "give each block an `arm` of its own"),
        ("[[override]]\nsteps = 3", "needs a `when`"),
        ("[[override]]\nwhen = {env = 'Hopper'}\nsteps = 3", "[[override]] 1, applies to no run"),
        ("[[override]]\nwhen = {evn = 'Hopper'}\nsteps = 3", "Did you mean 'env'?"),
        ("[[override]]\nwhen = {}\nseed = 3", "sets 'seed', which has no place there"),
        ("[[override]]\nwhen = {}\nsteps = 'x'", "it takes int"),
        ("labels = ", "is not TOML"),
    ],
)
def test_a_mistake_is_one_sentence(read, text, says):
    with pytest.raises(UserError) as error:
        read(text)
    assert says in str(error.value)
    assert "question.toml" in str(error.value)
    if "There can be" not in str(error.value):  # what there can be is everything, for want of anything like it
        sentence(error.value)


def test_the_readmes_grid_is_one(read):
    blocks = re.findall(
        r"```toml\n(.*?)```", (Path(__file__).parent.parent.parent / "README.md").read_text(), re.DOTALL
    )
    (text,) = (block for block in blocks if "[[grid]]" in block)
    jobs = read(text)
    assert len(jobs) == 2 * 5 * 5
    assert {arm_name(job.config) for job in jobs} > {"true reward", "700 labels", "random queries"}
    assert {job.config.steps for job in jobs if job.config.env == "Walker2d-v5"} == {2_000_000}


@pytest.mark.parametrize("name", ["../up", "a/b:c", "..", "70 % right", ""])
def test_whatever_an_arm_is_called_its_folder_is_one(name):
    assert Path(slug(name)).name == slug(name) not in ("", ".", "..")
