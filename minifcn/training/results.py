"""The final measures of a model, as a JSON value and as lines of text, with the figures to beat."""

import numpy as np

from .evaluation import scores_of
from .metrics import ConfusionMatrix


def measures(confusion, classes):
    """The four measures, and accuracy and IU of each class, as a JSON value; None if a class does not occur.

    ``mean_iu_present`` is the mean IU of the classes in the labels alone, the rule for SIFT Flow.
    """
    per_class = [
        dict(name=name, accuracy=number(accuracy), iu=number(iu))
        for name, accuracy, iu in zip(classes, *confusion.per_class())
    ]
    scores = {name: number(value) for name, value in scores_of(confusion).items()}
    present = number((ConfusionMatrix(len(classes), present_only=True) + confusion).mean_iu)
    return scores | dict(mean_iu_present=present, per_class=per_class, pixels=int(confusion.matrix.sum()))


def data_facts(data, loss):
    """The context of the measures: the split, the loss per pixel, and the figures to beat on this data set."""
    return dict(split=getattr(data, "split", None), loss=number(loss), floors=list(getattr(data, "floors", ())))


def result_lines(metrics):
    """The final measures as lines of text, followed by the figures to beat."""
    rows = [dict(metrics, name=", ".join(["this run", *filter(None, [metrics.get("head")])])), *metrics["floors"]]
    width = max(24, *(len(row["name"]) for row in rows))
    yield f"{'on split ' + str(metrics['split']):<{width}}  pixel acc  mean IU"
    for row in rows:
        yield f"{row['name']:<{width}}  {text(row['pixel_accuracy'], '9.3f')}  {text(row['mean_iu'], '7.3f')}"
    yield "IU by class: " + ", ".join(f"{c['name']} {text(c['iu'], '.2f')}" for c in metrics["per_class"])
    for further in metrics.get("heads", {}).values():
        yield from result_lines(further)


def joined(found):
    """The measures of all heads, {name: measures}, as one JSON value: those of the first, with the others as ``heads``.

    The measures of each of several heads have its name as ``head``; a net with one kind of labels has neither.
    """
    if len(found) == 1 and "" in found:
        return found[""]
    first, *others = [dict(metrics, head=head) for head, metrics in found.items()]
    return first | dict(heads={metrics["head"]: metrics for metrics in others})


def text(value, form):
    """A measure as text; a dash for None."""
    return "–" if value is None else format(value, form)


def number(value):
    """A measure as a JSON value; None for NaN."""
    return None if np.isnan(value) else float(value)
