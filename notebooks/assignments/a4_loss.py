# %% [markdown]
# # A4 · The sum of losses: patches, sampling, and steps
#
# "If the loss function is a sum over the spatial dimensions of the final layer […] its gradient will be a sum over
# the gradients of each of its spatial components" (§3). From this one sentence follow: that training on whole images
# *is* training on all their patches, that sampling patches is leaving terms out of a sum, and why the reference
# nets' learning rate is $10^{-10}$. You will write the loss and its gradient, and then make each of these true in code.
# Notebooks 05, 06, 12 and 13 show more of it.
#
# Scores are (N, C, H, W), labels (N, H, W); results have the type of the scores. Leave your inputs as they are. Each
# task stands on its own: none calls another's answer.
#
# Each check below says ✓, ✗ or · (not yet). You may also run them all with `python -m pytest a4_loss.py`.

# %%
# Setup
import numpy as np

import minifcn as mf
from minifcn.course import check


def side_by_side(pictures):
    """A figure of images and maps, by their titles."""
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
# At each location softmax makes probabilities of the scores $s_c$, and the loss is the surprise about the label $t$:
#
# $$p_c = \frac{e^{s_c}}{\sum_k e^{s_k}}, \qquad \ell' = -w \log p_t = w\,\Big(\log \sum_k e^{s_k} - s_t\Big)$$
#
# with a weight $w$ for each location: 0 where it does not count (void), else 1 or the weight of its class.
#
# **Large scores.** $e^{89}$ is too large for float32, and $-\log$ of a probability that has become 0 is infinite.
# Both are avoided by the right-hand form, after subtracting from all scores of a location their largest, $m$, which
# changes no probability:
#
# $$\ell' = w\,\Big(\log \sum_k e^{s_k - m} - (s_t - m)\Big) .$$
#
# **Void locations** cost exactly 0, *whatever* their scores are. If these are infinite, $\ell'$ is not a number, and
# $0 \cdot \mathrm{nan}$ is not 0. (Their probabilities may then be anything.) Their labels are given as 0.


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
    """4.1 The paper starts with all scores zero: each pixel costs ln 21"""
    loss, _ = softmax_loss(np.zeros((1, 21, 2, 3)), np.arange(6).reshape(1, 2, 3), np.ones((1, 2, 3)))
    assert np.allclose(loss, np.log(21)), f"the losses are\n{loss[0]}\nand should all be {np.log(21):.4f}"


@check
def test_large_scores():
    """4.1 A lead of 1000 for the wrong class costs 1000"""
    scores = np.array([1000, 0], "float32").reshape(1, 2, 1, 1)
    with np.errstate(all="ignore"):
        loss, _ = softmax_loss(scores, np.array([[[1]]]), np.ones((1, 1, 1), "float32"))
    assert loss.item() == 1000, f"the loss is {loss.item()}"
    assert loss.dtype == "float32", f"the type is {loss.dtype}"


@check
def test_void_costs_nothing():
    """4.1 A void pixel costs 0, even if its scores are infinite"""
    scores = np.array([[np.inf, 1], [0, 1]]).reshape(1, 2, 1, 2)  # the pixel on the left is void
    with np.errstate(all="ignore"):
        loss, _ = softmax_loss(scores, np.array([[[0, 0]]]), np.array([[[0.0, 1]]]))
    assert loss[0, 0, 0] == 0, f"it costs {loss[0, 0, 0]}"
    assert np.isclose(loss[0, 0, 1], np.log(2)), f"the pixel beside it costs {loss[0, 0, 1]}, it should be ln 2"


@check
def test_fcn_and_map_of_losses():
    """4.1 The loss of an FCN-8s is the same with yours in it; and what it would cost to know every 8th pixel only"""
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
# Every score is pushed down by its probability, the true one up by 1: all in all by nothing. Void locations have a
# gradient of exactly 0, whatever their probabilities are (they may not even be numbers).


# %%
# Task 4.2
def softmax_loss_grad(prob, labels, weights):
    """The gradient of the scores, (N, C, H, W), of the sum of all losses, given the probabilities."""
    ### BEGIN SOLUTION
    truth = np.arange(prob.shape[1])[:, None, None] == labels[:, None]
    weights = weights[:, None]
    return np.where(weights != 0, weights * (prob - truth), 0).astype(prob.dtype)
    ### END SOLUTION


# %%
@check
def test_gradient_of_one_pixel():
    """4.2 Probabilities ¼, ¼, ½, and the last is true"""
    g = softmax_loss_grad(np.array([0.25, 0.25, 0.5]).reshape(1, 3, 1, 1), np.array([[[2]]]), np.ones((1, 1, 1)))
    assert g.shape == (1, 3, 1, 1), f"the shape is {g.shape}"
    assert np.allclose(g.ravel(), [0.25, 0.25, -0.5]), f"the gradient is {g.ravel()}"


@check
def test_void_pushes_nothing():
    """4.2 A void pixel has no gradient, even if its probabilities are not numbers"""
    g = softmax_loss_grad(np.full((1, 2, 1, 1), np.nan), np.array([[[0]]]), np.zeros((1, 1, 1)))
    assert (g == 0).all(), f"it is {g.ravel()}"


@check
def test_gradient_of_the_loss():
    """4.2 The loss with your gradient passes the gradient checker, with void pixels and weights of classes"""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (2, 3, 4))
    labels[0, 0] = 255
    weight = np.array([1.0, 2.0, 0.5])
    with mf.override(softmax_loss_grad=softmax_loss_grad):
        mf.gradcheck(lambda s: mf.ops.cross_entropy(s, labels, weight=weight), rng.standard_normal((2, 3, 3, 4)))


# %% [markdown]
# ## Task 4.3: Patch by patch (3 points)
#
# Before FCNs a dense labelling was made by classifying windows: cut out what is around a pixel, score it, go on to
# the next. Where a net sees $k$ pixels and has a stride of $s$, the window of output $(i, j)$ is
#
# $$x\,[\,s\,i \;\ldots\; s\,i + k - 1,\;\; s\,j \;\ldots\; s\,j + k - 1\,]$$
#
# and as many windows are cut as lie wholly inside the image. Score each **by itself**, and lay the scores side by
# side. If the net never pads, these are the very numbers of one pass over the whole image (§3.1), computed anew for
# every overlap: in AlexNet's case with 7.8 times the multiplications.


# %%
# Task 4.3
def patchwise(model, image, size, stride):
    """The scores of every window of the image (N, C, H, W), side by side: (N, K, n, m).

    model is a function from windows (M, C, h, w), h and w as in size, to their scores (M, K, 1, 1).
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
    """4.3 With a model that adds up its window"""
    image = np.arange(16.0).reshape(1, 1, 4, 4)
    y = patchwise(lambda x: x.sum(axis=(1, 2, 3)).reshape(-1, 1, 1, 1), image, (2, 2), (2, 2))
    assert y.shape == (1, 1, 2, 2), f"the shape is {y.shape}, it should be (1, 1, 2, 2)"
    assert (y[0, 0] == [[10, 18], [42, 50]]).all(), f"the sums are\n{y[0, 0]}"


def net_without_padding():
    """Two convolutions and a pooling: one output sees 8×8 pixels, and there is one every 2."""
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
    """4.3 The scores of all its patches are those of the whole image, if a net never pads"""
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
# Now for learning. Each output has a label, and each window has a loss and a gradient of the weights. Add them up:
#
# $$\ell = \sum_{ij} \ell'(x_{ij}; \theta), \qquad
# \nabla_\theta\,\ell = \sum_{ij} \nabla_\theta\,\ell'(x_{ij}; \theta)$$
#
# The result is the gradient of the whole image, to the last digits: "Whole image fully convolutional training is
# identical to patchwise training where each batch consists of all the receptive fields of the units below the loss"
# (§3.4).


# %%
# Task 4.4
def gradient_by_patches(gradient, image, labels, size, stride):
    """Loss and gradients of a whole image (N, C, H, W), one label an output (N, n, m), from its windows alone.

    gradient is a function of windows (M, C, h, w) and their labels (M, 1, 1); it gives (loss, [a gradient for each
    parameter]), summed over what it is given.  Return the same: a number, and a list of arrays.
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
    """4.4 With a model of one weight: its gradient is the sum of the window, times the label"""
    image, labels = np.arange(16.0).reshape(1, 1, 4, 4), np.array([[[1, 2], [3, 4]]])
    loss, gradients = gradient_by_patches(lambda x, t: (1.0, [x.sum() * t]), image, labels, (2, 2), (2, 2))
    assert loss == 4, f"four windows cost 1 each; you have {loss}"
    right = 10 * 1 + 18 * 2 + 42 * 3 + 50 * 4
    assert np.sum(gradients[0]) == right, f"the gradient is {np.sum(gradients[0])}, it should be {right}"


@check
def test_gradient_of_a_net():
    """4.4 The gradients of all its patches add up to those of the whole image, for every parameter of a net"""
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
    assert len(mine) == len(right[1]), f"you return {len(mine)} gradients, there are {len(right[1])} parameters"
    for number, (a, b) in enumerate(zip(mine, right[1])):
        assert np.allclose(a, b), f"the gradient of parameter {number} differs by {abs(a - b).max():.3g}"


# %% [markdown]
# ## Task 4.5: Sampling the loss (4 points)
#
# Patchwise training draws *some* patches at random. That too is whole-image training: give each term of the sum a
# random weight (§3.4; the paper calls it a DropConnect mask between the output and the loss),
#
# $$\tilde\ell = \sum_{ij} m_{ij}\,\ell'_{ij}, \qquad m_{ij} = \begin{cases} 1/p & \text{with probability } p \\
# 0 & \text{else} \end{cases}$$
#
# Each location is kept or dropped **independently** of all others. Then $E[m_{ij}] = p \cdot \tfrac1p = 1$: in
# expectation loss and gradient are those of the whole image. Without the $1/p$ they would be $p$ times as large, and
# the step $p$ times as long. Void locations (255) have weight 0, always.


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
    """4.5 Half of a scene: the locations that are kept, and none that are void"""
    scenes = mf.data.Shapes(size=(48, 64))
    image, label = scenes[3]
    weights = sampling_weights(label[None], 0.5, np.random.default_rng(0))
    assert np.shape(weights) == (1, 48, 64), f"the shape is {np.shape(weights)}, it should be that of the labels"
    assert set(np.unique(weights)) == {0, 2}, (
        f"kept with probability ½, a location weighs 0 or 2, not {np.unique(weights)}"
    )
    assert (weights[0, label == 255] == 0).all(), "void pixels must not count"
    share = (weights[0, label != 255] > 0).mean()
    assert abs(share - 0.5) < 0.06, f"{share:.0%} are kept"
    return side_by_side({"image": image, "labels": mf.viz.colour(label, scenes.palette), "weights": weights[0]})


@check
def test_expectation():
    """4.5 Over 400 draws every location weighs 1 on average"""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (1, 4, 5))
    weights = np.stack([sampling_weights(labels, 0.25, rng) for _ in range(400)])
    assert abs(weights.mean(axis=0) - 1).max() < 0.5, f"the averages are\n{weights.mean(axis=0)[0]}"


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
# A sum over $N$ labelled pixels is $N$ times their mean, and so is its gradient. With plain SGD,
# $\theta \leftarrow \theta - \eta\,\nabla\ell$, the two therefore make the same step if the rates differ by $N$ the
# other way. Three reductions are in use, for a batch of $B$ images with $N$ labelled pixels in all:
#
# | reduction | the loss is |
# |---|---|
# | `"sum"` | $\sum \ell'$ (the reference nets) |
# | `"valid"` | $\sum \ell' / N$ |
# | `"batch"` | $\sum \ell' / B$ |
#
# The reference FCN-32s learns with the sum, one picture of $500 \times 375$ at a time, and a rate of $10^{-10}$.
# Which rate is that for a mean?


# %%
# Task 4.6
def convert_lr(lr, source, target, labelled, batch_size):
    """The rate that makes the same steps with reduction `target` as `lr` does with reduction `source`.

    labelled is N, the labelled pixels of a batch, and batch_size is B.
    """
    ### BEGIN SOLUTION
    divisor = {"sum": 1, "valid": labelled, "batch": batch_size}
    return lr / divisor[source] * divisor[target]
    ### END SOLUTION


# %%
@check
def test_rate_of_the_paper():
    """4.6 A rate of 1e-10 for the sum is one of 1.9e-5 for the mean"""
    lr = convert_lr(1e-10, "sum", "valid", 500 * 375, 1)
    assert np.isclose(lr, 1.875e-5), f"you have {lr:.3g}"


@check
def test_same_step():
    """4.6 A step of an FCN-8s on the sum and one on the mean leave the same weights"""
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
# With momentum $p$ a gradient goes on working: after $j$ more steps it still counts $p^{\,j}$. If a step takes $k$
# images, the $j$-th most recent *image* counts $p^{\lfloor j/k \rfloor}$. Another pair $p', k'$ remembers as long if
# its coefficients fall as fast, image by image; but for the $\lfloor\cdot\rfloor$,
#
# $$p^{\,j/k} = p'^{\,j/k'} \quad\text{for all } j .$$
#
# So the 20 images a step and $p = 0.9$ of the first version of the paper are much like one image and
# $p' \approx 0.99$, the "heavy" learning of the second.


# %%
# Task 4.7
def equivalent_momentum(momentum, batch_size, target_batch_size):
    """The momentum with which batches of target_batch_size remember as long as `momentum` with batch_size."""
    ### BEGIN SOLUTION
    return momentum ** (target_batch_size / batch_size)
    ### END SOLUTION


# %%
@check
def test_heavy_momentum():
    """4.7 0.9 with twenty images is 0.9947 with one: how much an image counts, long after it was seen"""
    heavy = equivalent_momentum(0.9, 20, 1)
    assert np.isclose(heavy, 0.99475, atol=1e-5), f"you have {heavy:.5f}"
    from matplotlib.figure import Figure

    images = np.arange(200)
    with mf.viz.styled():
        figure = Figure(figsize=(6.4, 2.6), layout="constrained")
        axes = figure.add_subplot()
        axes.step(images, 0.9 ** (images // 20), where="post", label="20 images a step, p = 0.9")
        axes.plot(images, heavy**images, label=f"1 image a step, p = {heavy:.5f}")
        axes.plot(images, 0.99**images, label="1 image a step, p = 0.99 (the paper's)")
        axes.set(xlabel="images since", ylabel="its gradient counts", ylim=(0, 1.05))
        axes.legend()
    return figure


@check
def test_there_and_back():
    """4.7 Converted there and back, a momentum is what it was"""
    back = equivalent_momentum(equivalent_momentum(0.9, 20, 4), 4, 20)
    assert np.isclose(back, 0.9), f"0.9 has become {back}"
