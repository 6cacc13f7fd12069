"""A model as an ONNX graph: each operation that the model runs becomes nodes of ONNX, by one table.

The graph takes raw images of any number and size, as NumPy, Pillow and OpenCV hold them: (N, H, W, C), uint8 or uint16.
The preprocessing is part of the graph.  It gives ``labels``, (N, H, W) of uint8, and ``scores``, (N, classes, H, W).
Sizes are computed in the graph: a crop reads the shape of the map that it is cropped to.  Its offset is a constant,
because the distance of two maps does not depend on the size of the image (``geometry``).
"""

import json
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..arrays import backend
from ..engine.core import Function, Tensor, no_grad, watch
from ..errors import GeometryError, UserError
from ..kernels import shapes_only
from ..kernels.shapes import stand_in
from ..nn.module import evaluating
from ..ops import activation, arithmetic, conv, norm, pool, shape
from ..ops.interpolate import Interpolate  # ops.interpolate is the function

OPSET, IR = 17, 8  # of 2022: all runtimes in use read them
SIZES = (193, 258), (224, 161), (97, 130), (64, 320), (255, 255), (311, 76)
"""Heights and widths at which the model is traced: its operations must be the same at all of them."""


class Graph:
    """The nodes and the constants of an ONNX graph while it is built.

    Parameters
    ----------
    onnx : module
    """

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.names: set[str] = set()
        self.constants: dict[int, tuple[Any, str]] = {}  # {id of an array: (the array, its name)}
        self.lists: dict[tuple[int, ...], str] = {}

    def name(self, wanted: str) -> str:
        """`wanted`, or with a number if that name is taken."""
        name, count = wanted, 1
        while name in self.names:
            count += 1
            name = f"{wanted}_{count}"
        self.names.add(name)
        return name

    def node(self, kind: str, inputs: Any, output: str, **attributes: Any) -> str:
        """Add a node, and return the name of its output."""
        output = self.name(output)
        self.nodes.append(self.onnx.helper.make_node(kind, [*inputs], [output], name=output, **attributes))
        return output

    def constant(self, array: Any, name: str) -> str:
        """The name of a constant array, which is in the file once."""
        if id(array) not in self.constants:
            self.constants[id(array)] = array, self.name(name)
        return self.constants[id(array)][1]

    def integers(self, *values: int) -> str:
        """The name of a constant list of integers."""
        if values not in self.lists:
            self.lists[values] = self.constant(np.array(values, np.int64), f"integers{len(self.lists)}")
        return self.lists[values]

    def size(self, value: str, name: str) -> str:
        """The rows and columns of a map, as a list of two integers in the graph."""
        shape = self.node("Shape", [value], f"{name}.shape")
        return self.node("Slice", [shape, self.integers(2), self.integers(4)], f"{name}.size")


def _windows(node):
    """The attributes that convolutions and poolings have."""
    return dict(strides=list(node.stride), pads=[*node.padding, *node.padding], dilations=list(node.dilation))


def _conv(graph, node, inputs, name, like):
    return graph.node("Conv", inputs, name, group=node.groups, **_windows(node))


def _conv_transpose(graph, node, inputs, name, like):
    more = dict(group=node.groups, output_padding=list(node.output_padding))
    return graph.node("ConvTranspose", inputs, name, **more, **_windows(node))


def _max_pool(graph, node, inputs, name, like):
    more = dict(kernel_shape=list(node.kernel_size), ceil_mode=int(node.ceil_mode))
    return graph.node("MaxPool", inputs, name, **more, **_windows(node))


def _avg_pool(graph, node, inputs, name, like):
    if node.ceil_mode or node.dilation != (1, 1):
        raise UserError(f"{name}: ONNX runtimes disagree about average pooling in ceil mode, and have no dilated one")
    attributes = _windows(node)
    del attributes["dilations"]
    more = dict(kernel_shape=list(node.kernel_size), count_include_pad=int(node.count_include_pad))
    return graph.node("AveragePool", inputs, name, **more, **attributes)


def _relu6(graph, node, inputs, name, like):
    limits = [graph.constant(np.array(n, np.float32), f"{name}.{n}") for n in (0, 6)]
    return graph.node("Clip", [*inputs, *limits], name)


def _local_response_norm(graph, node, inputs, name, like):
    values = dict(size=node.size, alpha=float(node.alpha), beta=float(node.beta), bias=float(node.k))
    return graph.node("LRN", inputs, name, **values)


def _batch_norm(graph, node, inputs, name, like):
    return graph.node("BatchNormalization", inputs, name, epsilon=float(node.eps))


def _pad(graph, node, inputs, name, like):
    top, bottom, left, right = node.padding
    return graph.node("Pad", [*inputs, graph.integers(0, 0, top, left, 0, 0, bottom, right)], name)


def _crop(graph, node, inputs, name, like):
    first = graph.integers(*node.offset)
    if like is None:
        last = graph.integers(*(o + n for o, n in zip(node.offset, node.size)))
    else:
        last = graph.node("Add", [graph.size(like, name), first], f"{name}.end")
    return graph.node("Slice", [*inputs, first, last, graph.integers(2, 3)], name)


def _interpolate(graph, node, inputs, name, like):
    size = graph.integers(*node.size) if like is None else graph.size(like, name)
    shape = graph.node("Shape", inputs, f"{name}.in")
    planes = graph.node("Slice", [shape, graph.integers(0), graph.integers(2)], f"{name}.planes")
    sizes = graph.node("Concat", [planes, size], f"{name}.sizes", axis=0)
    mode = dict(mode="linear", coordinate_transformation_mode="half_pixel")
    return graph.node("Resize", [*inputs, "", "", sizes], name, **mode)


def _concat(graph, node, inputs, name, like):
    return graph.node("Concat", inputs, name, axis=node.axis)


def _slices(graph, node, inputs, name, like):
    index = node.index if isinstance(node.index, tuple) else (node.index,)
    if not all(isinstance(i, slice) and (i.step or 1) > 0 for i in index):
        raise UserError(f"{name}: only slices with positive steps can be exported, got the index {node.index!r}")
    end = 2**31 - 1
    table = [(i.start or 0, end if i.stop is None else i.stop, k, i.step or 1) for k, i in enumerate(index)]
    return graph.node("Slice", [*inputs, *(graph.integers(*column) for column in zip(*table))], name)


def _reduced(kind):
    def convert(graph, node, inputs, name, like):
        axes = list(node.axes(4))
        if kind == "ReduceSum":  # since opset 13 its axes are an input
            return graph.node(kind, [*inputs, graph.integers(*axes)], name, keepdims=int(node.keepdims))
        return graph.node(kind, inputs, name, axes=axes, keepdims=int(node.keepdims))

    return convert


def _along(kind):
    return lambda graph, node, inputs, name, like: graph.node(kind, inputs, name, axis=node.axis)


def _same(kind):
    return lambda graph, node, inputs, name, like: graph.node(kind, inputs, name)


CONVERTERS: dict[type[Function], Callable] = {
    conv.Conv2d: _conv, conv.ConvTranspose2d: _conv_transpose, pool.MaxPool2d: _max_pool, pool.AvgPool2d: _avg_pool,
    activation.ReLU: _same("Relu"), activation.ReLU6: _relu6, activation.PReLU: _same("PRelu"),
    activation.Sigmoid: _same("Sigmoid"), activation.Softmax: _along("Softmax"),
    activation.LogSoftmax: _along("LogSoftmax"), norm.LocalResponseNorm: _local_response_norm,
    norm.FrozenBatchNorm2d: _batch_norm, shape.Pad: _pad, shape.Crop: _crop, shape.Concat: _concat,
    shape.GetItem: _slices, Interpolate: _interpolate, arithmetic.Add: _same("Add"), arithmetic.Sub: _same("Sub"),
    arithmetic.Mul: _same("Mul"), arithmetic.Div: _same("Div"), arithmetic.Neg: _same("Neg"),
    arithmetic.Pow: _same("Pow"), arithmetic.Exp: _same("Exp"), arithmetic.Log: _same("Log"),
    arithmetic.Abs: _same("Abs"), arithmetic.Mean: _reduced("ReduceMean"), arithmetic.Sum: _reduced("ReduceSum"),
    arithmetic.Max: _reduced("ReduceMax"), arithmetic.Min: _reduced("ReduceMin"),
}  # fmt: skip
"""{operation: its converter ``f(graph, node, names of inputs, name of the output, name of the map of the output's
size or None) -> name of the output``}."""


def traced(model: Any, size: tuple[int, int]) -> Any:
    """What the model runs on an image of `size`: ``.image``, ``.scores`` and ``.steps``, [(node, inputs, output)]."""
    like, steps = model.parameters()[0].data, []

    def note(*step):
        steps.append((*step, step[0].like() if isinstance(step[0], shape.Crop) and step[0].like else None))

    with evaluating(model), no_grad(), shapes_only(), watch(note):
        image = Tensor(stand_in(like, (1, model.in_channels, *size)), name="the image")
        return SimpleNamespace(image=image, scores=model(image), steps=steps)


def to_onnx(model: Any) -> Any:
    """The model as an ``onnx.ModelProto``: see the docstring of this module.

    Parameters
    ----------
    model : FCN

    Raises
    ------
    UserError
        If the package onnx is not installed, an operation of the model has no converter, or the operations depend on
        the size of the image.
    """
    onnx = required("onnx")
    traces = []
    for size in SIZES:
        with suppress(GeometryError):  # its first layer is padded for images of another size
            traces.append(traced(model, size))
    if not traces:
        raise UserError(f"the model takes none of the image sizes {SIZES}: build it with more padding")
    trace, graph = traces[0], Graph(onnx)
    kinds = [[type(step[0]) for step in t.steps] for t in traces]
    if any(k != kinds[0] for k in kinds):
        raise UserError("the operations of this model depend on the size of the image, so no graph can hold them")

    pre, kind = model.preprocessing, f"UINT{model.preprocessing.bits}"
    names = {id(trace.image): _preprocessed(graph, pre, onnx)}
    called = {id(x): name for name, x in model.named_tensors()}
    arrays: dict[int, Any] = {}
    for i, (node, inputs, out, like) in enumerate(trace.steps):
        if not any(id(x) in names for x in inputs):  # a weight in another shape
            arrays[id(out)] = node.forward(*(arrays.get(id(x), x.data) for x in inputs))
            continue
        convert = CONVERTERS.get(type(node))
        if convert is None:
            raise UserError(
                f"{node.name} is the operation {type(node).__name__}, for which the export has no counterpart"
            )
        given = [
            names.get(id(x)) or graph.constant(_float(arrays, x), called.get(id(x), f"{node.name}.constant"))
            for x in inputs
        ]
        if like is None and isinstance(node, Interpolate | shape.Crop):
            like = _of_the_same_size(traces, i)
        names[id(out)] = convert(graph, node, given, node.name, names.get(id(like)))
        fused = isinstance(node, shape.Crop) and like is not None and like is not trace.image
        if fused and node.offset == (0, 0):
            # Which of two maps is larger can depend on the size of the image, so both are cropped to the smaller; the
            # end of a slice may lie outside.  At any other offset it cannot, because neither reaches outside the other.
            names[id(like)] = convert(graph, node, [names[id(like)]], f"{node.name}.like", names[id(out)])
    scores = graph.node("Identity", [names[id(trace.scores)]], "scores")
    best = graph.node("ArgMax", [scores], "best", axis=1, keepdims=0)
    graph.node("Cast", [best], "labels", to=onnx.TensorProto.UINT8)
    return _model(graph, model, kind, onnx)


def _preprocessed(graph, pre, onnx):
    """Raw images as the input of the net: ``(x − mean) · scale`` in the order of its channels, (N, C, H, W)."""
    x = graph.node("Transpose", ["image"], "planes", perm=[0, 3, 1, 2])
    if pre.order == "BGR":
        x = graph.node("Gather", [x, graph.integers(2, 1, 0)], "bgr", axis=1)
    x = graph.node("Cast", [x], "numbers", to=onnx.TensorProto.FLOAT)
    mean, scale = (np.array(values, np.float32)[:, None, None] for values in (pre.mean, pre.scale))
    x = graph.node("Sub", [x, graph.constant(mean, "mean")], "centred")
    return graph.node("Mul", [x, graph.constant(scale, "scale")], "input")


def _float(arrays, x):
    array = arrays.get(id(x), x.data)
    if array.dtype != np.float32 or not isinstance(array, np.ndarray):
        arrays[id(x)] = array = backend.asnumpy(array).astype(np.float32)
    return array


def _of_the_same_size(traces, i):
    """The image, or the first map, that has the size of step i's output in every trace; None if that size is fixed.

    Raises UserError if there is no such map.
    """
    sizes = {t.steps[i][2].shape[2:] for t in traces}
    if len(sizes) == 1 and len(traces) > 1:
        return None
    for maps in zip(*([t.image, *(step[2] for step in t.steps[:i])] for t in traces)):
        if all(m.ndim == 4 and m.shape[2:] == t.steps[i][2].shape[2:] for m, t in zip(maps, traces)):
            return maps[0]
    raise UserError(f"the size of {traces[0].steps[i][0].name} is that of no other map, so no graph can compute it")


def _model(graph, model, kind, onnx):
    """The finished graph with its inputs, outputs, constants and metadata."""
    helper, types = onnx.helper, onnx.TensorProto
    constants = [onnx.numpy_helper.from_array(array, name) for array, name in graph.constants.values()]
    image = helper.make_tensor_value_info("image", getattr(types, kind), ["N", "H", "W", model.in_channels])
    outputs = [
        helper.make_tensor_value_info("labels", types.UINT8, ["N", "H", "W"]),
        helper.make_tensor_value_info("scores", types.FLOAT, ["N", model.num_classes, "H", "W"]),
    ]
    made = helper.make_graph(graph.nodes, "minifcn", [image], outputs, constants)
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="minifcn")
    proto.ir_version = IR
    palette = None if model.palette is None else np.asarray(model.palette).tolist()
    facts = dict(
        classes=list(model.classes or [f"class {i}" for i in range(model.num_classes)]), palette=palette,
        bands=list(model.bands) if model.bands else None, preprocessing=model.preprocessing.to_dict(),
        model=model.build_arguments,
    )  # fmt: skip
    helper.set_model_props(proto, {key: json.dumps(value, ensure_ascii=False) for key, value in facts.items()})
    return proto


def required(name: str) -> Any:
    """The package `name`; UserError that names the extra if it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        raise UserError(f"the package {name} is not installed: pip install 'minifcn[onnx]'") from None


def difference(model: Any, file: str, images: Any) -> float:
    """The largest difference between onnxruntime's scores and the model's, relative to the largest score."""
    with evaluating(model), no_grad():  # first, so that an image that is too small is refused in our words
        ours = model(Tensor(backend.to_device(model.preprocessing(images), model.parameters()[0].device))).numpy()
    session = required("onnxruntime").InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(["scores"], {"image": images})
    return float(np.abs(theirs - ours).max() / max(np.abs(ours).max(), np.finfo(np.float32).tiny))
