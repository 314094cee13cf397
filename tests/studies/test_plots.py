"""Figures and tables: what is drawn, looked up in the figure itself, and the table's exact text."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.image import imread

from prefrl.studies.plots import (
    INK,
    PALETTE,
    TRUE_REWARD,
    Result,
    curves_figure,
    learning_curves,
    measures_table,
    result_table,
)
from prefrl.words.errors import UserError

X = np.array([0, 1_000_000, 2_000_000])


def arm(*ends):
    """One straight curve from 0 for each seed."""
    return [(X, np.array([0.0, end / 2, end])) for end in ends]


PANELS = {
    "Hopper": {"700 labels": arm(1, 2, 6), TRUE_REWARD: arm(4, 4, 4, 4, 400)},
    "Reacher": {"700 labels": arm(-5, -4), "350 labels": arm(-9)},
}


def bold(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def faint(axes, colour):
    return [line for line in axes.lines if line.get_alpha() is not None and to_hex(line.get_color()) == colour.lower()]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_panel_for_each_task_and_a_line_for_each_seed():
    hopper, reacher = curves_figure(PANELS).axes
    assert [axes.get_title(loc="left") for axes in (hopper, reacher)] == ["Hopper", "Reacher"]
    assert len(hopper.lines) == 3 + 5 + 2
    assert len(reacher.lines) == 2 + 1 + 2
    assert len(faint(hopper, INK)) == 5
    assert len(faint(hopper, PALETTE[0])) == 3
    assert all(line.get_alpha() < 0.5 for line in faint(hopper, INK))


def test_the_bold_line_is_the_interquartile_mean_in_millions_of_steps():
    hopper, reacher = curves_figure(PANELS).axes
    np.testing.assert_array_equal(bold(hopper)[TRUE_REWARD].get_xdata(), [0, 1, 2])
    np.testing.assert_array_equal(bold(hopper)[TRUE_REWARD].get_ydata(), [0, 2, 4])  # 400 is cut off
    np.testing.assert_array_equal(bold(hopper)["700 labels"].get_ydata(), [0, 1.5, 3])
    np.testing.assert_array_equal(bold(reacher)["700 labels"].get_ydata(), [0, -2.25, -4.5])
    assert hopper.get_xlabel() == "environment steps (millions)"
    assert hopper.get_ylabel() == "true return"


def test_an_arm_has_one_colour_everywhere_and_the_true_reward_is_dark():
    figure = curves_figure(PANELS)
    hopper, reacher = figure.axes
    assert bold(hopper)["700 labels"].get_color() == bold(reacher)["700 labels"].get_color() == PALETTE[0]
    assert bold(reacher)["350 labels"].get_color() == PALETTE[1]
    assert bold(hopper)[TRUE_REWARD].get_color() == INK
    assert max(to_rgb(INK)) < 0.2
    assert [handle.get_color() for handle in figure.legends[0].legend_handles] == [INK, *PALETTE[:2]]


def test_the_legend_counts_seeds_and_the_title_stands_above_it():
    figure = curves_figure(PANELS, title="A title")
    assert legend(figure) == ["true reward (5 seeds)", "700 labels (2–3 seeds)", "350 labels (1 seed)"]
    assert figure.legends[0].get_title().get_text() == "A title"


def test_the_legend_is_read_by_rows():
    figure = curves_figure({task: {f"{n} labels": arm(n) for n in range(9)} for task in "abcd"})
    figure.draw_without_rendering()
    (table,) = figure.legends
    boxes = {text.get_text()[0]: text.get_window_extent() for text in table.get_texts()}
    assert sorted(boxes, key=lambda name: (-round(boxes[name].y0), boxes[name].x0)) == list("012345678")
    assert len({round(box.y0) for box in boxes.values()}) > 1


def test_a_long_title_stays_in_its_panel():
    names = [f"prefrl/InvertedDoublePendulum-v{n}" for n in range(8)]
    figure = curves_figure({name: {"a": arm(1)} for name in names})
    figure.draw_without_rendering()
    for axes in figure.axes:
        assert axes.get_title(loc="left").startswith("prefrl/")
        edges = [other.bbox.x0 for other in figure.axes if other.bbox.x0 > axes.bbox.x1] + [figure.bbox.x1]
        assert axes._left_title.get_window_extent().x1 <= min(edges)


def test_short_runs_are_counted_in_thousands():
    (axes,) = curves_figure({"Pendulum": {"a": [(X / 100, X)]}}).axes
    assert axes.get_xlabel() == "environment steps (thousands)"
    np.testing.assert_array_equal(bold(axes)["a"].get_xdata(), [0, 10, 20])


def test_the_bold_line_covers_what_every_seed_covers():
    curves = [([0, 2e6, 4e6], [0.0, 2.0, 4.0]), ([1e6, 3e6, 5e6], [3.0, 5.0, 7.0])]
    (axes,) = curves_figure({"Ant": {"a": curves}}).axes
    np.testing.assert_array_equal(bold(axes)["a"].get_xdata(), [1, 2, 3, 4])
    np.testing.assert_array_equal(bold(axes)["a"].get_ydata(), [2, 3, 4, 5])
    assert len(axes.lines) == 3

    (axes,) = curves_figure({"Ant": {"a": [([0, 1e6], [0.0, 1.0]), ([2e6, 3e6], [0.0, 1.0])]}}).axes
    assert len(axes.lines) == 2  # nothing in common: the seeds alone


def test_a_run_that_has_measured_nothing_yet_is_left_out():
    figure = curves_figure({"Ant": {"a": [*arm(1, 2), ([], [])], "b": [([], [])]}})
    assert legend(figure) == ["a (2 seeds)"]
    assert len(figure.axes[0].lines) == 3


def test_reference_curves_are_dotted():
    reference = {"Hopper": {TRUE_REWARD: (X, [0, 1, 2]), "human": (X, [3, 4, 5])}, "Elsewhere": {"x": (X, X)}}
    figure = curves_figure(PANELS, reference=reference, reference_label="the paper")
    hopper, reacher = figure.axes
    assert len(hopper.lines) == 3 + 5 + 2 + 2
    assert len(reacher.lines) == 5
    dotted = {line.get_color(): line for line in hopper.lines if line.is_dashed()}
    np.testing.assert_array_equal(dotted[PALETTE[2]].get_ydata(), [3, 4, 5])
    assert set(dotted) == {INK, PALETTE[2]}
    assert {"human, the paper", "the paper"} < set(legend(figure))


def test_where_a_reference_ends_is_marked_at_the_edge_within_sight():
    figure = curves_figure(PANELS, ends={"Hopper": {TRUE_REWARD: 9000.0, "nobody": 1.0}}, ylabel="")
    hopper, reacher = figure.axes
    (mark,) = [line for line in hopper.lines if line.get_marker() == "<"]
    assert (mark.get_xdata()[0], mark.get_ydata()[0], mark.get_color()) == (1.0, 9000.0, INK)
    assert hopper.get_ylim()[1] > 9000
    assert hopper.get_xlim()[1] < 3  # in millions: the mark is at the edge, not at a step
    assert not [line for line in reacher.lines if line.get_marker() == "<"]
    assert legend(figure)[-1] == "published, at its end"
    assert hopper.get_ylabel() == ""
    assert curves_figure(PANELS).axes[0].get_ylabel() == "true return"


def test_measures_are_a_table_with_a_column_for_each_run():
    assert measures_table(
        {"a|b": {"accuracy": 0.5, "epic": float("nan")}, "c": {"accuracy": 1.0, "epic": 0.12345}}
    ) == (
        "| measure  |  a\\|b |     c |\n"
        "| -------- | ----: | ----: |\n"
        "| accuracy | 0.500 | 1.000 |\n"
        "| epic     |     - | 0.123 |"
    )


def test_more_arms_than_colours_differ_by_dashes():
    figure = curves_figure({"Ant": {f"arm {i}": arm(i) for i in range(14)}})
    looks = {(line.get_color(), str(line._dash_pattern)) for line in bold(figure.axes[0]).values()}
    assert len(looks) == 14


@pytest.mark.parametrize("count", range(1, 10))
def test_any_number_of_panels_has_its_axes_named(count):
    figure = curves_figure({f"task {i}": {"a": arm(i)} for i in range(count)})
    assert len(figure.axes) == count
    columns = {1: 1, 2: 2, 3: 3, 4: 2, 5: 3, 6: 3}.get(count, 4)
    for place, axes in enumerate(figure.axes):
        assert bool(axes.get_ylabel()) == (place % columns == 0)
        assert bool(axes.get_xlabel()) == (place + columns >= count)
    assert 890 <= figure.get_figwidth() * figure.dpi <= 1600


def test_the_figure_is_saved_and_the_same_curves_give_the_same_bytes(tmp_path):
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        first, second = tmp_path / "new" / f"first{suffix}", tmp_path / f"second{suffix}"
        for path in (first, str(second)):
            learning_curves(PANELS, path, title="Once")
        assert first.read_bytes().startswith(start)
        assert first.read_bytes() == second.read_bytes()
    picture = imread(tmp_path / "second.png")
    assert picture.shape[1] == 1280
    assert (picture[0, :, :3] == 1).all()  # a light background, and nothing cut off at the top edge
    assert to_hex(picture.reshape(-1, 4)[picture[..., :3].sum(-1).argmin()][:3]) == INK


def test_nothing_sticks_out_of_the_figure():
    long = {f"{n} labels from an oracle that errs": arm(n) for n in range(5)}
    figure = curves_figure({"Hopper": long}, title="A long title that has to be broken to fit above one small panel")
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y1 <= figure.bbox.y1
    assert box.y0 >= figure.axes[0].get_tightbbox().y1


@pytest.mark.parametrize("panels", [{}, {"Ant": {}}, {"Ant": {"a": []}}, {"Ant": {"a": [([], [])]}}])
def test_nothing_to_draw_is_explained(panels):
    with pytest.raises(UserError, match="nothing to draw"):
        curves_figure(panels)


def test_an_unknown_suffix_is_explained(tmp_path):
    with pytest.raises(UserError, match=r"\.png, \.svg or \.pdf: got 'curves\.jpgg'"):
        learning_curves(PANELS, tmp_path / "curves.jpgg")


def test_importing_the_room_does_not_import_matplotlib():
    code = "import sys, prefrl.studies.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_drawing_leaves_pyplot_alone(tmp_path):
    code = (
        "import sys, prefrl.studies.plots as p; p.learning_curves({'Ant': {'a': [([0, 1], [0, 1])]}}, sys.argv[1]);"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "a.png"], check=False).returncode == 0


def test_table_text():
    nan = float("nan")
    rows = [
        Result("HalfCheetah", TRUE_REWARD, 5, 5321.4, 4800.2, 6012.0, 1.0),
        Result("HalfCheetah", "700 labels", 3, -12.3, -523.0, 1012.0, -0.0023),
        Result("Reacher", "a|b", 1, -4.456, nan, nan, None),
    ]
    assert result_table(rows) == (
        "| task        | arm         | seeds |   IQM |   low |  high | of true reward |\n"
        "| :---------- | :---------- | ----: | ----: | ----: | ----: | -------------: |\n"
        "| HalfCheetah | true reward |     5 | 5,321 | 4,800 | 6,012 |           1.00 |\n"
        "| HalfCheetah | 700 labels  |     3 |   -12 |  -523 | 1,012 |           0.00 |\n"
        "| Reacher     | a\\|b        |     1 | -4.46 |     - |     - |              - |\n"
        "\n"
        "IQM: interquartile mean over seeds; low, high: 95% bootstrap interval.\n"
    )


def test_a_table_says_what_its_shares_are_of():
    nan = float("nan")
    rows = [
        Result("Acrobot", TRUE_REWARD, 5, -80.0, -90.0, -75.0, 1.0, -499.6),
        Result("Acrobot", "90 labels", 5, -100.0, -120.0, -90.0, 0.9523, -499.6),
        Result("Maze", TRUE_REWARD, 1, 0.02, nan, nan, None, 0.05, no_way=True),
    ]
    first, *notes = [part for part in result_table(rows).split("\n\n") if part]
    assert [line.split("|")[-2].strip() for line in first.splitlines()[2:]] == ["1.00", "0.95", "-"]
    assert notes == [
        "IQM: interquartile mean over seeds; low, high: 95% bootstrap interval.",
        "of true reward: share of the way from random actions (-500 on Acrobot, 0.05 on Maze) to the true reward's "
        "IQM.",
        "On Maze the true reward's IQM is no better than random actions: nothing can be a share of it.\n",
    ]


def test_a_table_of_nothing_is_its_header():
    table = result_table([], confidence=0.9)
    assert table.splitlines()[0] == "| task | arm | seeds | IQM | low | high | of true reward |"
    assert len(table.splitlines()) == 4
    assert "90% bootstrap interval" in table
