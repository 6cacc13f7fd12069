"""Small data sets in the layouts of other programs, written without the code that reads them.

Each function writes the scenes of :func:`scenes` below a folder, as the program of its name would, and returns the
folder.
"""

import json

import numpy as np
from PIL import Image

from minifcn.data import Shapes

NAMES = ("background", "box", "disc")
COLOURS = np.full((256, 3), 192, np.uint8)
COLOURS[:3] = (0, 0, 0), (128, 64, 0), (0, 0, 255)


def scenes(count=10):
    """Images (24, 32, 3) with labels of the classes 0, 1, 2."""
    return list(Shapes(length=count, size=(24, 32), num_classes=3))


def picture(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, optimize=False)  # Pillow would renumber the colours of a GIF


def palette_mask(path, label):
    image = Image.fromarray(label)
    image.putpalette([v for k in range(256) for v in (k, 255 - k, k // 2)])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def voc(root):
    home = root / "VOCdevkit" / "VOC2012"
    for i, (image, label) in enumerate(scenes()):
        picture(home / f"JPEGImages/2007_{i}.jpg", image)
        palette_mask(home / f"SegmentationClass/2007_{i}.png", label)
    lists = {"train": range(1, 8), "val": (0, 8, 9), "trainval": range(10)}
    (home / "ImageSets/Segmentation").mkdir(parents=True)
    for name, numbers in lists.items():
        text = "".join(f"2007_{i}\n" for i in numbers)
        (home / f"ImageSets/Segmentation/{name}.txt").write_text(text, encoding="utf-8")
    return root


def rows_of(mask):
    """COCO's run lengths of a mask, by counting down its columns."""
    counts, last = [0], False
    for value in mask.T.ravel().tolist():
        if value != last:
            counts.append(0)
            last = value
        counts[-1] += 1
    return counts


def coco(root):
    images, annotations = [], []
    for i, (image, label) in enumerate(scenes()):
        picture(root / f"images/{i}.jpg", image)
        images.append(dict(id=100 + i, file_name=f"{i}.jpg", height=24, width=32))
        for k in (1, 2):
            segmentation = dict(size=[24, 32], counts=rows_of(label == k))
            annotations.append(
                dict(id=10 * i + k, image_id=100 + i, category_id=7 * k, segmentation=segmentation, iscrowd=1)
            )
    categories = [dict(id=14, name="disc"), dict(id=7, name="box")]
    write_json(root / "annotations.json", dict(images=images, annotations=annotations, categories=categories))
    return root


def rectangle(label, x, y, right, bottom, **more):
    return dict(label=label, points=[[x, y], [right, bottom]], shape_type="rectangle", group_id=None, flags={}, **more)


def labelme(root):
    for i, (image, _) in enumerate(scenes()):
        picture(root / f"{i}.jpg", image)
        shapes = [rectangle("box", 2, 3, 9 + i, 12), rectangle("disc", 20, 3, 28, 20)]
        content = dict(version="5.4.1", flags={}, shapes=shapes, imagePath=f"{i}.jpg", imageData=None)
        write_json(root / f"{i}.json", content | dict(imageHeight=24, imageWidth=32))
    return root


def masks(root):
    """Masks in colours, in capitals, with a suffix."""
    for i, (image, label) in enumerate(scenes()):
        picture(root / f"Images/{i}.jpg", image)
        picture(root / f"Labels/{i}_L.png", COLOURS[label])
    table = "0 0 0\tbackground\n128 64 0\tbox\n0 0 255\tdisc\n192 192 192\tvoid\n"
    (root / "colours.txt").write_text(table, encoding="utf-8")
    return root


FOLDERS = {"voc": voc, "coco": coco, "labelme": labelme, "masks": masks}
