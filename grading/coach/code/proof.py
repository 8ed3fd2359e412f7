"""The proof of the code review: snippets that are faulty under one rule, near misses, and what the rules say of both.

python -m grading.coach.code.proof FOLDER …

A file `no_eval.py` in a folder belongs to the rule `no-eval`: snippets under `# faulty` and `# clean`, each after a
line `# ---` with an optional title; `# %%` begins another cell; `# here` ends a line that is the right one to find.
Another rule that is right, too, is named in the title: `# --- title (also no-eval)`.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from grading.coach.code import review_passages
from grading.coach.code.passages import Passage
from grading.coach.review import Finding

GIVEN = """import copy, math, random
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset
"""
"""The cell that every snippet is preceded by."""

HEADING = re.compile(r"^# (faulty|clean)\s*$", re.MULTILINE)
SNIPPET = re.compile(r"^# ---(.*)$", re.MULTILINE)
CELL = re.compile(r"^# %%.*\n", re.MULTILINE)
ALSO = re.compile(r"\(also ([\w\-, ]+)\)")
MARK = "# here"


@dataclass(frozen=True)
class Snippet:
    """A piece of a notebook, what is wrong with it (nothing, if it is clean) and where it stands."""

    rule: str
    faulty: bool
    title: str
    source: str
    path: Path

    @property
    def expected(self) -> set[str]:
        """The rules that are right to speak."""
        also = ALSO.search(self.title)
        named = {name.strip() for name in also[1].split(",")} if also else set()
        return named | {self.rule} if self.faulty else named

    def is_right(self, finding: Finding) -> bool:
        """Whether `finding` is wanted, on a marked line if its rule has any."""
        if finding.rule not in self.expected:
            return False
        return finding.rule != self.rule or MARK not in self.source or MARK in finding.code

    def findings(self) -> tuple[Finding, ...]:
        """What the review says of it."""
        cells = [Passage(cell) for cell in CELL.split(self.source)]
        return review_passages([Passage(GIVEN, learners=False), *cells])


@dataclass
class Score:
    """How a rule did: of its own snippets how many it found, and of all that it said how much was right."""

    faulty: int = 0
    clean: int = 0
    caught: int = 0
    right: int = 0
    wrong: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    @property
    def precision(self) -> float:
        """The share of its findings that are right."""
        said = self.right + len(self.wrong)
        return self.right / said if said else 1.0

    @property
    def recall(self) -> float:
        """The share of its faulty snippets that it found."""
        return self.caught / self.faulty if self.faulty else 1.0


def read_snippets(folder: Path) -> Iterator[Snippet]:
    """The snippets of every file in `folder`."""
    for path in sorted(folder.glob("*.py")):
        parts = HEADING.split(path.read_text(encoding="utf-8"))[1:]
        for heading, text in zip(parts[::2], parts[1::2], strict=True):
            titled = SNIPPET.split(text)[1:]
            for title, source in zip(titled[::2], titled[1::2], strict=True):
                yield Snippet(path.stem.replace("_", "-"), heading == "faulty", title.strip(), source.strip("\n"), path)


def scores(snippets: Iterable[Snippet]) -> dict[str, Score]:
    """How each rule did, by its id."""
    found: dict[str, Score] = {}
    for snippet in snippets:
        own = found.setdefault(snippet.rule, Score())
        where = f"{snippet.path.parent.name}/{snippet.path.name}, {snippet.title or snippet.source.splitlines()[0]}"
        findings = snippet.findings()
        for finding in findings:
            score = found.setdefault(finding.rule, Score())
            if snippet.is_right(finding):
                score.right += 1
            else:
                score.wrong.append(f"{finding.rule}: {where}: {finding.code}")
        own.faulty += snippet.faulty
        own.clean += not snippet.faulty
        if snippet.faulty and any(f.rule == snippet.rule and snippet.is_right(f) for f in findings):
            own.caught += 1
        elif snippet.faulty:
            own.missed.append(f"{snippet.rule}: {where}")
    return found


def total(of: Iterable[Score]) -> Score:
    """All of them together."""
    whole = Score()
    for score in of:
        whole.faulty, whole.clean = whole.faulty + score.faulty, whole.clean + score.clean
        whole.caught, whole.right = whole.caught + score.caught, whole.right + score.right
        whole.wrong += score.wrong
        whole.missed += score.missed
    return whole


def table(found: dict[str, Score]) -> Table:
    """One row for each rule, and one for all."""
    shown = Table(
        Column("rule", no_wrap=True),
        "faulty",
        "clean",
        "found",
        "false alarms",
        "precision",
        "recall",
        title="Code review",
    )
    for rule, score in {**dict(sorted(found.items())), "all": total(found.values())}.items():
        counts = (score.faulty, score.clean, score.caught, len(score.wrong))
        shown.add_row(rule, *map(str, counts), f"{score.precision:.0%}", f"{score.recall:.0%}")
    return shown


def main(folders: list[str]) -> None:
    """Print the table for the snippets of all `folders`, then what was missed and what was a false alarm."""
    found = scores(snippet for folder in folders for snippet in read_snippets(Path(folder)))
    whole, console = total(found.values()), Console(highlight=False, soft_wrap=True)
    console.print(table(found))
    for title, lines in {"Missed": whole.missed, "False alarms": whole.wrong}.items():
        console.print(f"\n{title}:", *(lines or ["none"]), sep="\n  ")


if __name__ == "__main__":
    main(sys.argv[1:])
