"""Grade a whole class: several submissions at the same time, each saved as soon as it is graded."""

import hashlib
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from tqdm import tqdm

from . import feedback, gradebooks, index, judge, similarity
from .scores import Scores, replacing
from .submissions import submission

SEEDS = 2**32


@dataclass
class Options:
    """How to grade.

    Attributes
    ----------
    seed : int or None
        Of the random inputs; None: that of the folder's earlier gradings, or a new one.
    timeout : float
        Seconds for one answer.
    workers : int
        Number of submissions graded at the same time.
    variants : bool
        Whether each student gets random inputs of their own.
    """

    seed: int | None = None
    timeout: float = judge.TIMEOUT
    workers: int = 2
    variants: bool = False


def grade(handed_in, known, chosen, folder, classroom, options, skipped=()):
    """Grade submissions: fill in their results and notes, and write pages, the tables and the page of the class.

    Parameters
    ----------
    handed_in : list of Submission
    known : list of Assignment
    chosen : sequence of str, or None
        The numbers of the tasks to grade; None: all.
    folder : Path
        Gets the pages and tables.
    classroom : Classroom
    options : Options
    skipped : list of (Path, str)
        Files that are not graded, and why.

    Returns
    -------
    Scores
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = Scores(folder)
    table.skip(skipped)
    seed = options.seed if options.seed is not None else table.seed  # a file graded again gets its class's inputs
    seed = secrets.randbelow(SEEDS) if seed is None else seed
    examiners = {a.name: judge.Examiner(a, seed, options.timeout) for a in known}
    for one in handed_in:
        if one.assignment:
            one.page = folder / table.page_for(one)
            one.days_late = classroom.days_late(one.assignment.name, one.path.stat().st_mtime)

    def grade_one(one):
        if one.assignment:
            examiner = examiners[one.assignment.name]
            if options.variants:
                examiner = judge.Examiner(one.assignment, seed_of(one.student, seed), options.timeout)
            one.results = examiner.grade(one.sources, chosen, stop)
            one.notes += dict.fromkeys(note for result in one.results for note in result.notes)
            one.counted = classroom.counted(one.points, one.days_late)

    done, stop, pool = 0, Event(), ThreadPoolExecutor(options.workers)
    try:
        jobs = {pool.submit(grade_one, one): one for one in handed_in}
        for job in tqdm(as_completed(jobs), total=len(jobs), unit="submission", disable=None):
            one = jobs[job]
            try:
                job.result()
            except Exception as error:  # a bug of the grader: the other submissions must still be graded
                one.results, one.page = [], None
                one.notes.append(f"the grader failed, please report it ({type(error).__name__}: {error})")
            if one.page:
                _write_page(one, seed, classroom.site)
            table.enter(one, seed)
            done += 1
    except KeyboardInterrupt:
        print(f"interrupted: {done} of {len(handed_in)} graded, and kept in {table.path}", file=sys.stderr)
        raise
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        table.save_details()
    records = list(table.records.values())
    gradebooks.write(folder, records, known, classroom)
    others = [*handed_in, *_earlier(handed_in, table, known)]
    pairs = [] if len(others) < 2 else similarity.alike(others) if similarity.available() else None
    too_long = [f"{one.student} ({one.path.name})" for one in others if similarity.too_long(one)]
    with replacing(folder / "index.html", "utf-8") as file:
        file.write(index.page(records, known, classroom, pairs, list(table.skipped.items()), seed, too_long))
    return table


def _write_page(one, seed, site):
    """Write a submission's page of feedback; if that fails, its results still count, and a note says why."""
    notes = [*one.notes, *_late(one), "Graded with seed {seed}.".format(seed=seed)]
    try:
        html = feedback.page(one.student, one.assignment.title, one.results, notes, site)
        one.page.write_text(html, encoding="utf-8", errors="replace")
    except Exception as error:
        one.page = None
        one.notes.append(f"its page of feedback cannot be written, please report it ({type(error).__name__}: {error})")


def _earlier(handed_in, table, known):
    """The submissions of earlier gradings, if their files are still there, to compare with."""
    now = {one.path.resolve() for one in handed_in}
    for file, record in table.records.items():
        if (path := Path(file)).is_file() and path not in now:
            one = submission(path, known)
            one.student = record["student"]
            yield one


def seed_of(student, seed):
    """The seed of a student's variant of the inputs."""
    return int.from_bytes(hashlib.sha256(f"{seed} {student}".encode()).digest()[:4], "big")


def _late(one):
    """A note on the penalty for lateness, in a list; none if the submission is in time."""
    if not one.days_late:
        return []
    late = "Handed in {days} days after the deadline: {counted:g} of the {points} points count."
    one_day = "Handed in one day after the deadline: {counted:g} of the {points} points count."
    return [
        (one_day if one.days_late == 1 else late).format(days=one.days_late, counted=one.counted, points=one.points)
    ]
