"""Where image files lie: a folder or a zip, read in memory and never extracted."""

import dataclasses
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from PIL import Image

from pplemd.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp")
UNREAD = {".heic", ".heif", ".jxl", ".svg", ".exr", ".npy", ".npz"}  # further kinds of images, that Pillow has not
READ_ERRORS = (OSError, EOFError, NotImplementedError, zlib.error, zipfile.BadZipFile, RuntimeError)  # of packed files


@dataclasses.dataclass(frozen=True)
class Source:
    """The files of a folder or zip, hidden ones passed over; names are paths inside it, with slashes.

    Attributes:
        images: names of the images, in alphabetical order.
        others: names of what else lies there.
        content: the bytes of a file of a name and at most so many bytes.
    """

    images: list[str]
    others: list[str]
    content: Callable[[str, int], bytes]

    def read(self, name: str, most: int) -> bytes:
        """Return the content of a file.

        Raises:
            DataError: a file that cannot be read, or is larger than `most`.
        """
        try:
            content = self.content(name, most)
        except READ_ERRORS as error:
            raise DataError(
                f"found {name} unreadable ({error}), expected a whole file: remove or replace it"
            ) from error
        if len(content) > most:
            raise DataError(
                f"found more than {most} bytes in {name}, expected at most so many in one file: remove it or save it "
                "smaller"
            )
        return content

    def beneath(self, inside: str) -> "Source":
        """Return the files beneath one of the folders.

        Raises:
            DataError: no such folder.
        """
        start = "/".join(PurePosixPath(inside.replace("\\", "/")).parts) + "/"
        images, others = ([name for name in names if name.startswith(start)] for names in (self.images, self.others))
        if not images and not others:
            tops = sorted({name.split("/")[0] for name in self.images + self.others if "/" in name})
            raise DataError(
                f"found no folder {inside!r}, expected one of the folders inside ({', '.join(tops) or 'there are none'}"
                "): correct inside="
            )
        return Source(images, others, self.content)

    def left(self) -> str:
        """Return how many images of which kinds are not read, such as "2 .gif, 1 .tif"; empty where all are."""
        kinds = {PurePosixPath(name).suffix.lower() for name in self.others}
        pictures = kinds & {*Image.registered_extensions(), *UNREAD} if kinds else kinds
        counts = Counter(PurePosixPath(name).suffix.lower() for name in self.others)
        return ", ".join(f"{counts[kind]:,} {kind}" for kind in sorted(pictures))


def _source(names: list[str], content: Callable[[str, int], bytes]) -> Source:
    seen = sorted(name for name in names if not _hidden(name))
    images = [name for name in seen if name.lower().endswith(SUFFIXES)]
    return Source(images, [name for name in seen if not name.lower().endswith(SUFFIXES)], content)


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) and part != ".." for part in PurePosixPath(name).parts)


def _folder(root: Path) -> Source:
    paths = (Path(base, file) for base, _, files in os.walk(root) for file in files)

    def content(name: str, most: int) -> bytes:
        with open(root / name, "rb") as file:
            return file.read(most + 1)

    return _source([path.relative_to(root).as_posix() for path in paths], content)


def _zip(archive: zipfile.ZipFile) -> Source:
    infos = {info.filename.replace("\\", "/"): info for info in archive.infolist() if not info.is_dir()}
    for name in infos:
        if not _hidden(name) and (".." in PurePosixPath(name).parts or name.startswith("/") or ":" in name):
            raise DataError(
                f"found the member {name!r}, expected paths inside the zip: make the zip again from a folder"
            )

    def content(name: str, most: int) -> bytes:
        if infos[name].file_size > most:  # zipfile never unpacks more than this declared size
            return b" " * (most + 1)
        with archive.open(infos[name]) as member:
            return member.read(most + 1)

    return _source(list(infos), content)


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """The files of a folder or a zip, as a context.

    Args:
        path: of the folder or zip.

    Raises:
        DataError: nothing there, something else, or a zip that is damaged or names paths outside itself.
    """
    if path.is_dir():
        yield _folder(path)
        return
    if not path.exists():
        raise DataError("found nothing there, expected a folder or a .zip of images: check the path")
    if not zipfile.is_zipfile(path):
        raise DataError("found neither a folder nor a whole zip, expected one of them: make the zip again")
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError(f"found a damaged zip ({error}), expected a whole zip: make the zip again") from error
    with archive:
        yield _zip(archive)
