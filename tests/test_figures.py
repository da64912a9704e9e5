"""What is seen in every published figure: ticks, names of data sets, divergence, styles."""

import importlib
from functools import cache
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import pytest

import datasets
import experiments
from experiments.gas_sensor import figures as sweeps
from experiments.mnist import other_figures
from experiments.probe.results import label
from experiments.vector_field import field, settings
from presenting import drawing, palette
from publishing import assets, benchmark_figure
from running.records import read_json

ASSETS = assets.ROOT / "assets"
SMALL = settings.Settings(problems=3, iterations=40, norms=(0.1, 0.5), decades=(-0.25, 0.75))
NAMES = {
    "gas_sensor": ["Gas sensor (Ethanol)"],
    "end_to_end_rule": ["Gas sensor (Ethanol)", "random matrix"],
    "mnist": ["MNIST"],
    "vector_field": ["Random data"],
    "probe": ["by data set"],
    "benchmark": ["random data"],
}


@cache
def drawn():
    """All published figures, not written: by the room that they are of, and the file's name."""
    found, room = {}, None

    def keep(figure):
        found[room, path.stem] = figure

    def hold(to, write):
        nonlocal path
        path = to

    path = None
    closed = mock.patch.object(plt, "close", keep)
    written = mock.patch.object(drawing, "write_atomically", hold)
    film = mock.patch("experiments.vector_field.figures.animate")
    with closed, written, film:
        for room in experiments.ROOMS:
            one = assets.room(room)
            one.draw(field.compute(SMALL)) if room == "vector_field" else one.draw()
        room, report = "benchmark", ASSETS / "benchmark_training_step.json"
        benchmark_figure.draw(read_json(report), report.with_suffix(".png"))
    return found


def test_every_published_figure_is_looked_at():
    assert {name for _, name in drawn()} == {path.stem for path in ASSETS.glob("*.png")}


def labelled(axis):
    """Labels of ticks that are seen."""
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    inside = [tick for tick in ticks if low <= tick.get_loc() <= high and tick.label1.get_visible()]
    return [tick.label1.get_text() for tick in inside if tick.label1.get_text()]


def panels(figure):
    return [axes for axes in figure.axes if axes.axison]


def test_every_axis_has_two_labelled_ticks():
    for (room, name), figure in drawn().items():
        figure.canvas.draw()
        for axes in panels(figure):
            assert len(set(labelled(axes.xaxis))) >= 2, (name, axes.get_xlabel())
            rows = room == "probe" and axes is not figure.axes[0]  # named in the first panel
            assert rows or len(set(labelled(axes.yaxis))) >= 2, (name, axes.get_ylabel())


def test_every_title_names_the_data():
    for (room, name), figure in drawn().items():
        title = " ".join(figure.get_suptitle().split())
        assert all(words in title for words in NAMES[room]), (name, title)
    (probe,) = [figure for (room, _), figure in drawn().items() if room == "probe"]
    assert set(labelled(probe.axes[0].yaxis)) == set(map(label, assets.room("probe").outcomes))
    assert set(datasets.TITLES) >= {*importlib.import_module("datasets.images").OTHERS, "mnist"}


def test_no_line_of_a_title_is_left_with_a_word():
    for figure in drawn().values():
        lengths = [len(line) for line in figure.get_suptitle().splitlines()]
        assert min(lengths) > max(lengths) / 2, figure.get_suptitle()


@pytest.mark.parametrize("span", [(0.036, 0.06), (0.9, 1.1), (2e-5, 3e-3), (0.02, 7)])
def test_a_log_axis_of_few_decades_has_three_plain_ticks_or_more(span):
    figure, axes = plt.subplots()
    axes.set(xscale="log", xlim=span)
    drawing.label_log_axis(axes.xaxis)
    figure.canvas.draw()
    found = [float(text.replace("\N{MINUS SIGN}", "-")) for text in labelled(axes.xaxis)]
    plt.close(figure)
    assert 3 <= len(found) <= 10
    assert found == sorted(set(found)) and span[0] <= found[0] and found[-1] <= span[1]


def test_rates_that_diverged_are_in_a_strip_of_their_own():
    figure, axes = plt.subplots()
    axes.loglog([1, 2, 4], [1, 2, 3])
    limits = axes.get_ylim()
    drawing.draw_diverged(axes, [("red", []), ("blue", np.array([8, 16]))])
    (strip,) = axes.child_axes
    (crosses,) = strip.lines
    assert crosses.get_color() == "blue" and list(crosses.get_xdata()) == [8, 16]
    assert axes.get_ylim() == limits and axes.get_xlim()[1] > 16 and len(axes.lines) == 1
    figure.canvas.draw()
    assert strip.get_window_extent().y0 >= axes.get_window_extent().y1 - 1
    assert labelled(strip.yaxis) == ["diverged"] and not labelled(strip.xaxis)
    drawing.draw_diverged(axes, [("red", [])])
    assert axes.child_axes == [strip]
    plt.close(figure)


def test_networks_that_diverged_at_every_rate_have_crosses_alone():
    figure, axes = plt.subplots()
    axes.set(xscale="log", yscale="log")
    other_figures._draw_rates(axes, {"none": {0.1: 2.0, 0.2: 1.0}, "all": {0.1: np.nan}})
    (strip,) = axes.child_axes
    assert [list(line.get_xdata()) for line in strip.lines] == [[0.1]]
    assert labelled(axes.xaxis) == ["0.1", "0.2"]
    filled = [line for line in axes.lines if line.get_fillstyle() == "full"]
    assert [list(line.get_xdata()) for line in filled] == [[0.2], []]
    plt.close(figure)


def test_figures_that_hold_diverged_rates_show_them_only_there():
    strips = {name: [a.child_axes for a in figure.axes] for (_, name), figure in drawn().items()}
    with_strips = {name for name, found in strips.items() if any(found)}
    assert with_strips >= {"gas_sensor_l4", "mnist_rates"}
    for (_, name), figure in drawn().items():
        crosses = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "x"]
        assert not crosses or name in ("vector_field", "benchmark_training_step")


def test_optimizers_of_one_figure_differ_in_colour_and_dashes_and_marker():
    looks = [
        (colour, sweeps.DASHES[name], sweeps.MARKERS[name])
        for name, colour in palette.OPTIMIZERS.items()
    ]
    assert all(len(set(kind)) == len(looks) for kind in zip(*looks, strict=True))
