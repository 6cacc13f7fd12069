"""Grade a whole class: several submissions at the same time, each saved as soon as it is graded."""

import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Event

from tqdm import tqdm

from . import feedback, judge
from .scores import Scores


def grade(handed_in, known, chosen, folder, seed, timeout, workers, language="en"):
    """Grade submissions: fill in their results and notes, and write their feedback pages and rows of scores.csv.

    Parameters
    ----------
    handed_in : list of Submission
    known : list of Assignment
    chosen : sequence of str, or None
        The numbers of the tasks to grade; None: all.
    folder : Path
        Gets the pages and scores.csv.
    seed : int
        Seed of the random inputs.
    timeout : float
        Seconds for one answer.
    workers : int
        Number of submissions graded at the same time.
    language : str
        Of the pages, one of ``catalogue.LANGUAGES``.

    Returns
    -------
    Scores
    """
    examiners = {a.name: judge.Examiner(a, seed, timeout) for a in known}
    folder.mkdir(parents=True, exist_ok=True)
    table = Scores(folder)
    for one in handed_in:
        if one.assignment:
            one.page = folder / table.page_for(one)

    def grade_one(one):
        if one.assignment:
            one.results = examiners[one.assignment.name].grade(one.sources, chosen, stop)
            one.notes += dict.fromkeys(note for result in one.results for note in result.notes)

    done, stop, pool = 0, Event(), ThreadPoolExecutor(workers)
    try:
        jobs = {pool.submit(grade_one, one): one for one in handed_in}
        for job in tqdm(as_completed(jobs), total=len(jobs), unit="submission", disable=None):
            one = jobs[job]
            try:
                job.result()
                if one.assignment:
                    notes = [*one.notes, "Graded with seed {seed}.".format(seed=seed)]
                    html = feedback.page(one.student, one.assignment.title, one.results, notes, language=language)
                    one.page.write_text(html, encoding="utf-8", errors="replace")
            except Exception as error:  # a bug of the grader: the other submissions must still be graded
                one.results = []
                one.notes.append(f"the grader failed, please report it ({type(error).__name__}: {error})")
            table.enter(one, seed)
            done += 1
    except KeyboardInterrupt:
        print(f"interrupted: {done} of {len(handed_in)} graded, and kept in {table.path}", file=sys.stderr)
        raise
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
    return table
