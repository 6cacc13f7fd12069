"""The trace of a run: it holds what was computed, and the facts that it states are true."""

import re
import unicodedata
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from strategies import normal

import minifcn as mf
from minifcn import nn, ops
from minifcn.engine import explain
from minifcn.engine.core import Function
from minifcn.engine.graphs import Graph
from minifcn.engine.tables import Table


@pytest.fixture(scope="module")
def run():
    mf.manual_seed(0)
    model = mf.models.fcn8s_mini(num_classes=3, width=0.1)
    for p in model.parameters():
        p.data = normal(p.shape, p.size, np.float32) * 0.1
    image = mf.Tensor(normal((2, 3, 40, 32), 1, np.float32), name="image")
    with mf.trace() as t:
        loss = ops.cross_entropy(model(image), np.zeros((2, 40, 32), np.int64))
        loss.backward()
    return t, model, loss


def test_every_operation_is_there_with_its_arrays_and_its_gradients(run):
    t, model, loss = run
    assert t["score"].output.shape == (2, 3, 40, 32) and t[-1].output is loss
    assert t["conv1_1"].gx[1] is not None and np.array_equal(t["conv1_1"].gx[1], model.conv1_1.weight.grad)
    assert np.array_equal(t["relu1_1"].gy, t["pool1"].gx[0])
    assert t["pool1"].y.shape == t["pool1"].gy.shape
    orders = [step.order for step in t]
    assert sorted(orders) == list(range(1, len(t) + 1)) and orders == orders[::-1][::-1]
    assert orders[-1] == 1  # the backward pass begins with the loss
    assert all(step.seconds > 0 and step.backward_seconds > 0 for step in t)


def test_a_trace_changes_no_number_and_nothing_is_kept_without_it(run):
    x, w = normal((1, 2, 6, 6), 1), normal((3, 2, 3, 3), 2)

    def gradient():
        weight = mf.Tensor(w, requires_grad=True)
        y = ops.relu(ops.conv2d(x, weight))
        node = y.creator
        y.sum().backward()
        return weight.grad, node

    plain, node = gradient()
    with pytest.raises(RuntimeError, match="freed"):
        node.saved  # noqa: B018
    with mf.trace() as t:
        traced, _ = gradient()
    assert plain.tobytes() == traced.tobytes()
    assert len(t) == 3 and t["Conv2d"].saved[0] is not None
    assert t.bytes >= x.nbytes + w.nbytes + t["Conv2d"].y.nbytes


def test_names_that_come_twice_are_numbered_and_a_wrong_one_is_answered_by_those_that_are_near(run):
    x = mf.Tensor(np.ones(3), requires_grad=True)
    with mf.trace() as t:
        ops.sum(ops.relu(ops.relu(x)))
    assert [step.name for step in t] == ["ReLU", "ReLU:2", "Sum"]
    with pytest.raises(KeyError, match="score_pool4, upscore_pool4, score_pool3"):
        run[0]["score_pool"]


def test_the_ledger_is_what_a_run_holds():
    """With arrays of four numbers: relu keeps its output, and the product keeps both operands."""
    x, w = mf.Tensor(np.ones(4, np.float32), requires_grad=True), mf.Tensor(np.ones(4, np.float32), requires_grad=True)
    with mf.trace() as t:
        ops.sum(ops.relu(x) * w).backward()
    forward = [(row["event"], row["saved"], row["gradients"]) for row in t.ledger()]
    assert forward == [
        ("ReLU", 16, 0), ("Mul", 16 + 16 + 16, 0), ("Sum", 32 + 4, 0),
        ("∂Sum", 32, 4), ("∂Mul", 16, 16 + 16), ("∂ReLU", 0, 32),
    ]  # fmt: skip


def test_the_table_has_a_row_an_operation_and_prints(run):
    table = run[0].table()
    assert [row["layer"] for row in table] == [step.name for step in run[0]]
    first = next(row for row in table if row["layer"] == "conv1_1")
    assert first["MFLOP"] == pytest.approx(run[0]["conv1_1"].node.flops / 1e6)
    text = str(table)
    assert "conv1_1" in text and len(text.splitlines()) == len(table) + 1
    assert table._repr_html_().count("<tr>") == len(table) + 1


def test_the_graph_has_every_operation_and_the_skips(run):
    graph = run[0].graph()
    assert ("pool4", "score_pool4") in graph.edges and ("score_pool4", "fuse_pool4") in graph.edges
    assert ("upscore2c", "fuse_pool4") in graph.edges
    root = ET.fromstring(graph._repr_svg_())
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {step.name for step in run[0]} <= texts
    assert graph.mermaid.count("-->") == len(graph.edges)
    bundle = graph._repr_mimebundle_()
    assert bundle["text/vnd.mermaid"].startswith("flowchart")


def test_boxes_of_a_graph_do_not_overlap_and_arrows_point_down():
    graph = Graph()
    for name in "abcdefg":
        graph.node(name, marked=name == "c")
    for edge in ("ab", "bc", "ac", "ad", "de", "ce", "bf", "fg", "eg"):
        graph.edge(*edge)
    places = graph._places()
    assert len(set(places.values())) == len(places)
    assert all(places[a][1] < places[b][1] for a, b in graph.edges)
    assert "D55E00" in graph._repr_svg_()


def test_an_arrow_past_boxes_of_its_own_column_goes_around_them():
    graph = Graph()
    for name in "abc":
        graph.node(name)
    for edge in ("ab", "bc", "ac"):
        graph.edge(*edge)
    paths = [e.get("d") for e in ET.fromstring(graph._repr_svg_()).iter() if e.get("marker-end")]
    assert len({x for x, _ in graph._places().values()}) == 1
    assert [" h" in path for path in paths] == [False, False, True]


def test_an_operation_explains_itself_with_this_calls_numbers(run):
    explanation = run[0]["upscore2"].explain()
    assert explanation.symbols["k"] == (4, 4) and explanation.symbols["s"] == (2, 2) and explanation.symbols["C"] == 3
    assert explanation.facts["a unit sees of image"] == "all of it"  # because of the statistics of the batch
    with mf.trace() as t, nn.module.evaluating(run[1]):
        run[1](mf.Tensor(normal((2, 3, 40, 32), 1, np.float32), name="image"))
    assert "246 rows" in t["upscore2"].explain().facts["a unit sees of image"]
    assert "row 1/2·i − 3/4" in explanation.facts["row i of the output"]
    assert "s = 2" in str(explanation) and r"\mathsf T" in explanation._repr_markdown_()
    node = ops.conv2d(np.ones((1, 1, 5, 5)), np.ones((1, 1, 3, 3)), stride=2, padding=1)
    assert "Conv2d" in str(node) or node.shape == (1, 1, 3, 3)


def test_every_formula_is_typeset_with_balanced_braces_and_no_sign_that_latex_lacks():
    def subclasses(cls):
        for sub in cls.__subclasses__():
            yield sub
            yield from subclasses(sub)

    ours = [c for c in subclasses(Function) if c.__module__.startswith("minifcn.") and c.__dict__.get("formula")]
    assert len(ours) > 30
    for cls in ours:
        text = explain.latex(cls.formula)
        assert text.count("{") == text.count("}"), text
        assert not set("·−²ᵀΣ√") & set(re.sub(r"\\text\{[^}]*\}", "", text)), text


def test_a_table_prints_numbers_with_three_digits_and_ranges():
    table = Table([dict(a="x", b=1234567, c=0.001234, d=(1.0, 2.5), e=None)])
    assert str(table).splitlines()[1].split() == ["x", "1,234,567", "0.00123", "1", "…", "2.5", "–"]
    assert str(Table()) == "(no rows)" == Table()._repr_html_().strip("<p>/")


def test_columns_stay_in_line_with_letters_of_double_width():
    """A terminal draws Hangul two columns wide, also if macOS stores its parts, and an accent of its own in none."""
    rows = [{"class": name, "n": 1} for name in ("sky", "도로", unicodedata.normalize("NFD", "도로"), "e\u0323\u0301")]
    lines = str(Table(rows)).splitlines()
    assert lines[:3] == ["class  n", "sky    1", "도로   1"]
    assert unicodedata.normalize("NFC", lines[3]) == lines[2] and lines[4].endswith("    1")
