"""The geometry of tensors: what a unit sees, where it lies on the image, and how far one map is from another.

Every 4-D tensor carries its position on the images that it was computed from (``engine/axis_maps.py``); each operation
derives the position of its output.  Receptive fields, regions and crop offsets follow from these positions.  They need
no graph, so they are the same before and after ``backward()``.  They are also the same in training and in prediction,
with one exception: batch normalisation in training makes a unit depend on the whole batch, so the unit has no receptive
field, and asking for it is an error.  Only :func:`effective_receptive_field` runs a backward pass itself.

``python -m minifcn.geometry MODEL`` shows the geometry of a whole model, and draws what one of its units sees.
"""

from ..errors import GeometryError
from .crops import crop_offset, minimal_padding
from .effective import Extent, effective_receptive_field, extent
from .fields import Filter, ReceptiveField, Region, fields_by_phase, receptive_field, region

__all__ = [
    "Extent", "Filter", "GeometryError", "ReceptiveField", "Region", "crop_offset", "effective_receptive_field",
    "extent", "fields_by_phase", "minimal_padding", "receptive_field", "region",
]  # fmt: skip
