"""Run the suite on each Python: the oldest patch with the oldest packages of setup.cfg, the newest with the newest.

``python tests/campaigns/versions.py [FOLDER] [pytest's arguments]`` makes an environment for each combination in
FOLDER, installs the packages, runs the tests, and prints one line.  uv chooses the packages, among those with a wheel.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PYTHONS = ("3.11", "3.12", "3.13")
SUBSET = ["tests/test_core.py", "tests/test_kernels.py", "tests/test_training.py", "tests/test_commands.py",
          "tests/test_viz.py", "tests/test_io.py", "tests/test_folder.py",
          "tests/test_evaluate_predict.py"]  # fmt: skip
PACKAGES = ("numpy", "matplotlib", "pillow", "threadpoolctl", "safetensors", "tqdm")


def interpreters(version):
    """The oldest and the newest Python of a version on this machine, or (None, None)."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    places = [shutil.which(f"python{version}", path=path) for path in os.get_exec_path()]
    found = {}
    for path in filter(None, [*places, *map(str, pyenv.glob(f"{version}.*/bin/python"))]):
        asked = subprocess.run(
            [path, "-c", "import ssl, venv, sys; print(*sys.version_info[:3])"], capture_output=True, text=True
        )
        if asked.returncode == 0:
            found[tuple(map(int, asked.stdout.split()))] = path
    return (found[min(found)], found[max(found)]) if found else (None, None)


def main(folder, argv):
    for version in PYTHONS:
        for age, python in zip(("lowest-direct", "highest"), interpreters(version), strict=True):
            place = Path(folder, f"{version}-{age}")
            if python is None:
                print(f"{version} {age}: this Python is not installed here")
                continue
            subprocess.run([python, "-m", "venv", place], check=True)
            program = place / "bin" / "python"
            subprocess.run([program, "-m", "pip", "install", "-q", "uv"], check=True)
            install = ["-m", "uv", "pip", "install", "-q", "--python", program, "--only-binary", ":all:"]
            got = subprocess.run([program, *install, "--resolution", age, "-e", ".[test]", "--no-binary", "minifcn"])
            if got.returncode:
                print(f"{version} {age}: the packages cannot be installed")
                continue
            code = (
                "import importlib.metadata as m, platform; print('Python ' + platform.python_version(), "
                f"*(p + ' ' + m.version(p) for p in {PACKAGES}), sep=', ')"
            )
            versions = subprocess.run([program, "-c", code], capture_output=True, text=True).stdout.strip()
            run = subprocess.run([program, "-m", "pytest", "-q", *(argv or SUBSET)], capture_output=True, text=True)
            (place / "pytest.txt").write_text(run.stdout + run.stderr)
            print(f"{version} {age} ({versions}): {run.stdout.strip().splitlines()[-1]}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(), sys.argv[2:])
