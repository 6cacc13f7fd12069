"""Find files inside installed packages, without importing the packages."""

from pathlib import Path


def packaged(package, file):
    """The path of `file` in an installed package; None if the package is not installed or has no such file."""
    from importlib import metadata  # here, because it would add a tenth to the time of importing minifcn

    try:
        path = Path(metadata.distribution(package).locate_file(file))
    except metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None
