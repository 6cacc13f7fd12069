"""What every command shares: flags that a file can give too, and errors that are one sentence and exit code 2."""

import argparse
import json
import sys
import tomllib
from pathlib import Path

from .coords import GeometryError
from .errors import UserError


class Parser(argparse.ArgumentParser):
    """Flags with defaults shown in the help, ``--config FILE`` with the same names, and errors of one sentence."""

    def __init__(self, command, description):
        super().__init__(
            prog=f"python -m minifcn.{command}",
            description=description,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument(
            "--config",
            metavar="FILE",
            help="a .json or .toml file with the same names as the flags, which win over it",
        )

    def error(self, message):
        raise UserError(f"{message} (see {self.prog} --help)")

    def parse(self, argv=None):
        """The flags of `argv` (by default the command line's), over those of ``--config``, over the defaults."""
        argv = list(sys.argv[1:] if argv is None else argv)
        finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        finder.add_argument("--config")
        try:
            file = finder.parse_known_args(argv)[0].config
        except argparse.ArgumentError as error:
            self.error(str(error))
        return self.parse_args([*(self.from_file(file) if file else []), *argv])

    def from_file(self, path):
        """The flags that a config file stands for."""
        try:
            text = Path(path).read_text(encoding="utf-8")
            values = tomllib.loads(text) if Path(path).suffix == ".toml" else json.loads(text)
        except (OSError, ValueError) as error:
            raise UserError(f"--config {path} cannot be read as .json or .toml ({error})") from None
        known = {a.dest: a for a in self._actions if a.option_strings and a.dest not in ("help", "config")}
        argv = []
        for key, value in (values if isinstance(values, dict) else {"(a list)": values}).items():
            action = known.get(key.replace("-", "_"))
            if action is None:
                raise UserError(f"--config {path}: there is no flag {key!r}; flags are {', '.join(known)}")
            flag = action.option_strings[0]
            if isinstance(action, argparse.BooleanOptionalAction):
                argv.append(flag if value else action.option_strings[1])
            elif value is not None:
                argv += [flag, str(value)]
        return argv


def command(function):
    """Turn ``function(argv)`` into a command's ``main(argv=None) -> exit code``."""

    def main(argv=None):
        try:
            return function(argv) or 0
        except (UserError, GeometryError) as error:
            print(f"error: {error}", file=sys.stderr)
        except OSError as error:
            what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            print(f"error: {what}", file=sys.stderr)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        return 2

    main.__doc__ = function.__doc__
    return main


def write_json(path, value):
    """Write `value` to a file, or to standard output for ``-``."""
    text = json.dumps(value, indent=2) + "\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        Path(path).write_text(text, encoding="utf-8")


def at_least(least, kind=int):
    """An argparse type: a number not below `least`."""

    def convert(text):
        value = kind(text)
        if not value >= least:
            raise argparse.ArgumentTypeError(f"{text} is below {least}")
        return value

    convert.__name__ = kind.__name__  # argparse names it when the text is no number
    return convert
