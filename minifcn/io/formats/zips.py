"""Read zip archives whose entries are no larger than they say, and say no more than the file can reasonably hold."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

from .common import Unfit

CHUNK = 1 << 20  # bytes that are unpacked at a time
RATIO, SMALL = 20, 1 << 26  # an archive may unpack to so many times its size, and to this many bytes besides


@contextmanager
def opened(path: str | Path) -> Iterator[ZipFile]:
    """The archive at `path`; Unfit if an entry is encrypted, or if the entries say sizes that do not fit the file.

    Parameters
    ----------
    path : path-like
    """
    size = os.path.getsize(path)
    with ZipFile(path) as archive:
        entries = archive.infolist()
        for entry in entries:
            if entry.flag_bits & 1:
                raise Unfit(f"its entry {entry.filename[:100]!r} is encrypted; save it again without a password")
            if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
                raise Unfit(f"its entry {entry.filename[:100]!r} is not compressed by deflate; save it again")
        if len({entry.filename for entry in entries}) < len(entries):
            raise Unfit("two of its entries have one name; give another file")
        if sum(entry.compress_size for entry in entries) > size:
            raise Unfit("its entries overlap, or it is cut short; give another file")
        total = sum(entry.file_size for entry in entries)
        if total > RATIO * size + SMALL:
            raise Unfit(f"it would unpack to {total:,} bytes, from {size:,}; save it again without compression")
        yield archive


def content(archive: ZipFile, name: str) -> bytearray:
    """The bytes of an entry.  Reading stops at the size that the directory says, however much the data unpack to."""
    entry = archive.getinfo(name)
    data = bytearray(entry.file_size)
    with archive.open(entry) as file, memoryview(data) as view:
        for start in range(0, len(data), CHUNK):
            part = view[start : start + CHUNK]
            chunk = file.read(len(part))
            if len(chunk) != len(part):
                raise Unfit(f"its entry {name[:100]!r} is cut short; give another file")
            part[:] = chunk
    return data
