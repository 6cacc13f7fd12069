"""The loss is a sum over locations, so whole images, patches and samples of patches have the same gradients (§3, §3.4).

Every identity holds for the loss and for each parameter's gradient to 1e-9 in float64.  Further tests show that it
fails without a condition of the paper's argument: no padding inside the net, no statistics of the batch, shared masks.
"""

from itertools import product

import numpy as np
import pytest
from paper.nets import (
    assert_same,
    differ,
    field_of,
    labels_like,
    loss_and_gradients,
    patches_of,
    scene,
    valid_net,
    weighted_sum,
)  # fmt: skip

import minifcn as mf

pytestmark = pytest.mark.paper


def one_at_a_time(net, x, labels, **options):
    """A list of results, each from a loss whose mask keeps only one location."""
    results = []
    for at in np.ndindex(labels.shape):
        mask = np.zeros(labels.shape, bool)
        mask[at] = True
        results.append(loss_and_gradients(net, x, labels, mask=mask, **options))
    return results


def minibatch(net, x, labels, **options):
    """The result for all receptive-field patches as one minibatch of images, each with one output."""
    patches = patches_of(net, x)
    assert net(patches).shape[2:] == (1, 1)
    return loss_and_gradients(net, patches, labels.reshape(-1, 1, 1), **options)


def masks(shape, keep):
    """Every mask over `shape` and its probability; `keep` is the probability of each location to be kept."""
    keep = np.broadcast_to(keep, shape)
    for bits in product((False, True), repeat=keep.size):
        mask = np.array(bits).reshape(shape)
        yield mask, np.where(mask, keep, 1 - keep).prod()


def expected(net, x, labels, keep):
    """The exact expectation of the masked loss and its gradients, by enumeration of all masks."""
    drawn, probabilities = zip(*masks(labels.shape, keep))
    assert sum(probabilities) == pytest.approx(1)
    return weighted_sum([loss_and_gradients(net, x, labels, mask=m) for m in drawn], probabilities)


def test_the_gradient_of_the_whole_is_the_sum_of_single_locations():
    net, x = valid_net(), scene()
    labels = labels_like(net(x))
    singles = one_at_a_time(net, x, labels)
    assert len(singles) == 3 * 4
    assert_same(weighted_sum(singles, [1] * 12), loss_and_gradients(net, x, labels))


def test_whole_image_training_is_training_on_the_minibatch_of_all_patches():
    """The central claim: SGD on a whole image makes the same step as SGD on the receptive fields of all its outputs."""
    net, x = valid_net(), scene(n=2)
    labels = labels_like(net(x))
    assert_same(loss_and_gradients(net, x, labels), minibatch(net, x, labels))


def test_several_images_are_patches_from_several_images():
    """Gradients accumulated over several images are those of one minibatch with the patches of all images."""
    net, x = valid_net(), scene(n=3)
    labels = labels_like(net(x))
    images = [loss_and_gradients(net, x[i : i + 1], labels[i : i + 1]) for i in range(3)]
    assert_same(weighted_sum(images, [1, 1, 1]), minibatch(net, x, labels))


def test_a_mean_loss_needs_its_factor_on_both_sides():
    net, x = valid_net(), scene()
    labels = labels_like(net(x))
    whole, singles = loss_and_gradients(net, x, labels, reduction="valid"), one_at_a_time(net, x, labels)
    assert_same(whole, weighted_sum(singles, [1 / 12] * 12))
    assert differ(whole, weighted_sum(singles, [1] * 12))


def test_padding_inside_the_net_breaks_the_equality_with_patches():
    """Padding surrounds a patch with zeros, not with the pixels of the image; masks of the whole image still add up."""
    net, x = valid_net(padding=1), scene()
    labels = labels_like(net(x))
    field = field_of(net, x)
    r = field.size[0] - 2 * field.padding[0]  # the size at which this net has one output
    n, m = labels.shape[1:]
    patches = np.concatenate([x[:, :, 2 * i : 2 * i + r, 2 * j : 2 * j + r] for i in range(n) for j in range(m)])
    whole = loss_and_gradients(net, x, labels)
    assert differ(whole, loss_and_gradients(net, patches, labels.reshape(-1, 1, 1)))
    assert_same(whole, weighted_sum(one_at_a_time(net, x, labels), [1] * labels.size))


def test_batch_norm_breaks_it_in_training_and_not_in_evaluation():
    net, x = valid_net(norm=True), scene()
    labels = labels_like(net(x))
    assert differ(loss_and_gradients(net, x, labels), minibatch(net, x, labels))
    net.eval()
    assert_same(loss_and_gradients(net, x, labels), minibatch(net, x, labels))


def test_dropout_breaks_it_unless_the_mask_is_shared():
    net, x = valid_net(drop=0.5), scene()
    labels = labels_like(net(x))

    class Shared:
        """Dropout that draws the same mask, from the same seed, in every pass."""

        def __call__(self, x):
            mf.manual_seed(5)
            return net(x)

        named_parameters, parameters = net.named_parameters, net.parameters

    whole = loss_and_gradients(Shared(), x, labels)
    assert_same(weighted_sum(one_at_a_time(Shared(), x, labels), [1] * 12), whole)
    mf.manual_seed(5)
    assert differ(weighted_sum(one_at_a_time(net, x, labels), [1] * 12), whole)


def test_a_mask_on_the_loss_is_the_minibatch_of_the_kept_patches():
    """Sampling patches equals sampling the loss (§3.4); overlapping patches share the computation of one dense pass."""
    net, x = valid_net(), scene(n=2)
    labels = labels_like(net(x))
    kept = np.random.default_rng(1).random(labels.shape) < 0.4
    patches = loss_and_gradients(net, patches_of(net, x)[kept.ravel()], labels[kept].reshape(-1, 1, 1))
    masked = loss_and_gradients(net, x, labels, mask=kept)
    assert 0 < kept.sum() < kept.size
    assert_same(masked, patches)
    assert differ(masked, loss_and_gradients(net, x, labels))


@pytest.mark.parametrize("p", [0.25, 0.5])
def test_sampling_with_probability_p_has_p_times_the_gradient_in_expectation(p):
    """E[∇_masked] = p·∇ exactly, over all 2⁶ masks, so sampling divided by p is unbiased (§3.4)."""
    net, x = valid_net(), scene(12, 14)
    labels = labels_like(net(x))
    assert labels.shape == (1, 2, 3)
    full = loss_and_gradients(net, x, labels)
    assert_same(expected(net, x, labels, p), weighted_sum([full], [p]))


def test_one_over_p_times_more_images_keep_the_expected_batch():
    """§4.3: with p = 1/3, three times as many images give the step of one image in expectation."""
    net, x = valid_net(), scene(10, 12)
    labels = labels_like(net(x))
    full = loss_and_gradients(net, x, labels)
    assert_same(expected(net, np.repeat(x, 3, 0), np.repeat(labels, 3, 0), 1 / 3), full)
    assert differ(expected(net, x, labels, 1 / 3), full)


def test_shifting_the_image_by_up_to_the_stride_reaches_every_patch():
    """Footnote 2: receptive fields lie on a grid of the stride f; the f² shifts of the image reach all patches."""
    net, x = valid_net(), scene(13, 14)
    (r, _), (f, _) = field_of(net, x).size, field_of(net, x).jump
    windows = np.lib.stride_tricks.sliding_window_view(x[0], (r, r), axis=(1, 2)).transpose(1, 2, 0, 3, 4)
    labels = np.random.default_rng(0).integers(0, 3, windows.shape[:2])  # a label for every window
    every = loss_and_gradients(net, windows.reshape(-1, 2, r, r), labels.reshape(-1, 1, 1))
    shifts = [np.s_[i :: int(f), j :: int(f)] for i in range(int(f)) for j in range(int(f))]
    shifted = [loss_and_gradients(net, x[:, :, s[0].start :, s[1].start :], labels[s][None]) for s in shifts]
    assert_same(weighted_sum(shifted, [1] * len(shifts)), every)
    assert differ(weighted_sum(shifted[:1], [len(shifts)]), every)


def test_weighting_classes_is_sampling_them_in_expectation():
    """Keeping class c with probability w_c / max w gives the expected gradient of weights w, divided by max w."""
    net, x = valid_net(), scene(12, 14)
    labels = np.array([[[0, 1, 2], [2, 0, 1]]])
    weight = np.array([0.5, 2.0, 1.0])
    weighted = loss_and_gradients(net, x, labels, weight=weight)
    assert_same(expected(net, x, labels, weight[labels] / 2), weighted_sum([weighted], [1 / 2]))
    assert differ(expected(net, x, labels, 0.5), weighted_sum([weighted], [1 / 2]))
