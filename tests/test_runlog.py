"""What a run says while it runs."""

from prefrl.runlog import Progress


def test_an_alarm_is_said_once_each_time_it_begins(capsys):
    with Progress("some run", 1_000) as progress:
        for step, alarm in ((100, False), (120, True), (140, True), (160, False), (180, True)):
            progress.update(step, 10, -3.5, alarm=alarm)
    said = [line for line in capsys.readouterr().err.splitlines() if "exploiting" in line]
    assert len(said) == 2
    assert said[0].startswith("some run: after 120 steps the true return has fallen, and the learned reward finds")
    assert "after 180 steps" in said[1]


def test_a_quiet_run_says_nothing(capsys):
    with Progress("some run", 1_000, quiet=True) as progress:
        progress.update(1_000, 10, -3.5, alarm=True)
    assert capsys.readouterr() == ("", "")
