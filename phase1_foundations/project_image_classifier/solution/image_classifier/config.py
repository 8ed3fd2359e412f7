"""The configuration of a run: TOML in, validated models out. A key that nobody knows is an error, not a default."""

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from image_classifier.errors import ConfigError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Which pictures, how many, and what is done to those for training."""

    name: Literal["fashion_mnist", "cifar10", "digits"]
    folder: Path = Path("data")
    """Where torchvision keeps CIFAR-10."""
    train_images: int | None = Field(None, ge=20)
    """The first so many, before the split; all if left out."""
    test_images: int | None = Field(None, ge=1)
    validation_share: float = Field(0.1, gt=0, lt=1)
    shift: int = Field(0, ge=0)
    mirror: bool = False
    workers: int = Field(0, ge=0)


class ModelConfig(_Section):
    """The one number that scales the architecture."""

    width: int = Field(16, ge=1)


class TrainingConfig(_Section):
    """Optimisation, from the first step to the last."""

    epochs: int = Field(6, ge=1)
    batch_size: int = Field(64, ge=1)
    lr: float = Field(3e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup_share: float = Field(0.1, ge=0, lt=1)
    clip_norm: float = Field(1.0, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    bf16: bool = False
    """Forward passes in bfloat16 where autocast allows it."""
    patience: int = Field(3, ge=1)
    mixing: Literal["none", "mixup", "cutmix"] = "none"
    mixing_alpha: float = Field(0.4, gt=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"


class Config(_Section):
    """Everything that decides a run."""

    seed: int = Field(0, ge=0)
    data: DataConfig
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()


MAY_DIFFER = {"data": {"workers", "folder"}, "training": {"device"}}
"""What a resumed run may have otherwise: it changes where and how fast, never what is computed."""


def identity(config: Config) -> dict[str, Any]:
    """What two runs must have in common for one to continue the other, as plain values: `{"data.shift": 2, …}`."""
    sections = config.model_dump(mode="json", exclude=MAY_DIFFER)
    flat = {"seed": sections.pop("seed")}
    for name, section in sections.items():
        flat |= {f"{name}.{key}": value for key, value in section.items()}
    return flat


def read_config(path: Path) -> Config:
    """The configuration in a TOML file. Raises `ConfigError`, whose one sentence names the file and the key."""
    try:
        return Config.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        reason = "there is no such key" if first["type"] == "extra_forbidden" else first["msg"].lower()
        raise ConfigError(f"{path}, {key}: {reason}.") from None
