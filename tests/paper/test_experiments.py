"""The experiments run at a small size, continue after an interruption, and report what they measured."""

import json
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest

import minifcn as mf
from minifcn.experiments import EXPERIMENTS, lab
from minifcn.experiments.__main__ import main

pytestmark = pytest.mark.paper


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_short_version_runs_and_leaves_numbers_and_a_picture(name, tmp_path, capfd):
    out = tmp_path / "lab"
    assert main([name, "--short", "--seeds", "1", "--out", str(out), "--json", "-"]) == 0
    printed, said = capfd.readouterr()
    results = json.loads(printed)
    assert results == json.loads((out / f"{name}.json").read_text())
    assert results["machine"]["cores"] >= 1
    assert (out / f"{name}.png").stat().st_size > 5000
    assert all(line in said for line in EXPERIMENTS[name].summary(results))
    values = [v if isinstance(v, list) else [v] for row in results["rows"] for v in row.values()]
    numbers = [v for v in chain.from_iterable(values) if isinstance(v, float)]
    assert numbers and np.isfinite(numbers).all()

    def written():
        return {f: f.stat().st_mtime_ns for f in out.rglob("last.safetensors")}

    before = written()
    assert all((f.parent / "judged.json").is_file() for f in before if name in ("skips", "fusion"))
    assert bool(before) == (name in ("skips", "transfer", "fusion", "sampling"))
    assert main([name, "--short", "--seeds", "1", "--out", str(out)]) == 0
    assert before == written()  # nothing was trained again


def test_an_interrupted_training_goes_on_and_a_finished_one_is_left(tmp_path, monkeypatch):
    calls = []

    def fake(code):
        def main(argv):
            calls.append(argv)
            folder = tmp_path / "lab" / "a"
            folder.mkdir(exist_ok=True)
            (folder / "config.json").write_text("{}")
            if code == 0:
                (folder / "metrics.json").write_text("{}")
            return code

        return main

    bench = lab.Lab(tmp_path / "lab", "skips", 1)
    monkeypatch.setattr(lab.train, "main", fake(130))
    with pytest.raises(KeyboardInterrupt):
        bench.train("a", "--epochs", 3)
    monkeypatch.setattr(lab.train, "main", fake(0))
    again = lab.Lab(tmp_path / "lab", "skips", 1)
    assert again.train("a", "--epochs", 3) == again.train("a", "--epochs", 3) == tmp_path / "lab" / "a"
    folder = str(tmp_path / "lab" / "a")
    assert calls == [["--epochs", "3", "--out", folder], ["--resume", folder]]


def test_another_experiments_folder_is_refused(tmp_path, refused):
    lab.Lab(tmp_path / "lab", "skips", 3)
    refused(main, "sampling", "--out", tmp_path / "lab", match="other settings .*give another folder .--out")
    lab.Lab(tmp_path / "longer", "skips", 3, constants=dict(epochs={"32s": 99}))
    refused(main, "skips", "--out", tmp_path / "longer", match="other settings .*99")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    refused(main, "skips", "--out", tmp_path / "mine", match="holds files but no experiment")
    refused(main, "skipz", match="invalid choice")
    (tmp_path / "lab" / "settings.json").write_text("{", encoding="utf-8")
    refused(main, "skips", "--out", tmp_path / "lab", match="settings.json is damaged")


def test_scenes_that_were_half_written_are_written_anew(tmp_path, monkeypatch):
    def interrupted(file, label):
        raise KeyboardInterrupt

    bench = lab.Lab(tmp_path / "lab", "skips", 1, short=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(lab, "save_mask", interrupted)
        bench.data()
    train, val, _ = bench.data()
    assert len(train) + len(val) == 40 and not (tmp_path / "lab" / "scenes.partial").exists()


def test_without_a_name_the_experiments_are_listed(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in EXPERIMENTS)


BIG = """
import numpy as np, resource, minifcn as mf
mf.manual_seed(0)
model, rng = mf.models.fcn8s_vgg16(), np.random.default_rng(0)
for name, p in model.named_parameters():
    if name.startswith("score") and name.endswith("weight"):
        p.data[...] = mf.nn.init.he(p.shape)  # zero scores would let nothing through
x = mf.Tensor(rng.standard_normal((1, 3, 375, 500)).astype(np.float32))
optimizer = mf.optim.SGD(model.parameters(), lr=1e-7, momentum=0.99, weight_decay=5e-4)
before = model.conv1_1.weight.data.copy()
mf.ops.cross_entropy(model(x), rng.integers(0, 21, (1, 375, 500))).backward()
assert all((p.grad is not None and p.grad.any()) == p.requires_grad for p in model.parameters())
optimizer.step()
assert (model.conv1_1.weight.data != before).any()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="memory is measured by getrusage")
def test_fcn8s_vgg16_at_full_width_learns_from_a_500_by_375_picture_within_8_gb():
    done = subprocess.run([sys.executable, "-c", BIG], capture_output=True, text=True, timeout=600, check=True)
    kilobytes = int(done.stdout) / (1024 if sys.platform == "darwin" else 1)
    assert kilobytes * 1024 < 8e9


def test_the_boundary_band_is_where_a_finer_net_can_win():
    """A prediction that is wrong only along borders loses much score in the band, and little in the whole image."""
    label = np.zeros((64, 64), np.uint8)
    label[:, 32:] = 1
    prediction = np.roll(label, 2, axis=1)
    prediction[:, :2] = 0
    everywhere = mf.metrics.ConfusionMatrix(2).update(label, prediction).mean_iu
    band = mf.metrics.ConfusionMatrix(2).update(mf.metrics.boundary_band(label, lab.BAND), prediction).mean_iu
    assert everywhere > 0.9 and band < 0.7
