"""What the image classifier's package gives its learners: a training run that survives its user."""

import os
import signal
import sys

import pytest
import torch

from grading import units

SETTINGS = """
[data]
name = "digits"
train_images = 60
test_images = 20
[model]
width = 2
[training]
epochs = 3
batch_size = 16
device = "cpu"
"""


@pytest.fixture
def train(monkeypatch, tmp_path, capsys):
    """`train("run", …)`: the exit code of the command and what it said on either stream."""
    monkeypatch.syspath_prepend(str(units.find("phase1/project").solution))
    from image_classifier import cli

    (tmp_path / "settings.toml").write_text(SETTINGS)
    monkeypatch.chdir(tmp_path)

    def train(out, *options):
        code = 0
        try:
            cli.main(["train", "settings.toml", "--out", out, *options])
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    yield train
    for name in [name for name in sys.modules if name.split(".")[0] == "image_classifier"]:
        del sys.modules[name]


@pytest.mark.parametrize(("where", "at", "made"), [("step_on", 6, 6), ("step_on", 8, 8), ("validate", 1, 4)])
def test_ctrl_c_leaves_the_state_of_whole_steps(train, tmp_path, monkeypatch, where, at, made):
    from image_classifier.training import Trainer

    train("whole")
    as_it_is, calls = getattr(Trainer, where), []

    def interrupted(self, *arguments):
        result = as_it_is(self, *arguments)
        calls.append(self)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGINT)
        return result

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, where, interrupted)
        code, out, _ = train("stopped")
    assert (code, out) == (130, f"Stopped after {made} of 12 steps; --resume goes on.\n")
    assert signal.getsignal(signal.SIGINT) is before
    assert train("stopped", "--resume")[0] == 0
    whole, resumed = (torch.load(tmp_path / run / "model.pt", weights_only=True) for run in ("whole", "stopped"))
    torch.testing.assert_close(resumed["weights"], whole["weights"], rtol=0.0, atol=0.0)
    assert resumed["history"] == whole["history"]


def test_what_stops_a_step_half_way_saves_nothing(train, tmp_path, monkeypatch):
    from image_classifier.training import Trainer

    def interrupted(self, *arguments):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    train("run", "--steps", "6")
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step_on", interrupted)
        assert train("run", "--resume")[0] != 0
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


def test_a_run_is_not_overwritten(train, tmp_path):
    train("run", "--steps", "3")
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    code, _, err = train("run")
    assert code == 2
    assert err == "image_classifier: run holds a run: --resume goes on with it, another --out begins a new one.\n"
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize("out", ["taken", "taken/run"])
def test_a_folder_that_cannot_be_made_is_one_sentence(train, tmp_path, out):
    (tmp_path / "taken").write_text("a file")
    code, _, err = train(out)
    assert code == 2
    assert err.startswith(f"image_classifier: {out} cannot be made a folder (")
    assert err.count("\n") == 1
