"""The cache of data sets: one folder for each, filled once, checked by digest, moved by `$SOLO_DATA`."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock
from platformdirs import user_cache_path

from labkit.sources import Source, SourceFailed


class DataError(Exception):
    """A data set cannot be had; the message says what was tried, and what is left to do."""


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set before it is here."""

    name: str
    summary: str
    licence: str
    phase: str
    """The first phase that uses it."""
    size_mb: float
    files: Mapping[str, str]
    """Names with their SHA-256."""
    sources: tuple[Source, ...]
    """In the order they are tried."""
    otherwise: str
    """What a learner can do where no source answers."""

    @property
    def folder(self) -> Path:
        """Where its files are, or will be."""
        return cache() / self.name

    @property
    def here(self) -> bool:
        """Whether it has been fetched."""
        return all((self.folder / name).exists() for name in self.files)


def cache() -> Path:
    """The folder of all data sets: `$SOLO_DATA`, or the user's cache folder."""
    if "SOLO_DATA" in os.environ:
        return Path(os.environ["SOLO_DATA"]).expanduser()
    return user_cache_path("pytorch-solo-leveling", appauthor=False) / "data"


def fetch(data: DataSet) -> Path:
    """The folder with the files of `data`, fetched if they are not there. Raises `DataError`.

    Files arrive whole and verified, or not at all; two processes that ask at once fetch once.
    """
    if data.here:
        return data.folder
    cache().mkdir(parents=True, exist_ok=True)
    with FileLock(cache() / f"{data.name}.lock"):
        return data.folder if data.here else _fetch(data)


def _fetch(data: DataSet) -> Path:
    print(f"Fetching {data.name} ({data.size_mb:g} MB) into {data.folder}: {data.summary}. Licence: {data.licence}.")
    tried = []
    for source in data.sources:
        with TemporaryDirectory(dir=cache(), prefix=f".{data.name}-") as folder:
            try:
                source.provide(Path(folder))
                _verify(data, Path(folder))
            except SourceFailed as error:
                tried.append(f"{source}: {error}")
                continue
            shutil.rmtree(data.folder, ignore_errors=True)  # what an earlier version left, or was moved away in part
            data.folder.mkdir()
            for name in data.files:
                os.replace(Path(folder, name), data.folder / name)
            return data.folder
    raise DataError(f"{data.name} cannot be had. Tried {'; '.join(tried)}. {data.otherwise}")


def _verify(data: DataSet, folder: Path) -> None:
    for name, digest in data.files.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            raise SourceFailed(f"its {name} is not the file we know")
