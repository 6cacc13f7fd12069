"""What every command shares: flags that a file can give too, and errors that are one sentence and exit code 2."""

import argparse
import json
import math
import os
import sys
import warnings
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from functools import partial, wraps
from pathlib import Path

from ..arrays import backend, parallel
from ..errors import GeometryError, Note, UserError
from .settings import read_settings


class Parser(argparse.ArgumentParser):
    """Flags with their defaults in the help, ``--config FILE`` with the same names, and errors of one sentence.

    The command line wins over the file, and the file over the defaults.
    """

    def __init__(self, command, description):
        super().__init__(
            prog=f"python -m minifcn.{command}", description=description, formatter_class=_Help, allow_abbrev=False
        )
        self.add_argument(
            "--config", metavar="FILE", help="a .json or .toml file with the names of these flags, which win over it"
        )

    def error(self, message):
        raise UserError(f"{message} (see {self.prog} --help)")

    def parse(self, argv=None, under=None):
        """All settings: of the command line, else of the file that ``--config`` names, of `under`, of the defaults."""
        path, under = self.given(argv).get("config"), dict(under or {})
        if path is None:
            return self.over(under, "the recipe", argv) if under else self.parse_args(argv)
        return self.over(under | read_settings(path), path, argv)

    def given(self, argv=None):
        """{name: value} of what the command line itself says."""
        silent = object()  # argparse puts a default only where the namespace has nothing yet
        blank = argparse.Namespace(**{action.dest: silent for action in self._actions})
        return {name: value for name, value in vars(self.parse_args(argv, blank)).items() if value is not silent}

    def over(self, settings, source, argv=None):
        """All settings: of the command line, else of a dict that was read from the file `source`, else the defaults."""
        argv = sys.argv[1:] if argv is None else argv
        try:
            return self.parse_args([*self._flags(settings), *argv])
        except UserError as error:
            raise UserError(f"{source}: {error}") from None

    def _flags(self, settings):
        """The flags that say on a command line what `settings` says."""
        known = {a.dest: a for a in self._actions if a.option_strings and a.dest not in ("help", "config")}
        for name, value in settings.items():
            action = known.get(name.replace("-", "_"))
            if action is None:
                raise UserError(f"there is no flag {name!r}; flags are {', '.join(known)}")
            if value is None:
                continue
            if isinstance(action, argparse.BooleanOptionalAction):
                if not isinstance(value, bool):
                    raise UserError(f"{name} is {value!r}; it must be true or false")
                yield action.option_strings[0 if value else 1]  # --mirror, --no-mirror
            elif isinstance(value, bool | list | dict):
                raise UserError(f"{name} is {value!r}; it must be one number or text")
            else:
                yield f"{action.option_strings[0]}={value}"


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action):
        return action.help if action.default is None else super()._get_help_string(action)


def command(function=None, *, ranks=False):
    """Turn ``function(argv)`` into a command's ``main(argv=None) -> exit code``.

    0: done.  2: something the user gave cannot be used; one sentence on stderr says what.  130: interrupted (Ctrl-C).
    129, 143: a training was stopped by SIGHUP, by SIGTERM.  141: nobody reads the output any more (``| head``).

    Nothing that is printed can end it: a sign that the console lacks comes in plain characters.

    Parameters
    ----------
    ranks : bool
        Whether it can run on several ranks: rank 0 then speaks for all.  Other commands refuse to.
    """
    if function is None:
        return partial(command, ranks=ranks)

    @wraps(function)
    def main(argv=None):
        rank, size = parallel.launched()
        _prepare_output()
        try:
            if size == 1:
                code, message = _attempt(function, argv)
            elif ranks:
                code, message = _with_others(function, argv, rank)
            else:
                code, message = 2, "error: this command is for one process: start it without mpiexec"
                message = message if rank == 0 else None
            if message:
                print(message, file=sys.stderr)
            sys.stdout.flush()  # a pipe that is closed, or a disk that is full, shows here, not when Python exits
            return code
        except BrokenPipeError:
            _give_up_output()
            if size > 1 and not parallel.leave():
                parallel.world().abort(141)
            return 141
        except OSError as error:
            with suppress(OSError):
                print(f"error: standard output cannot be written ({error.strerror})", file=sys.stderr)
            _give_up_output()
            return 2

    return main


def _prepare_output():
    """Make the standard streams such that printing cannot fail for what is printed, nor for a stream that is closed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # it was closed (>&-): its number must not become that of a file of ours
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8", errors="replace"))  # noqa: SIM115
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="minifcn.plain")


def _give_up_output():
    """What is left in the buffers goes nowhere."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
            continue
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _with_others(function, argv, rank):
    """:func:`_attempt` on this of several ranks.

    The others come to the same end as a rule, and rank 0 says what it is.  A rank that ends alone says so itself, and
    ends all: they would wait for it.
    """
    with _silence() if rank else nullcontext():
        code, message = _attempt(function, argv)
    if code and not parallel.leave():
        print(f"{message or 'stopped'} (on rank {rank} alone)", file=sys.stderr)
        parallel.world().abort(code)
    return code, message if rank == 0 else None


@contextmanager
def _silence():
    """Inside, nothing is printed."""
    nowhere = open(os.devnull, "w", encoding="utf-8", errors="replace")  # noqa: SIM115
    with nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def _show(message, category, *where):
    """A note is one line; other warnings say where they come from."""
    text = f"note        {message}" if category is Note else warnings.formatwarning(message, category, *where[:2])
    with suppress(OSError):  # a note that cannot be written must not end a command
        print(text.rstrip(), file=sys.stderr)


def _attempt(function, argv):
    """(exit code, what there is to say)."""
    try:
        parallel.world()
        with warnings.catch_warnings():
            warnings.filterwarnings("default", category=Note)
            warnings.filterwarnings("ignore", "Image size")  # Pillow's, of pictures that may fit all the same
            warnings.showwarning = _show
            return function(argv) or 0, None
    except SystemExit as done:  # argparse's, after --help
        return done.code or 0, None
    except KeyboardInterrupt:
        return 130, "interrupted"
    except BrokenPipeError:
        raise
    except (UserError, GeometryError) as error:
        message = str(error)
    except MemoryError as error:
        message = f"out of memory: smaller images or batches need less ({error})"
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
    return 2, f"error: {' '.join(message.split())}"  # a library's message may have line breaks


def write_json(path, value):
    """Write `value` to a file, or to standard output for ``-``; of several ranks, rank 0 does."""
    if parallel.world().rank:
        return
    text = json.dumps(value, indent=2) + "\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        Path(path).write_text(text, encoding="utf-8")


def at_least(least, kind=int, below=None):
    """An argparse type: a finite number that is not below `least`, but below `below`."""
    limit = below if below is not None else 2**31 if kind is int else math.inf

    def convert(text):
        value = kind(text)
        if not value >= least:  # nan is not, either
            raise argparse.ArgumentTypeError(f"{text} is not at least {least}")
        if value >= limit:
            raise argparse.ArgumentTypeError(f"{text} is not below {limit}")
        return value

    convert.__name__ = kind.__name__  # argparse names it when the text is no number
    return convert


seed = at_least(0, below=2**32)
"""An argparse type: where random numbers begin."""


def numbers(text):
    """An argparse type: several words with commas between."""
    return tuple(filter(None, text.replace(" ", "").split(",")))


def share(text):
    """An argparse type: a number above 0, up to 1."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return value


def json_file(text):
    """An argparse type: a file that can be written, or ``-``.  Said before the work, not after it."""
    path = Path(text)
    if text != "-" and (path.is_dir() or not path.parent.is_dir()):
        raise argparse.ArgumentTypeError(f"{text} is a folder, or lies in none; give a file, or - for standard output")
    if text != "-" and not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written; give another file, or - for standard output")
    return text


def device(text):
    """An argparse type: a device that is there."""
    try:
        backend.to_device(backend.from_python([0]), text)
    except (RuntimeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
