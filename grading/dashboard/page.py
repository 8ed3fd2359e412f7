"""The dashboard as one HTML page that needs no other: no script, style, picture or letter comes from elsewhere.

Everything is escaped by the template engine, and the page's own policy lets the browser run its one script and no
other.
"""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from grading import card
from grading.coach.words import percent
from grading.dashboard.data import STATES, Dashboard, Work
from grading.ranks import RANKS

HERE = Path(__file__).parent
GENERATOR = "PyTorch Solo Leveling, solo dashboard"
"""How a page of ours is told from another."""
STYLE, SCRIPT = ((HERE / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))


def page(shown: Dashboard | None, notices: Sequence[str] = (), live: str = "", version: str = "") -> str:
    """The whole page; without `shown` it has nothing but `notices`, sentences about the record.

    `live` is the address that tells the version of the record: the page asks there whether it is still `version`.
    """
    template = _templates().get_template("page.html.j2")
    return template.render(
        d=shown,
        notices=notices,
        live=live,
        version=version,
        generator=GENERATOR,
        policy=_policy(),
        style=Markup(STYLE),
        script=Markup(SCRIPT),
        chart_label=_summary(shown.work) if shown else "",
    )


def panel(shown: Dashboard | None, unit_id: str | None, notices: Sequence[str] = ()) -> str:
    """What stands beside a notebook, without head and style: rank, next quest, one unit's exercises, next steps."""
    return (
        _templates()
        .get_template("panel.html.j2")
        .render(d=shown, notices=notices, unit=shown.unit(unit_id) if shown and unit_id else None)
    )


def is_ours(text: str) -> bool:
    """Whether `text` is a page that was written by this module."""
    return f'<meta name="generator" content="{GENERATOR}">' in text


def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters["inline"] = lambda sentence: Markup(card.inline(sentence))
    found.globals |= {"states": STATES, "ranks": RANKS, "percent": percent}
    return found


def _policy() -> str:
    return (
        f"default-src 'none'; style-src '{_digest(STYLE)}'; script-src '{_digest(SCRIPT)}'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _summary(work: Work) -> str:
    """The chart in a sentence; the table below it has the numbers."""
    if not work.bars:
        return ""
    passed, others = (sum(getattr(bar, kind) for bar in work.bars) for kind in ("passed", "others"))
    return f"{passed + others} checks from {work.bars[0].start} on, of which {passed} passed; the table has the numbers"
