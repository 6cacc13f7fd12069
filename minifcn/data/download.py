"""``python -m minifcn.data download NAME DIR``: fetch a public data set from its host, check it, and unpack it.

No other command contacts a host.
"""

import http.client
import os
import tarfile
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from ..errors import UserError
from ..io.cli import Parser, command
from .convert import new_folder
from .layouts import recognise

DESCRIPTION = """Fetch a public data set from its host, check its archives by their hashes, and unpack them into a new
folder.  An interrupted download continues where it stopped when the command is given again.  Needs pooch."""
BLOCK = 1 << 18  # bytes that are read at a time
TIMEOUT = 60  # seconds without an answer of the host


@dataclass(frozen=True)
class Archive:
    """A file of a data set: where it is, and its hash as pooch writes it."""

    url: str
    hash: str


VOC = "http://host.robots.ox.ac.uk/pascal/VOC"
SBD = "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours"
PET = "https://www.robots.ox.ac.uk/~vgg/data/pets/data"
SETS = {
    "voc2011": [Archive(f"{VOC}/voc2011/VOCtrainval_25-May-2011.tar", "md5:6c3384ef61512963050cb5d687e5bf1e")],
    "voc2012": [Archive(f"{VOC}/voc2012/VOCtrainval_11-May-2012.tar", "md5:6cd6e144f989b92b3379bac3b3de84fd")],
    "sbd": [Archive(f"{SBD}/benchmark.tgz", "md5:82b4d87ceb2ed10f6038a1cba92111cb")],
    "pet": [
        Archive(f"{PET}/images.tar.gz", "md5:5c4f3ee8e5d25df40f4fd59a7f44e54c"),
        Archive(f"{PET}/annotations.tar.gz", "md5:95a8c909bbe2e81eed6a22bccdf3f68f"),
    ],
}
"""The archives by the name of the data set; the hashes are those that torchvision has published."""


def parser():
    """The flags of this command."""
    p = Parser("data download", DESCRIPTION)
    p.add_argument("name", choices=tuple(SETS), metavar="NAME", help=f"one of {', '.join(SETS)}")
    p.add_argument("target", metavar="DST", help="the new folder, which must not exist or be empty")
    return p


@command
def main(argv=None):
    """Run the command."""
    args = parser().parse(argv)
    if find_spec("pooch") is None:
        raise UserError("data download needs the package pooch: pip install 'minifcn[download]'")
    target = Path(args.target)  # without the slash that a shell adds to the name of a folder
    kept = target.with_name(f"{target.name}.download")
    with new_folder(target) as folder:
        archives = [fetched(archive, kept) for archive in SETS[args.name]]
        for file in archives:
            unpack(file, folder)
    for file in archives:
        file.unlink()
    with suppress(OSError):  # the user had put other files there
        kept.rmdir()
    found = recognise(target)
    print(f"written     {target}: {found.name} ({found.why})")
    print(f"train       python -m minifcn.train --root {target}")


def fetched(archive, folder):
    """The file of an archive in `folder`: fetched, continued or kept from before, with the right hash.

    Raises
    ------
    UserError
        If the host does not answer, or the file has another hash; what has arrived is kept to be continued.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")  # the progress bar says the rest
    try:
        return Path(
            pooch.retrieve(archive.url, archive.hash, Path(archive.url).name, folder, downloader=continued)
        )  # fmt: skip
    except ValueError:  # pooch's, for a wrong hash
        raise UserError(
            f"{archive.url} is not the file that was published: its hash is not {archive.hash}. Nothing of it is kept; "
            "try again later, or from another network"
        ) from None
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        raise UserError(
            f"{archive.url} could not be fetched ({getattr(error, 'reason', error)}): give the command again to "
            f"continue with what has arrived in {folder}"
        ) from None


def continued(url, output_file, pooch):
    """Download a file for pooch; what an earlier, interrupted download has left in ``NAME.part`` is not read again.

    Parameters
    ----------
    url : str
    output_file : path-like
        Where pooch expects the file.
    pooch : object
        Not used.
    """
    part = Path(output_file).with_name(Path(url).name + ".part")
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the range is empty: the file is complete
            raise
        os.replace(part, output_file)
        return
    with answer, open(part, "ab" if answer.status == 206 else "wb") as file:  # 200: the host sends all of it
        left = int(answer.headers.get("Content-Length") or 0)
        with tqdm(total=left + file.tell(), initial=file.tell(), unit="B", unit_scale=True, disable=None) as bar:
            while block := answer.read(BLOCK):
                file.write(block)
                left -= len(block)
                bar.update(len(block))
    if left > 0:
        raise OSError(f"the connection ended {left} bytes too early")
    os.replace(part, output_file)


def unpack(file, folder):
    """Unpack a tar archive into a folder; UserError if a member would leave it."""
    safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4 and later
    try:
        with tarfile.open(file) as archive:
            for member in archive.getmembers():
                inside = (folder / member.name).resolve().is_relative_to(folder.resolve())
                if not inside or not (member.isfile() or member.isdir()):
                    raise UserError(f"{file} holds {member.name}, which is no file inside its folder")
            archive.extractall(folder, **safe)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{file} cannot be unpacked ({error})") from None
