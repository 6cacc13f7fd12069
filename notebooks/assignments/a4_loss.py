# %% [markdown]
# # A4 · The sum of losses: patches, sampling, and steps
#
# "If the loss function is a sum over the spatial dimensions of the final layer […] its gradient will be a sum over
# the gradients of each of its spatial components" (§3). Three things follow from this sentence: training on whole
# images *is* training on all their patches; sampling patches is leaving terms out of a sum; and the reference nets need
# a learning rate of $10^{-10}$. You will write the loss and its gradient, and then show each of the three in code.
# Notebooks 05, 06, 12 and 13 show more.
#
# Scores are (N, C, H, W), labels (N, H, W); results have the dtype of the scores. Do not change the inputs in place.
# The tasks are independent: none calls the answer to another.
#
# Each check below prints ✓ (passed), ✗ (failed) or · (not yet). You can also run all of them with `python -m pytest
# a4_loss.py`.

# %%
# Setup
import numpy as np

import minifcn as mf
from minifcn.course import check


def side_by_side(pictures):
    """A figure of images and maps, given as {title: array}."""
    from matplotlib.figure import Figure

    with mf.viz.styled():
        figure = Figure(figsize=(9, 2.4), layout="constrained")
        for axes, (title, picture) in zip(figure.subplots(1, len(pictures)), pictures.items()):
            axes.imshow(picture, interpolation="nearest")
            axes.set(title=title, xticks=[], yticks=[])
    return figure


# %% [markdown]
# ## Task 4.1: What each pixel costs (5 points)
#
# At each location, softmax turns the scores $s_c$ into probabilities, and the loss is the negative log-probability of
# the label $t$:
#
# $$p_c = \frac{e^{s_c}}{\sum_k e^{s_k}}, \qquad \ell' = -w \log p_t = w\,\Big(\log \sum_k e^{s_k} - s_t\Big)$$
#
# with a weight $w$ for each location: 0 for a void location, which does not count; otherwise 1, or the weight of its
# class.
#
# **Large scores.** $e^{89}$ is too large for float32, and $-\log$ of a probability that was rounded to 0 is infinite.
# To avoid both, subtract from all scores of a location their maximum $m$, which does not change the probabilities, and
# use the form on the right:
#
# $$\ell' = w\,\Big(\log \sum_k e^{s_k - m} - (s_t - m)\Big) .$$
#
# **Void locations** have a loss of exactly 0, *whatever* their scores are. If the scores are infinite, the formula
# gives NaN, and $0 \cdot \mathrm{NaN}$ is not 0. (The probabilities there may then be anything.) Void locations have
# label 0.


# %%
# Task 4.1
def softmax_loss(scores, labels, weights):
    """The loss of every location, (N, H, W), and the probabilities, (N, C, H, W)."""
    ### BEGIN SOLUTION
    s = scores - scores.max(axis=1, keepdims=True)
    e = np.exp(s)
    total = e.sum(axis=1, keepdims=True)
    picked = np.take_along_axis(s, labels[:, None], axis=1)
    loss = (np.log(total) - picked)[:, 0] * weights
    return np.where(weights != 0, loss, 0).astype(scores.dtype), e / total
    ### END SOLUTION


# %%
@check
def test_one_pixel():
    """4.1 Scores 0, 0, ln 2: probabilities ¼, ¼, ½"""
    scores = np.array([0, 0, np.log(2)]).reshape(1, 3, 1, 1)
    loss, prob = softmax_loss(scores, np.array([[[2]]]), np.ones((1, 1, 1)))
    assert loss.shape == (1, 1, 1) and prob.shape == (1, 3, 1, 1), f"the shapes are {loss.shape} and {prob.shape}"
    assert np.allclose(prob.ravel(), [0.25, 0.25, 0.5]), f"the probabilities are {prob.ravel()}"
    assert np.isclose(loss.item(), np.log(2)), f"the loss is {loss.item()}, it should be ln 2"


@check
def test_guessing():
    """4.1 The paper's nets start with all scores zero: the loss of each pixel is ln 21"""
    loss, _ = softmax_loss(np.zeros((1, 21, 2, 3)), np.arange(6).reshape(1, 2, 3), np.ones((1, 2, 3)))
    assert np.allclose(loss, np.log(21)), f"the losses are\n{loss[0]}\nand should all be {np.log(21):.4f}"


@check
def test_large_scores():
    """4.1 If the wrong class leads by 1000, the loss is 1000"""
    scores = np.array([1000, 0], "float32").reshape(1, 2, 1, 1)
    with np.errstate(all="ignore"):
        loss, _ = softmax_loss(scores, np.array([[[1]]]), np.ones((1, 1, 1), "float32"))
    assert loss.item() == 1000, f"the loss is {loss.item()}"
    assert loss.dtype == "float32", f"the dtype is {loss.dtype}, it should be float32"


@check
def test_void_costs_nothing():
    """4.1 The loss of a void pixel is 0, even if its scores are infinite"""
    scores = np.array([[np.inf, 1], [0, 1]]).reshape(1, 2, 1, 2)  # the pixel on the left is void
    with np.errstate(all="ignore"):
        loss, _ = softmax_loss(scores, np.array([[[0, 0]]]), np.array([[[0.0, 1]]]))
    assert loss[0, 0, 0] == 0, f"its loss is {loss[0, 0, 0]}, it should be 0"
    assert np.isclose(loss[0, 0, 1], np.log(2)), (
        f"the loss of the pixel beside it is {loss[0, 0, 1]}, it should be ln 2"
    )


@check
def test_fcn_and_map_of_losses():
    """4.1 An FCN-8s has the same loss with my function; the picture shows the loss of labels at 1/8 resolution"""
    scenes = mf.data.Shapes(size=(64, 96))
    image, label = scenes[3]
    model = mf.models.fcn8s_mini(num_classes=scenes.num_classes, width=0.25)
    scores = model(mf.Tensor(model.preprocessing(image[None])))
    right = mf.ops.cross_entropy(scores, label[None]).item()
    with mf.override(softmax_loss=softmax_loss):
        mine = mf.ops.cross_entropy(scores, label[None]).item()
    assert np.isclose(mine, right, rtol=1e-4), f"it is {mine}, it should be {right}"
    known = np.where(label == 255, 0, label)[None, None] == np.arange(scenes.num_classes)[:, None, None]
    coarse = mf.ops.interpolate(mf.Tensor(6 * known[:, :, 4::8, 4::8].astype("float32")), label.shape)
    with mf.override(softmax_loss=softmax_loss):
        loss = mf.ops.cross_entropy(coarse, label[None], reduction="none").data
    return side_by_side({"image": image, "labels": mf.viz.colour(label, scenes.palette), "loss": loss[0]})


# %% [markdown]
# ## Task 4.2: And its gradient (3 points)
#
# With $\ell' = w\,(\log \sum_k e^{s_k} - s_t)$ the derivative is short:
#
# $$\frac{\partial \ell'}{\partial s_c} = w\,\big(p_c - [c = t]\big)$$
#
# A step of descent lowers every score in proportion to its probability, and raises the score of the true class by 1 in
# addition; the sum of the gradient over the classes is 0. Void locations have a gradient of exactly 0, whatever their
# probabilities are (they may be NaN).


# %%
# Task 4.2
def softmax_loss_grad(prob, labels, weights):
    """The gradient of the sum of all losses with respect to the scores (N, C, H, W), given the probabilities."""
    ### BEGIN SOLUTION
    truth = np.arange(prob.shape[1])[:, None, None] == labels[:, None]
    weights = weights[:, None]
    return np.where(weights != 0, weights * (prob - truth), 0).astype(prob.dtype)
    ### END SOLUTION


# %%
@check
def test_gradient_of_one_pixel():
    """4.2 Probabilities ¼, ¼, ½, and the last class is the true one"""
    g = softmax_loss_grad(np.array([0.25, 0.25, 0.5]).reshape(1, 3, 1, 1), np.array([[[2]]]), np.ones((1, 1, 1)))
    assert g.shape == (1, 3, 1, 1), f"the shape is {g.shape}"
    assert np.allclose(g.ravel(), [0.25, 0.25, -0.5]), f"the gradient is {g.ravel()}"


@check
def test_void_pushes_nothing():
    """4.2 The gradient of a void pixel is 0, even if its probabilities are NaN"""
    g = softmax_loss_grad(np.full((1, 2, 1, 1), np.nan), np.array([[[0]]]), np.zeros((1, 1, 1)))
    assert (g == 0).all(), f"it is {g.ravel()}, it should be 0"


@check
def test_gradient_of_the_loss():
    """4.2 The loss with my gradient passes the gradient checker, with void pixels and class weights"""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (2, 3, 4))
    labels[0, 0] = 255
    weight = np.array([1.0, 2.0, 0.5])
    with mf.override(softmax_loss_grad=softmax_loss_grad):
        mf.gradcheck(lambda s: mf.ops.cross_entropy(s, labels, weight=weight), rng.standard_normal((2, 3, 3, 4)))


# %% [markdown]
# ## Task 4.3: Patch by patch (3 points)
#
# Before FCNs, an image was labelled densely by classifying windows: cut out the window around a pixel, compute its
# scores, go on to the next pixel. For a net with a receptive field of $k$ pixels and a stride of $s$, the window of
# output $(i, j)$ is
#
# $$x\,[\,s\,i \;\ldots\; s\,i + k - 1,\;\; s\,j \;\ldots\; s\,j + k - 1\,]$$
#
# and all windows that lie completely inside the image are used. Compute the scores of each window **separately**, and
# arrange them as a map. If the net never pads, they equal the scores of one pass over the whole image (§3.1). But the
# overlaps are computed again for every window: for AlexNet this takes 7.8 times the multiplications.


# %%
# Task 4.3
def patchwise(model, image, size, stride):
    """The scores of every window of the image (N, C, H, W), arranged as a map (N, K, n, m).

    model(windows) returns the scores (M, K, 1, 1) of windows (M, C, h, w), where (h, w) is `size`.
    """
    ### BEGIN SOLUTION
    rows, columns = ((n - k) // s + 1 for n, k, s in zip(image.shape[2:], size, stride))
    scores = []
    for i in range(rows):
        for j in range(columns):
            top, left = stride[0] * i, stride[1] * j
            scores.append(model(image[:, :, top : top + size[0], left : left + size[1]])[:, :, 0, 0])
    return np.stack(scores, axis=2).reshape(*scores[0].shape, rows, columns)
    ### END SOLUTION


# %%
@check
def test_windows_by_hand():
    """4.3 With a model that returns the sum of its window"""
    image = np.arange(16.0).reshape(1, 1, 4, 4)
    y = patchwise(lambda x: x.sum(axis=(1, 2, 3)).reshape(-1, 1, 1, 1), image, (2, 2), (2, 2))
    assert y.shape == (1, 1, 2, 2), f"the shape is {y.shape}, it should be (1, 1, 2, 2)"
    assert (y[0, 0] == [[10, 18], [42, 50]]).all(), f"the sums are\n{y[0, 0]}"


def net_without_padding():
    """A net whose outputs have a receptive field of 8×8 pixels and a stride of 2."""
    mf.manual_seed(0)
    net = mf.nn.Sequential(
        mf.nn.Conv2d(3, 4, 3),
        mf.nn.ReLU(),
        mf.nn.MaxPool2d(2),
        mf.nn.Conv2d(4, 5, 3),
        mf.nn.ReLU(),
        mf.nn.Conv2d(5, 3, 1),
    )
    for p in net.parameters():
        p.data = p.data.astype("float64")
    return net


@check
def test_patches_of_a_net():
    """4.3 For a net that never pads, the scores of all patches are those of the whole image"""
    net = net_without_padding()
    image = np.random.default_rng(0).standard_normal((2, 3, 16, 20))
    with mf.no_grad():
        whole = net(mf.Tensor(image)).data
        mine = patchwise(lambda windows: net(mf.Tensor(windows)).data, image, (8, 8), (2, 2))
    assert mine.shape == whole.shape, f"the shape is {mine.shape}, it should be {whole.shape}"
    assert np.allclose(mine, whole), f"they differ by {abs(mine - whole).max():.3g}"


# %% [markdown]
# ## Task 4.4: The gradient of the whole, from its patches (3 points)
#
# Now the same for training. Each output has a label, so each window has a loss and a gradient of the weights. Add them
# up:
#
# $$\ell = \sum_{ij} \ell'(x_{ij}; \theta), \qquad
# \nabla_\theta\,\ell = \sum_{ij} \nabla_\theta\,\ell'(x_{ij}; \theta)$$
#
# The result is the gradient of the whole image, up to rounding: "Whole image fully convolutional training is
# identical to patchwise training where each batch consists of all the receptive fields of the units below the loss"
# (§3.4).


# %%
# Task 4.4
def gradient_by_patches(gradient, image, labels, size, stride):
    """Loss and gradients for a whole image (N, C, H, W) with one label per output (N, n, m), from its windows only.

    gradient(windows, labels) takes windows (M, C, h, w) and labels (M, 1, 1) and returns (loss, [gradient of each
    parameter]), summed over the windows.  Return the same for the image: a number, and a list of arrays.
    """
    ### BEGIN SOLUTION
    loss, total = 0, None
    for i, j in np.ndindex(labels.shape[1:]):
        top, left = stride[0] * i, stride[1] * j
        window = image[:, :, top : top + size[0], left : left + size[1]]
        part, gradients = gradient(window, labels[:, i : i + 1, j : j + 1])
        loss = loss + part
        total = gradients if total is None else [t + g for t, g in zip(total, gradients)]
    return loss, total
    ### END SOLUTION


# %%
@check
def test_gradient_by_hand():
    """4.4 With a model whose gradient is the sum of the window times the label"""
    image, labels = np.arange(16.0).reshape(1, 1, 4, 4), np.array([[[1, 2], [3, 4]]])
    loss, gradients = gradient_by_patches(lambda x, t: (1.0, [x.sum() * t]), image, labels, (2, 2), (2, 2))
    assert loss == 4, f"the loss of each of the four windows is 1, together 4; you have {loss}"
    right = 10 * 1 + 18 * 2 + 42 * 3 + 50 * 4
    assert np.sum(gradients[0]) == right, f"the gradient is {np.sum(gradients[0])}, it should be {right}"


@check
def test_gradient_of_a_net():
    """4.4 The gradients of all patches add up to that of the whole image, for every parameter of a net"""
    net, rng = net_without_padding(), np.random.default_rng(0)
    image, labels = rng.standard_normal((1, 3, 12, 16)), rng.integers(0, 3, (1, 3, 5))
    labels[0, 0, 0] = 255

    def gradient(x, t):
        for p in net.parameters():
            p.grad = None
        loss = mf.ops.cross_entropy(net(mf.Tensor(x)), t)
        loss.backward()
        return loss.item(), [p.grad for p in net.parameters()]

    right = gradient(image, labels)
    loss, mine = gradient_by_patches(gradient, image, labels, (8, 8), (2, 2))
    assert np.isclose(loss, right[0]), f"the loss is {loss}, it should be {right[0]}"
    assert len(mine) == len(right[1]), f"you return {len(mine)} gradients for {len(right[1])} parameters"
    for number, (a, b) in enumerate(zip(mine, right[1])):
        assert np.allclose(a, b), f"the gradient of parameter {number} differs by {abs(a - b).max():.3g}"


# %% [markdown]
# ## Task 4.5: Sampling the loss (4 points)
#
# Patchwise training draws *some* patches at random. This, too, can be done on whole images: give each term of the sum a
# random weight (§3.4; the paper calls this a DropConnect mask between the output and the loss),
#
# $$\tilde\ell = \sum_{ij} m_{ij}\,\ell'_{ij}, \qquad m_{ij} = \begin{cases} 1/p & \text{with probability } p \\
# 0 & \text{else} \end{cases}$$
#
# Each location is kept or dropped **independently** of all others. Then $E[m_{ij}] = p \cdot \tfrac1p = 1$: the
# expected loss and gradient are those of the whole image. Without the factor $1/p$, they and the step would be $p$
# times as large. Void locations (255) always have weight 0.


# %%
# Task 4.5
def sampling_weights(labels, keep, rng):
    """A weight for each location of labels (N, H, W), kept with probability `keep`; rng is a NumPy generator."""
    ### BEGIN SOLUTION
    kept = (rng.random(labels.shape) < keep) & (labels != 255)
    return kept / keep
    ### END SOLUTION


# %%
@check
def test_weights_by_eye():
    """4.5 Half of the labelled locations are kept, and no void ones"""
    scenes = mf.data.Shapes(size=(48, 64))
    image, label = scenes[3]
    weights = sampling_weights(label[None], 0.5, np.random.default_rng(0))
    assert np.shape(weights) == (1, 48, 64), f"the shape is {np.shape(weights)}, it should be that of the labels"
    assert set(np.unique(weights)) == {0, 2}, (
        f"with probability ½ the weights should be 0 and 2, not {np.unique(weights)}"
    )
    assert (weights[0, label == 255] == 0).all(), "a void pixel has a weight other than 0"
    share = (weights[0, label != 255] > 0).mean()
    assert abs(share - 0.5) < 0.06, f"{share:.0%} are kept, it should be about 50%"
    return side_by_side({"image": image, "labels": mf.viz.colour(label, scenes.palette), "weights": weights[0]})


@check
def test_expectation():
    """4.5 Over 400 draws the average weight of every location is about 1"""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (1, 4, 5))
    weights = np.stack([sampling_weights(labels, 0.25, rng) for _ in range(400)])
    assert abs(weights.mean(axis=0) - 1).max() < 0.5, (
        f"the averages are\n{weights.mean(axis=0)[0]}\nand should be about 1"
    )


@check
def test_sampled_loss_trains():
    """4.5 An FCN-8s trains on a quarter of the pixels"""
    mf.manual_seed(0)
    model, rng = mf.models.fcn8s_mini(num_classes=6, width=0.25), np.random.default_rng(0)
    scenes = mf.data.Shapes(size=(48, 64))
    images, labels = map(np.stack, zip(*[scenes[i] for i in range(2)]))
    x, losses = mf.Tensor(model.preprocessing(images)), []
    optimizer = mf.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9)
    for _ in range(4):
        pixels = mf.ops.cross_entropy(model(x), labels, reduction="none")
        losses.append(pixels.data.sum())
        (pixels * mf.Tensor(sampling_weights(labels, 0.25, rng).astype("float32"))).sum().backward()
        optimizer.step()
    assert losses[-1] < losses[0], f"the loss of all pixels went from {losses[0]:.0f} to {losses[-1]:.0f}"


# %% [markdown]
# ## Task 4.6: Sum or mean? (3 points)
#
# The sum of the losses of $N$ labelled pixels is $N$ times their mean, and the same holds for the gradients. With plain
# SGD, $\theta \leftarrow \theta - \eta\,\nabla\ell$, both therefore make the same step if the learning rate for the
# mean is $N$ times that for the sum. Three reductions are in use, for a batch of $B$ images with $N$ labelled pixels in
# total:
#
# | reduction | the loss is |
# |---|---|
# | `"sum"` | $\sum \ell'$ (the reference nets) |
# | `"valid"` | $\sum \ell' / N$ |
# | `"batch"` | $\sum \ell' / B$ |
#
# The reference FCN-32s is trained with the sum, one picture of $500 \times 375$ pixels per step, and a learning rate of
# $10^{-10}$. Which learning rate makes the same steps with the mean?


# %%
# Task 4.6
def convert_lr(lr, source, target, labelled, batch_size):
    """The learning rate that makes the same steps with reduction `target` as `lr` does with reduction `source`.

    labelled is N, the number of labelled pixels in a batch, and batch_size is B.
    """
    ### BEGIN SOLUTION
    divisor = {"sum": 1, "valid": labelled, "batch": batch_size}
    return lr / divisor[source] * divisor[target]
    ### END SOLUTION


# %%
@check
def test_rate_of_the_paper():
    """4.6 A learning rate of 1e-10 for the sum corresponds to 1.9e-5 for the mean"""
    lr = convert_lr(1e-10, "sum", "valid", 500 * 375, 1)
    assert np.isclose(lr, 1.875e-5), f"you have {lr:.3g}, it should be 1.875e-05"


@check
def test_same_step():
    """4.6 An FCN-8s has the same weights after one step, whatever the reduction"""
    scenes, after = mf.data.Shapes(size=(48, 64)), []
    images, labels = map(np.stack, zip(*[scenes[i] for i in range(2)]))
    labelled = int((labels != 255).sum())
    for reduction in ("sum", "valid", "batch"):
        mf.manual_seed(0)
        model = mf.models.fcn8s_mini(num_classes=6, width=0.25)
        lr = convert_lr(1e-5, "sum", reduction, labelled, 2)
        mf.ops.cross_entropy(model(mf.Tensor(model.preprocessing(images))), labels, reduction=reduction).backward()
        mf.optim.SGD(model.parameters(), lr, momentum=0).step()
        after.append(model.heads[""].score_pool3.weight.data)
    for reduction, weight in zip(("mean", "sum per image"), after[1:]):
        assert np.allclose(weight, after[0], rtol=1e-3, atol=1e-6), f"the {reduction} makes another step than the sum"


# %% [markdown]
# ## Task 4.7: A large batch is a heavy momentum (2 points)
#
# With momentum $p$, a gradient also acts on later steps: $j$ steps later its coefficient is $p^{\,j}$. With $k$ images
# per step, the coefficient of the $j$-th most recent *image* is $p^{\lfloor j/k \rfloor}$. Another pair $p', k'$ is
# equivalent if its coefficients fall at the same speed per image; without the $\lfloor\cdot\rfloor$ this is
#
# $$p^{\,j/k} = p'^{\,j/k'} \quad\text{for all } j .$$
#
# So 20 images per step with $p = 0.9$, as in the first version of the paper, are similar to one image per step with
# $p' \approx 0.99$, the "heavy learning" of its second version.


# %%
# Task 4.7
def equivalent_momentum(momentum, batch_size, target_batch_size):
    """The momentum for batches of target_batch_size that is equivalent to `momentum` for batches of batch_size."""
    ### BEGIN SOLUTION
    return momentum ** (target_batch_size / batch_size)
    ### END SOLUTION


# %%
@check
def test_heavy_momentum():
    """4.7 0.9 with twenty images per step is 0.9947 with one; the picture shows the coefficient of an older image"""
    heavy = equivalent_momentum(0.9, 20, 1)
    assert np.isclose(heavy, 0.99475, atol=1e-5), f"you have {heavy:.5f}, it should be 0.99475"
    from matplotlib.figure import Figure

    images = np.arange(200)
    with mf.viz.styled():
        figure = Figure(figsize=(6.4, 2.6), layout="constrained")
        axes = figure.add_subplot()
        axes.step(images, 0.9 ** (images // 20), where="post", label="20 images a step, p = 0.9")
        axes.plot(images, heavy**images, label=f"1 image a step, p = {heavy:.5f}")
        axes.plot(images, 0.99**images, label="1 image a step, p = 0.99 (the paper's)")
        axes.set(xlabel="number of later images", ylabel="coefficient of the gradient", ylim=(0, 1.05))
        axes.legend()
    return figure


@check
def test_there_and_back():
    """4.7 Converting a momentum to another batch size and back gives the same momentum"""
    back = equivalent_momentum(equivalent_momentum(0.9, 20, 4), 4, 20)
    assert np.isclose(back, 0.9), f"0.9 becomes {back}"
