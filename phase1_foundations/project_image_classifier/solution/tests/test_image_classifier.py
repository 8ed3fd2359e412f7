"""Tests of your own: each should fail if a promise of the package is broken, and pass if all are kept."""

import copy
from types import SimpleNamespace

import pytest
import torch
from image_classifier import augment, checkpoint, data, evaluation, model, training
from image_classifier.config import Config
from torch import nn
from torch.testing import assert_close


@pytest.fixture
def labels():
    """Three classes of different sizes, mixed."""
    classes = torch.repeat_interleave(torch.arange(3), torch.tensor([100, 50, 10]))
    return classes[torch.randperm(160, generator=torch.Generator().manual_seed(0))]


def trainer(seed=0):
    """A small run with dropout, three batches an epoch."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (16, 1, 5, 5), generator=generator).to(torch.uint8)
    pictures = data.Pictures(images, torch.arange(16) % 2, ("even", "odd"))
    config = Config.model_validate({"data": {"name": "digits"}, "training": {"epochs": 3, "batch_size": 4, "lr": 0.1}})
    parts = [data.PictureDataset(pictures, rows, torch.tensor([0.5]), torch.tensor([0.3]), augmentation)
             for rows, augmentation in ((torch.arange(12), (1, True)), (torch.arange(12, 16), None))]  # fmt: skip
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(25, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
    return training.Trainer(network, *parts, config)


def test_split_keeps_shares(labels):
    """Each class has its share in the validation part."""
    ### BEGIN SOLUTION
    _, validation = data.split(labels, 0.2, seed=0)
    assert torch.bincount(labels[validation]).tolist() == [20, 10, 2]
    ### END SOLUTION


def test_split_repeats(labels):
    """The split is the same on every run."""
    ### BEGIN SOLUTION
    torch.manual_seed(1)
    first = data.split(labels, 0.2, seed=0)
    torch.manual_seed(2)
    assert_close(data.split(labels, 0.2, seed=0), first)
    ### END SOLUTION


def test_statistics():
    """The statistics are those of all pixels, however they are cut into chunks."""
    ### BEGIN SOLUTION
    images = torch.randint(0, 256, (7, 2, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images[6] = 0
    values = images.double() / 255
    expected = values.mean((0, 2, 3)).float(), values.std((0, 2, 3), correction=0).float()
    assert_close(data.mean_and_std(images, chunk=3), expected)
    ### END SOLUTION


def test_streams():
    """Every picture in every epoch has random numbers of its own."""
    ### BEGIN SOLUTION
    places = [(seed, epoch, index) for seed in range(3) for epoch in range(3) for index in range(3)]
    numbers = {torch.randint(2**60, (), generator=augment.generator_for(*place)).item() for place in places}
    assert len(numbers) == len(places)
    ### END SOLUTION


def test_network_gives_logits():
    """What the network gives are logits."""
    ### BEGIN SOLUTION
    logits = model.Classifier(1, 5, 4)(torch.randn(8, 1, 28, 28))
    assert logits.shape == (8, 5)
    assert logits.min() < 0
    assert (logits.logsumexp(1).abs() > 1e-3).any()
    ### END SOLUTION


def test_pictures_do_not_see_each_other():
    """In evaluation mode the logits of a picture do not depend on the batch."""
    ### BEGIN SOLUTION
    network, images = model.Classifier(1, 5, 4).eval(), torch.randn(6, 1, 28, 28)
    assert_close(network(images[:1]), network(images)[:1], rtol=1e-3, atol=1e-4)
    ### END SOLUTION


def test_clipping():
    """A step of plain SGD is no longer than the norm that gradients are clipped to."""
    ### BEGIN SOLUTION
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2))
    before = nn.utils.parameters_to_vector(network.parameters()).detach().clone()
    settings = SimpleNamespace(bf16=False, label_smoothing=0.0, clip_norm=0.01)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    training.train_step(network, optimizer, 10 * torch.randn(8, 1, 2, 2), torch.arange(8) % 2, settings)
    after = nn.utils.parameters_to_vector(network.parameters()).detach()
    assert (after - before).norm().item() == pytest.approx(0.01, rel=1e-3)
    ### END SOLUTION


def test_best_weights_are_kept():
    """The best weights stay what they were while the model goes on."""
    ### BEGIN SOLUTION
    network, stopping = nn.Linear(2, 2), training.EarlyStopping(3)
    stopping.update(1.0, network)
    best = copy.deepcopy(network.state_dict())
    with torch.no_grad():
        network.weight.add_(1)
    stopping.update(2.0, network)
    assert_close(stopping.best_weights, best)
    ### END SOLUTION


def test_resume():
    """Nobody can tell that a run was stopped in the middle of an epoch."""
    ### BEGIN SOLUTION
    whole, first, second = trainer(), trainer(), trainer(seed=8)
    torch.manual_seed(3)
    whole.run(9)
    torch.manual_seed(3)
    first.run(4)
    state = checkpoint.capture(first)
    torch.manual_seed(99)
    checkpoint.restore(second, state)
    second.run(9)
    assert_close(second.model.state_dict(), whole.model.state_dict(), rtol=0.0, atol=0.0)
    assert second.history == whole.history
    ### END SOLUTION


def test_metrics():
    """Precision looks at what was called so, recall at what is so."""
    ### BEGIN SOLUTION
    found = evaluation.per_class(torch.tensor([[3, 1], [0, 4]]))
    assert_close(found.precision, torch.tensor([1.0, 0.8]).double())
    assert_close(found.recall, torch.tensor([0.75, 1.0]).double())
    ### END SOLUTION


def test_calibration_error():
    """A bin counts by the number of its rows."""
    ### BEGIN SOLUTION
    probabilities = torch.tensor([[0.9, 0.1]] * 9 + [[0.4, 0.6]])
    bins = evaluation.reliability(probabilities, torch.zeros(10, dtype=torch.int64), bins=5)
    assert evaluation.calibration_error(bins) == pytest.approx(0.9 * 0.1 + 0.1 * 0.6)
    ### END SOLUTION
