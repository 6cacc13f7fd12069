"""The style of every minifcn figure: light axes, legible type, and colours that are safe for the colour-blind.

Apply it to your own drawing with ``with styled():``, or decorate a drawing function with ``@styled()``.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# The palette of Okabe and Ito: its colours are distinct for all common forms of colour blindness.
# The yellow is left out, because it is hard to see on white.
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

GREY = "#5f6368"  # secondary text, with a contrast of 6:1 on white

RC = {
    "text.parse_math": False,  # a class name may contain $, such as "$5" or "a_b$"
    "text.usetex": False,
    "figure.dpi": 150,
    "figure.facecolor": "white",
    "figure.constrained_layout.h_pad": 0.1,  # inches
    "figure.constrained_layout.w_pad": 0.1,
    "font.size": 9,
    "axes.prop_cycle": f"cycler('color', {CYCLE})",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelcolor": GREY,
    "axes.axisbelow": True,
    "grid.color": "#e4e6e8",
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.handletextpad": 0.6,
    "legend.columnspacing": 1.2,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw in minifcn's style, and restore matplotlib's settings afterwards.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    rc = _matplotlib().rcParams
    before = {key: rc[key] for key in (*RC, "font.family")}
    rc.update(RC)
    try:
        yield
    finally:
        # Restore these keys only: a notebook's first figure sets others, such as interactive mode, which must stay.
        rc.update(before)


def _matplotlib():
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("minifcn's figures need matplotlib: pip install matplotlib") from error
    except ValueError:  # MPLBACKEND names an unknown backend; these figures do not need one
        backend = os.environ.pop("MPLBACKEND", None)
        for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
            del sys.modules[name]  # a second import would not run the modules that the failed import left here
        import matplotlib

        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    return matplotlib
