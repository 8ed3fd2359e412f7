"""What the tests of the dashboard share."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from html.parser import HTMLParser

import pytest

from grading import units

NOW = datetime.fromisoformat("2026-03-10T12:00:00+01:00")


@pytest.fixture
def now() -> datetime:
    """Noon, one hour east of Greenwich."""
    return NOW


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The real curriculum."""
    monkeypatch.delenv("SOLO_CONTENT", raising=False)
    units.all_units.cache_clear()
    yield
    units.all_units.cache_clear()


class _Outline(HTMLParser):
    """Tags with their attributes, and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def outline() -> Callable[[str], _Outline]:
    """`outline(html)`: its tags, and its text with simple spaces."""

    def read(html: str) -> _Outline:
        found = _Outline()
        found.feed(re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.DOTALL))
        found.text = " ".join(found.text.split())
        return found

    return read
