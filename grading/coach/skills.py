"""How sure a learner is in each skill: Bayesian knowledge tracing with forgetting.

A skill is either mastered or not, and `mastery` is the probability that it is (Corbett & Anderson, 1995, *Knowledge
tracing: modeling the acquisition of procedural knowledge*). Each occasion updates it by Bayes' rule from two numbers:
how often someone who has the skill fails, and how often someone who has not succeeds all the same. This model was
chosen because that second number is at hand for everything that happens here: a question with four choices is guessed
one time in four, and code that passed after six tries and three hints says next to nothing. No parameter needs the
data of a thousand learners, and each can be explained to the one it judges.

The original does not forget. Here what was learnt falls back towards the prior by a half-life that doubles with every
spaced success and halves with every failure: the Leitner system as Settles & Meeder (2016, *A trainable spaced
repetition model for language learning*) write it, h = h₀ · 2^(successes - failures).

An occasion that asked for n skills: to pass needs all of them, so what speaks for them does so for each in full;
what speaks against them may be the fault of any one, so each is blamed with the n-th root of the likelihood ratio.

The constants are choices, not estimates; `tests/coach/test_skills.py` shows what follows from them for simulated
learners.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from grading.coach.evidence import Occasion, occasions
from grading.events import Event

PRIOR = 0.3
"""The probability of a skill that nothing is known of."""
SLIP = 0.1
"""How often someone who has the skill gets it wrong in the end."""
LEARN = 0.1
"""How often an occasion that came to its end teaches the skill to someone who had it not."""
CODE_BY_CHANCE = {True: 0.05, False: 0.1}
"""How often code passes without the skill: in a fresh run, and in a live kernel, which remembers deleted cells."""
HELP = 0.6 / 0.95
"""Someone who has the skill fails six tries of ten on the way, someone who has not nineteen of twenty. A hint counts
as a failed try, and so does a known mistake on top of its own: it is a misunderstanding, not a slip of the pen."""
AT_WORST = SLIP / (1 - CODE_BY_CHANCE[True])
"""An answer that had to be shown."""

HALF_LIFE_DAYS, SHORTEST_DAYS, LONGEST_DAYS = 30.0, 7.0, 240.0
SPACED = timedelta(days=1)
"""A success this long after the one before makes the half-life longer; cramming does not."""
BITS = 4.0
"""As much evidence as makes confidence one half: a little less than one exercise solved unaided at the first try."""

WEAK, STRONG, SURE = 0.6, 0.9, 0.4
"""Below this mastery, or above that, is worth saying something about, given that much confidence."""


@dataclass(frozen=True)
class Skill:
    """What is known of one skill."""

    name: str
    mastery: float
    """Probability that it is there now, in [0, 1]."""
    learned: float
    """Probability when it was last practised, before any forgetting."""
    confidence: float
    """How much evidence that rests on, in [0, 1): 1 - 2^(-bits / 4)."""
    last: datetime
    """When it was last practised."""
    half_life_days: float
    occasions: tuple[Occasion, ...]

    @property
    def weak(self) -> bool:
        """Low, on enough evidence to say so."""
        return self.mastery < WEAK and self.confidence >= SURE

    @property
    def strong(self) -> bool:
        """High, on enough evidence to say so."""
        return self.mastery >= STRONG and self.confidence >= SURE

    @property
    def faded(self) -> bool:
        """Weak only because it is long ago."""
        return self.weak and self.learned >= WEAK


def skills(events: Iterable[Event], now: datetime) -> dict[str, Skill]:
    """Each skill that `events` say something about, as it stands at `now`, in order of first appearance."""
    found: dict[str, list[Occasion]] = {}
    for occasion in occasions(events):
        for name in occasion.skills:
            found.setdefault(name, []).append(occasion)
    return {name: _traced(name, met, now) for name, met in found.items()}


def likelihood_ratio(occasion: Occasion) -> float:
    """How much likelier the occasion is with all its skills than without: above 1 speaks for them, below 1 against."""
    if occasion.chance is not None:
        return (1 - SLIP) / occasion.chance if occasion.right else SLIP / (1 - occasion.chance)
    if occasion.revealed:
        return AT_WORST
    passed = (1 - SLIP) / CODE_BY_CHANCE[occasion.confirmed] if occasion.right else 1.0
    return max(passed * HELP**occasion.help, AT_WORST)


def _traced(name: str, met: list[Occasion], now: datetime) -> Skill:
    """One skill followed through its occasions, which are in order of time."""
    p, bits, half_life, last = PRIOR, 0.0, HALF_LIFE_DAYS, None
    for occasion in met:
        if last:
            p = _faded(p, occasion.at - last, half_life)
        ratio = likelihood_ratio(occasion)
        if ratio < 1:
            ratio **= 1 / len(occasion.skills)
        bits += abs(math.log2(ratio))
        p = p * ratio / (p * ratio + 1 - p)
        if occasion.ended or occasion.chance is not None:
            p += (1 - p) * LEARN
        if last and occasion.right and occasion.at - last >= SPACED:
            half_life = min(2 * half_life, LONGEST_DAYS)
        elif not occasion.right:
            half_life = max(half_life / 2, SHORTEST_DAYS)
        last = occasion.at
    return Skill(
        name=name,
        mastery=_faded(p, max(now - last, timedelta()), half_life),
        learned=p,
        confidence=1 - 2 ** (-bits / BITS),
        last=last,
        half_life_days=half_life,
        occasions=tuple(met),
    )


def _faded(p: float, gap: timedelta, half_life_days: float) -> float:
    """What is left after `gap`: what lies above the prior halves with every half-life."""
    if p <= PRIOR:
        return p
    return PRIOR + (p - PRIOR) * 2 ** (-gap / timedelta(days=half_life_days))
