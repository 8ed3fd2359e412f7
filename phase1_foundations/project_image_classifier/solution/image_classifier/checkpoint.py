"""A run that stops and goes on as if nothing had happened."""

import copy
import os
from pathlib import Path
from typing import Any

import torch

from image_classifier.config import identity
from image_classifier.errors import CheckpointError
from image_classifier.training import Trainer

State = dict[str, Any]


def capture(trainer: Trainer) -> State:
    """All that `restore` needs for a bitwise continuation, and `identity(trainer.config)` under the key `"config"`.

    Tensors, numbers, strings, None, and lists, tuples and dicts of them: what `torch.load` takes with `weights_only`.
    It is a snapshot: it does not change when the trainer goes on.
    """
    ### BEGIN SOLUTION
    state = {
        "config": identity(trainer.config),
        "model": trainer.model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "step": trainer.step,
        "loss_sum": trainer.loss_sum,
        "rows": trainer.rows,
        "history": trainer.history,
        "best_score": trainer.early_stopping.best_score,
        "best_weights": trainer.early_stopping.best_weights,
        "bad_epochs": trainer.early_stopping.bad_epochs,
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all(),  # an empty list without a GPU
    }
    return copy.deepcopy(state)
    ### END SOLUTION


def restore(trainer: Trainer, state: State) -> None:
    """Make `trainer` what the captured one was, to the last bit.

    Raises `CheckpointError`, before anything is changed, if `state["config"]` is not `identity(trainer.config)`; its
    one sentence names a key that differs, such as `data.shift`, and both values. `state` is left as it is, also when
    the trainer goes on.
    """
    ### BEGIN SOLUTION
    mine, theirs = identity(trainer.config), state["config"]
    for key in mine.keys() | theirs.keys():
        if mine.get(key) != theirs.get(key):
            raise CheckpointError(
                f"The checkpoint was made with {key} = {theirs.get(key)}, and the configuration says {mine.get(key)}: "
                "use that configuration, or begin a new run."
            )
    state = copy.deepcopy(state)
    trainer.model.load_state_dict(state["model"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.step, trainer.loss_sum, trainer.rows = state["step"], state["loss_sum"], state["rows"]
    trainer.history = state["history"]
    stopping = trainer.early_stopping
    stopping.best_score, stopping.best_weights = state["best_score"], state["best_weights"]
    stopping.bad_epochs = state["bad_epochs"]
    torch.set_rng_state(state["rng"])
    torch.cuda.set_rng_state_all(state["cuda_rng"])
    ### END SOLUTION


def save(path: Path, state: State) -> None:
    """Write `state` to one file, atomically: whenever the process dies, the file is the old one or the new one."""
    ### BEGIN SOLUTION
    partial = path.with_name(path.name + ".partial")
    torch.save(state, partial)
    os.replace(partial, path)
    ### END SOLUTION


def load(path: Path) -> State:
    """The state in a file, its tensors on the CPU. It runs no code that the file may contain.

    Raises `CheckpointError`, whose one sentence names the file, if there is none, if it cannot be read, or if it holds
    anything but a dict with a `"config"`.
    """
    ### BEGIN SOLUTION
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no checkpoint here; `train` writes one.") from None
    except Exception:  # torch has no error of its own for this: what broken bytes raise depends on where they break
        raise CheckpointError(f"{path} is no checkpoint, or a broken one: train again, or take another.") from None
    if not isinstance(state, dict) or "config" not in state:
        raise CheckpointError(f"{path} holds something else than a checkpoint of this program.")
    return state
    ### END SOLUTION
