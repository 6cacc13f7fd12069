"""Small data sets in the layouts of other programs, written without the code that reads them.

Each function writes the scenes of :func:`scenes` below a folder, as the program of its name would, and returns the
folder.
"""

import json

import numpy as np
import pytest
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


def cvat(root):
    """Shapes in layers, and subsets."""
    rows = []
    for i, (image, _) in enumerate(scenes()):
        subset = "Validation" if i in (3, 7) else "Train"
        picture(root / f"images/{subset}/{i}.jpg", image)
        rows.append(
            f'<image id="{i}" name="{i}.jpg" subset="{subset}" width="32" height="24">'
            '<polygon label="disc" source="manual" occluded="0" points="1,1;20,1;20,20;1,20" z_order="1"/>'
            f'<box label="box" occluded="0" xtl="10" ytl="10" xbr="{22 + i}" ybr="22" z_order="0"/></image>'
        )
    colours = {"box": "#804000", "disc": "#0000ff"}
    labels = "".join(f"<label><name>{name}</name><color>{colour}</color></label>" for name, colour in colours.items())
    meta = f"<version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"
    text = f'<?xml version="1.0" encoding="utf-8"?><annotations>{meta}{"".join(rows)}</annotations>'
    (root / "annotations.xml").write_text(text, encoding="utf-8")
    return root


def labelstudio(root):
    """Polygons in percent; the names of the files have the prefix of an upload in the JSON only."""
    tasks = []
    for i, (image, _) in enumerate(scenes()):
        picture(root / f"pictures/{i}.jpg", image)
        shapes = {"box": [[10, 10], [60 + i, 10], [60, 80], [10, 80]], "disc": [[50, 50], [99, 50], [99, 99]]}
        results = [
            dict(
                id=name, type="polygonlabels", original_width=32, original_height=24, image_rotation=0,
                value=dict(points=points, closed=True, polygonlabels=[name]),
            )
            for name, points in shapes.items()
        ]  # fmt: skip
        name = f"0a1b2c3d-{i}.jpg"
        task = dict(id=i, annotations=[dict(id=i, result=results, was_cancelled=False)], file_upload=name)
        tasks.append(task | dict(data=dict(image=f"/data/upload/1/{name}")))
    write_json(root / "project-1-at-2026.json", tasks)
    return root


def camvid(root):
    """SegNet's layout; void is 11."""
    home = root / "SegNet/CamVid"
    for i, (image, label) in enumerate(scenes()):
        split = "val" if i in (2, 5) else "train"
        picture(home / f"{split}/0016E5_{i:05}.png", image)
        picture(home / f"{split}annot/0016E5_{i:05}.png", np.where(label == 255, 11, label).astype(np.uint8))
    return root


def pet(root):
    values = np.array([2, 1, 1, *[3] * 253], np.uint8)  # 1 is the pet, 2 the background, 3 the border
    for i, (image, label) in enumerate(scenes()):
        picture(root / f"images/Abyssinian_{i}.jpg", image)
        picture(root / f"annotations/trimaps/Abyssinian_{i}.png", values[label])
        (root / f"annotations/trimaps/._Abyssinian_{i}.png").write_bytes(b"litter of macOS")
    for name, numbers in (("trainval", range(7)), ("test", range(7, 10))):
        text = "".join(f"Abyssinian_{i} 1 1 1\n" for i in numbers)
        (root / f"annotations/{name}.txt").write_text(text, encoding="utf-8")
    return root


def pairs(root):
    """Files whose names have nothing in common, in lists of two columns."""
    for i, (image, label) in enumerate(scenes()):
        picture(root / f"a b/{i}.jpg", image)
        palette_mask(root / f"drawn/m{9 - i}.png", label)
    for name, numbers in {"train": range(7), "val": range(7, 10)}.items():
        text = "image,mask\n" + "".join(f"a b/{i}.jpg,drawn/m{9 - i}.png\n" for i in numbers)
        (root / f"{name}.csv").write_text(text, encoding="utf-8-sig")
    return root


def write_mat(path, **variables):
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables, do_compression=True)


def write_list(path, names):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def sbd(root):
    """Alone, with labels in a structure beside cells, as MATLAB writes them."""
    home = root / "benchmark_RELEASE/dataset"
    boundaries = np.empty((20, 1), object)
    boundaries[:] = [[np.zeros((2, 2))]]
    for i, (image, label) in enumerate(scenes()):
        picture(home / f"img/2008_{i}.jpg", image)
        inside = dict(Boundaries=boundaries, Segmentation=label % 255, CategoriesPresent=np.array([[1], [2]]))
        write_mat(home / f"cls/2008_{i}.mat", GTcls=inside)
    write_list(home / "train.txt", [f"2008_{i}" for i in range(7)])
    write_list(home / "val.txt", [f"2008_{i}" for i in range(7, 10)])
    return root


def context(root):
    """Class 2 of labels.txt is not frequent; the table is named otherwise in 59_labels.txt."""
    numbers = np.array([7, 2, 9, *[1] * 253], np.uint16)
    for i, (image, label) in enumerate(scenes()):
        picture(root / f"VOC2010/JPEGImages/2008_{i}.jpg", image)
        write_mat(root / f"trainval/2008_{i}.mat", LabelMap=numbers[label])
    write_list(
        root / "labels.txt", [f"{k}: {name}" for k, name in ((1, "accordion"), (2, "bag"), (7, "table"), (9, "dog"))]
    )
    write_list(root / "59_labels.txt", ["1: dog", "2: diningtable"])
    write_list(root / "VOC2010/ImageSets/Main/train.txt", [f"2008_{i}" for i in (*range(6), 99)])
    write_list(root / "VOC2010/ImageSets/Main/val.txt", [f"2008_{i}" for i in range(6, 10)])
    return root


def nyud(root):
    for i, (image, label) in enumerate(scenes()):
        picture(root / f"data/images/img_{5001 + i}.png", image)
        write_mat(root / f"segmentation/img_{5001 + i}.mat", segmentation=label + np.uint8(1))  # 0 is void
    write_list(root / "train.txt", range(5001, 5008))
    write_list(root / "val.txt", range(5008, 5011))
    return root


def siftflow(root):
    home = "spatial_envelope_256x256_static_8outdoorcategories"
    for i, (image, label) in enumerate(scenes()):
        picture(root / f"Images/{home}/coast_{i}.jpg", image)
        write_mat(
            root / f"SemanticLabels/{home}/coast_{i}.mat", S=label + np.uint8(1), names=np.array(["awning"], object)
        )
        write_mat(root / f"GeoLabels/{home}/coast_{i}.mat", S=np.where(label == 255, -1, label.astype(int) + 1))
    write_list(root / "trainval.txt", [f"coast_{i}" for i in range(8)])
    write_list(root / "test.txt", ["coast_8", "coast_9"])
    return root


MATLAB = {"sbd": sbd, "context": context, "nyud": nyud, "siftflow": siftflow, "siftflowgeo": siftflow}
FOLDERS = {
    "voc": voc, "coco": coco, "labelme": labelme, "cvat": cvat, "labelstudio": labelstudio, "camvid": camvid,
    "pet": pet, "pairs": pairs, "masks": masks, **MATLAB,
}  # fmt: skip
CASES = [pytest.param(name, marks=pytest.mark.layouts) if name in MATLAB else name for name in FOLDERS]
"""The names in `FOLDERS`, for tests; MATLAB files are written with scipy."""
CVAT_SDK = "cvat-sdk", "cvat_sdk/masks.py"  # one file of a package whose other parts need much else
LABEL_STUDIO_SDK = "label-studio-sdk", "label_studio_sdk/converter/brush.py"
