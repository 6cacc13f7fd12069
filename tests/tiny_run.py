"""A data set and settings so small that a whole training takes half a second."""

from PIL import Image

from minifcn.data import Shapes
from minifcn.data.palette import save_mask

TINY = ["--width", "0.1", "--batch-size", "3", "--jitter", "0.15", "--repeat", "1", "--epochs", "2"]


def write_scenes(root, count=10, num_classes=3):
    """Write scenes of shapes as a user's data folder; every fifth image is for validation."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for i, (image, label) in enumerate(Shapes(length=count, size=(24, 32), num_classes=num_classes)):
        Image.fromarray(image).save(root / f"images/{i}.png")
        save_mask(root / f"masks/{i}.png", label)
    return root
