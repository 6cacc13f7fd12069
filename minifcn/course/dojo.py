"""The bug dojo: find the wrong line of a backward pass, from a picture of its gradient and the report of gradcheck."""

import random

import numpy as np

from ..engine.core import Tensor
from ..engine.gradcheck import GradcheckError, gradcheck
from ..errors import UserError
from ..kernels import override
from .sabotage_layers import SABOTAGES

__all__ = ["LEVELS", "Bout"]

LEVELS = 6
POINTS, HINT, MISS = 10, 2, 3  # of a level; what a hint and a wrong guess cost
MARK = "*"  # after a number that is wrong


class Bout:
    """One level of the dojo: an operation whose backward pass has one wrong line.

    Parameters
    ----------
    level : int
        1 to 6, from one number in and out to batch norm.
    seed : int
        Chooses among the mistakes of the level.

    Attributes
    ----------
    points : int
        10 at first; a hint costs 2 and a wrong guess 3.
    report : str
        What ``gradcheck`` says.
    gradient, measured : (H, W) array
        What ``backward()`` gives for a part of one input, and what small changes of that input give.

    Raises
    ------
    UserError
        If `level` is not one of 1 to 6.
    """

    def __init__(self, level=1, seed=0):
        choice = [s for s in SABOTAGES if s.level == level]
        if not choice:
            raise UserError(f"there is no level {level!r}: choose one from 1 to {LEVELS}")
        self.level, self.points, self.hints, self.found = level, POINTS, 0, False
        self._case = random.Random(f"{seed}.{level}").choice(choice)
        self.lines = self._case.lines()
        with override(**{self._case.op.__name__: self._case.operation()}):
            self.report = _report(self._case)
            wrong = _gradients(self._case)
        with override(**{self._case.op.__name__: self._case.operation(sabotaged=False)}):
            right = _gradients(self._case)
        self.input = max(range(len(wrong)), key=lambda k: abs(wrong[k] - right[k]).max() / abs(right[k]).max())
        self.gradient, self.measured = _plane(wrong[self.input], right[self.input])

    def __str__(self):
        numbered = (f"{n:>3}  {line}" for n, line in enumerate(self.lines, start=1))
        title = f"Level {self.level}: {self._case.op.__name__}, {self._case.op.formula.strip()}"
        return "\n".join([title, "", *numbered, "", "gradcheck says: " + self.report])

    def drawn(self):
        """The picture as text: both gradients, and a mark after each number that is wrong."""
        rows = []
        off = self._off()
        for row in range(len(self.gradient)):
            cells = [f"{v:6.2f}{MARK if o else ' '}" for v, o in zip(self.gradient[row], off[row])]
            rows.append("".join(cells) + "   " + "".join(f"{v:6.2f} " for v in self.measured[row]).rstrip())
        name, width = f"backward() for input {self.input}", 7 * self.gradient.shape[1]
        return "\n".join([f"{name:<{width}}   measured   ({MARK} differs)", *rows])

    def _off(self):
        return self.gradient != self.measured

    def picture(self):
        """A figure of both gradients; the wrong numbers are outlined."""
        from ..viz.arrays import arrays

        name = f"backward() for input {self.input}"
        maps = {name: self.gradient, "measured": self.measured}
        return arrays(maps, {name: [tuple(at) for at in np.argwhere(self._off())]}, cell=0.6)

    def hint(self):
        """The next of three hints, as text; each costs 2 points."""
        if self.hints == 3:
            return "There are no more hints."
        self.hints += 1
        self._lose(HINT)
        others = [n for n in range(2, len(self.lines) + 1) if n != self._case.line]
        pair = sorted([self._case.line, random.Random(self.level).choice(others)])
        return [
            f"The function itself is right: {self._case.op.formula.strip()}. Derive its gradient on paper.",
            self._case.clue,
            f"The wrong line is {pair[0]} or {pair[1]}.",
        ][self.hints - 1]

    def guess(self, line):
        """Whether `line`, counted from 1, is the wrong one; a wrong guess costs 3 points."""
        self.found = self.found or line == self._case.line
        if line != self._case.line:
            self._lose(MISS)
        return line == self._case.line

    def solution(self):
        """The wrong line beside the right one, and the reason, as text."""
        at = self._case.line - 1
        wrong, right = self.lines[at].strip(), self._case.lines(sabotaged=False)[at].strip()
        return f"line {at + 1}\n  wrong:  {wrong}\n  right:  {right}\n{self._case.why}"

    def _lose(self, points):
        if not self.found:
            self.points = max(self.points - points, 0)


def _report(case):
    try:
        gradcheck(case.fn, *case.arrays)
    except GradcheckError as error:
        return str(error)
    raise AssertionError(f"gradcheck accepts {case.what!r}")


def _gradients(case):
    """The gradients of the inputs for one gradient that arrives."""
    tensors = [Tensor(array, requires_grad=True) for array in case.arrays]
    y = case.fn(*tensors)
    y.backward(np.random.default_rng(7).standard_normal(y.shape))
    return [t.grad for t in tensors]


def _plane(wrong, right):
    """Two arrays (at most 6 × 5), rounded: the part of both gradients in which they differ most."""
    wrong, right = (a.reshape((1,) * max(2 - a.ndim, 0) + a.shape) for a in (wrong, right))
    off = abs(wrong - right).max(axis=(-2, -1))
    at = np.unravel_index(off.argmax(), off.shape)
    return tuple(a[at][:6, :5].round(2) + 0.0 for a in (wrong, right))  # + 0.0 makes -0.0 a 0


def play(levels, seed, ask, say):
    """Play the levels in a terminal.

    Parameters
    ----------
    levels : sequence of int
    seed : int
    ask : callable
        ``ask(question) -> str``; EOFError ends the game.
    say : callable
        ``say(text)`` prints.

    Returns
    -------
    int
        The points.
    """
    total = 0
    say(f"One line of each backward pass is wrong. Type its number, h for a hint (-{HINT}) or q to stop.")
    for level in levels:
        bout = Bout(level, seed)
        say(f"\n{bout}\n\n{bout.drawn()}\n")
        while not bout.found:
            try:
                answer = ask(f"Which line is wrong? (1 to {len(bout.lines)}, h, q) ").strip().lower()
            except EOFError:
                answer = "q"
                say("")
            if answer in ("q", "quit"):
                say(f"{bout.solution()}\n\n{total} points of {POINTS * len(levels)}.")
                return total
            if answer in ("h", "hint"):
                say(bout.hint())
            elif not answer.isdecimal() or not 1 <= int(answer) <= len(bout.lines):
                say(f"Type a number from 1 to {len(bout.lines)}, h or q.")
            elif not bout.guess(int(answer)):
                say(f"No: line {int(answer)} is right. (-{MISS})")
        total += bout.points
        say(f"Yes, {bout.points} points.\n{bout.solution()}")
    say(f"\n{total} points of {POINTS * len(levels)}.")
    return total
