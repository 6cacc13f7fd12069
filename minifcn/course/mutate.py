"""Measure the hidden tests by mutation: change the solutions systematically, and see which changes lose no points.

``python -m minifcn.course mutate`` prints the table.  cosmic-ray and mutmut do not fit: they change the files of a
package and start a test command for each change; here one cell of a submission is changed, and the judge grades it.
"""

import ast
import copy
import random
import re
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from .judge import Examiner

OTHER = {
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult, ast.FloorDiv),
    ast.FloorDiv: (ast.Div, ast.Mod), ast.Mod: (ast.FloorDiv,), ast.Pow: (ast.Mult,), ast.MatMult: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,), ast.BitOr: (ast.BitAnd,), ast.And: (ast.Or,), ast.Or: (ast.And,),
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}  # fmt: skip
CUDA = {
    "<": ("<=", ">="), "<=": ("<",), ">": (">=", "<="), ">=": (">",), "==": ("!=",), "!=": ("==",), "||": ("&&",),
    "&&": ("||",), "+": ("-",), "-": ("+",), "*": ("/",), "/": ("*",), "%": ("/",), "+=": ("=", "-="),
}  # fmt: skip
TOKEN = re.compile(r"\b\d+\b|[-+*/%<>=!&|]+")  # of CUDA C++: a number or an operator
LINE = re.compile(r"(?<=\n)[ ]+[^\n]*;(?=\n)")


@dataclass(frozen=True)
class Mutant:
    """A changed solution.

    Attributes
    ----------
    task : str
    change : str
        The statement before and after the change, in Python's own spelling: ``"n = a + b  ->  n = a - b"``; of a CUDA
        source, the changed line.
    source : str
        The whole cell.
    """

    task: str
    change: str
    source: str


def mutants(assignment, task):
    """All mutants of the solution of one task: a list of :class:`Mutant`, no two with the same text."""
    (cell,) = (c.source for c in assignment.cells if c.task == task.number)
    lines = cell.split("\n")
    starts = [n for n, line in enumerate(lines, 1) if "### BEGIN SOLUTION" in line]
    ends = [n for n, line in enumerate(lines, 1) if "### END SOLUTION" in line]
    tree = ast.parse(cell)
    found, seen, changes = [], {ast.unparse(tree)}, {}
    for statement in ast.walk(tree):
        inside = isinstance(statement, ast.stmt) and any(a < statement.lineno < b for a, b in zip(starts, ends))
        if not inside or _is_docstring(statement):
            continue
        before = _header(statement)
        for _ in _mutated(tree, statement):
            text = ast.unparse(tree)
            if text not in seen:
                seen.add(text)
                change = _told(before, _header(statement))
                changes[change] = changes.get(change, 0) + 1
                change += f"  ({changes[change]})" * (changes[change] > 1)
                found.append(Mutant(task.number, change, f"# Task {task.number}\n{text}"))
    return found


def _is_docstring(statement):
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _header(statement):
    """The first line of a statement; "pass" if it was deleted."""
    return "pass" if getattr(statement, "deleted", False) else ast.unparse(statement).split("\n")[0]


def _told(before, after):
    """A statement before and after a change; of a text with several lines, such as a CUDA source, the changed ones."""
    pairs = list(zip(before.split(r"\n"), after.split(r"\n")))
    if len(pairs) > 1:
        before, after = ("; ".join(line.strip() for line in side) for side in zip(*(p for p in pairs if p[0] != p[1])))
    return f"{before}  ->  {after}"


def _mutated(tree, statement):
    """Change `statement`, a node of `tree`, in every way; each change is undone when the next one is asked for."""
    for holder in ast.walk(tree):
        for _, body in ast.iter_fields(holder):
            if isinstance(body, list) and any(child is statement for child in body):
                at = next(i for i, child in enumerate(body) if child is statement)
                body[at], statement.deleted = ast.Pass(), True
                yield
                body[at], statement.deleted = statement, False
    if isinstance(statement, ast.AugAssign):
        operator = statement.op
        for other in OTHER[type(operator)]:
            statement.op = other()
            yield
        statement.op = operator
    for holder, name, at, node in list(_expressions(statement)):
        for new in _replacements(node, holder):
            _put(holder, name, at, new)
            yield
        _put(holder, name, at, node)


def _expressions(node):
    """The expressions of a statement: (holder, field, index or None, node).

    Without those of statements in its body, and without texts of errors: no check depends on them.
    """
    if isinstance(node, ast.Raise):
        return
    for name, value in ast.iter_fields(node):
        if name == "msg":
            continue
        listed = isinstance(value, list)
        for at, child in enumerate(value if listed else [value]):
            if isinstance(child, ast.AST) and not isinstance(child, ast.stmt):
                yield node, name, at if listed else None, child
                yield from _expressions(child)


def _put(holder, name, at, node):
    if at is None:
        setattr(holder, name, node)
    else:
        getattr(holder, name)[at] = node


def _replacements(node, holder):
    """What replaces an expression: constants, operators, arguments, slice ends and parts of it."""
    match node:
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int()):
            yield from (ast.Constant(node.value + 1), ast.Constant(node.value - 1))
        case ast.Constant(value=float()):
            yield from (ast.Constant(2 * node.value), ast.Constant(-node.value))
        case ast.Constant(value=str()) if "\n" in node.value:
            yield from map(ast.Constant, _cuda(node.value))
        case ast.Constant(value=str()) if not isinstance(holder, ast.JoinedStr):
            yield ast.Constant(node.value + "?")
        case ast.BinOp() | ast.BoolOp():
            yield from (_changed(node, op=other()) for other in OTHER.get(type(node.op), ()))
            yield from node.values if isinstance(node, ast.BoolOp) else (node.left, node.right)
        case ast.UnaryOp():
            yield node.operand
        case ast.Compare():
            for at, operator in enumerate(node.ops):
                for other in OTHER[type(operator)]:
                    yield _changed(node, ops=[*node.ops[:at], other(), *node.ops[at + 1 :]])
        case ast.IfExp():
            yield from (node.body, node.orelse)
        case ast.Tuple() | ast.List():
            yield from (_changed(node, elts=swapped) for swapped in _swapped(node.elts))
        case ast.Call():
            yield from (_changed(node, args=swapped) for swapped in _swapped(node.args))
            for at in range(len(node.keywords)):
                yield _changed(node, keywords=node.keywords[:at] + node.keywords[at + 1 :])
            if isinstance(node.func, ast.Attribute) and not isinstance(node.func.value, ast.Name | ast.Attribute):
                yield node.func.value  # x[0].sum() -> x[0]
            elif isinstance(node.func, ast.Attribute) and node.func.attr in ("copy", "astype", "reshape", "swapaxes"):
                yield node.func.value
            elif node.args:
                yield node.args[0]
            if isinstance(node.func, ast.Name) and node.func.id == "range":
                yield _changed(node, args=[*node.args[:-1], _shifted(node.args[-1], -1)])
        case ast.Slice():
            for end in ("lower", "upper", "step"):
                if value := getattr(node, end):
                    yield _changed(node, **{end: None})
                    if not isinstance(value, ast.Constant):
                        yield from (_changed(node, **{end: _shifted(value, by)}) for by in (1, -1))
        case ast.comprehension() if node.ifs:
            yield _changed(node, ifs=[])
    if isinstance(holder, ast.If | ast.While | ast.IfExp) and node is holder.test:
        yield from (ast.Constant(True), ast.Constant(False))


def _changed(node, **fields):
    """A copy of a node with other fields."""
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _shifted(node, by):
    return ast.BinOp(node, ast.Add() if by > 0 else ast.Sub(), ast.Constant(abs(by)))


def _swapped(items):
    """The lists in which two neighbours are swapped."""
    for at in range(len(items) - 1):
        yield [*items[:at], items[at + 1], items[at], *items[at + 2 :]]


def _cuda(source):
    """The changed versions of a source in CUDA C++: token by token, and without each line that is a statement."""
    body = source.find("{")
    for token in TOKEN.finditer(source, body):
        word = token[0]
        others = (str(int(word) + 1), str(int(word) - 1)) if word.isdigit() else CUDA.get(word, ())
        for other in others:
            yield source[: token.start()] + other + source[token.end() :]
    for line in LINE.finditer(source, body):
        yield source[: line.start()] + ";" + source[line.end() :]


@dataclass(frozen=True)
class Outcome:
    """A mutant, and the first check and case that it loses; None if it loses nothing."""

    mutant: Mutant
    loses: str | None
    excuse: str | None  # why the mutant is as right as the solution; None if it is not in the list

    @property
    def is_right(self):
        """Whether it loses points or is listed as equivalent, and not both."""
        return (self.loses is None) != (self.excuse is None)

    def as_row(self):
        """The outcome as plain data, for JSON."""
        return {
            "task": self.mutant.task, "change": self.mutant.change, "loses": self.loses, "equivalent": self.excuse,
        }  # fmt: skip


def equivalent(folder):
    """The mutants that are as right as their solutions, from ``hidden/equivalent.toml``: {(task, change): reason}.

    A text that ends in ``->`` stands for all changes of that statement that lose nothing.
    """
    groups = tomllib.loads((folder / "hidden" / "equivalent.toml").read_text(encoding="utf-8")).get("group", [])
    return {(group["task"], change): group["why"] for group in groups for change in group["changes"]}


def outcomes(assignments, excuses, seed=0, tasks=None, workers=2, progress=lambda results, total: results, sample=None):
    """Grade mutants, each on its task alone: a list of :class:`Outcome`.

    Parameters
    ----------
    assignments : list of Assignment
    excuses : dict
        See :func:`equivalent`.
    seed : int
        Of the random inputs, and of the sample.
    tasks : collection of str, optional
        Numbers of the tasks; None: all but those that train a net, whose settings may be others.
    sample : int, optional
        Number of mutants to draw; None: all.
    workers : int
        Number of mutants graded at the same time.
    progress : callable
        ``progress(results, total)`` wraps the iterable of results.
    """
    jobs = []
    for assignment in assignments:
        examiner = Examiner(assignment, seed)
        for task in assignment.tasks:
            if not task.own if tasks is None else task.number in tasks:  # most settings of a training train a net, too
                jobs += [(examiner, task, mutant) for mutant in mutants(assignment, task)]
    if sample is not None and sample < len(jobs):
        jobs = random.Random(seed).sample(jobs, sample)

    def grade(job):
        examiner, task, mutant = job
        sources = examiner.assignment.solution(task.number, lambda _: mutant.source)
        loses = examiner.first_loss(sources, task)
        excuse = excuses.get((mutant.task, mutant.change))
        if excuse is None and loses is None:
            excuse = excuses.get((mutant.task, f"{mutant.change.partition('  ->  ')[0]}  ->"))
        return Outcome(mutant, loses, excuse)

    with ThreadPoolExecutor(workers) as pool:
        return list(progress(pool.map(grade, jobs), len(jobs)))


def table(done):
    """The mutants whose outcome is not as it should be, and the counts of each task, as text."""
    lines = []
    for o in done:
        if not o.is_right:
            what = f"it is listed as equivalent, but loses points ({o.loses})" if o.loses else "it loses no points"
            lines.append(f"WRONG: {what}: {o.mutant.task}  {o.mutant.change}")
    for number in sorted({o.mutant.task for o in done}):
        lines.append(f"{number}: {_count([o for o in done if o.mutant.task == number])}")
    return "\n".join([*lines, f"all: {_count(done)}"])


def _count(done):
    same = sum(o.loses is None and o.excuse is not None for o in done)
    lost, others = sum(o.loses is not None for o in done), len(done) - same
    share = f", {100 * lost / others:.1f} %" if others else ""
    return f"{lost} of {others} mutants lose points{share}; {same} more are equivalent to the solution"
