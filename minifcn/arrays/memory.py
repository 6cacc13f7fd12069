"""How much memory this machine has, and memory sizes as text."""

import os
import re
from contextlib import suppress
from pathlib import Path

from ..errors import UserError

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
LIMITS = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"  # of a container on Linux
UNKNOWN = 8 * 10**9  # bytes that are assumed where the system does not say how many it has


def machine() -> int:
    """The bytes of memory that this process may use at most: the machine's, or its container's if that is less."""
    sizes = [_physical()]
    for file in LIMITS:
        with suppress(OSError, ValueError):
            sizes.append(int(Path(file).read_text()))
    return min(sizes)


def _physical():
    with suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(ImportError, AttributeError, OSError):
        from ctypes import byref, c_uint64, sizeof, windll  # type: ignore[attr-defined]

        status = (c_uint64 * 8)()  # MEMORYSTATUSEX: two 32-bit numbers, then seven of 64 bits
        status[0] = sizeof(status)  # dwLength; dwMemoryLoad is 0
        if windll.kernel32.GlobalMemoryStatusEx(byref(status)):
            return status[1]  # ullTotalPhys
    return UNKNOWN


def allowed(memory: str | float | None = None) -> int:
    """The bytes of a memory limit.

    Parameters
    ----------
    memory : str or number, optional
        ``"2GB"``, ``"800MB"`` (decimal units), or bytes.  None: half of the memory of the machine.

    Raises
    ------
    UserError
        If it is not a size above 0.
    """
    if memory is None:
        return machine() // 2
    found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([kmgt]?)i?b?\s*", str(memory).lower())
    size = int(float(found[1]) * UNITS[found[2]]) if found else 0
    if size < 1:
        raise UserError(f"memory is {memory!r}; give a size such as 2GB or 800MB")
    return size


def shown(size: float) -> str:
    """A number of bytes as text: ``1.4 GB``, ``320 MB``."""
    return f"{size / 10**9:.3g} GB" if size >= 10**9 else f"{size / 10**6:.0f} MB"
