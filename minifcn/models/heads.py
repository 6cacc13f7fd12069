"""Heads compute scores for every pixel from a trunk's maps: the paper's skips with upsampling, and torchvision's head.

The skips of §4.2 are a loop: the coarsest scores are upsampled by 2 and added to 1×1 scores of the next finer map,
until `stride` is reached; a last transposed convolution upsamples to pixels.  Kernel sizes and crops are derived from
the positions of the maps on the image.  Layers have the reference nets' names.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import nn, ops
from ..engine.core import Tensor, scope
from ..errors import GeometryError


class SkipHead(nn.Module):
    """Coarse scores, fused with finer ones and upsampled to pixels: the layers score_fr, upscore2, score_pool4 …

    Parameters
    ----------
    trunk : Trunk or Streams
    stride : int or None
        Stride of the finest map that is scored; None: that of the coarsest map, so there are no skips.
    num_classes : int
    learn_upsampling : bool
        Train the interpolation layers except the last, starting from bilinear interpolation (CVPR §4.3).  By default
        all are frozen, as in the reference code.
    scales : dict of {str: float}
        Frozen factors on the maps of skips, ``{"pool4": 0.01}``; in at-once training they give all streams similar
        magnitudes.
    suffix : str
        Suffix of every layer's name: ``_sem`` and ``_geo`` in the net with two heads.
    """

    loss_weight = 1.0
    classes: Sequence[str] | None = None  # of a net with several kinds of labels

    def __init__(
        self, trunk: Any, stride: int | None, num_classes: int, learn_upsampling: bool = False,
        scales: Mapping[str, float] | None = None, suffix: str = "",
    ) -> None:  # fmt: skip
        self.num_classes, self.suffix, self.name = num_classes, suffix, f"score{suffix}"
        self.streams = list(getattr(trunk, "trunks", [""]))  # suffixes of the streams; "" if there is only one
        self.top, self.skips = trunk.top, []  # for each skip: names of the upsampling before it, its score, its map
        scales, taps = dict(scales or {}), trunk.taps
        maps, image = trunk.probe(self._in_every_stream([self.top, *taps.values()]))
        here = self._place(maps, self.top)
        factor = int(here.jump)
        stride = factor if stride is None else stride
        if stride & (stride - 1) or stride not in (*taps, factor):
            strides = ", ".join(map(str, sorted({*taps, factor})))
            raise ValueError(f"stride must be a power of two and a stride of the trunk ({strides}), got {stride}")

        self._add_scores("fr", self.top, maps)
        upsampling = "upscore2"
        while factor > stride:
            factor //= 2
            tap = taps[factor]
            name = tap.partition("/")[0]
            here = self._add_upsampling(upsampling, 2, here, self._place(maps, tap), learn_upsampling)
            self._add_scores(name, tap, maps, scales.pop(name, None))
            self.skips.append((upsampling, name, tap))
            upsampling = f"upscore_{name}"
        if scales:
            raise ValueError(f"scales names maps that no skip reads ({', '.join(scales)}): leave them out")
        self.last = "upscore" if not self.skips else f"upscore{factor}" if factor > 2 else upsampling
        self._add_upsampling(self.last, factor, here, _axis(image), learn=False)

    def _add_scores(self, name, tap, maps, scale=None):
        """Add a 1×1 score layer for a map, in every stream, and before it a frozen factor if `scale` is given."""
        for stream in self.streams:
            channels = maps[tap + stream].shape[1]
            if scale is not None:
                layer = nn.Scale(channels, scale)
                layer.weight.freeze()
                setattr(self, f"scale_{name}{stream}{self.suffix}", layer)
            layer = nn.Conv2d(channels, self.num_classes, 1, weight_init=nn.init.zero)
            setattr(self, f"score_{name}{stream}{self.suffix}", layer)

    def _add_upsampling(self, name, factor, here, target, learn):
        """Add a bilinear upsampling of cells at `here` to cells at `target`; the positions of the upsampled cells."""
        kernel = upsampling_kernel(here, factor, target)
        layer = nn.ConvTranspose2d(
            self.num_classes, self.num_classes, kernel, stride=factor, groups=self.num_classes, bias=False,
            weight_init=nn.init.bilinear,
        )  # fmt: skip
        if not learn:
            layer.weight.freeze()
        setattr(self, name + self.suffix, layer)
        return here.spread(kernel, factor, 0)

    def _place(self, maps, name):
        return _axis(maps[name + self.streams[0]])

    def tapped(self) -> list[str]:
        """Names of the maps that this head reads."""
        return self._in_every_stream([self.top, *(tap for _, _, tap in self.skips)])

    def _in_every_stream(self, layers):
        return [layer + stream for layer in layers for stream in self.streams]

    def _layer(self, name):
        return getattr(self, name + self.suffix, None)

    def _score(self, maps, name, tap):
        """The scores of a map; with several streams, the mean of their scores."""
        scores = []
        for stream in self.streams:
            scale, score = self._layer(f"scale_{name}{stream}"), self._layer(f"score_{name}{stream}")
            x = maps[tap + stream]
            scores.append(score(x if scale is None else scale(x)))
        return scores[0] if len(scores) == 1 else sum(scores[1:], scores[0]) * (1 / len(scores))

    def forward(self, maps: Mapping[str, Tensor], image: Tensor) -> Tensor:
        score = self._score(maps, "fr", self.top)
        for upsample, name, tap in self.skips:
            up, skip = self._layer(upsample)(score), self._score(maps, name, tap)
            with scope(f"fuse_{name}{self.suffix}"):
                score = fuse(up, skip, self.crop)
        return self.crop(self._layer(self.last)(score), image)

    def crop(self, x: Tensor, like: Tensor) -> Tensor:
        """`x` cropped to the extent of `like`; a notebook can replace this function: ``head.crop = mine``."""
        return ops.crop(x, like)


class ConvHead(nn.Module):
    """torchvision's head: 3×3 convolution to a quarter of the channels, BN, ReLU, dropout, 1×1 scores; interpolation.

    Parameters
    ----------
    trunk : Trunk
    num_classes : int
    tap : str
        The layer whose map the head reads.
    name : str
        ``classifier``, or ``aux_classifier``.
    loss_weight : float
        Factor on this head's loss; the first head's is 1.
    """

    transparent = ("layers",)

    def __init__(self, trunk, num_classes, tap, name, loss_weight=1.0):
        self.num_classes, self.tap, self.loss_weight, self.name = num_classes, tap, loss_weight, name
        channels = trunk.probe([tap])[0][tap].shape[1]
        inner = max(1, channels // 4)
        scoring = nn.Sequential(
            nn.Conv2d(channels, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(), nn.Dropout(0.1),
            nn.Conv2d(inner, num_classes, 1),
        )  # fmt: skip
        self.layers = nn.Sequential(**{name: scoring})
        for path, module in self.named_modules():
            module.name = path

    def tapped(self):
        """Names of the maps that this head reads."""
        return [self.tap]

    def forward(self, maps, image):
        return ops.interpolate(self.layers(maps[self.tap]), image.shape[2:])


def upsampling_kernel(here, factor, target):
    """The kernel size, 2f or 2f − 1, with which a bilinear upsampling by f yields cells on the grid of `target`.

    The centres of cells upsampled with an even and with an odd kernel differ by half a cell, so only one of the two
    sizes fits the target's grid.  It is 64 for FCN-VGG16 and 63 for FCN-AlexNet, as in the reference nets.

    Parameters
    ----------
    here, target : AxisMap
        Positions of the cells before the upsampling, and on the target's grid.
    factor : int
        f.

    Raises
    ------
    GeometryError
        If neither size fits.
    """
    for kernel in (2 * factor, 2 * factor - 1):
        up = here.spread(kernel, factor, 0)
        if up.jump == target.jump and ((target.start - up.start) / up.jump).denominator == 1:
            return kernel
    raise GeometryError(f"no bilinear kernel upsamples cells at {here} by {factor} to cells at {target}")


def fuse(up: Tensor, skip: Tensor, crop: Callable[[Tensor, Tensor], Tensor] | None = None) -> Tensor:
    """The sum of two score maps, the larger cropped to the extent of the smaller by `crop` (default: `ops.crop`)."""
    crop = crop or ops.crop
    if all(n <= m for n, m in zip(up.shape[2:], skip.shape[2:])):
        return up + _cropped(crop, skip, up)
    return _cropped(crop, up, skip) + skip


def _cropped(crop, x, like):
    with scope(f"{x.name}c"):  # the reference nets' name: score_pool4c
        return crop(x, like)


def _axis(tensor):
    """The positions of a probed map's cells along h; those along w are the same, because the probed image is square."""
    ((h, _),) = tensor.where.values()
    return h
