"""fit: a run that was stopped at any moment continues exactly as if it had not been; its counts are right."""

import csv
import json
import signal
from shlex import quote

import numpy as np
import pytest
from tiny_run import write_scenes

from minifcn import models, train
from minifcn.data import Loader, Shapes
from minifcn.errors import UserError
from minifcn.io import load_checkpoint
from minifcn.nn.optim import SGD, effective_step, poly
from minifcn.ops import cross_entropy
from minifcn.training.evaluation import evaluate
from minifcn.training.loop import Callback, Diverged, Training, class_weights, fit
from minifcn.training.run_folder import Recorder, Run


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("folder") / "scenes")


@pytest.fixture
def plain(monkeypatch):
    """Draw no figures at the end of a run: they take longer than the training."""
    monkeypatch.setattr(train, "illustrate", lambda *_: None)
    monkeypatch.setattr(train, "result_lines", lambda metrics: ())


class Killed(BaseException):
    """Raised in place of SIGKILL: the run ends at once and saves nothing more."""


@pytest.fixture
def at(monkeypatch):
    """A function; ``at("stepped", 6, action)`` runs an action after the 6th call of Recorder.stepped."""

    def at(moment, n, action):
        calls = iter(range(1, 1000))
        there = getattr(Recorder, moment)

        def hooked(self, t):
            there(self, t)
            if next(calls) == n:
                action()

        monkeypatch.setattr(Recorder, moment, hooked)

    return at


def kill():
    raise Killed


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


# Between them, these two runs use every source of randomness and every kind of saved state.
SGD_RUN = "--scale 0.8 1.2 --jitter 0.15 --colour 0.2 --dropout 0.5 --schedule poly --momentum 0.9 --repeat 1"
ADAM_RUN = (
    "--optimizer adam --accumulate 3 --schedule step --reduction valid --repeat 1 --ema 0.9 --clip 0.5 --crop 16 24"
)


def run(root, out, flags, epochs=2):
    common = f"--dataset folder --width 0.1 --batch-size 2 --epochs {epochs} {flags}"
    return train.main([*common.split(), "--root", str(root), "--out", str(out)])


def contents(out):
    """All that a run saves: the log, the weights, the state and the best weights, without the times."""
    with open(out / "log.csv", encoding="utf-8", newline="") as file:
        log = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    arrays, record = load_checkpoint(out / "last.safetensors")
    for row in record["state"]["rows"]:
        del row["seconds"]
    best = load_checkpoint(out / "best.safetensors")[0]
    return log, {k: a.tobytes() for k, a in arrays.items()}, record, {k: a.tobytes() for k, a in best.items()}


@pytest.fixture(scope="session")
def whole(folder, tmp_path_factory):
    """A function of flags that returns the contents of an uninterrupted run of two epochs."""
    made = {}

    def whole(flags):
        if flags not in made:
            made[flags] = tmp_path_factory.mktemp("whole") / "run"
            assert run(folder, made[flags], flags) == 0
        return contents(made[flags])

    return whole


@pytest.mark.parametrize("flags", [SGD_RUN, ADAM_RUN], ids=["sgd", "adam"])
@pytest.mark.parametrize(
    ("moment", "n", "end"),
    [
        ("stepped", 2, kill),  # nothing saved yet
        ("stepped", 6, kill),  # in the middle of the second epoch
        ("epoch_trained", 2, kill),  # before the second epoch's validation
        ("epoch_ended", 2, kill),  # after the last epoch
        ("stepped", 2, ctrl_c),
        ("stepped", 4, ctrl_c),  # with the last batch of an epoch
        ("stepped", 6, ctrl_c),
        ("epoch_trained", 1, ctrl_c),
        ("epoch_ended", 1, ctrl_c),
    ],
)
def test_an_interrupted_run_goes_on_bit_by_bit(plain, whole, folder, tmp_path, monkeypatch, at, flags, moment, n, end):
    expected = whole(flags)
    out = tmp_path / "run"
    with monkeypatch.context():
        at(moment, n, end)
        if end is kill:
            with pytest.raises(Killed):
                run(folder, out, flags)
        else:
            assert run(folder, out, flags) == 130
    monkeypatch.undo()
    monkeypatch.setattr(train, "illustrate", lambda *_: None)
    monkeypatch.setattr(train, "result_lines", lambda metrics: ())
    assert train.main(["--resume", str(out)]) == 0
    got = contents(out)
    for mine, theirs in zip(got, expected):
        assert {**mine, "config": 0} == {**theirs, "config": 0} if isinstance(mine, dict) else mine == theirs


def test_the_comparison_notices_the_smallest_difference(plain, whole, folder, tmp_path):
    assert run(folder, tmp_path / "run", SGD_RUN + " --seed 1") == 0
    got, expected = contents(tmp_path / "run"), whole(SGD_RUN)
    assert all(mine != theirs for mine, theirs in zip(got, expected))


def test_a_second_ctrl_c_stops_at_once_and_keeps_the_last_epoch(plain, folder, tmp_path, at, capfd):
    def twice():
        ctrl_c()
        ctrl_c()

    before = signal.getsignal(signal.SIGINT)
    at("stepped", 6, twice)
    assert run(folder, tmp_path / "run", SGD_RUN) == 130
    assert load_checkpoint(tmp_path / "run/last.safetensors")[1]["state"]["step"] == 4
    out, err = capfd.readouterr()
    assert f"python -m minifcn.train --resume {quote(str(tmp_path / 'run'))}" in out and "Traceback" not in err
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_that_is_ignored_stays_ignored(plain, folder, tmp_path, at, monkeypatch):
    """Ctrl-C in the terminal must not end a job that was started with nohup or in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        at("stepped", 2, ctrl_c)
        assert run(folder, tmp_path / "run", SGD_RUN) == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_kill_during_validation_does_not_cost_the_epoch(plain, folder, tmp_path, at):
    at("epoch_trained", 2, kill)
    with pytest.raises(Killed):
        run(folder, tmp_path / "run", SGD_RUN)
    state = load_checkpoint(tmp_path / "run/last.safetensors")[1]["state"]
    assert (state["step"], state["epoch"], state["trained"]) == (8, 1, True)


def test_ctrl_c_does_not_wait_for_a_validation(plain, folder, tmp_path, at):
    at("epoch_trained", 1, ctrl_c)
    assert run(folder, tmp_path / "run", SGD_RUN) == 130
    state = load_checkpoint(tmp_path / "run/last.safetensors")[1]["state"]
    assert (state["step"], state["epoch"], state["trained"]) == (4, 0, True)


def test_an_epoch_that_cannot_be_shown_is_saved_all_the_same(plain, folder, tmp_path, monkeypatch):
    def gone(self, t):
        raise BrokenPipeError

    monkeypatch.setattr(train.Progress, "epoch_ended", gone)
    argv = ["--root", str(folder), "--width", "0.1", "--out", str(tmp_path / "run")]
    with pytest.raises(BrokenPipeError):
        train.main.__wrapped__(argv)
    assert load_checkpoint(tmp_path / "run/last.safetensors")[1]["state"]["epoch"] == 1


def test_a_run_is_extended_and_its_new_length_is_remembered(plain, folder, tmp_path, at, capsys):
    out = tmp_path / "run"
    assert run(folder, out, SGD_RUN, epochs=1) == 0
    at("stepped", 1, ctrl_c)
    assert train.main(["--resume", str(out), "--epochs", "3"]) == 130
    assert json.loads((out / "config.json").read_text(encoding="utf-8"))["epochs"] == 3
    assert train.main(["--resume", str(out)]) == 0
    assert [row["epoch"] for row in contents(out)[0]] == ["1", "2", "3"]
    capsys.readouterr()
    assert train.main(["--resume", str(out)]) == 0
    assert "all 3 epochs were done already" in capsys.readouterr().out
    assert train.main(["--resume", str(out), "--epochs", "2"]) == 2
    assert "larger number" in capsys.readouterr().err


def test_resuming_heals_a_log_that_is_ahead_and_ignores_partial_files(plain, whole, folder, tmp_path, at):
    out = tmp_path / "run"
    at("stepped", 6, kill)
    with pytest.raises(Killed):
        run(folder, out, SGD_RUN)
    for name in ("last.safetensors", "log.csv", "config.json"):
        (out / f"{name}.partial").write_text("rubbish", encoding="utf-8")
    with open(out / "log.csv", "a", encoding="utf-8") as file:
        file.write("9,9,9\n")
    at("stepped", 1, ctrl_c)
    assert train.main(["--resume", str(out)]) == 130
    assert [row["epoch"] for row in contents(out)[0]] == ["1"]
    assert train.main(["--resume", str(out)]) == 0
    assert contents(out)[:2] == whole(SGD_RUN)[:2]


def test_a_diverging_run_says_why_and_keeps_what_was_good(plain, folder, tmp_path, at, capsys):
    out = tmp_path / "run"
    assert run(folder, out, "--lr 1e6 --jitter 0 --no-batch-norm") == 2
    err = capsys.readouterr().err
    assert (
        err.count("\n") == 2
        and "times the rate that suits" in err
        and "the loss became" in err
        and "try a learning rate (--lr)" in err
        and "no weights yet" in err
    )

    assert run(folder, tmp_path / "good", "--jitter 0", epochs=1) == 0
    before = (tmp_path / "good/last.safetensors").read_bytes()
    config = tmp_path / "good/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"lr": 1e9, "schedule": "constant"}))
    capsys.readouterr()
    assert train.main(["--resume", str(tmp_path / "good"), "--epochs", "2"]) == 2
    assert str(tmp_path / "good/last.safetensors") in capsys.readouterr().err
    assert (tmp_path / "good/last.safetensors").read_bytes() == before


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    class Poison(Callback):
        def stepped(self, t):
            if t.step == 4:
                t.model.score_fr.weight.data[0] = np.inf

    model = models.build("fcn8s_mini", num_classes=3, width=0.1)
    train_data = Loader(Shapes(length=4, size=(24, 32), num_classes=3), 2)
    folder = Run.create(tmp_path / "run", {})
    with pytest.raises(Diverged, match=r"score_fr\.weight is no longer finite after step 4"):
        fit(model, train_data, epochs=3, callbacks=[Poison(), Recorder(folder)])
    arrays, record = load_checkpoint(folder.last)
    assert record["state"]["epoch"] == 1 and all(np.isfinite(a).all() for a in arrays.values())


class Spoilt(Shapes):
    """Scenes; in the second epoch the fifth read fails, or has a label that is no class."""

    reads = 0

    def __init__(self, trouble, **options):
        super().__init__(**options)
        self.trouble = trouble

    def __getitem__(self, i):
        self.reads += 1
        image, label = super().__getitem__(i)
        if self.reads <= len(self) + 4:  # well into the second epoch
            return image, label
        if self.trouble == "image":
            raise UserError("image 7.png is damaged")
        return image, np.full_like(label, 9)


@pytest.mark.parametrize(("trouble", "message"), [("image", "7.png"), ("label", r"pixel labelled 9.* 0\.\.2")])
def test_an_error_in_the_data_costs_no_step_that_was_done(tmp_path, trouble, message):
    def parts():
        model = models.build("fcn8s_mini", num_classes=3, width=0.1, dropout=0.0)
        for i, p in enumerate(model.parameters()):
            p.data[...] = np.random.default_rng(i).normal(0, 0.1, p.shape)
        return model, SGD(model.parameters(), 1e-6)

    options = dict(length=8, size=(24, 32), num_classes=3)
    folder, (model, optimizer) = Run.create(tmp_path / "run", {}), parts()
    with pytest.raises(UserError, match=message):
        fit(model, Loader(Spoilt(trouble, **options), 2), None, optimizer, 2, callbacks=[Recorder(folder)])
    assert load_checkpoint(folder.last)[1]["state"]["step"] == 6  # of eight

    model, optimizer = parts()
    fit(model, Loader(Shapes(**options), 2), None, optimizer, 2, resume=folder.restore)
    whole, optimizer = parts()
    fit(whole, Loader(Shapes(**options), 2), None, optimizer, 2)
    for name, array in whole.state_dict().items():
        np.testing.assert_array_equal(array, model.state_dict()[name])


def test_the_schedule_and_the_books(tmp_path):
    """The learning rate of every step is right, and the logged loss is the loss of the model's scores."""
    rates = []

    class Watch(Callback):
        def stepped(self, t):
            rates.append(t.optimizer.lr)

    data = Shapes(length=6, size=(24, 32), num_classes=3)
    model = models.build("fcn8s_mini", num_classes=3, width=0.1, dropout=0.0, batch_norm=False)
    optimizer = SGD(model.parameters(), 0.0)
    expected = sum(cross_entropy(model(model.preprocessing(image)), label[None]).item() for image, label in data) / sum(
        int((label < 3).sum()) for _, label in data
    )
    for reduction in ("sum", "valid", "batch"):
        t = fit(model, Loader(data, 4), data, optimizer, 1, reduction, callbacks=[Watch()])
        assert t.rows[0]["loss"] == pytest.approx(expected, rel=1e-5)
        assert t.rows[0]["val_loss"] == pytest.approx(expected, rel=1e-5)
        assert t.rows[0]["mean_iu"] == evaluate(model, data)[0].mean_iu
    rates.clear()
    optimizer.lr = 1e-12
    fit(model, Loader(data, 2), None, optimizer, 2, schedule=poly, callbacks=[Watch()])
    assert rates == pytest.approx([1e-12 * (1 - k / 6) ** 0.9 for k in range(6)], rel=1e-6, abs=0)


@pytest.mark.parametrize("reduction", ["sum", "batch"])
def test_accumulated_batches_make_the_step_of_one_large_batch(reduction):
    """Sums add exactly; means over images of equal batches are averaged."""
    data, weights = Shapes(length=4, size=(24, 32), num_classes=3), []
    for batch_size, accumulate in ((4, 1), (2, 2), (1, 4), (1, 9)):
        model = models.build("fcn8s_mini", num_classes=3, width=0.1, dropout=0.0, batch_norm=False)
        for i, p in enumerate(model.parameters()):
            if p.requires_grad:
                p.data[...] = np.random.default_rng(i).normal(0, 0.1, p.shape)
        fit(
            model, Loader(data, batch_size), None, SGD(model.parameters(), 1e-5, momentum=0.0), 1, reduction,
            accumulate=accumulate,
        )  # fmt: skip
        weights.append(np.concatenate([p.data.ravel() for p in model.parameters()]))
    for others in weights[1:]:
        np.testing.assert_allclose(others, weights[0], rtol=1e-4, atol=1e-7)


def test_best_is_the_latest_of_the_epochs_with_the_highest_mean_iu(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(Run, "save", lambda self, t: None)
    monkeypatch.setattr(Run, "save_best", lambda self, t: saved.append(t.epoch))
    t, recorder = Training(None, None, None, None, epochs=5), Recorder(Run.create(tmp_path / "run", {}))
    for t.epoch, mean_iu in enumerate([0.2, 0.5, 0.4, np.nan, 0.5], 1):
        t.rows.append(dict(epoch=t.epoch, mean_iu=mean_iu))
        recorder.epoch_ended(t)
    assert saved == [1, 2, 5]


def test_without_a_labelled_validation_pixel_there_is_still_a_best(tmp_path):
    class Void(Shapes):
        def __getitem__(self, i):
            image, label = super().__getitem__(i)
            return image, np.full_like(label, 255)

    options = dict(length=2, size=(24, 32), num_classes=3)
    model = models.build("fcn8s_mini", num_classes=3, width=0.1)
    folder = Run.create(tmp_path / "run", {})
    t = fit(model, Shapes(**options), Void(**options), epochs=2, callbacks=[Recorder(folder)])
    assert np.isnan(t.rows[-1]["mean_iu"])
    assert load_checkpoint(folder.best)[1]["epoch"] == 2


def test_a_model_for_other_classes_is_refused_before_it_learns():
    model = models.build("fcn8s_mini", num_classes=3, width=0.1)
    two, three = (Shapes(length=2, size=(24, 32), num_classes=n) for n in (2, 3))
    for use in (lambda: fit(model, two), lambda: fit(model, three, two), lambda: evaluate(model, two)):
        with pytest.raises(UserError, match=r"has 3 classes, but .* has 2"):
            use()


def test_class_weights_and_the_effective_step():
    class Half:
        num_classes = 3

        def __len__(self):
            return 1

        def __getitem__(self, i):
            return None, np.array([[0, 0, 0, 1, 255]], np.uint8)

    np.testing.assert_allclose(class_weights(Half(), 0), [1, 1, 0])
    np.testing.assert_allclose(class_weights(Half(), 1), [2 / 3, 2, 0])
    parameters = models.build("fcn8s_mini", num_classes=2, width=0.1).parameters()
    paper = SGD(parameters, 1e-10, momentum=0.99)
    assert effective_step(paper, "sum", 187_500, 1) == pytest.approx(1.875e-3)
    assert effective_step(paper, "valid", 187_500, 1) == pytest.approx(1e-8)
