"""What events amount to on the dashboard."""

from datetime import date, timedelta

from histories import attempt, history, passed

from grading import units
from grading.checkers import checker
from grading.dashboard import data
from grading.dashboard.data import dashboard
from grading.events import Attempt, Marked, Note, Placement, RankUp


def of(report, now, unit="lab1", days_ago=0, **points):
    """The attempts of a run, so many days before `now`."""
    at = now - timedelta(days=days_ago)
    made = report(unit, **points)
    return [Attempt.of(made, e).model_copy(update={"at": at}) for e in made.exercises]


def test_a_newcomer(curriculum, now):
    found = dashboard([], now)
    assert (found.rank.letter, found.rank.xp, found.rank.next, found.rank.celebration) == ("E", 0, "D", "")
    assert (found.quest.title, found.quest.how) == ("Read “On alpha”", "`solo open phase1/theory1`")
    assert (found.steps, found.skills, found.work.bars, found.mistakes, found.journal) == ((), (), (), (), ())
    assert [card.words for card in found.phases[0].units] == [
        "not read yet", "2 open", "2 open", "not built yet", "not built yet",
    ]  # fmt: skip


def test_the_map_has_every_phase_and_unit_with_its_state(curriculum, report, now):
    found = dashboard(of(report, now, first=6, second=2, extra=5), now)
    (phase,) = found.phases
    lab = next(card for card in phase.units if card.status and card.status.id == "phase1/lab1")
    assert phase.title == "Phase 1 · Foundations"
    assert (lab.words, lab.share, lab.done, lab.status.xp) == ("1 confirmed, 1 tried", 0.8, False, 13)
    assert found.unit("phase1/lab1") == lab.status
    assert found.unit("phase1/lab7") is None
    done = dashboard(of(report, now, first=6, second=4), now)
    assert [card.done for card in done.phases[0].units] == [False, True, False, False, False]


def test_a_rank_that_was_earned_has_its_words(curriculum, now):
    assert dashboard([RankUp(rank="D")], now).rank.celebration.startswith("Rank up! You are D-rank now")


def test_days_are_those_of_the_learner(curriculum, report, now):
    late = now.replace(hour=0, minute=30)  # still the day before in Greenwich
    assert [bar.start for bar in dashboard(of(report, late, first=6), now).work.bars] == [date(2026, 3, 10)]


def test_work_has_a_bar_for_each_day_and_of_a_long_time_for_each_week(curriculum, report, now):
    work = dashboard(of(report, now, days_ago=3, first=6, second=0) + of(report, now, first=6), now).work
    assert [(bar.passed, bar.others) for bar in work.bars] == [(1, 1), (0, 0), (0, 0), (1, 0)]
    assert (work.weekly, work.highest) == (False, 2)
    work = dashboard(of(report, now, days_ago=data.MOST_BARS, first=6) + of(report, now, first=0), now).work
    assert work.weekly
    assert (work.bars[0].start.weekday(), len(work.bars)) == (0, 13)
    assert (work.bars[0].passed, work.bars[-1].others) == (1, 1)
    ages = dashboard(of(report, now, days_ago=3000, first=6) + of(report, now, first=0), now).work
    assert len(ages.bars) == data.MOST_BARS
    assert ages.bars[-1].others == 1


def test_milestones_are_ranks_quizzes_placements_and_whole_units(curriculum, report, now):
    day = timedelta(days=1)
    told = [
        *of(report, now, days_ago=5, first=6),
        *of(report, now, days_ago=4, second=4),
        *of(report, now, days_ago=1, first=6, second=4),
        RankUp(at=now - 3 * day, rank="D"),
        Marked(at=now - 2 * day, unit="phase1/quiz", sitting="s", points=14, max_points=20, marks={}),
        Placement(at=now, unit="phase1/quiz", seed=0, marks={}, opens="phase2"),
        Placement(at=now, unit="phase1/quiz", seed=0, marks={}),
    ]
    assert [(now.date() - m.day).days for m in dashboard(told, now).work.milestones] == [0, 2, 3, 4]
    assert [m.text for m in dashboard(told, now).work.milestones] == [
        "The placement opened phase2", "Quiz of phase1: 14 of 20 points", "Rank D earned",
        "All of “lab1_alpha” confirmed",
    ]  # fmt: skip


def test_a_mistake_is_overcome_when_its_exercise_passes_afterwards(tiny, now):
    softmax = checker(tiny, "softmax")

    def wrong(hours):
        return attempt(tiny, softmax, now + timedelta(hours=hours), passed=False, mistake="WrongAxis")

    def right(hours):
        return attempt(tiny, softmax, now + timedelta(hours=hours), passed=True)

    (made,) = dashboard([right(-30), wrong(-26), wrong(-25)], now).mistakes
    assert (made.unit, made.checks, made.overcome) == ("phase1/lab9", 2, None)
    assert made.last == date(2026, 3, 9)
    assert made.message == next(a.message for a in data.answers(tiny) if a.name == "WrongAxis")
    (made,) = dashboard([wrong(-26), right(-1), right(0)], now).mistakes
    assert made.overcome == date(2026, 3, 10)
    (made,) = dashboard([wrong(-26), right(-3), wrong(-1)], now).mistakes
    assert made.overcome is None


def test_a_mistake_of_what_is_no_longer_there_goes_by_its_name(tiny, now):
    gone = attempt(tiny, checker(tiny, "softmax"), now, passed=False, mistake="Forgotten")
    elsewhere = gone.model_copy(update={"id": "x", "unit": "phase1/lab8"})
    assert [m.message for m in dashboard([gone, elsewhere], now).mistakes] == ["`Forgotten`"] * 2


def test_the_journal_has_the_latest_note_first(curriculum, now):
    told = [
        Note(at=now - timedelta(days=1), unit="phase1/lab1", text="views"),
        Note(at=now, unit="phase1/lab7", text="strides", improve=True),
    ]
    found = dashboard(told, now).journal
    assert [(e.text, e.title, e.improve) for e in found] == [
        ("strides", "phase1/lab7", True), ("views", "lab1_alpha", False),
    ]  # fmt: skip


def test_skills_are_the_coachs_with_words_for_what_stands_out(real, now):
    solved = passed(units.find("lab1"), now)
    known = {s.name: s.words for s in dashboard(solved, now).skills}
    assert known["numerics"] == "strong, last practised today"
    later = {s.name: s.words for s in dashboard(solved, now + timedelta(days=90)).skills}
    assert later["numerics"] == "fading, last practised 90 days ago"


def test_the_order_of_the_record_does_not_matter(real, now):
    told = history(60, now)
    assert dashboard(told, now) == dashboard(reversed(told), now)
