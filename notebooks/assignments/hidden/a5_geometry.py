"""Hidden tests of A5: receptive fields, converted classifiers, crops, paddings; right is the library's geometry."""

from functools import lru_cache

import numpy as np

import minifcn as mf
from minifcn.course.differences import difference
from minifcn.course.tasks import Case, Check, Task, instead, mistake


def place(path):
    """The position of a map along one axis, after layers (operation, kernel, stride, padding[, dilation])."""
    at = mf.engine.axis_maps.AxisMap()
    for operation, *layer in path:
        at = at.spread(*layer) if operation == "deconv" else at.window(*layer)
    return at


def offset(path_a, path_b):
    """The cell of map a over which cell 0 of map b lies; None if no crop aligns the two."""
    a, b = place(path_a), place(path_b)
    shift = (b.start - a.start) / a.jump
    return int(shift) if a.jump == b.jump and shift.denominator == 1 else None


def vgg16(pad):
    stages = [[("conv", 3, 1, 1)] * count + [("pool", 2, 2, 0)] for count in (2, 2, 3, 3, 3)]
    layers = [layer for stage in stages for layer in stage]
    return [("conv", 3, 1, pad), *layers[1:], ("conv", 7, 1, 0), ("conv", 1, 1, 0), ("conv", 1, 1, 0)]


def alexnet(pad):
    pool, conv = ("pool", 3, 2, 0), ("conv", 3, 1, 1)
    layers = [("conv", 11, 4, pad), pool, ("conv", 5, 1, 2), pool, conv, conv, conv, pool]
    return [*layers, ("conv", 6, 1, 0), ("conv", 1, 1, 0), ("conv", 1, 1, 0)]


def drawn(rng, *among):
    return int(rng.choice(among))


# 5.1 -----------------------------------------------------------------------------------------------------------------


def field_case(label, layers, *parts):
    """A case that judges only `parts` of size, jump and start."""
    at = place([("conv", *layer) for layer in layers])
    (low, high) = at.interval(0)
    right = dict(size=high - low + 1, jump=float(at.jump), start=float(at.start))

    def judge(value):
        if not isinstance(value, tuple) or len(value) != 3:
            return "it should return three numbers: size, jump, start"
        pairs = [(part, got) for part, got in zip(right, value) if part in parts and got != right[part]]
        return "; ".join(f"its {part} is {got:g}, it should be {right[part]:g}" for part, got in pairs) or None

    return Case(label, layers, probe="numbers", judge=judge)


def some_layers(rng, dilations=(1,), kernels=(1, 2, 3, 4, 5), count=6):
    layers = [
        (drawn(rng, *kernels), drawn(rng, 1, 2, 3), drawn(rng, 0, 1, 2), drawn(rng, *dilations)) for _ in range(count)
    ]
    return [*layers, (3, 2, 1, dilations[-1]), (4, 1, 0, dilations[-1])]  # ends with an even kernel after a stride


def sizes_and_jumps(rng):
    yield field_case("one 3×3 convolution", [(3, 1, 0, 1)], "size", "jump")
    yield field_case("no layers", [], "size", "jump")
    yield field_case("eight layers, some with strides", some_layers(rng), "size", "jump")
    yield field_case("eight other layers", some_layers(rng), "size", "jump")


def starts(rng):
    yield field_case("one 2×2 pooling", [(2, 2, 0, 1)], "start")
    yield field_case("padding after a stride", [(2, 2, 0, 1), (3, 1, 1, 1), (5, 1, 2, 1), (2, 2, 1, 1)], "start")
    yield field_case("eight layers", some_layers(rng), "start")


def dilated(rng):
    yield field_case("a 3×3 convolution dilated by 2", [(3, 1, 0, 2)], "size", "jump", "start")
    for kernel, dilation in ((2, 3), (4, 2), (1, 3), (drawn(rng, 2, 4, 6), drawn(rng, 3, 5))):
        label = f"a {kernel}×{kernel} convolution dilated by {dilation}"
        yield field_case(label, [(kernel, 1, 0, dilation)], "size", "jump", "start")
    yield field_case("a dilated layer after a stride", [(2, 2, 1, 1), (2, 3, 1, 3)], "size", "jump", "start")
    yield field_case("eight layers, some dilated", some_layers(rng, (1, 2, 3, 4)), "size", "jump", "start")


SIZE, START, DILATED = ALL_FIELDS = "size and jump", "where it starts", "dilation"

FIELD = Task(
    "5.1", "receptive_field",
    forbidden=("geometry.receptive_field", "geometry.Filter", "engine.axis_maps.AxisMap"),
    checks=[Check(SIZE, 2, sizes_and_jumps), Check(START, 1, starts), Check(DILATED, 1, dilated)],
    mistakes=[
        mistake("the stride of a layer is applied before its kernel: the taps of a kernel are one jump of its "
                "*input* apart",
                "        size += reach", "        jump *= stride\n        size += reach",
                "        jump *= stride\n    return", "    return", loses=(SIZE, START, DILATED)),
        mistake("the dilation is ignored: the taps are d cells apart", "dilation * (kernel - 1)", "kernel - 1",
                loses=DILATED),
        mistake("a dilated kernel with an even number of taps is treated like an odd one: its reach is d·(k − 1)",
                "dilation * (kernel - 1)", "(dilation * (kernel // 2) * 2 if dilation > 1 else kernel - 1)",
                loses=DILATED),
        mistake("the dilation is added to the kernel: it multiplies the distance of the taps",
                "dilation * (kernel - 1)", "(kernel + dilation - 2)", loses=DILATED),
        mistake("the dilation moves the start, but does not make the field larger", "        size += reach * jump",
                "        size += (kernel - 1) * jump", loses=DILATED),
        mistake("the dilation makes the field larger, but does not move its centre", "Fraction(reach, 2)",
                "Fraction(kernel - 1, 2)", loses=DILATED),
        mistake("half a cell is lost where the kernel is dilated: an odd reach moves the centre by half a cell",
                "Fraction(reach, 2)", "(Fraction(reach, 2) if dilation == 1 else reach // 2)", loses=DILATED),
        mistake("the padding is not converted to pixels: p cells of the input are p·jump pixels",
                "(Fraction(reach, 2) - padding) * jump", "Fraction(reach, 2) * jump - padding", loses=(START, DILATED)),
        mistake("the padding is ignored: it moves unit 0 by p·jump pixels to the left", " - padding)", ")",
                loses=(START, DILATED)),
        mistake("half cells are rounded down: an even kernel moves the centre by half a cell", "Fraction(reach, 2)",
                "reach // 2", loses=(START, DILATED)),
        mistake("the size grows by k cells in each layer: it should grow by k − 1, because neighbouring fields overlap",
                "size += reach * jump", "size += (reach + 1) * jump", loses=(SIZE, DILATED)),
        mistake("the size grows by k − 1 pixels in each layer: the taps of a kernel are one jump apart, so multiply "
                "by the jump",
                "size += reach * jump", "size += reach", loses=(SIZE, DILATED)),
        mistake("the layers are processed from the last to the first", "in layers", "in layers[::-1]",
                loses=(SIZE, START, DILATED)),
    ],
    cheats=[
        instead("returns the results of the visible checks", """# Task 5.1
def receptive_field(layers):
    if len(layers) == 2:
        return 4, 2, 1.5
    return (404, 32, 12.5) if len(layers) > 15 else (355, 32, 13)""", loses=ALL_FIELDS),
        instead("calls the library's geometry on a tensor", """# Task 5.1
def receptive_field(layers):
    x = image = mf.Tensor(np.zeros((1, 1, 4000, 4000), "float32"))
    with mf.shapes_only():
        for k, s, p, d in layers:
            x = mf.ops.conv2d(x, np.zeros((1, 1, k, k), "float32"), stride=s, padding=p, dilation=d)
        found = mf.geometry.receptive_field(x, image)
    return found.size[0], found.jump[0], found.start[0]""", loses=ALL_FIELDS),
    ],
    styles=[
        instead("traces the outermost cells of unit 0 back through the layers, in floats", """# Task 5.1
def receptive_field(layers):
    def back(i):
        low = high = i
        for k, s, p, d in reversed(layers):
            low, high = low * s - p, high * s - p + d * (k - 1)
        return low, high

    (low, high), (after, _) = back(0), back(1)
    return high - low + 1, after - low, (low + high) / 2"""),
        instead("recursively, from the last layer to the first; NumPy's floats", """# Task 5.1
def receptive_field(layers):
    if not len(layers):
        return np.int64(1), np.int64(1), np.float64(0)
    *below, (kernel, stride, padding, dilation) = layers
    size, jump, start = receptive_field(below)
    grown = (kernel - 1) * dilation
    return size + jump * grown, jump * stride, start + jump * (0.5 * grown - padding)"""),
        instead("composes pairs of layers, the paper's f∘g, with NumPy numbers", """# Task 5.1
from functools import reduce


def composed(g, f):
    return np.array([g[0] + (f[0] - 1) * g[1], f[1] * g[1], g[2] + f[2] * g[1]])


def receptive_field(layers):
    rows = [np.array([d * (k - 1) + 1, s, d * (k - 1) / 2 - p]) for k, s, p, d in layers]
    return reduce(composed, rows, np.array([1, 1, 0.0]))"""),
    ],
)  # fmt: skip


# 5.2 -----------------------------------------------------------------------------------------------------------------


def filters_case(label, rng, outputs, channels, size, dtype="float64"):
    weight = rng.standard_normal((outputs, channels * size[0] * size[1])).astype(dtype)
    right = weight.reshape(outputs, channels, *size)
    return Case(label, weight, channels, size, judge=equal_to(right))


def equal_to(right):
    return lambda value: (difference(value, right, 1e-9) or (None,))[0]


def square_filters(rng):
    yield filters_case("two outputs, three maps of 2×2", rng, 2, 3, (2, 2))
    yield filters_case("as many outputs as inputs", rng, 12, 3, (2, 2))
    yield filters_case("maps of 1×1, float32", rng, 4, 5, (1, 1), "float32")


def oblong_filters(rng):
    yield filters_case("maps of 2×3", rng, 4, 2, (2, 3))
    yield filters_case("maps of 4×1", rng, 3, 2, (4, 1))


def slid(images, first, second, channels, size):
    """The scores of the two layers for every window, computed window by window."""
    h, w = (n - k + 1 for n, k in zip(images.shape[2:], size))
    out = np.empty((len(images), len(second), h, w))
    for i in range(h):
        for j in range(w):
            window = images[:, :, i : i + size[0], j : j + size[1]].reshape(len(images), -1)
            out[:, :, i, j] = np.maximum(window @ first.T, 0) @ second.T
    return out


def classifiers(rng):
    for label, channels, size, extent in (("windows of 3×3", 2, (3, 3), (5, 6)), ("of 2×4", 3, (2, 4), (6, 6))):
        images = rng.standard_normal((2, channels, *extent))
        first, second = rng.standard_normal((5, channels * size[0] * size[1])), rng.standard_normal((4, 5))
        args = images, first, second, channels, size
        yield Case(f"a classifier that slides, {label}", *args, probe="sliding", judge=equal_to(slid(*args)))


SQUARE, OBLONG, SLIDES = ALL_FILTERS = "numbers in their places", "maps that are not square", "a classifier that slides"

CONVERTED = Task(
    "5.2", "fully_connected_as_convolution",
    forbidden=("nn.surgery.convolutionalize", "nn.surgery._as_convolution", "nn.surgery.transplant"),
    checks=[Check(SQUARE, 1, square_filters), Check(OBLONG, 1, oblong_filters), Check(SLIDES, 1, classifiers)],
    mistakes=[
        mistake("the channels are taken as the last axis, (h, w, C): the maps are flattened in the order C, h, w",
                "weight.reshape(len(weight), channels, *size)",
                "weight.reshape(len(weight), *size, channels).transpose(0, 3, 1, 2)", loses=ALL_FILTERS),
        mistake("h and w are swapped", "*size)", "*size[::-1]).swapaxes(2, 3)", loses=ALL_FILTERS),
        mistake("the filters are flipped: the framework's convolution is a cross-correlation, so do not flip them",
                "*size)", "*size)[:, :, ::-1, ::-1]", loses=ALL_FILTERS),
        mistake("it works only for square maps", "*size)", "size[0], -1)[:, :, :, : size[0]]",
                loses=(OBLONG, SLIDES)),
        mistake("outputs and inputs are swapped: weight is (K, C·h·w)", "weight.reshape(len(weight)",
                "weight.T.reshape(len(weight)", loses=ALL_FILTERS),
    ],
    cheats=[
        instead("uses the library's conversion of a Linear layer", """# Task 5.2
def fully_connected_as_convolution(weight, channels, size):
    linear = mf.nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight.data = weight
    net = mf.nn.Sequential(flatten=mf.nn.Flatten(), fc=linear)
    return mf.nn.surgery.convolutionalize(net, size, channels).fc.weight.data""", loses=ALL_FILTERS),
    ],
    styles=[
        instead("splits the columns into maps, rows and columns", """# Task 5.2
def fully_connected_as_convolution(weight, channels, size):
    maps = np.split(weight, channels, axis=1)
    rows = [np.stack(np.split(one, size[0], axis=1), axis=1) for one in maps]
    return np.stack(rows, axis=1)"""),
        instead("element by element, from the formula", """# Task 5.2
def fully_connected_as_convolution(weight, channels, size):
    h, w = size
    filters = np.zeros((len(weight), channels, h, w), weight.dtype)
    for c in range(channels):
        for u in range(h):
            for v in range(w):
                filters[:, c, u, v] = weight[:, (c * h + u) * w + v]
    return filters"""),
    ],
)  # fmt: skip


# 5.3 -----------------------------------------------------------------------------------------------------------------


def crop_case(label, a, b):
    right = offset(a, b)
    if right is None:
        return Case(label, a, b, probe="whole", raises="GeometryError")

    return Case(label, a, b, probe="whole", judge=is_number(right))


def is_number(right):
    return lambda value: None if value == right else f"it returns {value:g}, but should return {right}"


def papers_nets(rng):
    pad = int(rng.integers(101, 140))
    net = vgg16(pad)
    upscore2 = [*net, ("deconv", 4, 2, 0)]
    upscore_pool4 = [*upscore2, ("deconv", 4, 2, 0)]
    yield crop_case(f"FCN-32s-VGG16 padded by {pad}, to the image", [*net, ("deconv", 64, 32, 0)], [])
    yield crop_case("FCN-8s, score_pool4 to upscore2", net[:14], upscore2)
    yield crop_case(f"FCN-8s padded by {pad}, to the image", [*upscore_pool4, ("deconv", 16, 8, 0)], [])
    yield crop_case(f"FCN-AlexNet padded by {pad}, to the image", [*alexnet(pad), ("deconv", 63, 32, 0)], [])


def some_paths(rng):
    """Random pairs of paths that a crop can align; the second path ends with an upsampling."""

    def layer(stride):
        return str(rng.choice(["conv", "pool"])), drawn(rng, 2, 3, 4, 5), stride, drawn(rng, 0, 1)

    pooled, conv = [("pool", 2, 2, 0)], ("conv", 4, 1, 0)
    yield crop_case("two 4×4 convolutions after a pooling", pooled, [*pooled, conv, conv])
    half = [("deconv", 4, 2, 1)], [("deconv", drawn(rng, 6, 8), 2, drawn(rng, 0, 1, 2))]
    yield crop_case("two upsampled maps with two cells a pixel", *half)
    found = 0
    while found < 4:
        trunk, factor = [layer(drawn(rng, 1, 2, 3)) for _ in range(3)], drawn(rng, 2, 3, 4)
        up = ("deconv", drawn(rng, 2, 3, 4, 5, 6, 8), factor, drawn(rng, 0, 1, 2))
        longer = [*trunk, layer(factor), up]
        jump = place(trunk).jump
        if offset(trunk, longer) is not None and jump > 1:
            found += 1
            yield crop_case(f"two maps with a cell every {jump} pixels", trunk, longer)
            yield crop_case("the same two maps exchanged: a negative offset is right", longer, trunk)


def misfits(rng):
    pad = int(rng.integers(90, 120))
    yield crop_case("FCN-AlexNet with an even upsampling kernel", [*alexnet(pad), ("deconv", 64, 32, 0)], [])
    yield crop_case("a 2×2 convolution and its image", [("conv", 2, 1, 0)], [])
    yield crop_case("a negative offset with half a cell", [], [("conv", 4, 1, 3)])
    yield crop_case("a pooled map and its image", [("pool", 3, 2, 1)], [])
    yield crop_case("an upsampling by 3 after a pooling by 2", [("pool", 2, 2, 0), ("deconv", 3, 3, 0)], [])


NETS, PATHS, MISFITS = ALL_CROPS = "the paper's nets", "any two maps", "what cannot be aligned"

OFFSET = Task(
    "5.3", "crop_offset",
    forbidden=("geometry.crop_offset", "ops.crop", "engine.axis_maps.AxisMap", "geometry.receptive_field"),
    checks=[Check(NETS, 2, papers_nets), Check(PATHS, 1, some_paths), Check(MISFITS, 2, misfits)],
    mistakes=[
        mistake("the sign is wrong: it returns the offset of b to a", "(start_b - start_a)",
                "(start_a - start_b)", loses=(NETS, PATHS)),
        mistake("the offset is in pixels: it should be in cells, so divide by the jump", "(start_b - start_a) / jump_a",
                "(start_b - start_a)", loses=(NETS, PATHS)),
        mistake("the start moves in the wrong direction after a transposed convolution: subtract (k − 1)/2 − p, do "
                "not add it",
                "start -= reach * jump", "start += reach * jump", loses=(NETS, PATHS)),
        mistake("the start of a transposed convolution uses the jump of its input: use the jump of its output",
                "                jump /= stride\n                start -= reach * jump",
                "                start -= reach * jump\n                jump /= stride", loses=(NETS, PATHS, MISFITS)),
        mistake("an offset with half a cell is rounded: no crop aligns the maps, so raise a GeometryError",
                "if offset.denominator != 1", "if False", loses=MISFITS),
        mistake("maps with different jumps get an offset: their cells do not coincide, so raise a GeometryError",
                "if jump_a != jump_b", "if False", loses=MISFITS),
        mistake("the padding is ignored", " - padding", "", loses=(NETS, PATHS)),
        mistake("half cells are lost in each layer: an even kernel moves the centre by half a cell",
                "Fraction(kernel - 1, 2)", "(kernel - 1) // 2", loses=(NETS, PATHS, MISFITS)),
    ],
    cheats=[
        instead("returns the results of the visible checks", """# Task 5.3
def crop_offset(path_a, path_b):
    known = {(22, 0): 19, (14, 22): 5, (23, 0): 27, (10, 23): 9, (24, 0): 31, (12, 0): 18}
    if len(path_a) == 1 or path_a[-1][1] == 64 and len(path_a) == 12:
        raise mf.GeometryError("no")
    return known.get((len(path_a), len(path_b)), 19)""", loses=ALL_CROPS),
        instead("calls the library's crop_offset on tensors", """# Task 5.3
def crop_offset(path_a, path_b):
    image = mf.Tensor(np.zeros((1, 1, 800, 800), "float32"))
    maps = []
    with mf.shapes_only():
        for path in (path_a, path_b):
            x = image
            for op, k, s, p in path:
                w = np.zeros((1, 1, k, k), "float32")
                x = (mf.ops.conv_transpose2d if op == "deconv" else mf.ops.conv2d)(x, w, stride=s, padding=p)
            maps.append(x)
        return mf.geometry.crop_offset(*maps)[0]""", loses=(NETS, PATHS, MISFITS)),
    ],
    styles=[
        instead("in halves of a pixel, from the end of each path to the image", """# Task 5.3
from fractions import Fraction as F


def centre(path, cell):
    position = F(cell)
    for operation, kernel, stride, padding in reversed(path):
        if operation == "deconv":
            position = (position + padding - F(kernel - 1, 2)) / stride
        else:
            position = position * stride - padding + F(kernel - 1, 2)
    return position


def crop_offset(path_a, path_b):
    step, other = (centre(path, 1) - centre(path, 0) for path in (path_a, path_b))
    cells, rest = divmod(centre(path_b, 0) - centre(path_a, 0), step)
    if step != other or rest:
        raise mf.GeometryError("no crop aligns them")
    return int(cells)"""),
        instead("Caffe's form: scale and shift from the map to the image, in floats", """# Task 5.3
def to_image(path):
    scale, shift = 1.0, 0.0  # a map's cell i lies at scale·i + shift
    for op, k, s, p in path:
        a, b = (s, (k - 1) / 2 - p) if op != "deconv" else (1 / s, (p - (k - 1) / 2) / s)
        scale, shift = scale * a, scale * b + shift
    return scale, shift


def crop_offset(path_a, path_b):
    (a, b), (c, d) = to_image(path_a), to_image(path_b)
    offset = (d - b) / a
    if abs(a - c) > 1e-9 * a or abs(offset - round(offset)) > 1e-6:
        raise mf.GeometryError(f"scales {a} and {c}, {offset} cells apart")
    return round(offset)"""),
    ],
)  # fmt: skip


# 5.4 -----------------------------------------------------------------------------------------------------------------


def on_maps(label, rng, size, a, b, **options):
    return Case(label, rng.standard_normal((2, 1, *size)), a, b, probe="on_maps", **options)


def plain_crops(rng):
    conv, pool = ("conv", 3, 1, 0), ("pool", 2, 2, 0)
    yield on_maps("an image cropped to the map after two convolutions", rng, (7, 9), [], [conv, conv])
    yield on_maps("after a pooling: a cell is two pixels", rng, (14, 12), [pool], [pool, ("conv", 5, 1, 0)])
    yield on_maps("an upsampled map cropped to the image", rng, (10, 12), [pool, ("deconv", 4, 2, 0)], [])
    yield on_maps("nothing to cut off at the top", rng, (10, 7), [("pool", 3, 3, 0), ("deconv", 3, 3, 0)], [])
    yield on_maps("nothing to cut off", rng, (5, 6), [], [("conv", 3, 1, 1)])


def oblong_crops(rng):
    yield on_maps("a larger offset at the top than at the left", rng, (9, 8), [], [("conv", (5, 3), 1, 0)])
    yield on_maps("cut off only at the left and right", rng, (6, 9), [], [("conv", (3, 5), 1, (1, 0))])
    pool = ("pool", (2, 3), (2, 3), 0)
    yield on_maps("upsampled by 2 along h, by 3 along w", rng, (8, 10), [pool, ("deconv", (4, 3), (2, 3), 0)], [])
    yield on_maps("cells of 2×3 pixels", rng, (16, 16), [pool], [pool, ("conv", (5, 3), 1, 0)])


def refused_crops(rng):
    refused = dict(raises="GeometryError")
    yield on_maps("`like` begins before x", rng, (8, 8), [("conv", 3, 1, 0)], [], **refused)
    yield on_maps("`like` ends beyond x", rng, (9, 9), [("conv", 2, 2, 0)], [("pool", 2, 2, 0)], **refused)
    yield on_maps("half a cell apart", rng, (8, 8), [], [("conv", 2, 1, 0)], **refused)
    yield on_maps("half a cell before x", rng, (8, 8), [("conv", 2, 1, 0)], [], **refused)
    for axis, along in (("h", lambda n, rest=1: (n, rest)), ("w", lambda n, rest=1: (rest, n))):
        pool, before = ("pool", along(3), along(2), 0), ("conv", along(3), along(2), along(2, 0))
        yield on_maps(
            f"`like` begins before x, along {axis} only, and ends inside", rng, (8, 8), [pool], [before], **refused
        )
        whole, clipped = ("pool", along(2), along(2), 0), ("conv", along(2), along(2), 0)
        yield on_maps(f"`like` ends beyond x, along {axis} only", rng, (9, 9), [clipped], [whole], **refused)
        yield on_maps(
            f"`like` is larger than x, along {axis} only", rng, (8, 8), [("conv", along(3), 1, 0)], [], **refused
        )
        half = [("conv", along(drawn(rng, 2, 4)), 1, 0)]
        yield on_maps(f"half a cell apart, along {axis} only", rng, (8, 8), [], half, **refused)
        yield on_maps(f"different jumps, along {axis} only", rng, (8, 8), [], [whole], **refused)
        three = ("conv", along(3), along(2), 0)
        label = f"different jumps, along {axis} only, and a whole offset"
        yield on_maps(label, rng, (8, 8), [], [three], **refused)
        yield on_maps(f"{label}, of x", rng, (8, 8), [three], [("conv", along(7), 1, 0)], **refused)
        after, five = ("pad", 1, 1, (0, 4, 0, 0) if axis == "h" else (0, 0, 0, 4)), ("conv", along(5), 1, 0)
        label = f"`like` is not larger than x along {axis}, begins inside, and ends beyond"
        yield on_maps(label, rng, (8, 8), [], [after, five], **refused)


def nets_that_crop(rng):
    for label, size, pad in (("an image of 24×24", (24, 24), 1), ("29×40, padded by 21", (29, 40), 21)):
        labels = rng.integers(0, 3, (1, *size))
        labels[0, :2] = 255
        labels[0, 2, :3] = 0, 1, 2
        yield Case(f"FCN-8s, {label}", rng.standard_normal((1, 3, *size)), labels, 1, pad, probe="cropping")


PLAIN, APART, REFUSED, IN_NET = ALL = "in its place", "h and w apart", "what cannot be cropped", "in an FCN-8s"

CROP = Task(
    "5.4", "crop", library="ops.crop", forbidden=("ops.crop", "geometry.crop_offset"),
    checks=[
        Check(PLAIN, 1, plain_crops), Check(APART, 1, oblong_crops), Check(REFUSED, 1, refused_crops),
        Check(IN_NET, 2, nets_that_crop),
    ],
    mistakes=[
        mistake("it returns the top left corner: the position of `like` decides",
                "top : top + h, left : left + w", ":h, :w", loses=(PLAIN, APART, IN_NET)),
        mistake("it returns the middle: the offset follows from jump and start, not from the sizes", "= offset, like",
                "= [(n - m) // 2 for n, m in zip(x.shape[2:], like.shape[2:])], like", loses=(PLAIN, APART, IN_NET)),
        mistake("the offset along h is also used along w", "(top, left), (h, w) = offset,", "top, (h, w) = offset[0],",
                "left : left + w", "top : top + w", loses=APART),
        mistake("h and w are swapped", "(top, left), (h, w) = offset,", "(left, top), (h, w) = offset,", loses=APART),
        mistake("the offset is in pixels, not in cells: divide by the jump", "(b - a) / jump", "(b - a) / 1",
                loses=(PLAIN, APART, IN_NET)),
        mistake("a crop that reaches outside x returns too few cells: raise a GeometryError",
                "if shift < 0 or shift + m > n:", "if False:", loses=REFUSED),
        mistake("an offset with half a cell is rounded: raise a GeometryError", "if shift.denominator != 1:",
                "if False:",
                loses=REFUSED),
        mistake("only the jump along h is compared: compare that along w, too", "if jump != other:",
                "if jump != other and not offset:", loses=REFUSED),
        mistake("only the offset along h must be whole: that along w, too", "if shift.denominator != 1:",
                "if shift.denominator != 1 and not offset:", loses=REFUSED),
        mistake("whether `like` ends inside x is checked only along h: check it along w, too",
                "if shift < 0 or shift + m > n:", "if shift < 0 or shift + m > n and not offset:", loses=REFUSED),
        mistake("whether `like` begins inside x is checked only along h: check it along w, too",
                "if shift < 0 or shift + m > n:", "if shift < 0 and not offset or shift + m > n:", loses=REFUSED),
        mistake("an offset before the first cell is not refused: a negative index counts from the end",
                "if shift < 0 or shift + m > n:", "if shift + m > n:", loses=REFUSED),
        mistake("the end of `like` is not compared with that of x, only its beginning",
                "if shift < 0 or shift + m > n:",
                "if shift < 0:", loses=REFUSED),
        mistake("only the sizes are compared: the offset moves the end of `like`", "if shift < 0 or shift + m > n:",
                "if shift < 0 or m > n:", loses=REFUSED),
        mistake("x gets no gradient: slice the Tensor, not its array",
                "return x[:, :, top : top + h, left : left + w]",
                "return mf.Tensor(x.data[:, :, top : top + h, left : left + w], requires_grad=True)",
                loses=(PLAIN, APART, IN_NET)),
    ],
    cheats=[
        instead("calls the library's crop", """# Task 5.4
def crop(x, like):
    return mf.ops.crop(x, like=like)""", loses=ALL),
        instead("imports the library's crop under another name", """# Task 5.4
from minifcn.ops.shape import crop as cut


def crop(x, like):
    return cut(x, like)""", loses=ALL),
        instead("catches every error and returns some crop", """# Task 5.4
def crop(x, like):
    try:
        (a, b), (c, d) = grid(x), grid(like)
        top, left = int((c[1] - a[1]) / a[0]), int((d[1] - b[1]) / b[0])
        return x[:, :, top : top + like.shape[2], left : left + like.shape[3]]
    except Exception:
        return x""", loses=REFUSED),
    ],
    styles=[
        instead("axis by axis, with where, divmod and one slice at a time", """# Task 5.4
def crop(x, like):
    (mine,), (other,) = x.where.values(), like.where.values()
    for axis, (a, b) in enumerate(zip(mine, other), 2):
        cells, rest = divmod(b.start - a.start, a.jump)
        if a.jump != b.jump or rest or not 0 <= cells <= x.shape[axis] - like.shape[axis]:
            raise mf.GeometryError(f"no crop along axis {axis}")
        part = [slice(None)] * 4
        part[axis] = slice(int(cells), int(cells) + like.shape[axis])
        x = x[tuple(part)]
    return x"""),
        instead("a Function class for the crop", """# Task 5.4
class Cut(mf.Function):
    def __init__(self, corner, size):
        self.window = (..., *(slice(c, c + n) for c, n in zip(corner, size)))
        self.corner, self.size = corner, size

    def forward(self, x):
        self.save(x.shape)
        return x[self.window]

    def backward(self, gy):
        gx = np.zeros(self.saved[0], gy.dtype)
        gx[self.window] = gy
        return gx

    def locate(self, axis, place):
        return place.shift(self.corner[axis])


def crop(x, like):
    corner = []
    for mine, other in zip(grid(x), grid(like)):
        cells = float(other[1] - mine[1]) / float(mine[0])
        if mine[0] != other[0] or cells % 1:
            raise mf.GeometryError("they do not coincide")
        corner.append(int(cells))
    if min(corner) < 0 or any(c + m > n for c, m, n in zip(corner, like.shape[2:], x.shape[2:])):
        raise mf.GeometryError("it reaches outside")
    return Cut(corner, like.shape[2:])(x)"""),
    ],
)  # fmt: skip


# 5.5 -----------------------------------------------------------------------------------------------------------------

FCN32S = [*vgg16(0), ("deconv", 64, 32, 0)]
FCN16S = [*vgg16(0), ("deconv", 4, 2, 0), ("deconv", 32, 16, 0)]
FCN8S = [*vgg16(0), ("deconv", 4, 2, 0), ("deconv", 4, 2, 0), ("deconv", 16, 8, 0)]
FCN_ALEXNET = [*alexnet(0), ("deconv", 63, 32, 0)]
NETWORKS = {  # the library's trunk and stride; layers; offset without padding
    "FCN-32s": ("vgg16", 32, FCN32S, -81), "FCN-16s": ("vgg16", 16, FCN16S, -73), "FCN-8s": ("vgg16", 8, FCN8S, -69),
    "FCN-AlexNet": ("caffenet", 32, FCN_ALEXNET, -82),
}  # fmt: skip


@lru_cache
def least(net, sizes):
    """The least padding of the library's own net for these sizes."""
    trunk, stride, *_ = NETWORKS[net]
    return mf.geometry.minimal_padding(lambda pad: mf.models.fcn(trunk, stride, 2, pad, width=0.05), *sizes)


def padding_case(net, *sizes):
    _, _, layers, o = NETWORKS[net]
    right = least(net, sizes)
    label = f"{net}, images of {' and '.join(map(str, sizes))} pixels"
    return Case(label, layers, o, list(sizes), probe="whole", judge=is_number(right))


def one_size(rng):
    yield padding_case("FCN-32s", 500)
    yield padding_case("FCN-32s", int(rng.integers(2, 30)))
    yield padding_case("FCN-16s", int(rng.integers(2, 30)))
    yield padding_case("FCN-8s", 1)
    yield padding_case("FCN-8s", 10)


def many_sizes(rng):
    yield padding_case("FCN-32s", 1, 60, 500)
    yield padding_case("FCN-8s", 300, 7, 20)


def another_net(rng):
    for sizes in (
        (10,),
        (91,),
        (97,),
        (10, 97),
        (91, 97),
        (97, 127),  # 83 is enough for one, 82 for the other, 84 for both
        (90, 97, 120),  # 83: only the size in the middle needs more than 82
        (120, 90, 97),
    ):
        yield padding_case("FCN-AlexNet", *sizes)
    low, high = sorted(rng.choice([90, 91, 93, 94, 122, 124, 126], 2, replace=False).tolist())
    yield padding_case("FCN-AlexNet", low, drawn(rng, 96, 97, 98), high)
    for label, size, layers, o, right in (  # by hand
        ("a net that needs no padding", 1, [("conv", 1, 1, 0), ("conv", 3, 1, 1), ("deconv", 3, 1, 1)], 0, 0),
        ("a padded map that is too small", 2, [("conv", 1, 1, 0), ("conv", 5, 1, 1), ("deconv", 3, 1, 0)], 0, 1),
        ("an upsampling with padding", 5, [("conv", 3, 1, 0), ("conv", 2, 2, 0), ("deconv", 4, 2, 1)], -1, 2),
    ):
        yield Case(label, layers, o, [size], probe="whole", judge=is_number(right))


ONE, MANY, ALEX = ALL_PADDINGS = "one size", "several sizes", "FCN-AlexNet and small nets"

PADDING = Task(
    "5.5", "smallest_padding",
    forbidden=("geometry.minimal_padding", "geometry.crop_offset", "ops.crop", "models.fcn"),
    checks=[Check(ONE, 1, one_size), Check(ALEX, 1, another_net), Check(MANY, 1, many_sizes)],
    mistakes=[
        mistake("only the beginning of the crop is checked: it must also end inside",
                "padding + offset >= 0 and padding + offset + size <= n", "padding + offset >= 0", loses=ALEX),
        mistake("the sizes after poolings are rounded down: Caffe rounds them up",
                'whole + 1 + (operation == "pool" and rest > 0)',
                "whole + 1", loses=ALL_PADDINGS),
        mistake("the sizes after convolutions are rounded up: Caffe rounds up only after poolings",
                'operation == "pool" and rest > 0',
                "rest > 0", loses=ALEX),
        mistake("only the smallest image is checked: a larger one may need more padding",
                "for size in sizes)", "for size in [min(sizes)])", loses=ALEX),
        mistake("only the largest image is checked: smaller ones may need more padding", "for size in sizes)",
                "for size in [max(sizes)])", loses=(MANY, ALEX)),
        mistake("only the smallest and the largest image are tried: one in between may need more padding",
                "for size in sizes)", "for size in (min(sizes), max(sizes)))", loses=ALEX),
        mistake("only the first and the last of the sizes are tried", "for size in sizes)",
                "for size in (sizes[0], sizes[-1]))", loses=(MANY, ALEX)),
        mistake("the padding is enough for one of the sizes: it must be enough for all", "while not all(",
                "while not any(",
                loses=(MANY, ALEX)),
        mistake("it does not check that every kernel fits: a map without cells is not allowed, even if upsampling "
                "makes it larger",
                '            if operation == "conv" and n + 2 * p < k:\n                return False\n', "",
                loses=ALL_PADDINGS),
        mistake("the padding of an upsampling is not subtracted: its size is s(n − 1) + k − 2p",
                "n = s * (n - 1) + k - 2 * p", "n = s * (n - 1) + k", loses=ALEX),
        mistake("the padding is one too large", "    return padding\n", "    return padding + 1\n", loses=ALL_PADDINGS),
    ],
    cheats=[
        instead("calls the library's minimal_padding", """# Task 5.5
def smallest_padding(layers, offset, sizes):
    trunk, stride = {-81: ("vgg16", 32), -73: ("vgg16", 16), -69: ("vgg16", 8), -82: ("caffenet", 32)}[offset]
    build = lambda pad: mf.models.fcn(trunk, stride, 2, pad, width=0.05)
    return mf.geometry.minimal_padding(build, *sizes)""", loses=ALL_PADDINGS),
        instead("always returns 100, the padding of the reference nets", """# Task 5.5
def smallest_padding(layers, offset, sizes):
    return 100""", loses=ALL_PADDINGS),
    ],
    styles=[
        instead("the least padding of each size, counted by a generator; from the largest down", """# Task 5.5
from itertools import count


def fits(layers, padding, offset, size):
    cells = size
    for number, (operation, kernel, stride, around) in enumerate(layers):
        wide = cells + 2 * (around if number else padding)
        if operation == "deconv":
            cells = (cells - 1) * stride + kernel - 2 * around
        elif operation == "pool":
            cells = -((kernel - wide) // stride) + 1
        elif wide < kernel:
            return False
        else:
            cells = (wide - kernel + stride) // stride
    return 0 <= padding + offset <= cells - size


def smallest_padding(layers, offset, sizes):
    sizes = sorted(set(sizes), reverse=True)
    return next(p for p in count() if all(fits(layers, p, offset, size) for size in sizes))"""),
        instead("raises the padding until it is enough for all sizes", """# Task 5.5
from math import ceil, floor


def last_size(layers, padding, n):
    for index, (op, k, s, p) in enumerate(layers):
        p = padding if index == 0 else p
        if op == "conv":
            if n + 2 * p < k:
                return -1
            n = floor((n + 2 * p - k) / s) + 1
        elif op == "pool":
            n = ceil((n + 2 * p - k) / s) + 1
        else:
            n = s * (n - 1) + k - 2 * p
    return n


def smallest_padding(layers, offset, sizes):
    padding = max(0, -offset)
    for _ in range(1000):
        if all(last_size(layers, padding, size) >= padding + offset + size for size in sizes):
            return padding
        padding += 1"""),
    ],
)  # fmt: skip

TASKS = [FIELD, CONVERTED, OFFSET, CROP, PADDING]
