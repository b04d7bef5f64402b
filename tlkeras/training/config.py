"""What a training run was asked to do, as plain values that a run directory keeps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from tlkeras.backbones import table as backbones
from tlkeras.backbones.table import OWN_FIT
from tlkeras.errors import ConfigError, unknown
from tlkeras.fine_tuning.config import FineTuneConfig
from tlkeras.heads.config import BALANCES, HeadConfig, HeadSearch, head_from_json
from tlkeras.options import DATA, HEAD, NETWORK, option

DEFAULT_BACKBONE = "mobilenet_v2"
# The share that measures where a part must be held out and none was named.
HELD_OUT = 0.15
# The drawn demo needs no download, so neither may the network that it is tried with.
DEMO_BACKBONE = "tlkeras_tiny"


@dataclass(frozen=True)
class TrainConfig:
    """Options of one training run.

    backbone: a name of ``tlkeras backbones``. weights: ``pretrained``, ``imagenet``, ``none`` (random) or a path.
    size_px: side of the network's input; the backbone's own by default. fit: ``crop``, ``stretch``, ``pad``, or
    ``auto``, in whose place the backbone's own is kept.
    mirror: average the features of every image with those of its mirror image (twice the work).
    head: which head is trained on the features, or how long to search for the best one.
    balance: whether every class counts the same in a linear head, see ``tlkeras.heads.search.search_linear``.
    validation_fraction, test_fraction: shares that are split off where the data has no such split, 0..0.5. Without a
    test_fraction no photo is held out where every one can be judged by a head that had not seen it (``crossed`` in
    ``tlkeras.training.fit``), else ``HELD_OUT``.
    seed: same seed, same result. engine, precision: see ``tlkeras.engines``.
    memory_gb: with more features than fit in it (GB of 10⁹ bytes), the head is trained in batches.
    strict: stop when the audit rejects a file, instead of going on without it.
    class_from_name, classes_at: how folders are read, see ``tlkeras.data.folder``.
    group_by: a regular expression that names the group of a photo by its path, see ``LabelledImages.grouped_by``.
    fine_tune: how the network is trained on, after its head; None leaves it frozen.
    """

    backbone: str = option(
        DEFAULT_BACKBONE,
        f"Pretrained network; 'tlkeras backbones' lists all. {DEMO_BACKBONE} for demo.",
        panel=NETWORK,
    )
    weights: str = option("pretrained", "pretrained, imagenet, none (random), or a weights file.", panel=NETWORK)
    size_px: int | None = option(
        None, "Input size in pixels; the network's own by default.", panel=NETWORK, flag="--size"
    )
    fit: str = option(
        OWN_FIT, "How photos become square: stretch, crop, pad, auto (as suits the network).", panel=NETWORK
    )
    mirror: bool = option(False, "Average the features of each photo with those of its mirror image.", panel=NETWORK)
    head: HeadConfig | HeadSearch = field(default_factory=HeadConfig)
    balance: str = option(
        "auto", "Of a linear head: classes (all count the same), none, or auto where they are uneven.", panel=HEAD
    )
    validation_fraction: float = option(0.15, "Share split off for choosing the head.", panel=DATA)
    test_fraction: float | None = option(
        None,
        "Share split off for measuring; by default none: heads in folds judge all photos (0.15 with --fine-tune).",
        panel=DATA,
    )
    seed: int = option(0, "Same seed, same result.")
    engine: str = option(
        "auto", "Who runs the frozen network: auto, openvino, onnxruntime or tensorflow.", panel=NETWORK
    )
    precision: str = option("fp32", "fp32, or bf16 (faster where OpenVINO and the CPU have it).", panel=NETWORK)
    memory_gb: float = option(2.0, "With more features than fit in it the head is trained in batches.")
    strict: bool = option(False, "Stop when a photo is rejected.", panel=DATA)
    class_from_name: bool = option(
        False, "Classes are the first words of the files' names (cat.0.jpg), not folders.", panel=DATA
    )
    classes_at: int | None = option(
        None, "Classes are the folders at this depth, 1 for those on top; by default as it is understood.", panel=DATA
    )
    group_by: str | None = option(
        None, "Regular expression: what it finds in a path names the photo's video, patient, plant … .", panel=DATA
    )
    fine_tune: FineTuneConfig | None = None

    def __post_init__(self) -> None:
        from tlkeras.images.resize import check_fit  # loads NumPy, which the command line's help does without

        row = backbones.get(self.backbone)
        object.__setattr__(self, "fit", row.fit_asked(self.fit))  # what is kept is what was done
        check_fit(self.fit, self.side_px)
        if self.side_px < row.min_size_px:
            raise ConfigError(
                f"{row.name} takes images of {row.min_size_px} px and more", received=f"{self.size_px} px"
            )
        for name in ("validation_fraction", "test_fraction"):
            share = getattr(self, name)
            if share is not None and not 0 < share <= 0.5:
                raise ConfigError(f"{name} must lie above 0 and not above 0.5", received=share)
        if self.balance not in BALANCES:
            raise unknown("balance", self.balance, BALANCES)
        if self.balance == "classes" and (self.head.kind != "linear" or self.fine_tune is not None):
            raise ConfigError(
                "--balance classes weighs the photos of a frozen network's linear head",
                received="--fine-tune" if self.fine_tune is not None else f"--head {self.head.kind}",
                next_step="Leave one of them out.",
            )
        if not self.memory_gb > 0:
            raise ConfigError("--memory-gb is a positive number", received=self.memory_gb)
        if not 0 <= self.seed < 2**32:
            raise ConfigError("seed must be a whole number from 0 to 4294967295", received=self.seed)

    @property
    def side_px(self) -> int:
        """The input size that is used, in pixels."""
        return self.size_px or backbones.get(self.backbone).size_px

    @property
    def test_share(self) -> float:
        """The share that measures where a part is held out, 0..0.5."""
        return HELD_OUT if self.test_fraction is None else self.test_fraction

    @property
    def views(self) -> tuple[str, ...]:
        """The views of an image whose features are averaged."""
        return ("plain", "mirrored") if self.mirror else ("plain",)

    @property
    def layout(self) -> dict[str, Any]:
        """How folders are read, for ``tlkeras.data.open.open_dataset``."""
        return {
            "class_from_name": self.class_from_name,
            "classes_at": self.classes_at,
            "group_by": self.group_by,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``run.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> TrainConfig:
        """The config that ``to_json`` described.

        Raises: ConfigError for a value that an option cannot have; TypeError for options that there are not.
        """
        fine_tune = plain.get("fine_tune")
        parts = {
            "head": head_from_json(plain["head"]),
            "fine_tune": None if fine_tune is None else FineTuneConfig(**fine_tune),
        }
        return cls(**{**plain, **parts})
