"""What has to be installed, in which versions, and what is."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from grading.units import PACKAGE

DISTRIBUTION = "pytorch-solo-leveling"


@dataclass
class Comparison:
    """What is installed beside what is wanted; a line for each difference."""

    installed: int = 0
    missing: list[str] = field(default_factory=list)
    unfit: list[str] = field(default_factory=list)
    """Versions outside what we, or a package that we need, accept."""
    unlocked: list[str] = field(default_factory=list)
    """Versions that are accepted and are not those of the lock."""


def pythons() -> SpecifierSet:
    """The versions of Python that will do."""
    project = _project()
    return SpecifierSet(project["requires-python"] if project else metadata.metadata(DISTRIBUTION)["Requires-Python"])


def compare() -> Comparison:
    """Compare what is installed with our requirements, theirs, and so on, and with the lock of a clone.

    The requirements are read from the clone's own files, because an update may have brought new ones.
    """
    found, lock, seen = Comparison(), _lock(), set()
    waiting = list(_wanted())
    while waiting:
        wanted = waiting.pop()
        key = canonicalize_name(wanted.name), frozenset(wanted.extras)
        version = _version(wanted.name)
        if version is None:
            found.missing.append(str(wanted.name))
        elif not wanted.specifier.contains(version, prereleases=True):
            found.unfit.append(f"{wanted.name} {version} (wanted: {wanted.specifier})")
        if key in seen or version is None:
            continue
        seen.add(key)
        if key[0] in lock and not lock[key[0]].contains(version, prereleases=True):
            found.unlocked.append(f"{wanted.name} {version} ({lock[key[0]]})")
        waiting += _needs(wanted)
    found.installed = len({name for name, _ in seen})
    for lines in (found.missing, found.unfit, found.unlocked):
        lines[:] = sorted(set(lines))
    return found


def _project() -> dict | None:
    """The clone's `[project]` table; None for an installed package."""
    file = PACKAGE.parent / "pyproject.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))["project"] if file.exists() else None


def _wanted() -> Iterator[Requirement]:
    project = _project()
    lines = project["dependencies"] if project else metadata.requires(DISTRIBUTION) or []
    return _applying(lines, frozenset())


def _needs(wanted: Requirement) -> Iterator[Requirement]:
    return _applying(metadata.requires(wanted.name) or [], frozenset(wanted.extras))


def _applying(lines: list[str], extras: frozenset[str]) -> Iterator[Requirement]:
    """Those requirements whose markers hold here."""
    for line in lines:
        wanted = Requirement(line)
        if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            yield wanted


def _version(name: str) -> str | None:
    """None also for what an installation that broke off has left without metadata."""
    try:
        return metadata.version(name)
    except (metadata.PackageNotFoundError, KeyError):
        return None


def _lock() -> dict[str, SpecifierSet]:
    """The pins of the clone's lock, by name; empty for an installed package."""
    file: Path = PACKAGE.parent / "requirements.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() and _project() else []
    pins = _applying([line for line in lines if line.strip() and not line.startswith(("#", "-"))], frozenset())
    return {canonicalize_name(pin.name): pin.specifier for pin in pins}
