"""The common part of all commands: flags that a file can set, and errors as one sentence with exit code 2."""

import argparse
import csv
import io
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
    """An argument parser that shows defaults in the help, reads ``--config FILE``, and raises UserError.

    The command line overrides the file, and the file overrides the defaults.
    """

    def __init__(self, command, description):
        super().__init__(
            prog=f"python -m minifcn.{command}", description=description, formatter_class=_Help, allow_abbrev=False
        )
        self.add_argument(
            "--config", metavar="FILE", help="a .json or .toml file with values of these flags; flags given override it"
        )

    def error(self, message):
        raise UserError(f"{message} (see {self.prog} --help)")

    def parse(self, argv=None, under=None):
        """All settings, each from the first of: command line, ``--config`` file, the dict `under`, defaults."""
        path, under = self.given(argv).get("config"), dict(under or {})
        if path is None:
            return self.over(under, "the recipe", argv) if under else self.parse_args(argv)
        return self.over(under | read_settings(path), path, argv)

    def given(self, argv=None):
        """{name: value} of the flags that the command line contains, without defaults."""
        absent = object()  # argparse sets a default only if the namespace does not have the attribute
        blank = argparse.Namespace(**{action.dest: absent for action in self._actions})
        return {name: value for name, value in vars(self.parse_args(argv, blank)).items() if value is not absent}

    def over(self, settings, source, argv=None):
        """All settings, each from the first of: command line, the dict `settings`, defaults; errors name `source`."""
        argv = sys.argv[1:] if argv is None else argv
        try:
            return self.parse_args([*self._flags(settings), *argv])
        except UserError as error:
            raise UserError(f"{source}: {error}") from None

    def _flags(self, settings):
        """`settings` as flags of a command line."""
        known = {a.dest: a for a in self._actions if a.option_strings and a.dest not in ("help", "config")}
        for name, value in settings.items():
            action = known.get(name.replace("-", "_"))
            if action is None:
                raise UserError(f"there is no flag {name!r}; the flags are {', '.join(known)}")
            if value is None:
                continue
            if isinstance(action, argparse.BooleanOptionalAction):
                if not isinstance(value, bool):
                    raise UserError(f"{name} is {value!r}; it must be true or false")
                yield action.option_strings[0 if value else 1]  # --mirror, --no-mirror
            elif action.nargs == 2 and is_pair(value):
                yield from (action.option_strings[0], *map(str, value))
            elif isinstance(value, bool | list | dict) or action.nargs == 2:
                kind = "a list of two numbers" if action.nargs == 2 else "a single number or text"
                raise UserError(f"{name} is {value!r}; it must be {kind}")
            else:
                yield f"{action.option_strings[0]}={value}"


def is_pair(value):
    """Whether a setting is a list of two numbers, such as a crop's height and width."""
    return isinstance(value, list) and len(value) == 2 and all(type(number) in (int, float) for number in value)


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action):
        return action.help if action.default is None else super()._get_help_string(action)


def command(function=None, *, ranks=False):
    """Turn ``function(argv)`` into a command's ``main(argv=None) -> exit code``.

    0: done.  2: the user's input cannot be used; one sentence on stderr says why.  130: interrupted (Ctrl-C).
    129, 143: a training was stopped by SIGHUP, by SIGTERM.  141: the reader of the output has closed it (``| head``).

    Printing never raises UnicodeEncodeError: a character that the console lacks is replaced by plain characters.

    Parameters
    ----------
    ranks : bool
        Whether the command can run on several ranks; only rank 0 then prints.  A command that cannot is an error.
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
                code, message = _attempt_on_ranks(function, argv, rank)
            else:
                code, message = 2, "error: this command is for one process: start it without mpiexec"
                message = message if rank == 0 else None
            if message:
                print(message, file=sys.stderr)
            sys.stdout.flush()  # now, so that a closed pipe or a full disk raises here, not when Python exits
            return code
        except BrokenPipeError:
            _discard_output()
            if size > 1 and not parallel.leave():
                parallel.world().abort(141)
            return 141
        except OSError as error:
            with suppress(OSError):
                print(f"error: standard output cannot be written ({error.strerror})", file=sys.stderr)
            _discard_output()
            return 2

    return main


def _prepare_output():
    """Prepare the standard streams: replace closed ones, and set an error handler that can encode any character."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        # A closed stream (>&-) leaves its descriptor free.  The next file that is opened would get it, and prints of
        # libraries would go into that file, so /dev/null takes the descriptor.
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8", errors="replace"))  # noqa: SIM115
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="minifcn.plain")


def _discard_output():
    """Redirect a stream that cannot be flushed to /dev/null, so that Python's exit does not raise again."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
            continue
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _attempt_on_ranks(function, argv, rank):
    """:func:`_attempt` on one of several ranks; returns the message on rank 0 only.

    Usually all ranks end alike, and rank 0 prints the message.  A rank that fails alone prints its own message and
    aborts all ranks, because the others would wait for it for ever.
    """
    with _silence() if rank else nullcontext():
        code, message = _attempt(function, argv)
    if code and not parallel.leave():
        print(f"{message or 'stopped'} (on rank {rank} alone)", file=sys.stderr)
        parallel.world().abort(code)
    return code, message if rank == 0 else None


@contextmanager
def _silence():
    """Discard everything that is printed inside the block."""
    null = open(os.devnull, "w", encoding="utf-8", errors="replace")  # noqa: SIM115
    with null, redirect_stdout(null), redirect_stderr(null):
        yield


def _show(message, category, *location):
    """Print a warning to stderr: a Note as one line, any other with its file and line."""
    text = f"note        {message}" if category is Note else warnings.formatwarning(message, category, *location[:2])
    with suppress(OSError):  # a failure to print a warning must not end the command
        print(text.rstrip(), file=sys.stderr)


def _attempt(function, argv):
    """Run a command: (exit code, message for stderr or None)."""
    try:
        parallel.world()
        with warnings.catch_warnings():
            warnings.filterwarnings("default", category=Note)
            warnings.filterwarnings("ignore", "Image size")  # Pillow's, for large images; most fit into memory
            warnings.showwarning = _show
            return function(argv) or 0, None
    except SystemExit as done:  # argparse exits after --help
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
    """Write `value` as JSON to a file, or to standard output for ``-``; on several ranks, only rank 0 writes."""
    if parallel.world().rank:
        return
    text = json.dumps(value, indent=2) + "\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        Path(path).write_text(text, encoding="utf-8")


def write_csv(path, rows):
    """Write dicts with the same keys as a table, to a file or, for ``-``, to standard output; only rank 0 writes.

    A file begins with a byte order mark, without which Excel misreads names that are not English.
    """
    if parallel.world().rank or not rows:
        return
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    if path == "-":
        sys.stdout.write(text.getvalue())
    else:  # surrogateescape: the name of a file may have bytes that are no text
        Path(path).write_text(text.getvalue(), encoding="utf-8-sig", errors="surrogateescape")


def at_least(least, kind=int, below=None):
    """An argparse type: a finite number with ``least ≤ number < below``."""
    limit = below if below is not None else 2**31 if kind is int else math.inf

    def convert(text):
        value = kind(text)
        if not value >= least:  # not "<": this refuses NaN, too
            raise argparse.ArgumentTypeError(f"{text} is not at least {least}")
        if value >= limit:
            raise argparse.ArgumentTypeError(f"{text} is not below {limit}")
        return value

    convert.__name__ = kind.__name__  # for argparse's message: "invalid int value"
    return convert


seed = at_least(0, below=2**32)
"""An argparse type: the seed of the random numbers."""


def numbers(text):
    """An argparse type: a tuple of words that are separated by commas."""
    return tuple(filter(None, text.replace(" ", "").split(",")))


def share(text):
    """An argparse type: a number with ``0 < number ≤ 1``."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return value


def json_file(text):
    """An argparse type: a file that can be written, or ``-``; checked now, not after the command has done its work."""
    path = Path(text)
    if text != "-" and (path.is_dir() or not path.parent.is_dir()):
        raise argparse.ArgumentTypeError(
            f"{text} is a folder, or is in a folder that does not exist; give a file, or - for standard output"
        )
    if text != "-" and not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written; give another file, or - for standard output")
    return text


def device(text):
    """An argparse type: a device that exists on this machine."""
    try:
        backend.to_device(backend.from_python([0]), text)
    except (RuntimeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
