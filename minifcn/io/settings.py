"""Settings in a .json or .toml file: what ``--config FILE`` names, and the config.json of a run."""

import json
import tomllib
from pathlib import Path

from ..errors import UserError
from .files import require_file

LARGEST = 1 << 20  # bytes of a file of settings


def read_settings(path):
    """The dict in a .json or .toml file; UserError if it cannot be read or holds something else."""
    path = Path(path)
    kind, parse = ("TOML", tomllib.loads) if path.suffix.lower() == ".toml" else ("JSON", json.loads)
    try:
        if not path.is_dir():
            require_file(path)
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path} cannot be read as {kind} (settings have {LARGEST:,} bytes at most)")
        settings = parse(path.read_text(encoding="utf-8-sig"))
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as {kind} ({error})") from None
    except RecursionError:
        raise UserError(f"{path} cannot be read as {kind} (it is nested too deeply)") from None
    if not isinstance(settings, dict):
        raise UserError(f"{path} holds a {type(settings).__name__}: it holds no settings (names and their values)")
    return settings
