"""Print the result of each campaign at the end of the session."""

from campaign import DONE


def pytest_terminal_summary(terminalreporter):
    for line in DONE:
        terminalreporter.write_line(f"campaign {line}")
