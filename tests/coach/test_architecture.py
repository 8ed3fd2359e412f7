"""Architecture: facts equal what one can work out by hand; only what stands out is remarked on."""

import itertools
import shutil

import pytest
import torch
from torch import nn

from grading import units
from grading.coach.architecture import facts, remarks
from grading.coach.build import measure
from grading.coach.measuring import measured_notes


def mlp(*sizes):
    layers = [module for d_in, d_out in itertools.pairwise(sizes) for module in (nn.Linear(d_in, d_out), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def build(module, *shapes):
    torch.manual_seed(0)
    return measure(module, tuple(torch.randn(shape) for shape in shapes))


def he(module):
    """Weights of variance 2 / fan_in, biases of zero."""
    torch.manual_seed(0)
    for layer in module:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return module


def test_a_network_of_two_layers_by_hand():
    found = build(mlp(8, 16, 4), (32, 8))
    assert found.parameters == {"0": 8 * 16 + 16, "2": 16 * 4 + 4}
    assert found.flops == 2 * 32 * (8 * 16 + 16 * 4)
    assert found.activation_bytes == 32 * (8 + 16) * 4, "the input, and the ReLU's output, which both layers keep"
    assert (found.units, found.dead) == (16, 0)


def test_a_convolution_by_hand():
    found = build(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU()), (2, 3, 10, 10))
    assert found.parameters == {"0.weight": 8 * 3 * 9}
    assert found.flops == 2 * 2 * 8 * 100 * 27
    assert found.activation_bytes == (2 * 3 * 100 + 2 * 8 * 100) * 4
    assert found.units == 8


def test_an_lstm_is_counted_though_it_runs_as_one_operation():
    assert build(nn.LSTM(8, 16, batch_first=True), (4, 5, 8)).flops == 2 * 4 * 5 * (8 + 16) * 64


def test_parameters_are_listed_by_part_and_shared_ones_once():
    tied = nn.ModuleDict({"first": nn.Linear(4, 4), "second": nn.Linear(4, 4)})
    tied["second"].weight = tied["first"].weight
    tied.forward = lambda x: tied["second"](tied["first"](x))
    assert build(tied, (32, 4)).parameters == {"first": 20, "second": 4}


@pytest.mark.parametrize(
    ("layers", "seen"),
    [
        ([nn.Conv2d(1, 2, 3)], (3, 3)),
        ([nn.Conv2d(1, 2, (1, 5), padding=(0, 2))], (1, 5)),
        ([nn.Conv2d(1, 2, 3, stride=2), nn.ReLU(), nn.Conv2d(2, 2, 3)], (7, 7)),
        ([nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3)], (8, 8)),
        ([nn.Conv2d(1, 2, 3, dilation=3, padding=3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 5)], (7, 7)),
        ([nn.Conv2d(1, 2, 5, padding=2), nn.Flatten(), nn.Linear(2 * 20 * 20, 5)], (5, 5)),
    ],
)
def test_the_receptive_field_is_that_of_the_arithmetic(layers, seen):
    assert build(nn.Sequential(*layers), (2, 1, 20, 20)).reach.seen == seen


def test_the_context_is_what_the_last_step_sees():
    assert build(nn.Linear(3, 3), (32, 7, 3)).reach.seen == (1,)
    assert build(nn.GRU(3, 4, batch_first=True), (32, 7, 3)).reach.seen == (7,)
    tokens = nn.Sequential(nn.Embedding(9, 3), nn.Flatten(1), nn.Linear(15, 2))
    assert measure(tokens, (torch.randint(9, (32, 5)),)).reach.seen == (5,)
    assert build(nn.Linear(3, 3), (32, 3)).reach is None


def test_the_reference_is_met_with_silence():
    deep = build(he(mlp(*[64] * 9)), (128, 64))
    assert remarks(deep, deep) == ()
    assert "; the reference: " not in " ".join(facts(deep, deep).values())
    assert set(facts(deep, deep)) == {
        "Parameters",
        "FLOPs",
        "Activation memory",
        "Signal at init",
        "Dead units at init",
    }


def test_units_that_never_fire_are_noticed():
    ours, module = build(he(mlp(16, 32, 4)), (64, 16)), he(mlp(16, 32, 4))
    with torch.no_grad():
        module[0].bias[:8] = -100
    yours = build(module, (64, 16))
    assert (yours.dead, yours.units) == (8, 32)
    (remark,) = remarks(yours, ours)
    assert remark.startswith("25 % of the units behind a ReLU fire for none of the inputs")
    assert facts(yours, ours)["Dead units at init"] == "8 of 32; the reference: 0 of 32"


def test_a_dead_channel_is_one_unit():
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    with torch.no_grad():
        module[0].bias[0] = -100
    found = build(module, (32, 1, 8, 8))
    assert (found.dead, found.units) == (1, 4)


@pytest.mark.parametrize(("factor", "word"), [(3, "explodes"), (1 / 3, "fades")])
def test_a_signal_that_is_not_level_is_noticed(factor, word):
    module = he(mlp(*[64] * 9))
    with torch.no_grad():
        for layer in module[::2]:
            layer.weight *= factor
    (remark,) = remarks(build(module, (128, 64)), build(he(mlp(*[64] * 9)), (128, 64)))
    assert remark.startswith(f"The signal {word} at init")
    assert "over 8 products" in remark
    assert "He et al., 2015" in remark


def test_a_signal_that_overflows_explodes():
    module = he(mlp(*[64] * 9))
    with torch.no_grad():
        for layer in module[::2]:
            layer.weight *= 1e8
    (remark, *_) = remarks(build(module, (128, 64)), build(he(mlp(*[64] * 9)), (128, 64)))
    assert remark.startswith("The signal explodes at init")


def test_a_larger_network_is_noticed_and_where_it_is_large():
    small = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    large = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 144, 10))
    yours, ours = build(large, (32, 1, 12, 12)), build(small, (32, 1, 12, 12))
    remark, *_ = remarks(yours, ours)
    assert remark.startswith("68 times the parameters of the reference, 99 % of them in `2`")
    assert "Lin et al., 2014" in remark


def test_a_narrow_view_is_noticed():
    wide = nn.Sequential(nn.Conv2d(1, 4, 9, padding=4), nn.ReLU())
    narrow = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU())
    found = remarks(build(narrow, (32, 1, 12, 12)), build(wide, (32, 1, 12, 12)))
    assert "An output sees 1 × 1 of 12 × 12, in the reference 9 × 9." in found[0]


def test_a_project_is_looked_at_too(tmp_path):
    project = units.find("phase1/project")
    shutil.copytree(project.solution, tmp_path / "copy")
    model = tmp_path / "copy" / project.package / "model.py"
    text = model.read_text(encoding="utf-8")
    assert "width: int = 16" in text
    model.write_text(text.replace("width: int = 16", "width: int = 32"), encoding="utf-8")
    (note,) = measured_notes(project, tmp_path / "copy", ["model"]).architecture
    assert note.exercise == "model"
    assert "the reference: 78,042" in note.facts["Parameters"]
    assert any("times the parameters of the reference" in remark for remark in note.remarks)
    assert measured_notes(project, tmp_path / "copy", ["data"]) == ((), (), ())
