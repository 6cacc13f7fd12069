"""nbgrader's settings for this course; ``python -m minifcn.course nbgrader DIR`` copies them to where it looks."""

c = get_config()  # noqa: F821  nbgrader defines it

c.CourseDirectory.course_id = "minifcn"
c.CourseDirectory.ignore = [
    "*.py",
    ".ipynb_checkpoints",
    "*.pyc",
    "__pycache__",
]  # no module beside a notebook goes along
# nbgrader's own list, with blanks that say which task they are
c.GenerateAssignment.preprocessors = [
    "nbgrader.preprocessors.IncludeHeaderFooter",
    "nbgrader.preprocessors.LockCells",
    "minifcn.course.build.ClearTasks",
    "nbgrader.preprocessors.ClearOutput",
    "nbgrader.preprocessors.CheckCellMetadata",
    "nbgrader.preprocessors.ComputeChecksums",
    "nbgrader.preprocessors.SaveCells",
    "nbgrader.preprocessors.ClearHiddenTests",
    "nbgrader.preprocessors.ClearMarkScheme",
    "nbgrader.preprocessors.ComputeChecksums",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.ExecutePreprocessor.timeout = 120  # of a cell; the grader inside a cell of points has shorter limits of its own
c.ExecutePreprocessor.interrupt_on_timeout = True
