"""Data sets: fetched once and whole, from the first source that answers; and what they hold."""

import hashlib
import io
import multiprocessing
import os
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from grading import cli
from labkit import catalog, data, store
from labkit.sources import DebianPackage, IndexFile, SourceFailed, _read
from labkit.store import DataError, DataSet, fetch

CONTENT = b"7 8 9"


@dataclass(frozen=True)
class Shelf:
    """A source at hand: the bytes it gives, or the reason why it gives none; it notes each visit."""

    content: bytes = CONTENT
    refuses: str = ""
    visits: Path | None = None

    def __str__(self):
        return "the shelf"

    def provide(self, into):
        if self.visits:
            with self.visits.open("a") as file:
                file.write("visit\n")
        if self.refuses:
            (into / "numbers.txt").write_bytes(b"half")
            raise SourceFailed(self.refuses)
        (into / "numbers.txt").write_bytes(self.content)


@pytest.fixture
def numbers(tmp_path, monkeypatch):
    """A data set of one file, in a cache of its own."""
    monkeypatch.setenv("SOLO_DATA", str(tmp_path / "cache"))
    return DataSet(
        name="numbers", summary="three numbers", licence="none", phase="phase1", size_mb=0.1,
        files={"numbers.txt": hashlib.sha256(CONTENT).hexdigest()}, sources=(Shelf(),), otherwise="Count yourself.",
    )  # fmt: skip


def test_a_data_set_arrives_whole_and_is_fetched_once(numbers, tmp_path, capsys):
    visits = tmp_path / "visits"
    numbers = replace(numbers, sources=(Shelf(visits=visits),))
    assert not numbers.here
    for _ in range(2):
        assert (fetch(numbers) / "numbers.txt").read_bytes() == CONTENT
    assert visits.read_text() == "visit\n"
    assert capsys.readouterr().out.count("Licence: none.") == 1
    assert numbers.folder.parent == tmp_path / "cache"


def test_the_next_source_is_tried_and_a_wrong_file_is_refused(numbers):
    sources = (Shelf(refuses="closed on Mondays"), Shelf(content=b"forged"), Shelf())
    assert (fetch(replace(numbers, sources=sources)) / "numbers.txt").read_bytes() == CONTENT


def test_a_failure_says_what_was_tried_and_leaves_nothing(numbers):
    sources = (Shelf(refuses="closed on Mondays"), Shelf(content=b"forged"))
    with pytest.raises(DataError) as told:
        fetch(replace(numbers, sources=sources))
    sentence = str(told.value)
    assert "the shelf: closed on Mondays" in sentence
    assert "its numbers.txt is not the file we know" in sentence
    assert sentence.endswith("Count yourself.")
    assert [p.name for p in store.cache().iterdir() if not p.name.endswith(".lock")] == []


def test_two_processes_fetch_once(numbers, tmp_path):
    visits = tmp_path / "visits"
    numbers = replace(numbers, sources=(Shelf(visits=visits),))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(fetch, [numbers] * 4)
    assert visits.read_text() == "visit\n"


def test_a_link_in_an_archive_is_refused():
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        link = tarfile.TarInfo("data.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    packed.seek(0)
    with tarfile.open(fileobj=packed) as archive, pytest.raises(SourceFailed, match="not a regular file"):
        _read(archive, "data.txt")


def test_sources_that_cannot_be_had_say_why(tmp_path, monkeypatch):
    with pytest.raises(SourceFailed, match="does not have this file"):
        IndexFile("mlxtend", "mlxtend-0.0.0-none.whl", {}).provide(tmp_path)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(SourceFailed, match="no download"):
        IndexFile("mlxtend", "mlxtend-0.25.0-py3-none-any.whl", {}).provide(tmp_path)
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(SourceFailed, match="not Debian"):
        DebianPackage("dataset-fashion-mnist", {}).provide(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_mnist_comes_from_the_index(tmp_path, monkeypatch):
    monkeypatch.setenv("SOLO_DATA", str(tmp_path))
    digits = data.mnist()
    assert digits.images.shape == (5000, 1, 28, 28)
    assert digits.images.dtype == torch.uint8
    assert digits.labels.bincount().tolist() == [500] * 10
    assert list((tmp_path / "mnist").iterdir()) == [tmp_path / "mnist" / "mnist_5k.csv.gz"]


def test_fashion_mnist_has_its_classes_in_equal_parts():
    for train, each in ((True, 6000), (False, 1000)):
        clothing = data.fashion_mnist(train)
        assert clothing.images.shape == (10 * each, 1, 28, 28)
        assert clothing.labels.bincount().tolist() == [each] * 10
    assert clothing.classes[clothing.labels[0]] == "ankle boot"


def test_without_fashion_mnist_there_are_digits_and_it_is_said(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(catalog, "FASHION_MNIST", replace(catalog.FASHION_MNIST, name="none", sources=()))
    parts = [data.clothing_or_digits(train) for train in (True, False)]
    assert [len(part.labels) for part in parts] == [4000, 1000]
    assert parts[1].labels.bincount().tolist() == [100] * 10
    assert "So these are MNIST's 5,000 digits." in capsys.readouterr().out


def test_movie_sentences_are_rated():
    sentences = data.movie_sentences()
    assert len(sentences.texts) == len(sentences.scores) == 10_605
    assert -4 <= sentences.scores.min() < -3
    assert 3 < sentences.scores.max() <= 4
    assert all(sentences.texts)


def test_digits_ship_with_a_package():
    digits = data.digits()
    assert digits.images.shape == (1797, 1, 8, 8)
    assert digits.images.max() == 16


def test_diabetes_is_raw_and_complete():
    table = data.diabetes()
    assert table.features.shape == (442, 10)
    assert table.target.shape == (442,)
    assert table.features.dtype == table.target.dtype == torch.float32
    assert len(table.names) == 10
    assert table.features[:, table.names.index("age")].mean() > 40, "the columns must be in their own units"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("list",), 0, "Licence: MIT, Zalando SE"),
        (("where",), 0, "cache"),
        (("fetch", "mnist"), 0, "mnist was here already"),
        (("fetch", "imagenet"), 2, "There is no data set or phase 'imagenet'"),
    ],
)
def test_solo_data(arguments, code, says, capsys):
    data.mnist()
    with pytest.raises(SystemExit) as end:
        cli.main(("data", *arguments))
    printed = capsys.readouterr()
    assert (end.value.code or 0) == code
    assert says in printed.out + printed.err
