"""Units: where each one lives, what it is called, and how a loosely typed name finds it.

A unit is found on disk, never listed twice: a lab is a folder with a `lab.py`, a project one with a `project.py`, a
theory brief a numbered script.
"""

import ast
import difflib
import math
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
LABKIT = PACKAGE.parent / "labkit"
PHASES = {
    "phase1": "phase1_foundations",
    "phase2": "phase2_intermediate",
    "phase3": "phase3_projects",
    "phase4": "phase4_expert",
    "capstone": "capstone",
}


DURATION = re.compile(
    r"(?:\*\*Time\*\* |Theory brief, |sitting takes )((?:about )?[\w–-]+(?: to [\w-]+)? (?:minutes?|hours?))"
)
"""How the source of a unit states what it takes."""

KINDS = "theory", "lab", "quiz", "project"
"""In the order of the curriculum, of what has the same number or none."""


@dataclass(frozen=True)
class Layout:
    """The names of the files of a unit that is graded."""

    notebook: str
    checkers: str
    copy: str
    """What the learner's copy is called."""
    solution: str = "solution.ipynb"
    answers: str = "answers.py"


LAYOUTS = {
    "lab": Layout(notebook="starter.ipynb", checkers="test_lab.py", copy="lab.ipynb"),
    "quiz": Layout(notebook="quiz.ipynb", checkers="test_quiz.py", copy="quiz.ipynb"),
    # What is solved is a folder, and the notebook leads through it.
    "project": Layout(notebook="project.ipynb", checkers="test_project.py", copy="project.ipynb", solution="solution"),
}


class UnitNotFound(LookupError):
    """No unit, or more than one, goes by the name that was given."""


@dataclass(frozen=True)
class Unit:
    """One lab, quiz, project or theory brief.

    `id` is the short name (`phase1/lab1`), `source` the one hand-written file, `notebook` what a learner opens.
    """

    id: str
    kind: str
    source: Path

    @property
    def phase(self) -> str:
        """`phase1` … `capstone`."""
        return self.id.split("/")[0]

    @property
    def folder(self) -> Path:
        """The folder that holds the source."""
        return self.source.parent

    @property
    def name(self) -> str:
        """The descriptive name, `lab1_tensors_and_autograd`; unique in the phase."""
        return self.folder.name if self.layout else self.source.stem

    @property
    def assignment(self) -> str:
        """What it is called in a course, where all phases are together: every phase has a quiz."""
        return f"{self.name}_{self.phase}" if self.kind == "quiz" else self.name

    @property
    def layout(self) -> Layout | None:
        """The names of its files; None for a theory brief, which is not graded."""
        return LAYOUTS.get(self.kind)

    @property
    def notebook(self) -> Path:
        """The notebook a learner's copy is made from."""
        return self.folder / self.layout.notebook if self.layout else self.source.with_suffix(".ipynb")

    @property
    def solution(self) -> Path | None:
        """The solved notebook of what is graded; of a project, the folder with the solved package."""
        return self.folder / self.layout.solution if self.layout else None

    @property
    def starter(self) -> Path:
        """What a learner begins with: a notebook, or the folder of a project."""
        return self.folder / "starter" if self.kind == "project" else self.notebook

    @property
    def package(self) -> str:
        """The name of a project's package."""
        return self.folder.name.removeprefix("project_")

    @property
    def checkers(self) -> Path | None:
        """The pytest file with one class per exercise, of what is graded."""
        return self.folder / self.layout.checkers if self.layout else None

    @property
    def answers(self) -> Path | None:
        """The file of known wrong and right answers, of what is graded."""
        return self.folder / self.layout.answers if self.layout else None

    @property
    def title(self) -> str:
        """The first heading of the source."""
        return _title(self.source)

    @property
    def duration(self) -> str | None:
        """How long it takes, as its source says: `two hours`, `about 30 minutes`; None where it does not."""
        return _duration(self.source)

    @property
    def workspace_notebook(self) -> Path:
        """Where the learner's own copy is, or will be."""
        place = home() / "workspace" / PHASES[self.phase]
        return place / self.name / self.layout.copy if self.layout else place / "theory" / f"{self.name}.ipynb"


@cache
def _title(source: Path) -> str:
    heading = re.search(r"^(?:# )?# (?!%%)(.+)$", source.read_text(encoding="utf-8"), re.MULTILINE)
    return heading.group(1).strip() if heading else source.stem


@cache
def _duration(source: Path) -> str | None:
    stated = DURATION.search(source.read_text(encoding="utf-8"))
    return stated.group(1) if stated else None


def content_root() -> Path:
    """The folder that holds the phases: `$SOLO_CONTENT`, the clone, or what an installed package carries."""
    if "SOLO_CONTENT" in os.environ:
        return Path(os.environ["SOLO_CONTENT"]).resolve()
    clone = PACKAGE.parent
    return clone if (clone / "pyproject.toml").exists() else PACKAGE / "_content"


def home() -> Path:
    """Where `workspace/` and `progress.json` are: `$SOLO_HOME`, the clone, or the current folder."""
    if "SOLO_HOME" in os.environ:
        return Path(os.environ["SOLO_HOME"]).resolve()
    clone = PACKAGE.parent
    return clone if (clone / "pyproject.toml").exists() else Path.cwd()


@cache
def all_units() -> tuple[Unit, ...]:
    """Every unit on disk, in the order of the curriculum: each brief before its lab, then the quiz and the project."""
    found = []
    for phase, folder in PHASES.items():
        place = content_root() / folder
        for source in place.glob("lab*_*/lab.py"):
            found.append(Unit(f"{phase}/lab{_number(source.parent.name)}", "lab", source))
        for source in place.glob("quiz/challenges.py"):
            found.append(Unit(f"{phase}/quiz", "quiz", source))
        for source in place.glob("project_*/project.py"):
            found.append(Unit(f"{phase}/project", "project", source))
        for source in place.glob("theory/[0-9]*.py"):
            found.append(Unit(f"{phase}/theory{_number(source.stem)}", "theory", source))
    return tuple(sorted(found, key=_order))


def labs() -> tuple[Unit, ...]:
    """Every lab on disk, in order."""
    return tuple(unit for unit in all_units() if unit.kind == "lab")


def find(name: str | os.PathLike) -> Unit:
    """The unit that `name` means: `phase1/lab1`, `lab1`, its folder, its source or any of its notebooks.

    Without a phase it means the first one that has such a unit. Raises `UnitNotFound` with the closest names when there
    is none, or with all candidates when that phase has several.
    """
    asked = os.fspath(name).strip()
    by_path = _find_by_path(Path(asked))
    if by_path:
        return by_path
    wanted = asked.replace("\\", "/").strip("/").lower()
    hits = [unit for unit in all_units() if wanted in _spellings(unit)]
    first = [unit for unit in hits if unit.phase == hits[0].phase]
    if len(first) == 1:
        return first[0]
    if hits:
        raise UnitNotFound(f"{asked!r} could mean {_listed(hits)}. Say which.")
    spellings = {spelling: unit.id for unit in all_units() for spelling in _spellings(unit)}
    close = {spellings[s] for s in difflib.get_close_matches(wanted, spellings, n=3)}
    hint = f"Did you mean {' or '.join(sorted(close))}?" if close else "`solo list` shows all units."
    raise UnitNotFound(f"There is no unit {asked!r}. {hint}")


def _find_by_path(path: Path) -> Unit | None:
    if not path.exists():
        return None
    path = path.resolve()
    for unit in all_units():
        copy = unit.workspace_notebook.resolve()
        places = {unit.source, unit.notebook, copy}
        if unit.layout:
            places |= {unit.folder, copy.parent, unit.solution, unit.checkers, unit.answers}
        if path in places:
            return unit
    return None


def _spellings(unit: Unit) -> set[str]:
    short = unit.id.split("/")[-1]
    return {
        unit.id,
        short,
        unit.name,
        unit.assignment,
        f"{unit.phase}/{unit.name}",
        f"{PHASES[unit.phase]}/{unit.name}",
    }


def _number(name: str) -> int:
    return int(re.search(r"\d+", name).group())


def _order(unit: Unit) -> tuple:
    number = _number(unit.name) if unit.kind in {"theory", "lab"} else math.inf
    return list(PHASES).index(unit.phase), number, KINDS.index(unit.kind), unit.name


def _listed(units: list[Unit]) -> str:
    return ", ".join(unit.id for unit in units)


def defined_names(statements: list[ast.stmt]) -> list[str]:
    """The names that `statements` bind at top level, in order: functions, classes, assignments and imports."""
    names: dict[str, None] = {}
    for node in statements:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names[node.name] = None
            case ast.Assign():
                names.update((n.id, None) for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                names[name] = None
            case ast.Import() | ast.ImportFrom():
                names.update(((a.asname or a.name).split(".")[0], None) for a in node.names)
    return list(names)
