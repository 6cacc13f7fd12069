"""Training from the command line: the paper's recipes, staged training, a sampled loss, an auxiliary head."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from tiny_run import TINY, write_scenes

import minifcn as mf
from minifcn import train
from minifcn.data.transforms import CAFFE
from minifcn.errors import UserError
from minifcn.io import load_checkpoint, save_checkpoint
from minifcn.models.store import weights_in
from minifcn.training import flags as train_flags
from minifcn.training.loop import Diverged, fit
from minifcn.training.recipes import RECIPES, recipe


@pytest.mark.paper
@pytest.mark.parametrize(
    "name, model, expected",
    [  # the reference's tables of both papers (§1.9)
        ("cvpr", "fcn32s_alexnet", dict(lr=1e-3, momentum=0.9, batch_size=20, reduction="valid", weight_decay=5e-4)),
        ("cvpr", "fcn32s_vgg16", dict(lr=1e-4, momentum=0.9, batch_size=20, schedule="constant")),
        ("cvpr", "fcn32s_googlenet", dict(lr=5e-5, learn_upsampling=True)),
        ("cvpr", "fcn16s_vgg16", dict(lr=1e-6)),
        ("heavy", "fcn32s_vgg16", dict(lr=1e-10, momentum=0.99, batch_size=1, reduction="sum", learn_upsampling=False)),
        ("heavy", "fcn16s_vgg16", dict(lr=1e-12)),
        ("heavy", "fcn8s_vgg16", dict(lr=1e-14)),
        ("heavy", "fcn8s_atonce_vgg16", dict(lr=1e-10)),
        ("heavy", "fcn16s_siftflow", dict(lr=1e-12, momentum=0.99, batch_size=1)),
        ("heavy", "fcn8s_siftflow", dict(lr=1e-12)),
        ("heavy", "fcn32s_alexnet", dict(lr=1e-4, momentum=0.9, batch_size=1, accumulate=20, reduction="valid")),
    ],
)
def test_recipes_are_the_papers(name, model, expected):
    settings = recipe(name, model)
    assert settings | expected == settings
    assert settings["balance"] == 0 and not settings["mirror"] and settings["jitter"] == settings["colour"] == 0


def test_every_setting_of_a_recipe_is_a_flag_of_train():
    flags = {action.dest for action in train_flags.parser()._actions}
    assert all(settings.keys() <= flags for nets in RECIPES.values() for settings in nets.values())
    with pytest.raises(UserError, match="the paper has no recipe 'heavy' for fcn8s_mini; choose one of fcn32s_alexnet"):
        recipe("heavy", "fcn8s_mini")


def test_a_recipe_gives_way_to_a_file_and_a_file_to_the_command_line(tmp_path):
    (tmp_path / "settings.json").write_text('{"momentum": 0.5, "lr": 1e-7}')
    args = ["--recipe", "heavy", "--model", "fcn32s_vgg16", "--config", str(tmp_path / "settings.json"), "--lr", "1e-8"]
    settings, _ = train.settings(args)
    assert (settings.lr, settings.momentum, settings.batch_size, settings.mirror) == (1e-8, 0.5, 1, False)


@pytest.mark.paper
def test_a_stage_starts_where_the_coarser_net_ended(scenes, tmp_path, capfd, refused):
    """§4.2: the trunk and score_fr are the old ones; the new score is zero, so the first prediction is the old one."""
    common = ["--dataset", "folder", "--root", str(scenes), *TINY, "--lr", "0"]
    coarse, fine = tmp_path / "32s", tmp_path / "16s"
    assert train.main([*common[:-2], "--model", "fcn32s_mini", "--out", str(coarse)]) == 0
    capfd.readouterr()
    assert train.main([*common, "--model", "fcn16s_mini", "--init", str(coarse), "--out", str(fine)]) == 0
    said = next(line for line in capfd.readouterr().out.splitlines() if line.startswith("start"))
    assert re.fullmatch(
        r"start +.*32s: copied 47 conv1_1.weight, .* 43 more; dropped 1 upscore.weight; "
        r"left 4 upscore2.weight, score_pool4.weight, score_pool4.bias, upscore16.weight; images: .*",
        said,
    )
    old, new = (weights_in(load_checkpoint(run / "last.safetensors")[0]) for run in (coarse, fine))
    learned = [n for n in old if "upscore" not in n and "running" not in n]
    assert all((old[n] == new[n]).all() for n in learned)
    assert not new["score_pool4.weight"].any()
    assert json.loads((fine / "config.json").read_text())["init"] == str(coarse)

    (coarse / "last.safetensors").unlink()  # a run can be resumed without the run that it started from
    assert train.main(["--resume", str(fine), "--epochs", "3"]) == 0
    refused(train.main, *common, "--init", tmp_path / "none", "--out", tmp_path / "x", match="none")
    assert not (tmp_path / "x").exists()


def other_classes(run, names):
    """Change the class names and the preprocessing in the checkpoint of a run, and return its arrays."""
    arrays, record = load_checkpoint(run / "last.safetensors")
    record |= dict(classes=names, preprocessing=dict(order="BGR", mean=[100.0, 110.0, 120.0], scale=[1.0, 1.0, 1.0]))
    save_checkpoint(run / "last.safetensors", arrays, record)
    return arrays


def test_a_start_brings_its_preprocessing_and_no_scores_of_other_classes(copy, finished, tmp_path, capfd):
    old = other_classes(copy, ["cat", "dog", "sky"])
    flags = ["--dataset", "folder", "--root", str(finished.parent / "scenes"), *TINY, "--lr", "0", "--init", str(copy)]
    assert train.main([*flags, "--out", str(tmp_path / "run")]) == 0
    said = next(line for line in capfd.readouterr().out.splitlines() if line.startswith("start"))
    assert "dropped 9 score_fr.bias" in said and "left 9 score_fr.weight" in said
    model = mf.models.load(tmp_path / "run" / "last.safetensors")
    assert (model.preprocessing.order, model.preprocessing.fill) == ("BGR", (120, 110, 100))
    assert (model.conv1_1.weight.data == old["model.conv1_1.weight"]).all() and not model.score_fr.weight.data.any()

    (copy / "last.safetensors").unlink()  # a resumed run keeps the preprocessing that it took over
    assert train.main(["--resume", str(tmp_path / "run"), "--epochs", "3"]) == 0
    assert mf.models.load(tmp_path / "run" / "last.safetensors").preprocessing == model.preprocessing


def test_a_start_from_another_width_is_none(finished, tmp_path, refused):
    flags = ["--dataset", "folder", "--root", finished.parent / "scenes", *TINY, "--width", "0.2", "--init", finished]
    refused(train.main, *flags, "--out", tmp_path / "run", match="only 0 of the 9 kernels of fcn8s_mini")


def test_a_file_of_weights_is_a_start_too(scenes, tmp_path, refused):
    """The weights of a classifier: fully connected ones are reshaped.  A file in which nothing fits is refused."""
    mf.manual_seed(1)
    classifier = mf.models.vgg16(num_classes=3, width=0.02)
    np.savez(tmp_path / "vgg16.npz", **classifier.state_dict())
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    flags = ["--dataset", "folder", "--root", str(scenes), "--model", "fcn32s_vgg16", "--width", "0.02"]
    flags += ["--epochs", "1", "--batch-size", "3", "--lr", "0", "--out", str(tmp_path / "run")]
    refused(train.main, *flags, "--init", tmp_path / "other.npz", match="only 0 of the 15 kernels of fcn32s_vgg16")
    assert train.main([*flags, "--init", str(tmp_path / "vgg16.npz")]) == 0
    model = mf.models.load(tmp_path / "run" / "last.safetensors")
    np.testing.assert_array_equal(model.fc6.weight.data.ravel(), classifier.fc6.weight.data.ravel())


@pytest.mark.paper
def test_a_sampled_loss_has_the_expected_gradient_of_the_whole():
    """`fit(sampling=p)` masks pixels at random: over many draws the mean gradient is p times the full one (§3.4)."""
    data = mf.data.Shapes(length=1, size=(16, 16), num_classes=3)

    def change(sampling, seed):
        mf.manual_seed(0)
        model = mf.models.fcn("mini", 2, 3, width=0.05, batch_norm=False, dropout=0.0)
        before = model.score_fr.weight.data.copy()
        optimizer = mf.optim.SGD(model.parameters(), lr=1e-6, momentum=0.0)
        mf.manual_seed(seed)
        fit(model, mf.data.Loader(data, 1), optimizer=optimizer, sampling=sampling)
        return model.score_fr.weight.data - before

    full = change(1.0, 0)
    mean = np.mean([change(0.5, seed) for seed in range(200)], axis=0)
    assert np.linalg.norm(mean - 0.5 * full) < 0.1 * np.linalg.norm(0.5 * full)
    assert np.linalg.norm(change(0.5, 1) - 0.5 * full) > 0.005 * np.linalg.norm(full)  # one draw is not the mean


def test_sampling_and_padding_from_the_command_line(scenes, tmp_path, capfd):
    flags = ["--dataset", "folder", "--root", str(scenes), *TINY, "--sampling", "0.5", "--pad", "9"]
    assert train.main([*flags, "--out", str(tmp_path / "run")]) == 0
    said = capfd.readouterr().out
    assert "each pixel counts with probability 0.5" in said
    assert f"N = {3 * 24 * 32 // 2:,} pixels a batch" in said
    assert mf.models.load(tmp_path / "run" / "last.safetensors").conv1_1.options["padding"] == 9


def test_the_least_padding_suits_every_image(tmp_path):
    """Only the last image has 24 rows.  It needs a padding of 86: fc6 needs 7 cells, and with 85 the map has 6."""
    write_scenes(tmp_path / "scenes")
    for i in range(9):  # not the last image, which is in the validation split
        for kind in ("images", "masks"):
            file = tmp_path / f"scenes/{kind}/{i}.png"
            with Image.open(file) as picture:
                picture.resize((64, 64), Image.Resampling.NEAREST).save(file)
    flags = ["--dataset", "folder", "--root", str(tmp_path / "scenes"), "--model", "fcn32s_vgg16", "--width", "0.02"]
    flags += ["--pad", "minimal", "--batch-size", "3", "--epochs", "1", "--out", str(tmp_path / "run")]
    assert train.main(flags) == 0
    model = mf.models.load(tmp_path / "run" / "last.safetensors")
    assert model.conv1_1.options["padding"] == json.loads((tmp_path / "run/config.json").read_text())["pad"] == 86


def test_torchvisions_net_trains_with_its_auxiliary_head(scenes, tmp_path):
    flags = ["--dataset", "folder", "--root", str(scenes), "--model", "fcn_resnet50", "--width", "0.05"]
    assert (
        train.main([*flags, "--pad", "minimal", "--batch-size", "3", "--epochs", "1", "--out", str(tmp_path / "run")])
        == 0
    )
    arrays = weights_in(load_checkpoint(tmp_path / "run" / "last.safetensors")[0])
    assert arrays["aux_classifier.4.bias"].all()  # it started at zero


def test_a_second_head_that_diverges_ends_the_training():
    mf.manual_seed(0)
    model = mf.models.fcn_resnet50(num_classes=3, width=0.05)
    model.heads["aux"].layers.aux_classifier.state_dict()["4.bias"][0] = np.nan
    data = mf.data.Loader(mf.data.Shapes(length=2, size=(32, 32), num_classes=3), 2)
    with pytest.raises(Diverged, match="the loss became nan at step 1"):
        fit(model, data)


def test_a_recipe_is_for_fine_tuning_on_inputs_of_caffes_scale(scenes, tmp_path, capfd, refused):
    flags = ["--dataset", "folder", "--root", str(scenes), "--model", "fcn32s_alexnet", "--width", "0.02"]
    flags += ["--recipe", "cvpr", "--batch-size", "2", "--epochs", "1", "--out", str(tmp_path / "run")]
    assert train.main(flags) == 0
    assert "note        --recipe cvpr is for fine-tuning: without --init" in capfd.readouterr().err
    assert mf.models.load(tmp_path / "run" / "last.safetensors").preprocessing == CAFFE
    refused(train.main, *flags, "--optimizer", "adam", match="--recipe cvpr has learning rates for sgd, not for")


@pytest.mark.parametrize(
    "argv, message",
    [
        ("--model caffenet", "caffenet is a classifier"),
        ("--model fcn32s_nyud_rgbd", "takes 4 channels, but the images of .* have 3"),
        ("--model fcn32s_alexnet --batch-norm", "cannot be built with .*batch_norm"),
        ("--model fcn8s_vgg16 --pad 10", "does not fit into .* more padding"),
        ("--sampling 0", "0 is not above 0"),
        ("--sampling 1.5", "1.5 is not above 0 and at most 1"),
        ("--model fcn16s_siftflow", "a number for each head"),
        ("--recipe medium", "invalid choice: 'medium'"),
        ("--recipe heavy", "no recipe 'heavy' for fcn8s_mini"),
        ("--init nowhere.safetensors", "nowhere.safetensors"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(argv, message, scenes, tmp_path, refused):
    argv = ["--dataset", "folder", "--root", scenes, *argv.split(), "--width", "0.02", "--out", tmp_path / "run"]
    refused(train.main, *argv, match=message)
    assert not (tmp_path / "run").exists()
