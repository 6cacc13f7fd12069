"""Data sets in MATLAB files: SBD, PASCAL-Context, NYUDv2 and SIFT Flow; scipy and h5py write what is read here."""

import sys
import warnings
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layout_folders import FOLDERS, palette_mask, picture, scenes, write_list, write_mat

from minifcn.data import NYUD, SBD, Context, SIFTFlow, SIFTFlowGeo
from minifcn.data.layouts import mat
from minifcn.errors import Note, UserError

scipy = pytest.importorskip("scipy")
pytest.importorskip("scipy.io")
pytestmark = pytest.mark.layouts


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        yield


def label_of(name, offset=0):
    """The label of the scene whose number ends a name."""
    return scenes()[int(name.rsplit(".", 1)[0][-1]) - offset][1]


# SBD.


def test_sbd_alone_has_its_own_lists(tmp_path):
    d = SBD(FOLDERS["sbd"](tmp_path))
    assert d.num_classes == 21 and d.classes[15] == "person"
    for i, name in enumerate(d.names):
        assert (d[i][1] == label_of(name) % 255).all()
    assert len(SBD(tmp_path, "train")) == 7 and len(SBD(tmp_path, "val")) == 3
    with pytest.warns(Note, match="val is SBD's; do not measure on VOC's, which overlaps train"):
        SBD(tmp_path)


def test_sbd_beside_voc_measures_on_what_it_did_not_learn(tmp_path):
    """VOC's validation images 2008_5 and 2008_6 are in SBD's training list."""
    FOLDERS["sbd"](tmp_path)
    home = tmp_path / "VOCdevkit/VOC2011"
    for i in (5, 6, 8, 9):
        picture(home / f"JPEGImages/2008_{i}.jpg", scenes()[i][0])
        palette_mask(home / f"SegmentationClass/2008_{i}.png", scenes()[i][1])
    write_list(home / "ImageSets/Segmentation/val.txt", [f"2008_{i}" for i in (5, 6, 8, 9)])
    with pytest.warns(Note, match=r"val is the list of VOC2011, with its labels, without the 2 of its 4 images"):
        val = SBD(tmp_path, "val")
    assert val.names == [f"VOCdevkit/VOC2011/JPEGImages/2008_{i}.jpg" for i in (8, 9)]
    assert (val[0][1] == scenes()[8][1]).all() and (val[0][1] == 255).any()  # VOC's labels, with their void border
    train = {name[-10:] for name in SBD(tmp_path, "train").names}
    assert len(train) == 7 and not train & {name[-10:] for name in val.names}


def test_a_damaged_sbd_is_named(tmp_path):
    home = FOLDERS["sbd"](tmp_path) / "benchmark_RELEASE/dataset"
    path = home / "cls/2008_3.mat"
    content = path.read_bytes()
    for damaged, said in ((content[:300], r"2008_3\.mat is damaged"), (b"hello" * 99, r"2008_3\.mat is damaged")):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=said):
            list(SBD(tmp_path))
    write_mat(path, other=np.zeros((24, 32)))
    with pytest.raises(UserError, match=r"has no matrix of numbers GTcls\.Segmentation"):
        list(SBD(tmp_path))
    for label, said in (
        (np.zeros((3, 3), np.uint8), r"an array of \(3, 3\), but the image is \(24, 32\)"),
        (np.full((24, 32), 21, np.uint8), r"holds values 21\.\.21; expected 0\.\.20"),
    ):
        write_mat(path, GTcls=dict(Segmentation=label))
        with pytest.raises(UserError, match=said):
            list(SBD(tmp_path))
    path.unlink()
    with pytest.raises(UserError, match=r"1 names in train\.txt lack an image or a label \(2008_3\)"):
        SBD(tmp_path)


def test_a_file_that_expands_without_end_is_refused(tmp_path):
    """Zeros that expand to 320 MB: the header of a file of version 5, and one compressed element."""
    packer, data = zlib.compressobj(9), b""
    zeros = bytes(1 << 24)
    data = b"".join(packer.compress(zeros) for _ in range(20)) + packer.flush()
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    path = tmp_path / "a.mat"
    path.write_bytes(head + (15).to_bytes(4, "little") + len(data).to_bytes(4, "little") + data)
    with pytest.raises(UserError, match="expands to more than 268,435,456 bytes"):
        mat.read_mat(path, "a")


# PASCAL-Context.


def test_context_has_the_frequent_classes_and_background(tmp_path):
    d = Context(FOLDERS["context"](tmp_path))
    assert d.classes == ("background", "dog", "diningtable")
    expected = np.array([2, 0, 1, *[0] * 253])  # scene 0: table; scene 1: bag, which is rare; scene 2: dog
    for i, name in enumerate(d.names):
        assert (d[i][1] == expected[label_of(name)]).all()
    assert len(Context(tmp_path, "train")) == 6 and len(Context(tmp_path, "val")) == 4
    write_list(tmp_path / "59_labels.txt", ["1: dog", "2: unicorn"])
    with pytest.raises(UserError, match=r"names 'unicorn', which is not in labels\.txt"):
        Context(tmp_path)
    write_list(tmp_path / "59_labels.txt", ["dog"])
    with pytest.raises(UserError, match="not a number and a name, such as 12: wall"):
        Context(tmp_path)


# NYUDv2.


def test_nyud_in_the_layout_of_gupta(tmp_path):
    d = NYUD(FOLDERS["nyud"](tmp_path))
    assert d.num_classes == 40 and d.classes[0] == "wall"
    for i, name in enumerate(d.names):
        assert (d[i][1] == scenes()[int(name[-8:-4]) - 5001][1]).all()
    assert len(NYUD(tmp_path, "train")) == 7 and len(NYUD(tmp_path, "val")) == 3
    write_mat(tmp_path / "segmentation/img_5001.mat", segmentation=np.full((24, 32), 41))
    with pytest.raises(UserError, match=r"img_5001\.mat holds values 41\.\.41; expected 0\.\.40"):
        list(NYUD(tmp_path))


def labelled_file(root, **changes):
    import h5py

    images = np.stack([image.transpose(2, 1, 0) for image, _ in scenes()])  # (N, 3, W, H), as MATLAB stores it
    labels = np.stack([np.where(label == 255, 0, label.astype(np.uint16) + 100).T for _, label in scenes()])
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w", userblock_size=512) as file:
        for name, value in (dict(images=images, labels=labels.astype(np.uint16)) | changes).items():
            file[name] = value
    mapping = np.zeros((1, 894), np.uint8)
    mapping[0, 99:102] = 1, 2, 40  # classes 100, 101, 102
    write_mat(root / "classMapping40.mat", mapClass=mapping)
    write_mat(root / "splits.mat", trainNdxs=np.array([[1], [2], [10]]), testNdxs=np.array([[3], [4]]))
    return root


def test_nyud_in_one_file_of_version_73(tmp_path):
    d = NYUD(labelled_file(tmp_path))
    expected = np.array([0, 1, 39, *[255] * 253])
    for (image, label), (there, numbers) in zip((d[i] for i in range(10)), scenes()):
        assert (image == there).all() and (label == expected[numbers]).all()
    assert NYUD(tmp_path, "train").names == ["0001.png", "0002.png", "0010.png"] and len(NYUD(tmp_path, "val")) == 2
    kept = NYUD(tmp_path, "train").manifest()
    assert len(set(kept.values())) == 3 and NYUD(tmp_path, samples=kept).manifest() == kept
    (tmp_path / "classMapping40.mat").unlink()
    with pytest.raises(UserError, match=r"has 894 classes, more than 255; put classMapping40\.mat beside it"):
        NYUD(tmp_path)


def test_a_damaged_file_of_nyud_is_named(tmp_path):
    labelled_file(tmp_path, labels=np.zeros((3, 3, 3), np.uint16))
    with pytest.raises(UserError, match=r"expected \(N, 3, W, H\) and \(N, W, H\)"):
        NYUD(tmp_path)
    labelled_file(tmp_path, labels=np.full((10, 32, 24), 999, np.uint16))
    with pytest.raises(UserError, match="holds class 999"):
        list(NYUD(tmp_path))
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(UserError, match="is not the labelled file of NYUDv2"):
        NYUD(tmp_path)


# SIFT Flow.


def test_siftflow_has_two_kinds_of_labels(tmp_path):
    root = FOLDERS["siftflow"](tmp_path)
    semantic, geometric = SIFTFlow(root), SIFTFlowGeo(root)
    assert semantic.num_classes == 33 and semantic.classes[27] == "sky"
    assert geometric.classes == ("sky", "horizontal", "vertical")
    assert semantic.names == geometric.names
    for i, name in enumerate(semantic.names):
        assert (semantic[i][1] == label_of(name)).all() and (geometric[i][1] == label_of(name)).all()
    assert len(SIFTFlow(root, "train")) == 8 and len(SIFTFlowGeo(root, "val")) == 2
    home = root / "SemanticLabels/spatial_envelope_256x256_static_8outdoorcategories"
    write_mat(home / "coast_0.mat", S=np.full((24, 32), 34))
    with pytest.raises(UserError, match=r"coast_0\.mat holds values 34\.\.34; expected 0\.\.33, or -1 for void"):
        list(SIFTFlow(root))
    (home / "coast_9.mat").unlink()
    with pytest.raises(UserError, match=r"test\.txt names images that are not there \(coast_9\)"):
        SIFTFlow(root)


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    root = labelled_file(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"pip install 'minifcn\[weights\]'"):
        NYUD(root)


# The format.


@given(st.sampled_from(["u1", "i1", "u2", "i2", "i4", "u4", "f4", "f8", "i8", "u8"]), st.integers(0, 6), st.booleans())
def test_matrices_are_read_as_scipy_reads_them(tmp_path_factory, kind, width, compressed):
    """Values of doubles that fit into a byte are stored as bytes; short contents stand inside their tags."""
    path = tmp_path_factory.mktemp("mat") / "a.mat"
    values = np.random.default_rng(width).integers(0, 100, (3, width)).astype(kind)
    inside = {"first": np.array(["text"]), "S": values, "deep": {"T": values + values.dtype.type(1)}}
    scipy.io.savemat(path, {"other": np.eye(2), "A": values, "B": inside}, do_compression=compressed)
    whole = scipy.io.loadmat(path)
    for names, expected in (
        (("A",), whole["A"]), (("B", "S"), whole["B"]["S"][0, 0]),
        (("B", "deep", "T"), whole["B"]["deep"][0, 0]["T"][0, 0]),
    ):  # fmt: skip
        found = mat.read_mat(path, *names)
        assert found.shape == expected.shape and (found == expected).all()
    for names in (("C",), ("B",), ("A", "S"), ("B", "first"), ("B", "none"), ("B", "S", "T")):
        with pytest.raises(UserError, match="has no matrix of numbers"):
            mat.read_mat(path, *names)


@given(st.data())
def test_a_damaged_file_is_refused_or_read_but_never_crashes(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("mat") / "a.mat"
    scipy.io.savemat(path, {"A": {"S": scenes()[0][1]}}, do_compression=data.draw(st.booleans()))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(UserError):
        mat.label_of_mat(path, (24, 32), "A", "S")
