"""What the README claims is what the committed data says."""

from pathlib import Path

from benchmarks import loop

ROOT = Path(__file__).parent.parent


def test_the_readme_holds_the_table_of_the_committed_runs():
    table = (ROOT / "README.md").read_text().split(loop.MARK)[1].strip()
    assert table == loop.summary(loop.read_data())


def test_every_committed_run_is_whole():
    outcomes = loop.read_data()
    assert len({o.task for o in outcomes}) == 3
    for arm in ("true reward", "700 labels"):
        for task in {o.task for o in outcomes}:
            assert len({o.seed for o in outcomes if (o.task, o.arm) == (task, arm)}) >= 3
    assert all(o.curve[0][-1] == 1_000_000 for o in outcomes)
