"""The course: assignments whose answers run inside the whole framework, and the grader for them.

Students need only :func:`check`.  ``python -m minifcn.course build OUT`` writes the files for students, and
``python -m minifcn.grade`` grades their submissions.  docs/course.md describes the whole course.
"""

import functools
import io

from ..errors import shown

__all__ = ["check"]


def check(test):
    """Run a visible test at its definition and print the outcome; a failure does not stop the cells after it.

    In a notebook, and with ``python FILE.py``, the test runs at once, and a figure that it returns is displayed.
    Under pytest (``python -m pytest FILE.py``) it is an ordinary test.

    Parameters
    ----------
    test : callable
        ``test_...()``, which asserts.  The printed line begins with the first line of its docstring.
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
    except Exception as error:  # an unfinished answer may raise anything
        print(shown(f"✗  {title}: {type(error).__name__}: {error} ({_raising_line(error)})"))
    else:
        print(shown(f"✓  {title}"))
        if picture is not None:
            _display(picture)
    return test


def _quiet(test):
    """The test without its return value: pytest warns about tests that return one."""

    @functools.wraps(test)
    def run():
        test()

    return run


def _raising_line(error):
    """The function and line that raised `error`, in words."""
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    return f"in {trace.tb_frame.f_code.co_name}, line {trace.tb_lineno}"


def _display(result):
    """Show a test's return value in a notebook; a figure as PNG, because one made without pyplot cannot show itself."""
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
