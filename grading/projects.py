"""A project: a package that the learner writes module by module, with tests of their own.

A milestone is an exercise whose checker class names its `modules`. A folder is judged as a whole: the learner's copy,
the starter or the solution.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from traceback import walk_tb

from grading.checkers import checkers
from grading.learner_notebook import short
from grading.namespaces import Package
from grading.units import Unit

TESTS = "tests"
"""The folder of the learner's own tests."""


@dataclass(frozen=True)
class ModuleFile:
    """One file of a project's folder, as a step of a fresh run: importing it."""

    index: int
    name: str
    path: str
    """Relative to the folder."""

    @property
    def label(self) -> str:
        """How to speak of it."""
        return f"`{self.path}`"

    def defines(self) -> list[str]:
        """The name by which the checkers know it."""
        return [self.name]


class ProjectError(ValueError):
    """A folder that is no copy of the project; the message says what to do."""


def module_files(unit: Unit, folder: Path) -> list[ModuleFile]:
    """The modules in `folder` and its tests. Raises `ProjectError` for a folder without the package."""
    package = folder / unit.package
    if not package.is_dir():
        raise ProjectError(
            f"There is no package {unit.package} in {folder}. `solo open {unit.id}` makes your copy of the project."
        )
    paths = [path for path in sorted(package.glob("*.py")) if path.stem != "__init__"]
    paths += sorted((folder / TESTS).glob("test_*.py"))
    return [ModuleFile(i, path.stem, path.relative_to(folder).as_posix()) for i, path in enumerate(paths)]


def saved_at(unit: Unit, folder: Path) -> float:
    """When the newest of the modules in `folder` was saved, in seconds since the epoch."""
    return max((folder / file.path).stat().st_mtime for file in module_files(unit, folder))


def module_path(unit: Unit, module: str) -> Path:
    """Where a module is, relative to a project's folder."""
    return Path(TESTS if is_test(module) else unit.package, f"{module}.py")


def is_test(module: str | None) -> bool:
    """Whether a module holds the learner's own tests."""
    return module is not None and module.startswith("test_")


def missing_modules(unit: Unit, folder: Path, only: str | None) -> list[str]:
    """The sentences about modules that milestones need and `folder` does not have."""
    return [
        f"`{module_path(unit, module).as_posix()}` is missing: "
        f"`solo reset {unit.id} --exercise {checker.name}` restores it"
        for checker in checkers(unit)
        if only in {None, checker.name}
        for module in checker.modules
        if not (folder / module_path(unit, module)).exists()
    ]


def load(
    unit: Unit,
    folder: Path,
    files: Iterable[ModuleFile],
    on_file: Callable[[ModuleFile], None] = lambda file: None,
) -> tuple[Package, dict[int, str]]:
    """Import `files` from `folder`; the package, and what those raised that cannot be imported, by index."""
    sys.dont_write_bytecode = True  # it is the learner's folder
    sys.path.insert(0, str(folder))
    files = list(files)
    _block(unit, folder, files)
    package, errors = Package(unit), {}
    for file in files:
        on_file(file)
        try:
            package[file.name] = _imported(unit, folder, file)
        except (Exception, SystemExit) as error:
            if not _is_unwritten(error, folder):
                errors[file.index] = f"{type(error).__name__}: {short(error)}"
    return package, errors


def _block(unit: Unit, folder: Path, files: list[ModuleFile]) -> None:
    """Nobody may import what has ended an earlier process."""
    for file in module_files(unit, folder):
        if file not in files and not file.path.startswith(TESTS):
            sys.modules[f"{unit.package}.{file.name}"] = None


def _imported(unit: Unit, folder: Path, file: ModuleFile) -> object:
    if not file.path.startswith(TESTS):
        return importlib.import_module(f"{unit.package}.{file.name}")
    spec = importlib.util.spec_from_file_location(file.name, folder / file.path)
    module = sys.modules[file.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _is_unwritten(error: BaseException, folder: Path) -> bool:
    """Whether a module calls, while it is imported, what is still a stub."""
    if not isinstance(error, NotImplementedError):
        return False
    last = [frame for frame, _ in walk_tb(error.__traceback__)][-1]
    return Path(last.f_code.co_filename).is_relative_to(folder)
