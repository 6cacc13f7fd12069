"""``data download``: fetched from a server on this machine, checked, continued, unpacked; no other host is asked."""

import hashlib
import io
import os
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from minifcn.data import VOC, command, download
from minifcn.data.palette import save_mask

pytestmark = pytest.mark.download


def archive(folder, names=("a", "b"), extra=()):
    """A tar archive in the layout of VOC, as bytes, and the label of its pictures."""
    label = np.zeros((20, 30), np.uint8)
    label[5:9] = 3
    root = folder / "VOCdevkit/VOC2012"
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / part).mkdir(parents=True)
    for name in names:
        Image.new("RGB", (30, 20), (9, 99, 200)).save(root / f"JPEGImages/{name}.jpg")
        save_mask(root / f"SegmentationClass/{name}.png", label)
    for split, name in zip(("train", "val"), names):
        (root / f"ImageSets/Segmentation/{split}.txt").write_text(name, encoding="utf-8")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(folder / "VOCdevkit", "VOCdevkit")
        for member in extra:
            tar.addfile(member)
    return out.getvalue(), label


class Host:
    """A server on this machine with one file.

    Attributes
    ----------
    asked : list of str or None
        The header ``Range`` of each request.
    cut : int
        The next answer ends after this number of bytes, if it is above 0.
    ranges : bool
        Whether the server can send a part of the file.
    """

    def __init__(self, content):
        self.content, self.asked, self.cut, self.ranges = content, [], 0, True
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers["Range"]
                host.asked.append(asked)
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and host.ranges else 0
                if start >= len(host.content):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(host.content) - start))
                self.end_headers()
                self.wfile.write(host.content[start : start + host.cut] if host.cut else host.content[start:])
                host.cut = 0

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}/voc.tar"


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host with a small data set; `download` knows it as voc2012, with its right hash."""
    content, label = archive(tmp_path / "made")
    host = Host(content)
    host.label = label
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    known = [download.Archive(host.url, "sha256:" + hashlib.sha256(content).hexdigest())]
    monkeypatch.setattr(download, "SETS", {"voc2012": known})
    yield host
    host.server.shutdown()
    host.server.server_close()


def run(target):
    return command.main(["download", "voc2012", str(target)])


def test_a_data_set_is_fetched_checked_unpacked_and_recognised(host, tmp_path, capfd):
    assert run(tmp_path / "my voc") == 0
    out = capfd.readouterr().out
    assert "voc (" in out and "train --root" in out
    data = VOC(tmp_path / "my voc", "val")
    assert data.names == [data.names[0]] and data.names[0].endswith("b.jpg")
    np.testing.assert_array_equal(data[0][1], host.label)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made", "my voc"]  # nothing else is left


def test_the_name_of_the_folder_may_end_in_a_slash_and_other_files_beside_it_stay(host, tmp_path):
    (tmp_path / "voc.download").mkdir()
    (tmp_path / "voc.download/mine.txt").write_text("kept")
    (tmp_path / "voc").mkdir()
    assert run(f"{tmp_path / 'voc'}{os.sep}") == 0
    assert [p.name for p in (tmp_path / "voc.download").iterdir()] == ["mine.txt"]
    assert len(VOC(tmp_path / "voc", "val")) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_continues(host, tmp_path, ranges, refused, capfd):
    host.cut, host.ranges = 3000, ranges
    target = tmp_path / "voc"
    refused(
        command.main, "download", "voc2012", target, match="could not be fetched .*: give the command again to continue"
    )
    assert not target.exists()
    assert (tmp_path / "voc.download/voc.tar.part").read_bytes() == host.content[:3000]
    assert run(target) == 0
    assert host.asked == [None, "bytes=3000-"]
    assert len(VOC(target, None)) == 2


def test_a_complete_part_is_not_fetched_again(host, tmp_path):
    (tmp_path / "voc.download").mkdir()
    (tmp_path / "voc.download/voc.tar.part").write_bytes(host.content)
    assert run(tmp_path / "voc") == 0
    assert host.asked == [f"bytes={len(host.content)}-"]


def test_another_file_than_the_published_one_is_refused(host, tmp_path, refused):
    host.content = host.content[:-1] + b"x"
    refused(command.main, "download", "voc2012", tmp_path / "voc", match="is not the file that was published")
    assert not (tmp_path / "voc").exists()
    assert not list((tmp_path / "voc.download").iterdir())


def test_a_host_that_does_not_answer_is_one_sentence(host, tmp_path, refused):
    host.server.shutdown()
    host.server.server_close()
    refused(command.main, "download", "voc2012", tmp_path / "voc", match="could not be fetched")


def test_nothing_is_overwritten_and_no_host_is_asked_before_that_is_known(host, tmp_path, refused):
    (tmp_path / "voc").mkdir()
    (tmp_path / "voc/mine.txt").write_text("mine", encoding="utf-8")
    refused(command.main, "download", "voc2012", tmp_path / "voc", match="is not empty")
    refused(command.main, "download", "imagenet", tmp_path / "new", match="invalid choice: 'imagenet'")
    assert not host.asked


@pytest.mark.parametrize("name, link", [("../outside.txt", ""), ("link", "/etc/passwd")])
def test_a_member_that_leaves_the_folder_is_refused(tmp_path, name, link):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = (tarfile.SYMTYPE, link) if link else (tarfile.REGTYPE, "")
    content, _ = archive(tmp_path / "made", extra=[member])
    (tmp_path / "voc.tar").write_bytes(content)
    (tmp_path / "new").mkdir()
    with pytest.raises(download.UserError, match="which is no file inside its folder"):
        download.unpack(tmp_path / "voc.tar", tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())


def test_without_pooch_the_extra_is_named(host, tmp_path, refused, monkeypatch):
    monkeypatch.setattr(download, "find_spec", lambda name: None)
    refused(command.main, "download", "voc2012", tmp_path / "voc", match=r"pip install 'minifcn\[download\]'")
    assert not host.asked
