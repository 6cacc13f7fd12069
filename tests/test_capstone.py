"""A6's last task: colours tell nothing about its pictures, and only weights that training has moved get points."""

import numpy as np
import pytest

from minifcn.course.fields import CLASSES, directions, drawn_net, fields

pytestmark = pytest.mark.course

tasks = pytest.importorskip("minifcn.course.tasks", reason="pip install 'minifcn[course]'")
from minifcn.course import judge  # noqa: E402


@pytest.fixture(scope="module")
def a6():
    return tasks.Assignment(tasks.folder() / "a6_fcn.py")


def graded(a6, cell, others=lambda source: source):
    """The result of task 6.5 for a cell of the task, with `others` applied to all other cells."""
    sources = [others(source) for source in a6.solution("6.5", lambda _: cell)]
    return judge.Examiner(a6, seed=3).grade(sources, ["6.5"])[0]


def test_the_furrows_lie_across_the_direction_of_their_class():
    """Along the direction, a field is a wave of 4 to 6 pixels: its spectrum peaks there, 1/6 to 1/4 from the middle."""
    rng = np.random.default_rng(0)
    angles = directions(rng)
    assert np.allclose(np.diff(sorted(angles)), np.pi / CLASSES)
    images, labels = fields(rng, angles, 40, 64)
    right = 0
    for image, label in zip(images.astype(float), labels):
        kind = np.bincount(label[label < 255]).argmax()
        here = label == kind
        grey = np.where(here, image.mean(-1) - image.mean(-1)[here].mean(), 0)
        spectrum = abs(np.fft.fftshift(np.fft.fft2(grey)))
        y, x = (np.mgrid[:64, :64] - 32) / 64
        spectrum[np.hypot(y, x) < 0.14] = 0
        peak = np.unravel_index(spectrum.argmax(), spectrum.shape)
        turned = (np.arctan2(y[peak], x[peak]) - angles[kind]) % np.pi
        right += min(turned, np.pi - turned) < 0.2
    assert right >= 34  # the mean of the colours may hide a wave, as they may have opposite signs


def test_a_pixels_colour_says_nothing_about_its_class():
    """The most frequent class of each of 512 colours is no better on other pictures than guessing one of five."""
    rng = np.random.default_rng(1)
    angles = directions(rng)
    (images, labels), (unseen, truth) = fields(rng, angles, 200), fields(rng, angles, 100)

    def colour(pictures):
        return (pictures // 32).astype(int) @ [64, 8, 1]

    seen, known = np.zeros((512, CLASSES)), labels != 255
    np.add.at(seen, (colour(images)[known], labels[known]), 1)
    guess = seen.argmax(axis=1)[colour(unseen)]
    assert abs((guess == truth)[truth != 255].mean() - 1 / CLASSES) < 0.06


def test_only_the_named_nets_are_built():
    assert "upscore.weight" in drawn_net({"stride": 32, "width": 0.2}, CLASSES, 1).state_dict()
    one, other = (drawn_net({}, CLASSES, 5).state_dict() for _ in range(2))
    assert all((one[name] == other[name]).all() for name in one)
    for wrong in ({"kernel": 1}, {"width": 9}, {"width": np.ones(3)}, {"stride": True}, {"stride": 2}, {"dropout": 1}):
        with pytest.raises(ValueError, match="NET has"):
            drawn_net(wrong, CLASSES, 1)


@pytest.mark.parametrize(
    ("learn", "says"),
    {
        "pass": "conv1_1.weight is where it started",
        "for p in model.parameters(): p.data += 1": "conv1_1.weight has other weights than training from its start",
        "for p in model.parameters(): p.data *= np.nan": "not finite",
        "for p in model.parameters(): p.data *= 1.1": "have not moved as training moves them",
        "for p in model.parameters(): p.data += 0.1 * p.data.std()": "the least IU of a class",
        "model.state_dict = lambda: {'w': np.ones(3)}": "other layers",
        "model.state_dict = lambda: 3": "which is not what the task asks for",
    }.items(),
)
def test_weights_that_no_training_gives_are_named(a6, learn, says):
    result = graded(a6, f"# Task 6.5\nNET = {{}}\n\n\ndef learn(model, images, labels):\n    {learn}\n")
    assert result.points == 0
    assert says in result.checks[0].says[0]


def test_the_last_task_runs_on_the_submissions_own_answers(a6):
    """The library's loop does not replace a loop that raises, as it does in the other tasks."""
    raising = "def fit(*args, **options):\n    raise RuntimeError('mine')\n"
    cell = next(c.source for c in a6.cells if c.source.startswith("# Task 6.5"))
    result = graded(a6, cell, lambda source: "# Task 6.4\n" + raising if source.startswith("# Task 6.4") else source)
    assert result.points == 0
    assert "mine" in result.checks[0].says[0]
