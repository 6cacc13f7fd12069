"""The suite under each Python, with the oldest and the newest packages that setup.cfg allows.

``python tests/campaigns/versions.py [FOLDER] [pytest's arguments]`` makes an environment for each in FOLDER, installs,
runs, and prints a line for each.  The oldest are those that have a wheel for that Python; uv finds them.
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


def interpreter(version):
    """A Python of that version on this machine, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found = [shutil.which(f"python{version}"), *sorted(map(str, pyenv.glob(f"{version}.*/bin/python")))]
    for path in filter(None, reversed(found)):
        asked = subprocess.run([path, "-c", "import ssl, sys; print(sys.version)"], capture_output=True, text=True)
        if asked.stdout.startswith(version):
            return path
    return None


def main(folder, argv):
    for version in PYTHONS:
        for age in ("lowest-direct", "highest"):
            python, place = interpreter(version), Path(folder, f"{version}-{age}")
            if python is None:
                print(f"{version} {age}: there is no such Python here")
                continue
            subprocess.run([python, "-m", "venv", place], check=True)
            own = place / "bin" / "python"
            subprocess.run([own, "-m", "pip", "install", "-q", "uv"], check=True)
            install = ["-m", "uv", "pip", "install", "-q", "--python", own, "--only-binary", ":all:"]
            got = subprocess.run([own, *install, "--resolution", age, "-e", ".[test]", "--no-binary", "minifcn"])
            if got.returncode:
                print(f"{version} {age}: cannot be installed")
                continue
            code = f"import importlib.metadata as m; print(*(p + ' ' + m.version(p) for p in {PACKAGES}), sep=', ')"
            there = subprocess.run([own, "-c", code], capture_output=True, text=True).stdout.strip()
            run = subprocess.run([own, "-m", "pytest", "-q", *(argv or SUBSET)], capture_output=True, text=True)
            (place / "pytest.txt").write_text(run.stdout + run.stderr)
            print(f"{version} {age} ({there}): {run.stdout.strip().splitlines()[-1]}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(), sys.argv[2:])
