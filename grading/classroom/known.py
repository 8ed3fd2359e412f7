"""Which known mistakes a class makes: what a submission's checks said, compared with what they say to each mistake.

Nothing runs beside a submission for this. A run's checks draw the same numbers from the same seed, so a mistake on top
of the solution gets the same evidence, word for word, as in a submission that makes it.
"""

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from grading.answers import answers
from grading.fresh import start_child
from grading.report import ExerciseReport, Requirement
from grading.units import Unit, find

Fingerprint = tuple[tuple[str, str, str, tuple[tuple[str, str], ...]], ...]
"""What failed in an exercise: test, outcome, sentence and facts of each, slow tests left out."""


class KnownError(RuntimeError):
    """The mistakes could not be tried; the message says why."""


def fingerprint(requirements: tuple[Requirement, ...]) -> Fingerprint:
    """What the checks said against an exercise; empty if nothing."""
    return tuple(
        (r.id, r.outcome.value, r.evidence.message, tuple(sorted(r.evidence.facts.items())))
        for r in requirements
        if r.evidence and not r.slow
    )


def known_mistakes(unit: Unit, seed: int) -> dict[str, dict[Fingerprint, str]]:
    """For each exercise, what the checks say with this seed to each known mistake; two that look alike name nobody.

    The value is the sentence that the learner would read. Raises `KnownError`.
    """
    ours, theirs = multiprocessing.Pipe(duplex=False)
    with TemporaryDirectory(prefix="solo-") as scratch:
        process = start_child(_child, theirs, unit.id, seed, scratch)
        theirs.close()
        try:
            tried = ours.recv()
        except EOFError:
            tried = f"the process ended with exit code {process.exitcode}"
        process.join()
    if isinstance(tried, str):
        raise KnownError(f"The known mistakes of {unit.id} could not be tried: {tried}")
    found: dict[str, dict[Fingerprint, str]] = {}
    for exercise, message, said in tried:
        of_exercise = found.setdefault(exercise, {})
        of_exercise[said] = "" if said in of_exercise else message
    return found


def mistake_of(exercise: ExerciseReport, known: dict[str, dict[Fingerprint, str]]) -> str | None:
    """The known mistake that explains a failed exercise, None if none or several do."""
    said = fingerprint(exercise.requirements)
    return known.get(exercise.name, {}).get(said) or None if said else None


def _child(pipe: Connection, unit_id: str, seed: int, scratch: str) -> None:
    import traceback

    from grading.fresh_child import quiet
    from grading.namespaces import replaced
    from grading.proof import solution_namespace
    from grading.runner import Session

    try:
        unit = find(unit_id)
        quiet(Path(scratch))
        namespace, tried = solution_namespace(unit, Path(scratch)), []
        for answer in answers(unit):
            if not answer.right:
                with replaced(namespace, answer.patch):
                    result = Session(unit, namespace, seed=seed).tested(answer.exercise, fast_only=True)
                tried.append((answer.exercise, answer.message, fingerprint(result.requirements)))
        pipe.send(tried)
    except Exception:
        pipe.send(traceback.format_exc())
