"""The command line: wiring, a progress bar, and one sentence for whatever a user can mend."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from image_classifier import checkpoint, evaluation, prediction
from image_classifier.config import Config, read_config
from image_classifier.data import PictureDataset, load, loader, ordered_batches
from image_classifier.errors import CheckpointError, Refused
from image_classifier.export import Served, export
from image_classifier.model import Classifier
from image_classifier.training import EVALUATION_BATCH, Trainer, build, logits_of

app = typer.Typer(
    help="Train, evaluate, use and export an image classifier.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Run = Annotated[Path, typer.Argument(help="The folder of a run that `train` has finished.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program with `arguments`, those of the shell by default.

    An error that a user can mend (`Refused`) becomes one line on standard error, `image_classifier: ` and its sentence,
    and exit code 2 by `SystemExit`. Any other error is a fault of ours, and is not hidden. After a success it may
    return, or raise `SystemExit(0)`: either will do.
    """
    ### BEGIN SOLUTION
    try:
        app(args=arguments, prog_name="image_classifier")
    except Refused as error:
        print(f"image_classifier: {error}", file=sys.stderr)
        sys.exit(2)
    ### END SOLUTION


@app.command("train")
def train_command(
    config: Annotated[Path, typer.Argument(help="A TOML file, such as configs/fashion_mnist.toml.")],
    out: Annotated[Path, typer.Option(help="The folder of this run.")],
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint in the folder.")] = False,
    steps: Annotated[int | None, typer.Option(help="Stop after so many steps in all, to be resumed.")] = None,
) -> None:
    """Train a network; write checkpoints, TensorBoard logs, and in the end the model.

    Ctrl-C stops after the step under way, with exit code 130; a second one at once, with the checkpoint before.
    """
    from torch.utils.tensorboard import SummaryWriter  # takes seconds, which the other commands can do without

    settings = read_config(config)
    if not resume:
        _make_folder(out)
    trainer, interrupted = build(settings, load(settings.data)[0]), False
    if resume:
        checkpoint.restore(trainer, checkpoint.load(out / "checkpoint.pt"))
    with SummaryWriter(str(out / "logs")) as writer, _progress(trainer):
        trainer.on_epoch = lambda record: _record(trainer, record, writer, out)
        try:
            with _interrupts_between_steps(trainer):
                trainer.run(steps)
        except _Interrupted:
            interrupted = True
        # Not after another error: it may have come in the middle of a step.
        checkpoint.save(out / "checkpoint.pt", checkpoint.capture(trainer))
    if trainer.finished:
        checkpoint.save(out / "model.pt", _model(trainer))
        print(f"Finished after {trainer.step} steps: {out / 'model.pt'}")
        return
    print(f"Stopped after {trainer.step} of {trainer.total_steps} steps; --resume goes on.")
    if interrupted:
        raise typer.Exit(128 + signal.SIGINT)


@app.command("evaluate")
def evaluate_command(run: Run) -> None:
    """Measure a model on the test part, and write report.html into its folder."""
    from image_classifier import report  # draws, and loads matplotlib for it

    model = _read_model(run)
    network, served = _network(model), _served(model)
    settings = Config.model_validate(model["settings"])
    _, test = load(settings.data)
    everything = PictureDataset(test, torch.arange(len(test.labels)), model["mean"], model["std"])
    logits = logits_of(network, loader(everything, ordered_batches(len(everything), EVALUATION_BATCH)))
    assessment = evaluation.assess((model["validation_logits"], model["validation_labels"]), logits)
    took = evaluation.latency(lambda: served(test.images[:1]))
    report.write(run / "report.html", assessment, test, model["history"], took)
    print(f"accuracy {assessment.accuracy:.2%} on {len(test.labels)} pictures")
    print(f"calibration error {assessment.calibration_error[0]:.4f}, with T = {assessment.temperature:.3f} "
          f"{assessment.calibration_error[1]:.4f}")  # fmt: skip
    print(f"latency of one picture: p50 {took.p50:.2f} ms, p95 {took.p95:.2f} ms")
    print(run / "report.html")


@app.command("predict")
def predict_command(run: Run, pictures: Annotated[list[Path], typer.Argument(help="Picture files.")]) -> None:
    """Name what is on pictures: the most probable classes of each."""
    model = _read_model(run)
    images = [prediction.read_picture(path, model["channels"], model["size"]) for path in pictures]
    answers = prediction.predict(_served(model), torch.stack(images), model["classes"])
    for path, answer in zip(pictures, answers, strict=True):
        print(f"{path}: " + ", ".join(f"{name} {probability:.4f}" for name, probability in answer))


@app.command("export")
def export_command(
    run: Run, out: Annotated[Path | None, typer.Option(help="Where to; model.pt2 there.")] = None
) -> None:
    """Write the model as one file for serving, and compare it with the original."""
    model, path = _read_model(run), out or run / "model.pt2"
    if not path.parent.is_dir():
        raise Refused(f"{path.parent}: there is no such folder.")
    images = torch.randint(0, 256, (4, model["channels"], model["size"], model["size"]), dtype=torch.uint8)
    gap = export(_served(model), images, path)
    print(f"{path}: largest difference of a probability {gap:.1e}")


def _make_folder(out: Path) -> None:
    """Make the folder of a new run. Raises `Refused` if it cannot be made, or holds a run."""
    if (out / "checkpoint.pt").exists():
        raise Refused(f"{out} holds a run: --resume goes on with it, another --out begins a new one.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"{out} cannot be made a folder ({error.strerror}): give another one as --out.") from None


class _Interrupted(Exception):
    """Ctrl-C was pressed, and the step under way is whole."""


@contextmanager
def _interrupts_between_steps(trainer: Trainer) -> Iterator[None]:
    """Let Ctrl-C wait for the end of a step, where it raises `_Interrupted`: what is saved is never half of one.

    A second one is as usual.
    """
    pressed = []

    def note(*signal_and_frame: Any) -> None:
        pressed.append(signal_and_frame)
        signal.signal(signal.SIGINT, usual)

    def stop() -> None:
        if pressed:
            raise _Interrupted

    trainer.before_step, usual = stop, signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def _progress(trainer: Trainer) -> Progress:
    """A bar of steps on standard error, with a loss that follows slowly."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=_stderr())
    task, smooth = bar.add_task("loss –", total=trainer.total_steps, completed=trainer.step), [None]

    def advance(loss: float) -> None:
        smooth[0] = loss if smooth[0] is None else 0.95 * smooth[0] + 0.05 * loss
        bar.update(task, advance=1, description=f"loss {smooth[0]:.3f}")

    trainer.on_step = advance
    return bar


def _stderr() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def _record(trainer: Trainer, record: dict[str, float], writer: Any, out: Path) -> None:
    """After an epoch: a line, TensorBoard, and a checkpoint."""
    for name, value in record.items():
        if name != "epoch":
            writer.add_scalar(name, value, record["epoch"])
    print(", ".join(f"{name} {value:.4g}" for name, value in record.items()), file=sys.stderr)
    checkpoint.save(out / "checkpoint.pt", checkpoint.capture(trainer))


def _model(trainer: Trainer) -> dict[str, Any]:
    """What later commands need of a finished run: no optimizer, and no data."""
    trainer.model = trainer.best_model()
    logits, labels = trainer.validate()
    training_set = trainer.training_set
    images = training_set.pictures.images
    return {
        "config": checkpoint.identity(trainer.config),
        "settings": trainer.config.model_dump(mode="json"),
        "weights": {name: value.cpu() for name, value in trainer.model.state_dict().items()},
        "channels": images.shape[1],
        "size": images.shape[2],
        "classes": list(training_set.pictures.classes),
        "mean": training_set.mean,
        "std": training_set.std,
        "temperature": evaluation.fit_temperature(logits, labels),
        "validation_logits": logits,
        "validation_labels": labels,
        "history": trainer.history,
    }


def _read_model(run: Path) -> dict[str, Any]:
    path = run / "model.pt"
    if not path.exists():
        raise CheckpointError(f"{run}: there is no finished run here; `train --out {run}` makes one.")
    model = checkpoint.load(path)
    if "weights" not in model:
        raise CheckpointError(f"{path} is a checkpoint, and no finished model.")
    return model


def _network(model: dict[str, Any]) -> Classifier:
    network = Classifier(model["channels"], len(model["classes"]), model["settings"]["model"]["width"])
    try:
        network.load_state_dict(model["weights"])
    except RuntimeError:
        raise CheckpointError(
            "The weights of this run are of another network than `model.py` has now: train again."
        ) from None
    return network.eval()


def _served(model: dict[str, Any]) -> Served:
    return Served(_network(model), model["mean"], model["std"], model["temperature"])
