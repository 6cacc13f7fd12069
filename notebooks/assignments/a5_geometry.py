# %% [markdown]
# # A5 · Where maps lie: receptive fields, converted classifiers, crops
#
# A fully convolutional net takes images of any size, so the sizes of its maps are not fixed either. To add two maps, we
# must know which cell of one lies over which cell of the other. This follows from one rule for a single layer, applied
# layer by layer. You will derive the receptive field of a unit, turn the fully connected layers of a classifier into
# convolutions, and compute the crop offsets of the paper's nets (19 in FCN-32s; 5 and 27 in FCN-16s; 5, 9 and 31 in
# FCN-8s) and the reason for their padding of 100.
#
# Cells are counted from 0; the centre of pixel 0 is at 0. Positions are multiples of ½, so calculate with `Fraction`
# (or with floats, which represent these numbers exactly). The tasks are independent of each other.
#
# Each check below prints ✓ (passed), ✗ (failed) or · (not yet). You can also run all of them with `python -m pytest
# a5_geometry.py`.

# %%
# Setup
from fractions import Fraction

import numpy as np

import minifcn as mf
from minifcn.course import check


def vgg16(pad):
    """FCN-VGG16 from the image to score_fr: (operation, kernel, stride, padding) of each layer."""
    layers = []
    for count in (2, 2, 3, 3, 3):
        layers += [("conv", 3, 1, 1)] * count + [("pool", 2, 2, 0)]
    layers += [("conv", 7, 1, 0), ("conv", 1, 1, 0), ("conv", 1, 1, 0)]  # fc6, fc7, score_fr
    return [("conv", 3, 1, pad), *layers[1:]]


def alexnet(pad):
    """FCN-AlexNet from the image to score_fr."""
    pool, conv = ("pool", 3, 2, 0), ("conv", 3, 1, 1)
    layers = [("conv", 11, 4, pad), pool, ("conv", 5, 1, 2), pool, conv, conv, conv, pool]
    return [*layers, ("conv", 6, 1, 0), ("conv", 1, 1, 0), ("conv", 1, 1, 0)]


# %% [markdown]
# ## Task 5.1: What a unit sees (4 points)
#
# Cell $i$ of a layer reads the cells $s\,i - p + d\,u$, $u = 0 \dots k-1$, of its input; their centre is
# $s\,i + \tfrac{d(k-1)}{2} - p$. If cell $i$ of the *input* is centred at pixel $j\,i + b$ (jump $j$, start $b$), then
# cell $i$ of the output is centred at
#
# $$j\left(s\,i + \tfrac{d(k-1)}{2} - p\right) + b = j'\,i + b', \qquad j' = j\,s, \quad
# b' = b + \left(\tfrac{d(k-1)}{2} - p\right) j .$$
#
# The first and the last of the $k$ cells that it reads are $d(k-1)$ cells apart, which is $d(k-1)\,j$ pixels, and each
# has a receptive field of size $r$. So $r' = r + d(k-1)\,j$. This is the paper's rule for $f_{ks} \circ g_{k's'}$ (§3),
# $k' + (k-1)\,s'$, with $r$ for $k'$ and $j$ for $s'$. An image is a map with $r = 1$, $j = 1$, $b = 0$.


# %%
# Task 5.1
def receptive_field(layers):
    """(size, jump, start) of the receptive fields after layers (kernel, stride, padding, dilation), in forward order.

    All in pixels: `size` of a field, `jump` between the centres of neighbouring fields, `start`, the centre of unit 0.
    """
    ### BEGIN SOLUTION
    size, jump, start = 1, 1, Fraction(0)
    for kernel, stride, padding, dilation in layers:
        reach = dilation * (kernel - 1)
        size += reach * jump
        start += (Fraction(reach, 2) - padding) * jump
        jump *= stride
    return size, jump, start
    ### END SOLUTION


# %%
@check
def test_field_of_two_layers():
    """5.1 After a 3×3 convolution and a 2×2 pooling: fields of 4 pixels, 2 pixels apart, the first centred at 1.5"""
    field = receptive_field([(3, 1, 0, 1), (2, 2, 0, 1)])
    assert tuple(field) == (4, 2, 1.5), f"you have {tuple(map(float, field))}, it should be (4, 2, 1.5)"


@check
def test_fields_of_the_papers_nets():
    """5.1 The fields of the paper's nets: 404 pixels for VGG16's fc6, 355 for AlexNet's, 32 pixels apart"""
    for name, net, right in (("VGG16", vgg16, (404, 32, 12.5)), ("AlexNet", alexnet, (355, 32, 13))):
        field = receptive_field([(k, s, p, 1) for _, k, s, p in net(100)])
        assert tuple(field) == right, f"{name}, padded by 100: {tuple(map(float, field))}, it should be {right}"


# %% [markdown]
# You can see a receptive field: outside it, the gradient of a unit is zero. The picture shows one unit of `pool4` in
# the small FCN. Bright pixels have a large gradient of the unit's value; the frame is the field that you computed.


# %%
@check
def test_gradient_stays_in_the_field():
    """5.1 The gradient of a unit in a real net fills exactly the field that I computed"""
    mf.manual_seed(0)
    trunk = mf.models.build_trunk("mini", width=0.5, batch_norm=False)
    image = mf.Tensor(np.random.default_rng(0).standard_normal((1, 3, 96, 128)), requires_grad=True)
    pool4 = trunk.features(image, ["pool4"])["pool4"]
    gy, (row, column) = np.zeros(pool4.shape, pool4.dtype), (3, 4)
    gy[0, :, row, column] = 1
    pool4.backward(gy)
    seen = abs(image.grad).sum(axis=(0, 1))

    stages = [[(3, 1, 1, 1)] * count + [(2, 2, 0, 1)] for count in (1, 1, 2, 2)]
    size, jump, start = receptive_field([layer for stage in stages for layer in stage])
    top, left = (int(jump * i + start - Fraction(size - 1, 2)) for i in (row, column))
    inside = np.zeros_like(seen, bool)
    inside[top : top + size, left : left + size] = True
    rows, columns = np.nonzero(seen)
    found = (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)
    assert not seen[~inside].any(), f"its gradient lies at rows and columns {found}, partly outside your field"
    assert found == (top, top + size, left, left + size), f"its gradient lies within {found}: your field is too large"

    import matplotlib.pyplot as plt

    with mf.viz.styled():
        figure, ax = plt.subplots(figsize=(5.2, 4), layout="constrained")
        ax.imshow(np.sqrt(seen), cmap="magma")
        ax.add_patch(plt.Rectangle((left - 0.5, top - 0.5), size, size, fill=False, ec="#56B4E9", lw=2))
        ax.set(xticks=[0, 127], yticks=[0, 95], title=f"unit ({row}, {column}) of pool4 sees {size}×{size} pixels")
    plt.close(figure)
    return figure


# %% [markdown]
# ## Task 5.2: A fully connected layer is a convolution (3 points)
#
# A classifier flattens its last maps, $(C, h, w)$, in C order into $C\,h\,w$ numbers, and a fully connected layer
# computes weighted sums of them, $y_k = \sum_m W_{k,m}\, x_m$. Undo the flattening in $W$: with
# $m = (c\,h + u)\,w + v$,
#
# $$y_k = \sum_{c,u,v} W_{k,\,(c h + u) w + v}\; x_{c,u,v} :$$
#
# This is a convolution whose filters are as large as its input, so that it has one output cell. On a larger map it has
# many output cells, one for each position of the classifier's window: the net now *slides* over an image (§3.1), much
# faster than if the windows were cut out. For the fully connected layers after it, the maps have size 1×1.


# %%
# Task 5.2
def fully_connected_as_convolution(weight, channels, size):
    """The filters (K, C, h, w) that replace a fully connected layer on maps (C, h, w), given its `weight` (K, C·h·w).

    `channels` is C, `size` is (h, w).
    """
    ### BEGIN SOLUTION
    return weight.reshape(len(weight), channels, *size)
    ### END SOLUTION


# %%
@check
def test_a_small_layer():
    """5.2 The weight of map c, row u, column v is at [c, u, v]"""
    filters = fully_connected_as_convolution(np.arange(24.0).reshape(2, 12), 2, (3, 2))
    assert filters.shape == (2, 2, 3, 2), f"the shape is {filters.shape}, it should be (2, 2, 3, 2)"
    factor = filters[1, 1, 2, 0]
    assert factor == 12 + (1 * 3 + 2) * 2 + 0, f"y_1 takes x[1, 2, 0] times {factor:g}, it should be 22"


# %% [markdown]
# Here LeNet with your filters slides over a page of 52×60 pixels. At each position its scores are those of the
# classifier on the 28×28 pixels there.


# %%
@check
def test_lenet_slides():
    """5.2 A LeNet with my filters has the classifier's scores at every position"""
    mf.manual_seed(0)
    lenet = mf.models.lenet_caffe().to(dtype="float64")
    weights = dict(lenet.named_parameters())
    page = np.random.default_rng(0).standard_normal((1, 1, 52, 60))

    x = lenet.pool2(lenet.conv2(lenet.pool1(lenet.conv1(mf.Tensor(page)))))
    for name, channels, size in (("ip1", 50, (4, 4)), ("ip2", 500, (1, 1))):
        filters = fully_connected_as_convolution(weights[f"{name}.weight"].data, channels, size)
        x = mf.ops.conv2d(x, filters, weights[f"{name}.bias"].data)
        x = mf.ops.relu(x) if name == "ip1" else x
    scores = x.numpy()
    assert scores.shape == (1, 10, 7, 9), f"the scores are {scores.shape}, they should be (1, 10, 7, 9)"
    for i, j in ((0, 0), (2, 5), (6, 8)):  # its jump is 4: the window of unit (i, j) begins at (4i, 4j)
        right = lenet(mf.Tensor(page[:, :, 4 * i : 4 * i + 28, 4 * j : 4 * j + 28])).numpy()
        assert np.allclose(scores[:, :, i, j], right), f"at ({i}, {j}) the scores differ from the classifier's"


# %% [markdown]
# ## Task 5.3: The crop offset (5 points)
#
# A transposed convolution is a convolution run backwards, and so is its geometry. Cell $i$ of its *input* is added to
# the cells $s\,i - p + u$ of its output. So input and output exchange their roles in the rule above:
#
# $$j' = \tfrac{j}{s}, \qquad b' = b - \left(\tfrac{k-1}{2} - p\right) j' .$$
#
# Let the cells of map $A$ be at $j_A\,i + b_A$, and those of $B$ at $j_B\,i + b_B$. If $j_A = j_B$, cell 0 of $B$ lies
# over cell $(b_B - b_A)/j_A$ of $A$. This is the **crop offset** of $A$ to $B$. If the jumps differ, or if the offset
# is not a whole number, no crop aligns the two maps: raise `mf.GeometryError` with the reason. (This is why FCN-AlexNet
# upsamples with a kernel of 63: its units are centred on whole pixels, and with an even kernel the scores would lie
# between pixels.)


# %%
# Task 5.3
def crop_offset(path_a, path_b):
    """The index of the cell of map a over which cell 0 of map b lies, an int; negative if that is before cell 0 of a.

    A path lists (operation, kernel, stride, padding) for each layer from the image to the map.  The operation is
    "conv", "pool" or "deconv" (a transposed convolution).  An empty path stands for the image itself.
    """
    ### BEGIN SOLUTION

    def place(path):
        jump, start = Fraction(1), Fraction(0)
        for operation, kernel, stride, padding in path:
            reach = Fraction(kernel - 1, 2) - padding
            if operation == "deconv":
                jump /= stride
                start -= reach * jump
            else:
                start += reach * jump
                jump *= stride
        return jump, start

    (jump_a, start_a), (jump_b, start_b) = place(path_a), place(path_b)
    if jump_a != jump_b:
        raise mf.GeometryError(f"a has a cell every {jump_a} pixels, b every {jump_b}")
    offset = (start_b - start_a) / jump_a
    if offset.denominator != 1:
        raise mf.GeometryError(f"b lies {offset} cells from the first of a: no whole number")
    return int(offset)
    ### END SOLUTION


# %%
@check
def test_crop_offsets_of_the_papers_nets():
    """5.3 19 for FCN-32s, 5 and 27 for FCN-16s, 5, 9 and 31 for FCN-8s; 18 for FCN-AlexNet"""
    net = vgg16(100)
    pool3, pool4 = net[:10], net[:14]
    upscore2 = [*net, ("deconv", 4, 2, 0)]
    upscore_pool4 = [*upscore2, ("deconv", 4, 2, 0)]
    for name, a, b, right in (
        ("FCN-32s, score", [*net, ("deconv", 64, 32, 0)], [], 19),
        ("FCN-16s and 8s, score_pool4 to upscore2", pool4, upscore2, 5),
        ("FCN-16s, score", [*upscore2, ("deconv", 32, 16, 0)], [], 27),
        ("FCN-8s, score_pool3 to upscore_pool4", pool3, upscore_pool4, 9),
        ("FCN-8s, score", [*upscore_pool4, ("deconv", 16, 8, 0)], [], 31),
        ("FCN-AlexNet, score", [*alexnet(100), ("deconv", 63, 32, 0)], [], 18),
    ):
        offset = crop_offset(a, b)
        assert offset == right, f"{name}: {offset}, it should be {right}"


@check
def test_what_cannot_be_aligned():
    """5.3 An offset of half a cell, or different jumps, raise a GeometryError with the reason"""
    for what, a, b in (
        ("FCN-AlexNet with an even kernel", [*alexnet(100), ("deconv", 64, 32, 0)], []),
        ("a pooled map and its image", [("pool", 2, 2, 0)], []),
    ):
        try:
            offset = crop_offset(a, b)
        except mf.GeometryError as reason:
            assert str(reason), f"{what}: the error gives no reason"
        else:
            raise AssertionError(f"{what}: it returns {offset}, but no crop aligns the two")


# %% [markdown]
# The picture shows the first units of FCN-8s near the left border of the image, for the three pairs of maps that are
# aligned by a crop. Unit 0 of the lower map of each pair should lie under the unit of the upper map that your function
# returns.


# %%
@check
def test_picture_of_the_crops():
    """5.3 The positions of FCN-8s's maps on the image"""
    net = vgg16(100)
    upscore2 = [*net, ("deconv", 4, 2, 0)]
    upscore_pool4 = [*upscore2, ("deconv", 4, 2, 0)]
    upscore8 = [*upscore_pool4, ("deconv", 16, 8, 0)]
    pairs = (  # (upper map, its path, position of its unit 0, the same of the lower map, jump)
        ("pool4", net[:14], -91.5, "upscore2", upscore2, -11.5, 16),
        ("pool3", net[:10], -95.5, "upscore_pool4", upscore_pool4, -23.5, 8),
        ("upscore8", upscore8, -31, "image", [], 0, 1),
    )

    import matplotlib.pyplot as plt

    with mf.viz.styled():
        figure, ax = plt.subplots(figsize=(9, 3.8), layout="constrained")
        ax.axvspan(-0.5, 60, color="#e8f1f8", zorder=0)
        for k, (name_a, a, start_a, name_b, b, start_b, jump) in enumerate(pairs):
            ends, offset = [], crop_offset(a, b)
            for name, start, unit, y, colour, above in (
                (name_a, start_a, offset, 0.35 - 2 * k, "#0072B2", 10),
                (name_b, start_b, 0, -0.35 - 2 * k, "#D55E00", -18),
            ):
                centres = np.arange(start, 60, jump)
                ax.plot(centres, [y] * len(centres), "o", color=colour, ms=5 if jump > 1 else 2)
                ends.append((start + jump * unit, y))
                ax.annotate(f"{name} {unit}", ends[-1], (0, above), textcoords="offset points", ha="center", size=8)
            ax.plot(*zip(*ends), color="black", lw=1)
        ax.text(59, 1.25, "image", ha="right", color="#5f6368")
        ax.text(-104, 1.25, "padding", color="#5f6368")
        ax.set(yticks=[], ylim=(-5.4, 1.6), xlim=(-106, 60), xlabel="pixel", title="Positions of the units of FCN-8s")
    plt.close(figure)
    return figure


# %% [markdown]
# ## Task 5.4: A crop that finds its place (5 points)
#
# In the library every tensor knows its position on the image: `x.where` holds jump and start along h and along w, which
# each operation updates by the rules above. The function `grid(x)` below returns them. Write the crop that FCN-8s uses
# three times, twice for its skips and once for its scores. Slices of a Tensor, `x[:, :, a:b, c:d]`, are differentiable
# and keep their position.
#
# Raise `mf.GeometryError`, with the reason, if the two have different jumps, if their offset is not a whole number of
# cells, or if `like` reaches outside `x`: a slice would raise no error and return too few cells.


# %%
# Setup
def grid(tensor):
    """((jump, start) along h, (jump, start) along w) of a tensor's cells on its image, as Fractions."""
    ((h, w),) = tensor.where.values()
    return (h.jump, h.start), (w.jump, w.start)


# %%
# Task 5.4
def crop(x, like):
    """The part of the Tensor x (N, C, H, W) that lies over `like` (N, C', h, w): (N, C, h, w)."""
    ### BEGIN SOLUTION
    offset = []
    for (jump, a), (other, b), n, m in zip(grid(x), grid(like), x.shape[2:], like.shape[2:]):
        if jump != other:
            raise mf.GeometryError(f"x has a cell every {jump} pixels, like every {other}")
        shift = (b - a) / jump
        if shift.denominator != 1:
            raise mf.GeometryError(f"like lies {shift} cells from the first of x: no whole number")
        if shift < 0 or shift + m > n:
            raise mf.GeometryError(f"like covers the cells {shift} … {shift + m - 1} of x, which has {n}")
        offset.append(int(shift))
    (top, left), (h, w) = offset, like.shape[2:]
    return x[:, :, top : top + h, left : left + w]
    ### END SOLUTION


# %%
@check
def test_crop_undoes_padding():
    """5.4 Cropping a padded map to the original gives the original, at the same position"""
    image = mf.Tensor(np.arange(30.0).reshape(1, 1, 5, 6))
    back = crop(mf.ops.pad(image, (1, 2, 3, 0)), image)
    assert back.shape == image.shape, f"the shape is {back.shape}, it should be {image.shape}"
    assert (back.numpy() == image.numpy()).all(), f"it is\n{back.numpy()[0, 0]}"
    assert grid(back) == grid(image), f"it lies at {grid(back)}, the image at {grid(image)}"


@check
def test_crop_refuses():
    """5.4 A crop that would reach outside is refused"""
    image = mf.Tensor(np.zeros((1, 1, 8, 8)))
    inner = mf.ops.conv2d(image, np.ones((1, 1, 3, 3)))
    try:
        y = crop(inner, image)
    except mf.GeometryError:
        return
    raise AssertionError(f"a map of 6×6 cells cannot cover an 8×8 image, but your crop returns {y.shape}")


@check
def test_fcn_runs_on_my_crop():
    """5.4 A thin FCN-8s-VGG16 has the same scores with my crop in its head"""
    mf.manual_seed(0)
    model = mf.models.fcn8s_vgg16(num_classes=3, width=0.03).eval()
    for name, p in model.named_parameters():
        if name.startswith("score"):
            p.data += np.random.default_rng(0).standard_normal(p.shape).astype(p.dtype)
    image = np.random.default_rng(1).standard_normal((1, 3, 40, 24)).astype("float32")
    right = model(mf.Tensor(image)).numpy()
    model.heads[""].crop = crop
    mine = model(mf.Tensor(image)).numpy()
    assert mine.shape == right.shape, f"its scores are {mine.shape}, they should be {right.shape}"
    assert np.allclose(mine, right), "its scores differ"


# %% [markdown]
# ## Task 5.5: Why a padding of 100? (3 points)
#
# fc6 makes the map 6 cells smaller, each 32 pixels wide. Without padding, a small image has no scores at all, and a
# large one has none along its border. Padding by $P$ instead of 0 moves every later map by $P$ pixels, so the last crop
# offset is $P + o$, where $o$ is the offset without padding: $P - 81$ for FCN-32s, $P - 73$ for FCN-16s, $P - 69$ for
# FCN-8s, $P - 82$ for FCN-AlexNet. A net accepts an image of $H$ pixels if
#
# - every kernel fits: a convolution needs $n + 2p \ge k$;
# - the crop begins inside, $P + o \ge 0$; and it ends inside, $P + o + H \le n_{\text{last}}$.
#
# The sizes are Caffe's: $\lfloor (n + 2p - k)/s \rfloor + 1$ after a convolution, $\lceil (n + 2p - k)/s \rceil + 1$
# after a pooling, $s(n-1) + k - 2p$ after a transposed convolution. Because of the rounding, a padding that is enough
# for one size may be too small for a larger one.


# %%
# Task 5.5
def smallest_padding(layers, offset, sizes):
    """The least padding of the first layer with which a net accepts images of all `sizes`.

    `layers` are (operation, kernel, stride, padding) from the image to the last upsampled map, which is cropped to the
    image.  Ignore the padding of the first layer: it is the result.  `offset` is the crop offset for padding 0.
    """
    ### BEGIN SOLUTION
    first, *others = layers

    def takes(padding, size):
        n = size
        for operation, k, s, p in [(*first[:3], padding), *others]:
            if operation == "deconv":
                n = s * (n - 1) + k - 2 * p
                continue
            if operation == "conv" and n + 2 * p < k:
                return False
            whole, rest = divmod(n + 2 * p - k, s)
            n = whole + 1 + (operation == "pool" and rest > 0)
        return padding + offset >= 0 and padding + offset + size <= n

    padding = 0
    while not all(takes(padding, size) for size in sizes):
        padding += 1
    return padding
    ### END SOLUTION


# %%
@check
def test_why_100():
    """5.5 FCN-32s needs 81 for images of 33 pixels and more, and 97 for all sizes from one pixel"""
    fcn32s = [*vgg16(None), ("deconv", 64, 32, 0)]
    for sizes, right in ((range(33, 200), 81), (range(1, 200), 97), ([20], 88)):
        padding = smallest_padding(fcn32s, -81, sizes)
        assert padding == right, f"for {sizes} you have {padding}, it should be {right}"


@check
def test_the_net_takes_what_i_found():
    """5.5 The library's FCN-8s accepts images of 17 and 300 pixels with my padding, but not with one less"""
    fcn8s = [*vgg16(None), ("deconv", 4, 2, 0), ("deconv", 4, 2, 0), ("deconv", 16, 8, 0)]
    padding = smallest_padding(fcn8s, -69, (17, 300))

    def takes(padding, size):
        with mf.no_grad(), mf.shapes_only():
            model = mf.models.fcn8s_vgg16(pad=padding, width=0.1)
            try:
                return model(mf.Tensor(np.zeros((1, 3, size, size), "float32"))).shape[2:] == (size, size)
            except mf.GeometryError as reason:
                print(f"   padding {padding}, {size}×{size}: {reason}")
                return False

    assert takes(padding, 17) and takes(padding, 300), f"with a padding of {padding} it does not accept them"
    assert not (takes(padding - 1, 17) and takes(padding - 1, 300)), (
        f"it also accepts them with {padding - 1}: yours is not the least"
    )


# %% [markdown]
# The library draws the maps for your padding: each bar is a map, from the left edge of its first cell to the right edge
# of its last.


# %%
@check
def test_picture_of_the_padding():
    """5.5 The maps of FCN-8s with the least padding for 160 pixels"""
    from matplotlib.figure import Figure

    fcn8s = [*vgg16(None), ("deconv", 4, 2, 0), ("deconv", 4, 2, 0), ("deconv", 16, 8, 0)]
    explorer, chosen = mf.viz.CropExplorer("fcn8s_vgg16"), dict(padding=smallest_padding(fcn8s, -69, [160]), size=160)
    figure = Figure(figsize=explorer.size)
    explorer.draw(figure, **chosen)
    figure.suptitle(explorer.title(**chosen), size=9)
    assert "not possible" not in explorer.title(**chosen), explorer.title(**chosen)
    return figure
