"""``python -m minifcn.cuda_on_cpu setup|run CMD``: run CuPy and your own CUDA kernels without a GPU."""

import os
import shutil
import sys
from hashlib import sha256
from pathlib import Path

from ..errors import UserError
from ..io.cli import Parser, command
from . import folder, install

DESCRIPTION = """CUDA on the CPU: write and run CUDA kernels without a GPU.  setup: fetch CuPy and build replacements
for the CUDA libraries below it (Linux on x86-64, g++; half a minute).  run CMD: run a command with them, such as
python -m minifcn.train --device cuda, or pytest.  The code runs on the CPU, so times say nothing about a GPU."""


def parser():
    """The flags of this command."""
    p = Parser("cuda_on_cpu", DESCRIPTION)
    p.add_argument("action", choices=("setup", "run"), help="build the emulation, or run a command on it")
    p.add_argument("command", nargs="...", metavar="CMD", help="the command to run, with its arguments")
    return p


@command
def main(argv=None):
    """Set up the emulation or run a command on it, from the command line."""
    args = parser().parse(argv)
    if args.action == "setup":
        if args.command:
            raise UserError(f"setup takes no further words, got {' '.join(args.command)!r}")
        install.setup(lambda text: print(text, flush=True))
        return 0
    if not args.command:
        raise UserError("run takes a command, such as: run python -m minifcn.train --device cuda")
    if not install.is_set_up():
        raise UserError("the emulation is not built, or is out of date; run python -m minifcn.cuda_on_cpu setup")
    environment = settings()
    program = shutil.which(args.command[0], path=environment["PATH"])
    if program is None:
        raise UserError(f"there is no command {args.command[0]!r} on the PATH")
    sys.stdout.flush()
    os.execve(program, [program, *args.command[1:]], environment)


def settings():
    """The environment variables with which CuPy runs on the CPU."""

    def first(variable, *paths):
        rest = [os.environ[variable]] if os.environ.get(variable) else []
        return os.pathsep.join([*map(str, paths), *rest])

    flags = os.environ.get("MINIFCN_CUDA_CXXFLAGS", "")  # part of the cache's name: other flags give other kernels
    return (
        os.environ
        | dict(
            PATH=first("PATH", Path(sys.executable).parent),
            PYTHONPATH=first("PYTHONPATH", install.site()),
            LD_LIBRARY_PATH=first("LD_LIBRARY_PATH", install.libraries()),
            CUPY_ACCELERATORS="",  # CuPy's accelerators (CUB, cuTENSOR) are compiled for a GPU
            CUPY_CACHE_DIR=str(folder() / f"kernels{flags and '-' + sha256(flags.encode()).hexdigest()[:8]}"),
            MINIFCN_CUDA_LIBRARIES=str(install.libraries()),
            MINIFCN_CUDA_PYTHON=sys.executable,
            MINIFCN_CUDA_COMPILER=str(Path(__file__).with_name("compiler.py")),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
