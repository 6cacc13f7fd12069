"""The position of an operation's output on each image that it was computed from."""

from .axis_maps import blamed, called, nowhere


def of_output(node, inputs, out):
    """``{root: (map along h, map along w)}`` for every root that the output depends on.

    If the output has no position on a root, both maps say why.

    Parameters
    ----------
    node : Function
        The operation; its ``located_by`` and ``locate`` determine the output's position.
    inputs : tuple of Tensor
    out : Tensor
    """
    leading, others = [], []
    for i, x in enumerate(inputs):
        first = x.shape[2:] == out.shape[2:] if node.located_by is None else i < node.located_by
        if first and x.ndim == 4:
            leading.append(x)
        elif x._where:  # not the property `where`, which would make every weight a root
            others.append(x)
    roots = [root for x in leading for root in x.where]
    roots += [root for x in others for root in x._where if root is not x._root]
    placed = leading if out.ndim == 4 else []
    return {root: _on(root, node, placed, others) for root in dict.fromkeys(roots)}


def _on(root, node, placed, others):
    """The two maps of an output onto one root."""
    paths = [(x, where[root]) for x in placed if root in (where := x.where)]
    place = [node.locate(axis, *[m[axis] for _, m in paths]) for axis in (0, 1)] if paths else [None]
    if place[0] is None or place[-1] is None:
        why = f"{node.name} ({type(node).__name__}) does not keep rows and columns in place"
        return (nowhere(f"{why}: its output has no position on {root}"),) * 2
    for x in others:
        if root in x.where and root is not x._root:
            why = f"a cell of {node.name} depends on all of {root}, through {called(x)}"
            place = [m.seeing_everything(why) for m in place]
    return tuple(blamed(m, axis, paths, node.name, root) for axis, m in enumerate(place))
