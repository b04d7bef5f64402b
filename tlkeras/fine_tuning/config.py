"""What fine-tuning was asked to do, as plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tlkeras.errors import ConfigError, unknown
from tlkeras.options import option

AUGMENTATIONS = ("light", "off")
ALL = "all"


@dataclass(frozen=True)
class FineTuneConfig:
    """Options of fine-tuning, which starts from the head that was trained on frozen features.

    Each says of itself what it is; beside that:
    unfreeze: ``0`` for the head alone, or ``"all"``; a block is what lies at one resolution
    (``tlkeras.backbones.layers``). rate_decay: 0..1 (discriminative rates). warmup: 0..1; then the rate falls by a
    cosine. weight_decay: per step, times the rate. clip_norm: of all weights together. label_smoothing: 0..1.
    ema: per step. patience: by log loss. batch_size: all devices together. augment: ``light`` crops, mirrors and tints.
    mixed_precision: weights stay float32. devices: names such as ``gpu:0``; the default one where there are none.
    save_seconds: in seconds.

    Raises: ConfigError for a value that an option cannot have.
    """

    epochs: int = option(10, "Passes over the training photos, at most.")
    unfreeze: int | str = option(ALL, "How many last blocks of the network are trained: a number or all.")
    learning_rate: float = option(3e-4, "Highest rate, of head and last block.")
    rate_decay: float = option(0.8, "Each block's rate over that of the block behind it.")
    warmup: float = option(0.1, "Share of the steps in which the rate rises.")
    weight_decay: float = option(0.01, "Decoupled; norms and biases are spared.")
    clip_norm: float = option(1.0, "Longest gradient; 0 for no limit.")
    label_smoothing: float = option(0.05, "Share of the target that all classes get alike.")
    ema: float = option(0.99, "Decay of the averaged weights; 0 for none.")
    patience: int = option(5, "Epochs without a better validation before it stops; 0: never.")
    refit: bool = option(True, "Train what won once more, on the validation photos too.")
    batch_size: int = option(32, "Photos a step.")
    augment: str = option("light", "Changes of the photos: light or off.")
    mixed_precision: bool = option(False, "Compute in bfloat16, on GPUs that have it.")
    devices: tuple[str, ...] = option((), "Devices that share each batch, as gpu:0,gpu:1.")
    save_seconds: float = option(60.0, "Save the state this often, and at the end of each epoch.")

    def __post_init__(self) -> None:
        # JSON gives lists back.
        object.__setattr__(self, "devices", tuple(self.devices))
        if self.augment not in AUGMENTATIONS:
            raise unknown("augmentation", self.augment, AUGMENTATIONS)
        for name, lowest in (("epochs", 1), ("batch_size", 1), ("patience", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
                raise ConfigError(f"{name} must be a whole number from {lowest}", received=value)
        if self.unfreeze != ALL and (isinstance(self.unfreeze, str | bool) or self.unfreeze < 0):
            raise ConfigError("unfreeze must be 'all' or a number of blocks from 0", received=f"'{self.unfreeze}'")
        for name in ("warmup", "label_smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must lie in 0..1, and below 1", received=getattr(self, name))
        for name in ("weight_decay", "clip_norm", "save_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be a finite number from 0", received=getattr(self, name))
        if not 0 < self.rate_decay <= 1:
            raise ConfigError("rate_decay must lie above 0 and not above 1", received=self.rate_decay)
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError("learning_rate must be a finite number above 0", received=self.learning_rate)
        if len(set(self.devices)) != len(self.devices):
            raise ConfigError("each device is named once", received=", ".join(self.devices))
        if self.devices and self.batch_size % len(self.devices):
            raise ConfigError(
                f"{len(self.devices)} devices need a batch size that they can share equally", received=self.batch_size
            )
