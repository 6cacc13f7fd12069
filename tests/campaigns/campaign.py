"""The common parts of the campaigns: numbered cases with seeds, a time limit, an alarm, and a count at the end.

Environment variables: ``MINIFCN_CAMPAIGN=whole`` runs all cases instead of a sample; ``MINIFCN_CAMPAIGN_SECONDS`` is
the time limit of one campaign (600); ``MINIFCN_CAMPAIGN_SEED`` is the seed (0); ``MINIFCN_CAMPAIGN_CASE`` is the number
of a single case to repeat.
"""

import io
import os
import signal
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import numpy as np

from minifcn.errors import UserError

WHOLE = os.environ.get("MINIFCN_CAMPAIGN") == "whole"
SECONDS = float(os.environ.get("MINIFCN_CAMPAIGN_SECONDS", "600"))
SEED = int(os.environ.get("MINIFCN_CAMPAIGN_SEED", "0"))
ONLY = os.environ.get("MINIFCN_CAMPAIGN_CASE")
DONE = []  # one line per campaign, printed at the end of the session


def campaign(name, sample, whole, check, seconds=60):
    """Run ``check(number, rng)`` for each case; AssertionError names the failed cases and says how to repeat them.

    A check may return its number of comparisons.  A case that takes more than `seconds` fails.
    """
    numbers = [int(ONLY)] if ONLY else range(whole if WHOLE else sample)
    end, compared, cases, failures = time.monotonic() + SECONDS, 0, 0, []
    for number in numbers:
        if time.monotonic() > end:
            break
        try:
            with alarm(seconds):
                compared += check(number, np.random.default_rng([SEED, number])) or 1
        except (Exception, TooLong) as error:  # count every failure, and continue
            failures.append(f"case {number}: {type(error).__name__}: {str(error)[:300]}")
        cases += 1
    line = f"{name}: {cases} of {whole} cases, {compared} comparisons, {len(failures)} failed, seed {SEED}"
    DONE.append(line)
    repeat = f"repeat one with MINIFCN_CAMPAIGN_SEED={SEED} MINIFCN_CAMPAIGN_CASE=NUMBER"
    assert not failures, "\n".join([line, repeat, *failures[:20]])


class TooLong(BaseException):
    """A case took too long.  It is not an Exception, because readers turn every Exception into UserError."""


@contextmanager
def alarm(seconds):
    """Raise TooLong in this thread if the ``with`` block takes longer than `seconds`."""

    def late(*_):
        raise TooLong(f"it took more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def right_or_refused(read, *args):
    """The result of ``read(*args)``, or None if it raises UserError; any other exception is raised."""
    try:
        return read(*args)
    except UserError as error:
        assert str(error) and "Traceback" not in str(error)
        return None


def command(main, *argv):
    """Run a command in this process; (exit code, standard error).  The code must be 0, or 2 with one error line."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(a) for a in argv])
    errors = [line for line in err.getvalue().splitlines() if line.startswith("error: ")]
    assert code in (0, 2) and len(errors) == (code == 2) and "Traceback" not in err.getvalue(), (code, err.getvalue())
    return code, err.getvalue()


def damaged(data, rng):
    """A copy of `data` with one random damage: cut off, one bit or several bytes changed, removed or inserted."""
    data, at = bytearray(data), int(rng.integers(len(data)))
    length = int(rng.integers(1, 1 + min(64, len(data))))
    match rng.integers(6):
        case 0:
            return bytes(data[:at])
        case 1:
            data[at] ^= 1 << int(rng.integers(8))
        case 2:
            data[at : at + length] = bytes(length)
        case 3:
            data[at : at + length] = rng.bytes(length)
        case 4:
            del data[at : at + length]
        case 5:
            data[at:at] = rng.bytes(length)
    return bytes(data)
