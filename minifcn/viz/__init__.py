"""Pictures: label maps, training runs, confusion matrices, feature maps; and geometry and kernels, step by step.

The rest of minifcn imports this package only when it draws something.  Matplotlib is imported only when a *figure* is
drawn: `colour`, `errors` and `overlay` need NumPy alone.  Steppers and explorers are widgets in a live notebook
(ipywidgets), and animations on a static page, such as the documentation.
"""

from ..engine.core import Tensor
from .arrays import arrays
from .coarse_explorer import CoarseOutputExplorer
from .connected_explorer import FullyConnectedExplorer
from .convolution import ConvStepper
from .explorers import CropExplorer, ReceptiveFieldExplorer
from .fields import receptive_fields
from .figures import colour, confusion, curves, errors, overlay, samples
from .graph_stepper import GraphStepper
from .language import use_language
from .live import LiveTraining
from .loss_explorer import LossExplorer
from .maps import feature_maps, filters, mosaic
from .patch_explorer import PatchExplorer
from .playground import ReceptiveFieldPlayground
from .stepper import Explorer, Stepper
from .style import styled
from .tensors import summary_html

__all__ = [
    "CoarseOutputExplorer", "ConvStepper", "CropExplorer", "Explorer", "FullyConnectedExplorer", "GraphStepper",
    "LiveTraining", "LossExplorer", "PatchExplorer", "ReceptiveFieldExplorer", "ReceptiveFieldPlayground",
    "Stepper", "arrays", "colour", "confusion", "curves", "errors", "feature_maps", "filters", "mosaic", "overlay",
    "receptive_fields", "samples", "styled", "use_language",
]  # fmt: skip

Tensor._repr_html_ = summary_html  # what a notebook displays for a Tensor
