"""The course: assignments whose answers run inside the whole framework, and the grader that judges them.

A student needs :func:`check` alone.  ``python -m minifcn.course build OUT`` writes what students get, and
``python -m minifcn.grade`` judges what they hand in; how it all goes together is told in docs/course.md.
"""

import functools
import io

from ..errors import shown

__all__ = ["check"]


def check(test):
    """Run a visible test where it is written, and say how it went; a mistake does not stop the cells after it.

    In a notebook, and with ``python FILE.py``, the test runs at once; what it returns (a figure) is displayed.  Under
    pytest (``python -m pytest FILE.py``) it is an ordinary test.

    Parameters
    ----------
    test : callable
        ``test_...()``, which asserts.  The first line of its docstring is what is said of it.
    """
    if test.__globals__.get("__name__") != "__main__":
        return _quiet(test)
    title = (test.__doc__ or test.__name__).strip().split("\n")[0].rstrip(".")
    try:
        picture = test()
    except NotImplementedError as error:
        print(shown(f"·  {title}: not yet ({error})"))
    except AssertionError as error:
        print(shown(f"✗  {title}: {error}" if str(error) else f"✗  {title}"))
    except Exception as error:  # whatever an unfinished answer raises
        print(shown(f"✗  {title}: {type(error).__name__}: {error} ({_where(error)})"))
    else:
        print(shown(f"✓  {title}"))
        if picture is not None:
            _display(picture)
    return test


def _quiet(test):
    """The test without what it returns: pytest warns of results."""

    @functools.wraps(test)
    def run():
        test()

    return run


def _where(error):
    """The innermost line that raised, in words."""
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    return f"in {trace.tb_frame.f_code.co_name}, line {trace.tb_lineno}"


def _display(result):
    """Show what a test returned, where there is a notebook; a figure as a picture, whether or not pyplot knows it."""
    try:
        from IPython import get_ipython
        from IPython.display import Image, display
    except ImportError:
        return
    if get_ipython():
        if hasattr(result, "savefig"):
            picture = io.BytesIO()
            result.savefig(picture, format="png")
            result = Image(picture.getvalue(), retina=result.dpi >= 140)
        display(result)
