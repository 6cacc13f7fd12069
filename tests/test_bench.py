"""The benchmarks measure what they claim, and PyTorch computes the same; no test asserts a time."""

import json
import time

import numpy as np
import pytest

from minifcn.bench import __main__ as command
from minifcn.bench import cases, groups, measure


def test_a_case_gives_a_line_a_row_and_a_picture(tmp_path, capsys):
    out, picture = tmp_path / "bench.json", tmp_path / "bench.png"
    flags = ["mini5_2", "mini_128", "--rounds", "2", "--json", str(out), "--figure", str(picture)]
    assert command.main(flags) == 0
    printed, results = capsys.readouterr().out, json.loads(out.read_text())
    assert "mini5_2" in printed and "GFLOP/s" in printed and results["machine"]["blas"] in printed
    kernel, size = results["rows"]
    assert kernel["ms"] > 0 and kernel["gflops"] > 0 and "ratio" not in kernel  # no PyTorch to compare with
    assert size["ratio_least"] <= size["ratio"] <= size["ratio_most"]
    assert results["machine"]["sgemm_gflops"] > 1
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_json_on_standard_output_is_all_there_is(capsys):
    assert command.main(["mini5_2", "--rounds", "1", "--json", "-"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["rows"][0]["case"] == "mini5_2"
    assert "mini5_2" in captured.err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["conv9_9"], "there is no case 'conv9_9'"),
        (["kernels", "--rounds", "0"], "--rounds"),
        (["--against", "x"], "x"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(flags, sentence, capsys):
    assert command.main(flags) == 2
    assert sentence in capsys.readouterr().err


def test_without_mpi_the_ranks_are_skipped_with_the_reason(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(groups.ranks, "mpiexec", lambda: None)
    out = tmp_path / "bench.json"
    assert command.main(["ranks", "fcn8s_mini_ranks_8", "--json", str(out)]) == 0
    assert "skipped: mpi4py or mpiexec is not installed: pip install" in capsys.readouterr().out
    assert all("skipped" in row for row in json.loads(out.read_text())["rows"])


def test_the_model_of_a_step_divides_the_divisible_part_until_memory_bounds_it():
    step = groups.scaling.Step(
        serial=1.0, divided=8.0, handovers=10, handover=0.01, moved=4 * 10**9, bandwidth=2 * 10**9
    )
    assert step.seconds(1) == 9
    assert step.seconds(2) == pytest.approx(1 + 0.1 + 4)
    assert step.seconds(64) == pytest.approx(1 + 0.1 + 2)  # 4 GB at 2 GB a second


def test_the_parts_of_the_model_are_those_of_a_step():
    work = cases.KERNELS["mini3_2"]()
    step = groups.scaling.measure(work, 2)
    gy, (x, w, b) = work.gradient, work.run().creator.inputs
    assert step.moved == (x.data.nbytes + w.data.nbytes + b.data.nbytes + gy.nbytes) * 4  # forward and three gradients
    assert step.handovers > 2 and min(step.divided, step.serial) > 0 and step.bandwidth > 1e7


@pytest.mark.earth
def test_steps_with_the_loader_train_as_those_on_one_batch_do(monkeypatch):
    monkeypatch.setattr(groups.loading, "STEPS", 1)
    stepped = []
    monkeypatch.setattr(groups.loading, "step", lambda parts, images, labels: stepped.append((images, labels)))
    loaded, at_hand = groups.loading.ways()
    loaded(), at_hand(), at_hand()
    assert [images.shape for images, _ in stepped] == [(8, 128, 128, 3)] * 3
    assert (stepped[1][0] == stepped[2][0]).all() and (stepped[0][0] != stepped[1][0]).any()


def test_without_pytorch_the_comparison_says_what_to_install(monkeypatch, capsys):
    from minifcn.bench import twin

    monkeypatch.setattr(twin, "torch", None)
    assert command.main(["mini5_2", "--against", "torch"]) == 2
    assert "pip install torch" in capsys.readouterr().err


def test_samples_alternate_and_the_ratio_is_that_of_neighbours():
    order = []
    table = measure.in_turns([lambda: order.append("a"), lambda: order.append("b")], rounds=2)
    assert table.shape == (2, 2)
    row = measure.summary(np.array([[2.0, 1.0], [9.0, 3.0], [8.0, 2.0]]))
    assert row["ratio"] == 3 and row["ratio_least"] == 2 and row["ratio_most"] == 4 and row["ms"] == 8000


def test_a_slow_first_call_does_not_decide_how_often_a_sample_repeats():
    calls = []

    def way():
        if not calls:
            time.sleep(2 * measure.SAMPLE)  # as if it compiled a kernel
        calls.append(1)

    measure.in_turns([way], rounds=1)
    assert len(calls) > 100


def test_the_flops_of_a_convolution_count_a_gradient_as_a_forward_pass():
    forward = cases.FORWARD["mini5_2_forward"]().flops()
    bias = 8 * 96 * 8 * 8
    assert forward == 2 * 8 * 96 * 96 * 9 * 64 + bias
    assert cases.KERNELS["mini5_2"]().flops() == 3 * forward


@pytest.mark.slow
@pytest.mark.paper
def test_the_memory_of_a_step_is_that_of_a_fresh_process():
    if measure.resident() is None:
        pytest.skip("the system does not tell how much memory a process holds")
    small, large = (groups.run("memory", f"{case}_memory", 1, None)["mb"] for case in ("lenet_train", "lenet_train_64"))
    assert 0.3 < small < large < 400


@pytest.mark.torch
@pytest.mark.parametrize("case", ["fcn8s_mini_train", "lenet_train", "conv1_1", "upscore8", "pool_mini", "loss_mini"])
def test_pytorchs_side_computes_the_same_numbers_and_gradients(case, monkeypatch):
    from minifcn.bench.twin import Twin

    keep_all = np.array(1.0, np.float32)
    monkeypatch.setattr("minifcn.ops.activation.Dropout.forward", lambda self, x: self.save(keep_all) or x)
    monkeypatch.setattr("minifcn.ops.activation.Dropout.backward", lambda self, gy: gy)
    monkeypatch.setattr("torch.nn.functional.dropout", lambda x, p: x)
    work = groups.BESIDE_CASES[case]()
    work.optimizer = None
    twin = Twin(work.run)
    theirs = twin()
    ours = work.run()
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=1e-4, atol=1e-4)
    gradient = np.ones(ours.shape, np.float32) if work.gradient is None else work.gradient
    import torch

    theirs.backward(torch.from_numpy(gradient))
    ours.backward(gradient)
    compared = 0
    for leaf, mine in twin.pairs():
        if leaf.requires_grad:
            scale = np.abs(mine.grad).max()
            np.testing.assert_allclose(mine.grad, leaf.grad.numpy(), atol=2e-3 * scale)
            compared += 1
    assert compared


@pytest.mark.torch
def test_a_u_net_is_trained_on_the_data_of_a_run_for_a_given_time(finished, tmp_path, capfd, refused):
    import torch

    from minifcn.bench import unet

    assert unet.main([str(finished), "--seconds", "3", "--json", str(tmp_path / "u.json")]) == 0
    found = json.loads((tmp_path / "u.json").read_text())
    logged = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    assert found["minifcn"]["mean_iu"] == pytest.approx(logged["mean_iu"]) and found["minifcn"]["steps"] == 4
    assert found["unet"]["steps"] >= 1 and 0.3 < found["unet"]["pixel_accuracy"] <= 1
    assert "U-Net" in capfd.readouterr().out
    refused(unet.main, tmp_path, match="is not a run folder")

    net = unet.unet(3).eval()
    x = torch.rand(1, 3, 37, 50)
    assert net(x).shape == (1, 3, 37, 50)
    whole = torch.nn.functional.pad(x, (0, 14, 0, 27), mode="replicate")
    torch.testing.assert_close(net(x), net(whole)[..., :37, :50])
    net(x).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in net.parameters())
    assert sum(p.numel() for p in unet.unet(1).parameters()) == 14_328_209  # smp.Unet("resnet18", None)
