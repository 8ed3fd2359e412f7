"""`make results` of this project: train everything over three seeds, and put the table into README.md."""

import datetime
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torchvision.models import resnet18

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "solution"))

from image_classifier.config import Config
from image_classifier.data import Pictures, load, loader, ordered_batches
from image_classifier.distillation import Distiller, half_width
from image_classifier.model import Classifier
from image_classifier.training import PictureDataset, Trainer, build, logits_of

from grading import units
from grading.proof import solution_namespace
from labkit.data import mnist

SEEDS = (0, 1, 2)
IMAGES, TEST_IMAGES, EPOCHS, BATCH = 4000, 4000, 8, 32
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


class Grey(nn.Module):
    """A network for three channels, shown one channel three times."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.expand(-1, 3, -1, -1))


def config(seed: int, **training: object) -> Config:
    """The budget that all networks share."""
    return Config.model_validate(
        {
            "seed": seed,
            "data": {"name": "fashion_mnist", "train_images": IMAGES, "test_images": TEST_IMAGES, "shift": 2,
                     "mirror": True},
            "training": {"epochs": EPOCHS, "batch_size": BATCH, "label_smoothing": 0.05, "patience": EPOCHS,
                         "device": "cpu"} | training,
        }
    )  # fmt: skip


def plain(pictures: Pictures) -> Tensor:
    """Pixels in rows, from 0 to 1."""
    return pictures.images.flatten(1).float() / 255


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of rows whose largest logit is the true class's."""
    return (logits.argmax(1) == labels).double().mean().item()


def tested(trainer: Trainer, test: Pictures) -> float:
    """Train to the end, and test the best weights."""
    trainer.run()
    pictures = PictureDataset(test, torch.arange(len(test.labels)), *statistics(trainer))
    return accuracy(*logits_of(trainer.best_model(), loader(pictures, ordered_batches(len(pictures), 250))))


def statistics(trainer: Trainer) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation that a trainer's pictures are normalised by."""
    return trainer.training_set.mean, trainer.training_set.std


def logistic(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor) -> float:
    """scikit-learn's logistic regression on standardised columns."""
    mean, std = x.mean(0), x.std(0) + 1e-3
    model = LogisticRegression(C=0.01, max_iter=300).fit(((x - mean) / std).numpy(), y.numpy())
    return model.score(((x_test - mean) / std).numpy(), y_test.numpy())


def probe_features(seed: int) -> Callable[[Tensor], Tensor]:
    """The frozen network of Lab 6, trained as in the lab, on five classes of MNIST's digits: its pooled features."""
    data, lab6 = mnist(), _lab6()
    known = data.labels < 5
    images, labels = data.images[known].float() / 255, data.labels[known]
    torch.manual_seed(seed)
    network, generator = lab6["SmallResNet"](5), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(EPOCHS):
        lab6["train_epoch"](network, lab6["augment"](images, 2, generator), labels, optimizer, 50, generator)
    network.eval().requires_grad_(False)
    return lambda x: torch.cat([network.features(part).mean((2, 3)) for part in x.view(-1, 1, 28, 28).split(500)])


@cache
def _lab6() -> dict[str, Any]:
    """What the solution of Lab 6 defines; a process can run a notebook once."""
    with TemporaryDirectory() as scratch:
        return solution_namespace(units.find("phase1/lab6"), Path(scratch))


def runs(seed: int) -> Iterator[tuple[str, int, float, float]]:
    """Name, parameters, accuracy and seconds of every contestant with one seed."""
    train, test = load(config(seed).data)
    reference = build(config(seed), train)
    rows = reference.training_set.rows
    x, y, x_test = plain(train)[rows], train.labels[rows], plain(test)

    def timed(name: str, parameters: int, measure: Callable[[], float]) -> tuple[str, int, float, float]:
        start = time.perf_counter()
        return name, parameters, measure(), time.perf_counter() - start

    majority = y.bincount().argmax()
    yield timed("majority class", 0, lambda: (test.labels == majority).double().mean().item())
    yield timed("logistic regression (scikit-learn)", 7850, lambda: logistic(x, y, x_test, test.labels))
    features = probe_features(seed)
    yield timed("linear probe, Lab 6's network trained on digits 0–4", 330,
                lambda: logistic(features(x), y, features(x_test), test.labels))  # fmt: skip
    yield timed("**reference**", size(reference.model), lambda: tested(reference, test))
    mixed = build(config(seed, mixing="mixup"), train)
    yield timed("reference with MixUp", size(mixed.model), lambda: tested(mixed, test))
    width = half_width(1, 10, 16)
    alone = build(config(seed), train, fresh(seed, width))
    yield timed("half the parameters, alone", size(alone.model), lambda: tested(alone, test))
    student = build(config(seed), train, fresh(seed, width))
    distiller = Distiller(student.model, student.training_set, student.validation_set, student.config)
    distiller.teacher = reference.best_model()
    yield timed("half the parameters, distilled", size(student.model), lambda: tested(distiller, test))
    torch.manual_seed(seed)
    large = build(config(seed, lr=1e-3), train, Grey(resnet18(num_classes=10)))
    yield timed("ResNet-18 (torchvision)", size(large.model), lambda: tested(large, test))


def fresh(seed: int, width: int) -> Classifier:
    """A new network of some width."""
    torch.manual_seed(seed)
    return Classifier(1, 10, width)


def size(network: nn.Module) -> int:
    """How many parameters it has."""
    return sum(p.numel() for p in network.parameters())


def table(results: dict[str, list[tuple[int, float, float]]]) -> str:
    """Mean and standard deviation over the seeds, in Markdown."""
    lines = ["| | parameters | accuracy on unseen pictures | seconds |", "| --- | ---: | ---: | ---: |"]
    for name, found in results.items():
        parameters, scores, seconds = zip(*found, strict=True)
        scores, took = 100 * torch.tensor(scores), sum(seconds) / len(seconds)
        spread = f"{scores.mean():.1f} % ± {scores.std():.1f}"
        lines.append(f"| {name} | {parameters[0]:,} | {spread} | {took:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Train, measure, write."""
    torch.set_num_threads(1)
    results: dict[str, list[tuple[int, float, float]]] = {}
    for seed in SEEDS:
        for name, *found in runs(seed):
            results.setdefault(name, []).append(tuple(found))
            print(f"seed {seed}: {name}: {found[1]:.2%} in {found[2]:.0f} s", flush=True)
    readme = HERE / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    note = (
        f"Measured on {datetime.date.today().isoformat()}, seeds {', '.join(map(str, SEEDS))}: mean ± standard "
        f"deviation. "
        f"{IMAGES:,} pictures, a tenth of them for validation, {EPOCHS} epochs in batches of {BATCH}, "
        f"{TEST_IMAGES:,} test pictures, "
        f"PyTorch {torch.__version__.split('+')[0]}, one CPU thread."
    )
    after = rest.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n{note}\n\n{table(results)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
