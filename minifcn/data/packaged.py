"""Files that come inside installed packages, found without importing any of those."""

from pathlib import Path


def packaged(package, file):
    """The path of `file` of an installed package; None if it is not installed, or has no such file."""
    from importlib import metadata  # a tenth of what importing minifcn takes, and few programs need it

    try:
        path = Path(metadata.distribution(package).locate_file(file))
    except metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None
