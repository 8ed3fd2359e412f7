"""Writing files that a crash cannot halve, and names that are never used twice."""

import os
import shutil
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

REPLACE_PATIENCE_S = 2.0


def write_atomically(path: Path, text: str) -> None:
    """Replace the content of `path` in one step: a reader, or a crash, meets the old text or the new, never a part.

    Two writers must not do so at once: they share the temporary name (so that a killed one leaves no litter).
    An `OSError` names `path`, also where the system does not, as when the disk is full.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _replace(part, path)
    except OSError as error:
        _discard(part)
        error.filename = str(path)
        raise
    _sync_folder(path.parent)


def copy_file(path: Path, to: Path) -> Path:
    """Copy a file, times included; a copy that fails leaves nothing behind."""
    try:
        return shutil.copy2(path, to)
    except OSError:
        _discard(to)
        raise


def reason(error: OSError) -> str:
    """What the operating system says is wrong, to stand inside a sentence."""
    return (error.strerror or type(error).__name__).lower()


def dated(folder: Path, start: str, ending: str) -> Path:
    """A free name in `folder` that carries the local date and time: `<start>.20261123-034207<ending>`."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    names = (f"{start}.{stamp}{count}{ending}" for count in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(folder / name for name in names if not (folder / name).exists())


def _discard(path: Path) -> None:
    """Delete what was half written; a disk that refused to be written may refuse this too."""
    with suppress(OSError):
        path.unlink()


def _replace(part: Path, path: Path) -> None:
    """`os.replace`; on Windows a file that someone is reading cannot be replaced at that moment, so try again."""
    deadline = time.monotonic() + REPLACE_PATIENCE_S
    while True:
        try:
            os.replace(part, path)
            return
        except PermissionError:
            if os.name != "nt" or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut; Windows cannot open a folder and does not need to."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
