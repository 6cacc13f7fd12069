"""nbgrader's settings for this course; ``python -m minifcn.course nbgrader DIR`` copies this file into DIR."""

c = get_config()  # noqa: F821  nbgrader defines this function

c.CourseDirectory.course_id = "minifcn"
c.CourseDirectory.ignore = [
    "*.py",
    ".ipynb_checkpoints",
    "*.pyc",
    "__pycache__",
]  # do not release modules that lie beside the notebooks
# nbgrader's default list, with ClearTasks for ClearSolutions: its blanks name their task
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
c.ExecutePreprocessor.timeout = 120  # seconds per cell; the grader, inside a cell of points, has shorter limits
c.ExecutePreprocessor.interrupt_on_timeout = True
