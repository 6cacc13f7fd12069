"""A seccomp filter that lets this process compute but not write files, start processes, connect or send signals.

A Python audit hook sees only what goes through Python.  Native code makes system calls directly, and the static
initialisers of a shared library run as soon as it is loaded.  Seccomp makes the Linux kernel itself refuse the calls,
and a filter cannot be removed.  Linux on x86-64 only, like the emulation of CUDA.
"""

import ctypes
import errno
import os
import platform
import signal
import sys

COMPUTING = {
    "read": 0, "write": 1, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15,
    "ioctl": 16, "pread64": 17, "readv": 19, "writev": 20, "access": 21, "sched_yield": 24, "mremap": 25,
    "madvise": 28, "getpid": 39, "exit": 60, "uname": 63, "fcntl": 72, "getcwd": 79, "readlink": 89,
    "gettimeofday": 96, "getrlimit": 97, "getrusage": 98, "sysinfo": 99, "getuid": 102, "geteuid": 107,
    "sigaltstack": 131, "gettid": 186, "futex": 202, "sched_getaffinity": 204, "getdents64": 217,
    "clock_gettime": 228, "clock_getres": 229, "exit_group": 231, "newfstatat": 262, "readlinkat": 267,
    "getrandom": 318, "statx": 332,
}  # fmt: skip
LOADING = {"openat": 257, "prctl": 157}  # openat to read files (the filter checks its flags); prctl to add a filter
THREADS = {"set_robust_list": 273, "rseq": 334, "nanosleep": 35, "clock_nanosleep": 230}
# clone makes threads (flag CLONE_THREAD) and processes; a filter can read its flags, the first argument.  clone3 passes
# its flags in memory, which a filter cannot read.  So clone3 fails with ENOSYS, and glibc falls back to clone.
CLONE, CLONE3, THREAD = 56, 435, 0x10000
X86_64 = 0xC000003E  # AUDIT_ARCH_X86_64
LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06  # instructions of the filter program (classic BPF)
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000  # what the filter returns
UNKNOWN = 0x00050000 | errno.ENOSYS
NEVER = 0xFFFFFFFF  # no system call has this number
NUMBER, ARCHITECTURE, FIRST, FLAGS = 0, 4, 16, 32  # offsets in struct seccomp_data; FIRST and FLAGS: arguments 1 and 3
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def end_with_parent():
    """Make Linux send SIGKILL to this process when the thread that started it ends; other systems: do nothing.

    A grader that is killed cannot end its submissions: one in an endless loop would run for ever.
    """
    parent_death_signal = 1  # PR_SET_PDEATHSIG
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL, 0, 0, 0)


class _Line(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("yes", ctypes.c_ubyte), ("no", ctypes.c_ubyte), ("value", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("lines", ctypes.POINTER(_Line)))


def confine(may_load, threads=False):
    """Install a seccomp filter: from now on all system calls but those for computing fail with EPERM.

    The filter holds for the calling thread and the threads that it starts later.  A second filter can only restrict
    the process further.

    Parameters
    ----------
    may_load : bool
        Whether the process may still open files for reading and install another filter.
    threads : bool
        Whether it may start threads.

    Raises
    ------
    OSError
        If this system has no seccomp, or is not Linux on x86-64.
    """
    if platform.machine() != "x86_64":
        raise OSError(f"native code can be confined on Linux on x86-64 only, not on {platform.machine()}")
    allowed = {**COMPUTING, **(LOADING if may_load else {}), **(THREADS if threads else {})}
    lines = [
        (LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, X86_64), (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER), (EQUAL, 0, 4, LOADING["openat"] if may_load else NEVER),
        (LOAD, 0, 0, FLAGS), (ANY_BIT, 0, 1, WRITING), (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW),
        (EQUAL, 0, 4, CLONE if threads else NEVER),
        (LOAD, 0, 0, FIRST), (ANY_BIT, 0, 1, THREAD), (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE),
        (EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, UNKNOWN),
    ]  # fmt: skip
    for number in allowed.values():
        lines += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    lines.append((RETURN, 0, 0, REFUSE))
    program = _Program(len(lines), (_Line * len(lines))(*lines))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    no_new_privileges, seccomp, by_filter = 38, 22, 2  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    if prctl(no_new_privileges, 1, 0, 0, 0) or prctl(seccomp, by_filter, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "this system refuses to install a seccomp filter")
