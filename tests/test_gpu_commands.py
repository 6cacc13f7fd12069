"""The commands for GPUs on a computer without a GPU: one sentence, exit code 2, no files left."""

import pytest

from minifcn import gpucheck, train
from minifcn.arrays import backend
from minifcn.cuda_on_cpu import __main__ as cuda_on_cpu
from minifcn.cuda_on_cpu import folder, install

without_gpu = pytest.mark.skipif(backend.gpu_available(), reason="a GPU is here")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIFCN_CUDA_ON_CPU", str(tmp_path / "cuda"))


def test_the_emulation_must_be_set_up_before_it_runs_anything(refused, tmp_path):
    refused(cuda_on_cpu.main, "run", "python", match="setup")
    refused(cuda_on_cpu.main, "run", match="takes a command")
    refused(cuda_on_cpu.main, "setup", "now", match="no further words")
    assert folder() == tmp_path / "cuda" and not folder().exists()


def test_a_computer_that_cannot_have_the_emulation_is_told_why(refused, monkeypatch):
    monkeypatch.setattr(install.sys, "platform", "darwin")
    refused(cuda_on_cpu.main, "setup", match="Linux on x86-64, and this is darwin")
    monkeypatch.undo()
    monkeypatch.setattr(install.shutil, "which", lambda name: None)
    refused(cuda_on_cpu.main, "setup", match=r"needs g\+\+")


def test_what_is_built_for_other_sources_is_not_used(monkeypatch):
    install.libraries().mkdir(parents=True)
    (install.libraries() / "complete").write_text(install._version())
    assert install.is_set_up()
    monkeypatch.setattr(install, "WHEELS", ["another"])
    assert not install.is_set_up()


def test_the_emulations_libraries_and_packages_come_first(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "mine")
    settings = cuda_on_cpu.settings()
    assert settings["PYTHONPATH"].split(":") == [str(install.site()), "mine"]
    assert settings["LD_LIBRARY_PATH"].startswith(str(install.libraries()))
    before = settings["CUPY_CACHE_DIR"]
    monkeypatch.setenv("MINIFCN_CUDA_CXXFLAGS", "-mfma")  # other compiler flags make other kernels
    assert cuda_on_cpu.settings()["CUPY_CACHE_DIR"] != before


@without_gpu
def test_a_gpu_that_is_not_there_is_one_sentence(refused, tmp_path):
    refused(gpucheck.main, "--out", tmp_path / "report.md", match="use device 'cpu'; python -m minifcn.cuda_on_cpu")
    assert not (tmp_path / "report.md").exists()
    refused(gpucheck.main, "conv9_9", match="no case 'conv9_9'")
    refused(train.main, "--device", "cuda", "--out", tmp_path / "run", match="device 'cuda' needs")
    assert not (tmp_path / "run").exists()


def test_the_report_says_what_was_measured_and_against_what():
    results = dict(
        device="a device", suite="passed: 3 passed", against="PyTorch 2", gemm_gflops=1000.0, copy_gbytes=100.0,
        rows=[dict(case="conv1_2", ms=2.0, other_ms=4.0, ratio=0.5, ratio_least=0.4, ratio_most=0.6, gflops=500.0)],
    )  # fmt: skip
    text = gpucheck.report(results)
    for said in ("a device", "Suite: passed", "1,000 GFLOP/s", "100 GB/s", "PyTorch 2", "conv1_2", "0.50", "50%"):
        assert said in text
