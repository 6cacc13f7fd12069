"""A small VGG-like trunk for a laptop: five stages of 3×3 convolutions, each halved by a ceil-mode max pooling."""

from .. import nn, ops

WIDTHS = (16, 32, 64, 96, 96)  # channels of conv1_* … conv5_* at width 1
CONVOLUTIONS = (
    1,
    1,
    2,
    2,
    2,
)  # 3×3 convolutions a stage: few where the maps are large, for that is where time goes
TOP = 128  # channels of fc7, at width 1


class MiniTrunk(nn.Module):
    """conv1_1 … pool5, fc7: the paper's trunk at a tenth of its size, padded so that no size is lost.

    Parameters
    ----------
    width : float
        Factor on every number of channels.
    batch_norm : bool
        Normalise after every convolution.
    dropout : float
        After fc7.
    in_channels : int
    pad : int
        Of conv1_1; 1 keeps the image's size.

    Attributes
    ----------
    channels : dict of {str: int}
        Channels of each feature map that ``features`` returns.
    """

    pools = ("pool1", "pool2", "pool3", "pool4", "pool5")
    top = "fc7"

    def __init__(self, width=1.0, batch_norm=True, dropout=0.3, in_channels=3, pad=1):
        self.stages, self.channels = [], {}
        channels = in_channels
        for stage, (base, count) in enumerate(zip(WIDTHS, CONVOLUTIONS), start=1):
            names = [f"conv{stage}_{i}" for i in range(1, count + 1)]
            wide = max(1, round(base * width))
            for name in names:
                padding = pad if name == "conv1_1" else 1
                self._add(name, nn.Conv2d(channels, wide, 3, padding=padding, bias=not batch_norm), batch_norm)
                channels = wide
            self.channels[f"pool{stage}"] = channels
            self.stages.append((names, f"pool{stage}"))
        self.channels[self.top] = max(1, round(TOP * width))
        self._add("fc7", nn.Conv2d(channels, self.channels[self.top], 3, padding=1, bias=not batch_norm), batch_norm)
        self.drop7 = nn.Dropout(dropout)

    def _add(self, name, convolution, batch_norm):
        setattr(self, name, convolution)
        if batch_norm:
            setattr(self, name + "_bn", nn.BatchNorm2d(convolution.weight.shape[0]))

    def _layer(self, name, x):
        x = getattr(self, name)(x)
        if hasattr(self, name + "_bn"):
            x = getattr(self, name + "_bn")(x)
        return ops.relu(x)

    def features(self, x):
        """{"pool1": …, "pool5": …, "fc7": …} for a batch of images (N, C, H, W)."""
        maps = {}
        for names, pool in self.stages:
            for name in names:
                x = self._layer(name, x)
            maps[pool] = x = ops.max_pool2d(x, 2, ceil_mode=True)
        maps[self.top] = self.drop7(self._layer("fc7", x))
        return maps
