"""The position of an operation's output on each image that it was computed from."""

from functools import lru_cache

from .axis_maps import Root, blamed, called, nowhere


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
    size, leading = out.data.shape[2:], node.located_by
    located, others = [], []  # the inputs that determine the position, and the others that have one
    for i, x in enumerate(inputs):
        shape = x.data.shape
        if len(shape) == 4 and (i < leading if leading is not None else shape[2:] == size):
            located.append(x)
        elif x._where:  # not the property `where`, which would make every weight a root
            others.append(x)
    if len(located) + len(others) == 1:  # most operations
        (x,) = located or others
        if located and len(size) == 2:
            return {root: _along(root, node, x, maps) for root, maps in x.where.items()}
        if others and x._root is None and all([h.is_nowhere for h, _ in x._where.values()]):
            return dict(x._where)
    paths = {}  # for each root, the located inputs that have a position on it, each with its maps
    for x in located:
        for root, maps in x.where.items():
            paths.setdefault(root, []).append((x, maps))
    for x in others:
        for root in x._where:
            if root is not x._root:
                paths.setdefault(root, [])
    return {root: _on(root, node, found, others, len(size) == 2) for root, found in paths.items()}


def _along(root, node, x, maps):
    """The two maps of an output onto one root, if only the input `x` has a position: its `maps`, moved by the node."""
    h, w = maps
    h, w = node.locate(0, h), node.locate(1, w)
    if h is None or w is None or h.fault or w.fault:
        return _on(root, node, [(x, maps)], [], True)
    return h, w


def _on(root, node, paths, others, is_map):
    """The two maps of an output, which `is_map` if it has four axes, onto one root."""
    h = w = None
    if paths and is_map:
        along_h, along_w = zip(*[maps for _, maps in paths])
        h, w = node.locate(0, *along_h), node.locate(1, *along_w)
    if h is None or w is None:
        for maps in [*[maps for _, maps in paths], *[x._where[root] for x in others if root in x._where]]:
            if maps[0].is_nowhere:  # it names the first operation that lost the position
                return maps
        return (_lost(node.name, type(node).__name__, root.name, root.size),) * 2
    for x in others:
        if root in x._where and root is not x._root:
            why = f"a cell of {node.name} depends on all of {root}, through {called(x)}"
            h, w = h.seeing_everything(why), w.seeing_everything(why)
    if h.fault or w.fault:
        return tuple(blamed(m, axis, paths, node.name, root) if m.fault else m for axis, m in enumerate((h, w)))
    return h, w


@lru_cache(maxsize=1024)  # making the text takes longer than the rest of such an operation
def _lost(name, kind, *root):
    return nowhere(
        f"{name} ({kind}) does not keep rows and columns in place: its output has no position on {Root(*root)}"
    )
