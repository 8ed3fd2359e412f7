"""From a project's `solution/` to its `starter/`: the same files, with a stub wherever the markers say solution."""

import os
from pathlib import Path

from grading.build import cleared
from grading.units import PHASES, content_root


def projects() -> list[Path]:
    """The folders of all projects on disk: those with a `solution/`, in the order of the curriculum."""
    places = (content_root() / folder for folder in PHASES.values())
    found = [path.parent for place in places for path in sorted(place.glob("project_*/solution"))]
    capstone = content_root() / PHASES["capstone"]
    return [*found, capstone] if (capstone / "solution").is_dir() else found


def render(project: Path) -> dict[Path, str]:
    """The files of `project`'s starter as they should be. Raises `SourceError` for a file that breaks a rule."""
    solution = project / "solution"
    return {project / "starter" / path.relative_to(solution): _rendered(path, project) for path in _files(solution)}


def build(project: Path) -> list[Path]:
    """Write the starter's files that have changed and remove those that are none any more; their paths."""
    rendered = render(project)
    changed = stale(project)
    for path in changed:
        if path in rendered:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(rendered[path], encoding="utf-8", newline="\n")
        else:
            path.unlink()
    return changed


def stale(project: Path) -> list[Path]:
    """The starter's files that are missing, differ from what `solution/` says, or have no solution any more."""
    rendered = render(project)
    changed = [path for path, text in rendered.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    return changed + [path for path in _files(project / "starter") if path not in rendered]


def _rendered(path: Path, project: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return cleared(text, os.fspath(path.relative_to(project.parent))) if path.suffix == ".py" else text


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
