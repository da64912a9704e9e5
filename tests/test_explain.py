"""The figure that explains the rule: its field, trajectories, loop and files; and all SVGs."""

import hashlib
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

import explain
from experiments.gas_sensor.figures import DASHES
from experiments.mnist import figures
from experiments.vector_field import field as vector_field
from experiments.vector_field import figures as vector_field_figure
from experiments.vector_field.field import Problem
from experiments.vector_field.settings import Settings
from presenting import drawing, palette
from publishing import assets

ASSETS = assets.ROOT / "assets"
SVG_LIMIT, GIF_LIMIT = 400_000, 1_500_000  # bytes
SMALL = Settings(problems=3, iterations=40, norms=(0.1, 0.5), decades=(-0.25, 0.75))
PROBLEMS = vector_field.random_problems(3, 30, seed=0)
PROBLEM = Problem(*(array[0] for array in PROBLEMS))
KERNELS = np.random.default_rng(1).normal(size=(20, 2))


def numerical_gradient(problem, kernel, size=1e-6):
    def loss(k):
        return np.mean((problem.features @ k - problem.targets) ** 4) / 4

    return np.array([(loss(kernel + e) - loss(kernel - e)) / (2 * size) for e in size * np.eye(2)])


def test_at_depth_one_the_field_is_minus_the_gradient():
    found = vector_field.field(PROBLEM, KERNELS, depth=1)
    for kernel, arrow in zip(KERNELS, found, strict=True):
        np.testing.assert_allclose(arrow, -numerical_gradient(PROBLEM, kernel), rtol=1e-6)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_field_is_the_rule_written_out(depth):
    found = vector_field.field(PROBLEM, KERNELS, depth)
    assert found.dtype == np.float64
    for k, arrow in zip(KERNELS, found, strict=True):
        gradient = PROBLEM.features.T @ (PROBLEM.features @ k - PROBLEM.targets) ** 3 / 30
        projector = np.outer(k, k) / (k @ k)
        matrix = (k @ k) ** (1 - 1 / depth) * (np.eye(2) + (depth - 1) * projector)
        np.testing.assert_allclose(arrow, -matrix @ gradient, rtol=1e-12)


def test_zero_is_a_saddle_of_deep_networks_only():
    zero = np.zeros((1, 2))
    assert np.linalg.norm(vector_field.field(PROBLEM, zero, 1)) > 0.1
    assert np.all(vector_field.field(PROBLEM, zero, 2) == 0)


def test_problems_at_once_are_problems_one_by_one():
    kernels = np.broadcast_to(KERNELS, (3, *KERNELS.shape))
    together = vector_field.field(PROBLEMS, kernels, 3)
    for index, found in enumerate(together):
        one = Problem(*(array[index] for array in PROBLEMS))
        np.testing.assert_allclose(found, vector_field.field(one, KERNELS, 3), rtol=1e-12)


def test_the_minimum_is_one():
    found = vector_field.minimum(PROBLEMS)
    gradients = vector_field.loss_and_gradient(PROBLEMS, found[:, None])[1]
    assert np.abs(gradients).max() < 1e-14


@pytest.fixture(scope="module")
def shown():
    return vector_field.compute(SMALL)


@pytest.mark.parametrize("depth", SMALL.depths)
def test_trajectories_descend_to_the_goal_in_the_iterations_that_are_said(shown, depth):
    path = shown.paths[depth]
    np.testing.assert_array_equal(path[0], vector_field.starts_around_zero(0.2, 4))
    least = vector_field.loss_and_gradient(shown.problem, shown.minimum[None])[0]
    at_zero = vector_field.loss_and_gradient(shown.problem, np.zeros((1, 2)))[0]
    excess = vector_field.loss_and_gradient(shown.problem, path)[0] - least
    assert np.all(excess[-1] < excess[0])
    reached = np.all(excess <= SMALL.target * (at_zero - least), axis=-1)
    first = np.argmax(reached) if reached.any() else np.inf
    assert first == shown.needed[depth]


@pytest.mark.parametrize("depth", SMALL.depths)
def test_no_other_rate_is_faster(shown, depth):
    starts = vector_field.starts_around_zero(0.2, 4)
    least = vector_field.loss_and_gradient(shown.problem, shown.minimum[None])[0]
    at_zero = vector_field.loss_and_gradient(shown.problem, np.zeros((1, 2)))[0]
    for rate in SMALL.rates[::4]:
        paths = vector_field.trajectories(shown.problem, starts, rate, depth, SMALL.iterations)
        for iteration, kernels in enumerate(paths):
            with np.errstate(over="ignore", invalid="ignore"):
                excess = vector_field.loss_and_gradient(shown.problem, kernels)[0] - least
            if np.all(excess <= SMALL.target * (at_zero - least)):
                assert iteration >= shown.needed[depth]
                break


def test_speed_ups_are_ratios_of_iterations(shown):
    assert shown.speed_ups.shape == (3, 2, 3)
    assert np.all(shown.speed_ups[0] == 1)
    needed = [
        vector_field.iterations_needed(PROBLEMS, 0.1, depth, SMALL).min(-1) for depth in (1, 2)
    ]
    one, two = np.minimum(needed, SMALL.iterations)
    np.testing.assert_array_equal(shown.speed_ups[1, 0], one / two)


def test_work_around_the_loop_is_the_integral_and_near_the_closed_form(shown):
    loop = shown.loop
    np.testing.assert_allclose(loop.points[:-1, -1], loop.points[1:, 0], atol=1e-15)
    np.testing.assert_allclose(loop.points[-1, -1], loop.points[0, 0], atol=1e-15)
    work = loop.work[:, -1, -1]
    straight = loop.work[:, 0, -1] + loop.work[:, 2, -1] - loop.work[:, 2, 0]
    np.testing.assert_allclose(work / straight, loop.integral / straight, atol=1e-4)
    # The closed form is that of a constant gradient, which the loss has at zero only.
    np.testing.assert_allclose(loop.integral[2:], loop.closed_form[2:], rtol=2e-3)
    assert np.all(loop.closed_form[:2] == 0)
    assert abs(loop.integral[0] / straight[0]) < 1e-12
    assert 0 < abs(loop.integral[1] / straight[1]) < 2e-3


def digests(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


def test_the_same_numbers_give_the_same_files(shown, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "DPI", 40)
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        vector_field_figure.draw(shown, tmp_path / name / "vector_field.png")
        found.append(digests(tmp_path / name))
    assert found[0] == found[1]
    assert list(found[0]) == ["vector_field.png", "vector_field.svg"]
    assert is_small_svg(tmp_path / "one" / "vector_field.svg")
    text = (tmp_path / "one" / "vector_field.svg").read_text("utf-8")
    assert "Is that typical?" in text  # text as text
    assert "dc:date" not in text


def test_the_film_has_a_picture_for_each_step_and_a_rest(shown, tmp_path, monkeypatch):
    monkeypatch.setattr(vector_field_figure, "FILM_DPI", 40)
    path = tmp_path / "vector_field.gif"
    vector_field_figure.animate(shown, path, every=20)
    with Image.open(path) as film:
        assert film.format == "GIF"
        durations = [film.seek(index) or film.info["duration"] for index in range(film.n_frames)]
    # The rest's pictures are all the same: one that is shown for longer.
    assert len(durations) == SMALL.iterations // 20 + 1
    assert durations[-1] > vector_field_figure.REST * durations[0]


def test_the_command_writes_and_publishes(shown, monkeypatch, tmp_path, capsys):
    asked, written = [], []
    monkeypatch.setattr(vector_field, "compute", lambda settings: asked.append(settings) or shown)
    for name in ("draw", "animate"):
        monkeypatch.setattr(vector_field_figure, name, lambda _, path: written.append(path))
    monkeypatch.setattr(assets, "ROOT", tmp_path)
    explain.main(["--problems", "2", "--output", str(tmp_path / "out"), "--publish"])
    assert asked == [Settings(problems=2)]
    for folder in (tmp_path / "assets", tmp_path / "out"):
        assert {folder / "vector_field.png", folder / "vector_field.gif"} < set(written)
    assert "depth 3, loop: " in capsys.readouterr().out
    assert "goal not reached" in " ".join(vector_field_figure.report(shown))


def is_small_svg(path):
    root = ET.parse(path).getroot()
    return root.tag.endswith("}svg") and path.stat().st_size < SVG_LIMIT


def test_every_published_figure_is_a_png_and_an_svg():
    names = {path.stem for path in ASSETS.glob("*.png")}
    assert "vector_field" in names
    assert names == {path.stem for path in ASSETS.glob("*.svg")}
    for name in names:
        assert is_small_svg(ASSETS / f"{name}.svg"), name
    assert (ASSETS / "vector_field.gif").stat().st_size < GIF_LIMIT


def test_models_that_share_a_figure_are_told_apart():
    assert figures.COLOURS is palette.TUTORIAL
    assert figures.COLOURS["original", "product"] == palette.DEPTHS[1]
    assert figures.COLOURS["overparameterized", "product"] == palette.DEPTHS[2]
    for table in (palette.DEPTHS, palette.TUTORIAL, palette.RULES):
        assert len(set(table.values())) == len(table)
    styles = {(colour, DASHES[name]) for name, colour in palette.OPTIMIZERS.items()}
    assert len(styles) == len(palette.OPTIMIZERS)
    assert not set(palette.OPTIMIZERS.values()) & set(palette.DEPTHS.values())
