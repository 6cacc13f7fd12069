"""A fully convolutional network from any trunk (§4): score, upsample, fuse with finer scores, upsample to pixels.

The skips of §4.2 as a loop: the coarsest score is upsampled by 2 and added to a 1×1 score of the next finer pooling
layer, until `stride` is reached; one last transposed convolution leads to pixels.  Every crop is derived from where
the two maps lie on the image.  Layers carry the reference nets' names.
"""

from math import log2

from .. import backend, nn, ops
from ..core import Tensor, no_grad
from ..data.transforms import Preprocessing
from ..geometry import crop_offset
from ..nn.module import evaluating
from .mini import MiniTrunk

TRUNKS = {"mini": MiniTrunk}


class FCN(nn.Module):
    """Scores for every pixel.  Built by :func:`fcn`.

    Parameters
    ----------
    trunk : Module
        With ``features(x) -> {name: map}``, ``channels``, ``pools`` (strides 2, 4, 8, …) and the name of its ``top``.
    stride : int
        Of the finest score that is fused: 32 is FCN-32s, 8 is FCN-8s.
    num_classes : int
    learn_upsampling : bool
        Train the interpolation layers (from their bilinear start), or keep them frozen, as the reference code does.

    Attributes
    ----------
    preprocessing : Preprocessing
        From raw RGB images to the input; saved with the weights.
    classes, palette
        What the classes are called and how they are drawn, once a data set has said so.
    """

    classes = palette = recipe = None

    def __init__(self, trunk, stride, num_classes, learn_upsampling=False):
        coarsest = 2 ** len(trunk.pools)
        if stride not in [2**i for i in range(1, len(trunk.pools) + 1)]:
            raise ValueError(f"stride must be a power of two from 2 to {coarsest}, got {stride}")
        self.trunk, self.stride, self.num_classes = trunk, stride, num_classes
        self.preprocessing = Preprocessing()

        def score(name):
            return nn.Conv2d(trunk.channels[name], num_classes, 1, weight_init=nn.init.zero)

        def upsampling(factor):
            layer = nn.ConvTranspose2d(
                num_classes, num_classes, 2 * factor, stride=factor, groups=num_classes, bias=False,
                weight_init=nn.init.bilinear,
            )  # fmt: skip
            if not learn_upsampling:
                layer.weight.freeze()
            return layer

        self.score_fr = score(trunk.top)
        self.skips = []  # (pool, name of the 2× upsampling before it, name of its score)
        upsample = "upscore2"
        for pool in reversed(trunk.pools[int(log2(stride)) - 1 : -1]):
            setattr(self, upsample, upsampling(2))
            setattr(self, f"score_{pool}", score(pool))
            self.skips.append((pool, upsample, f"score_{pool}"))
            upsample = f"upscore_{pool}"
        if self.skips:
            self.last = f"upscore{stride}" if stride > 2 else upsample
        else:
            self.last = "upscore"
        setattr(self, self.last, upsampling(stride))

    def children(self):
        """The trunk's layers under their own names, as in the reference nets: ``conv1_1``, not ``trunk.conv1_1``."""
        for name, child in super().children():
            yield from child.children() if name == "trunk" else [(name, child)]

    def forward(self, image):
        maps = self.trunk.features(image)
        score = self.score_fr(maps[self.trunk.top])
        for pool, upsample, skip in self.skips:
            score = fuse(getattr(self, upsample)(score), getattr(self, skip)(maps[pool]))
        return ops.crop(getattr(self, self.last)(score), like=image)

    def predict(self, images):
        """The most probable class of every pixel.

        Parameters
        ----------
        images : ndarray of uint8
            (N, H, W, 3) or (H, W, 3), RGB, any size.

        Returns
        -------
        ndarray of uint8
            (N, H, W) or (H, W).
        """
        device = backend.device(self.score_fr.weight.data)
        with evaluating(self), no_grad():
            scores = self(Tensor(backend.to_device(self.preprocessing(images), device)))
        labels = backend.asnumpy(scores.data.argmax(axis=1)).astype("uint8")
        return labels if images.ndim == 4 else labels[0]


def fuse(up, skip):
    """The sum of two score maps over the extent of the smaller; where they lie tells which one that is."""
    offset = crop_offset(skip, up)
    if all(o >= 0 and o + n <= m for o, n, m in zip(offset, up.shape[2:], skip.shape[2:])):
        return up + ops.crop(skip, like=up)
    return ops.crop(up, like=skip) + skip


def fcn(trunk, stride=8, num_classes=21, pad=None, width=1.0, learn_upsampling=False, **trunk_options):
    """A fully convolutional network over a trunk, with the reference nets' learning rates.

    Score layers start at zero, so that the first prediction is uniform (a loss of ln C per pixel); interpolation layers
    start bilinear and, unless `learn_upsampling`, stay so; biases learn twice as fast as weights
    and do not decay, nor do the scales and shifts of batch norm.

    Parameters
    ----------
    trunk : str or Module
        One of ``mf.models.TRUNKS``, or a module with ``features``, ``channels``, ``pools`` and ``top``.
    stride : int
        Of the finest fused score: 32, 16, 8; 4 and 2 go beyond the paper.
    num_classes : int
    pad : int, optional
        Of the trunk's first layer; None: the trunk's own.  Crops are derived, so any that leaves enough cells will do.
    width : float
        Factor on all numbers of channels of the trunk.
    learn_upsampling : bool
    **trunk_options
        For the trunk: ``batch_norm``, ``dropout``, …

    Returns
    -------
    FCN
    """
    if isinstance(trunk, str):
        if trunk not in TRUNKS:
            raise ValueError(f"no trunk is called {trunk!r}: choose from {', '.join(TRUNKS)}")
        if pad is not None:
            trunk_options["pad"] = pad
        trunk = TRUNKS[trunk](width=width, **trunk_options)
    model = FCN(trunk, stride, num_classes, learn_upsampling)
    for name, parameter in model.named_parameters():
        if "_bn." in name:
            parameter.decay_mult = 0.0
        elif name.endswith(".bias"):
            parameter.lr_mult, parameter.decay_mult = 2.0, 0.0
    return model
