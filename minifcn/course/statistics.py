"""What a class can do: per task how many solved it, and which mistakes they made."""

from collections import Counter
from dataclasses import dataclass

AGAIN = 0.5  # a task that a smaller share of the class solved should be taught again


@dataclass
class TaskStatistics:
    """One task over a class.

    Attributes
    ----------
    number, title : str
    graded, solved : int
        How many submissions were graded, and how many got all points.
    unanswered : int
    mean, out_of : float
        The mean of the points, and the most that one can have.
    mistakes : list of (str, int)
        The sentence of each known mistake, and how many submissions made it, the most frequent first.
    """

    number: str
    title: str
    graded: int
    solved: int
    unanswered: int
    mean: float
    out_of: int
    mistakes: list

    share = property(lambda self: self.solved / self.graded)
    to_teach_again = property(lambda self: self.share < AGAIN)


def best(records):
    """One record of each student and assignment: {(student, assignment): record}, the one with the most points."""
    found = {}
    for record in records:
        key = record["student"], record["assignment"]
        if record["tasks"] and (key not in found or record["counted"] > found[key]["counted"]):
            found[key] = record
    return found


def of_tasks(records, known):
    """The :class:`TaskStatistics` of each task that was graded, in order.

    Parameters
    ----------
    records : iterable of dict
        One of each student and assignment.
    known : list of Assignment
    """
    sentences = {task.number: {m.what for m in task.mistakes} for a in known for task in a.tasks}
    answers = {}
    for record in records:
        for task in record["tasks"]:
            if task["checks"]:  # without a compiler, a CUDA task is not graded
                answers.setdefault(task["number"], []).append(task)
    made = []
    for number, tasks in sorted(answers.items()):
        mistakes = Counter(says for task in tasks for says in set(task["says"]) & sentences.get(number, set()))
        made.append(
            TaskStatistics(
                number, tasks[0]["title"], len(tasks), sum(t["points"] == t["out_of"] for t in tasks),
                sum("not answered" in t["says"] for t in tasks), sum(t["points"] for t in tasks) / len(tasks),
                tasks[0]["out_of"], sorted(mistakes.items(), key=lambda item: (-item[1], item[0])),
            )
        )  # fmt: skip
    return made
