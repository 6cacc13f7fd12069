"""Read settings from a .json or .toml file: the file of ``--config FILE``, and the config.json of a run folder."""

import json
import tomllib
from pathlib import Path

from ..errors import UserError
from .files import require_file

LARGEST = 1 << 20  # bytes of a settings file


def read_settings(path):
    """The dict in a .json or .toml file; UserError if the file cannot be read or does not hold a dict."""
    path = Path(path)
    kind, parse = ("TOML", tomllib.loads) if path.suffix.lower() == ".toml" else ("JSON", json.loads)
    try:
        if not path.is_dir():
            require_file(path)
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path} cannot be read as {kind} (a settings file has at most {LARGEST:,} bytes)")
        settings = parse(path.read_text(encoding="utf-8-sig"))
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as {kind} ({error})") from None
    except RecursionError:
        raise UserError(f"{path} cannot be read as {kind} (it is nested too deeply)") from None
    if not isinstance(settings, dict):
        raise UserError(f"{path} holds a {type(settings).__name__}, not settings; it must hold names and their values")
    return settings
