"""ImageClassifier: what Python users hold. It only delegates."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras.data.dataset import SPLITS, LabelledImages
from tlkeras.data.open import image_files, open_dataset
from tlkeras.errors import ClassifierError, DataError, unknown
from tlkeras.evaluation.metrics import Evaluation, evaluate_probabilities
from tlkeras.fine_tuning.config import FineTuneConfig
from tlkeras.heads.config import head_named
from tlkeras.images.arrays import as_uint8, png_bytes
from tlkeras.progress import Reporter, Silent
from tlkeras.run_facts import RunFacts, trained_on
from tlkeras.storage import sha256_of
from tlkeras.trained import TrainedClassifier
from tlkeras.training.config import DEFAULT_BACKBONE, TrainConfig
from tlkeras.training.fit import Fitted, fit
from tlkeras.training.measure import Seen, measure, with_class_names, without_seen

if TYPE_CHECKING:
    from tlkeras.export.publish import Published


class ImageClassifier:
    """An image classifier with scikit-learn's feel, trained by transfer learning.

        >>> classifier = ImageClassifier("mobilenet_v2").fit("photos/")    # doctest: +SKIP
        >>> classifier.predict(["a.jpg", "b.jpg"])                         # doctest: +SKIP

    ``backbone``: a name of ``tlkeras.backbones.names()``. ``reporter``: who hears of progress, nobody by
    default. ``options``: the other fields of ``tlkeras.training.config.TrainConfig``, where ``head`` may also be
    "linear", "mlp" or "auto".

    Raises: ConfigError for an option that is unknown or has an impossible value.
    """

    def __init__(self, backbone: str = DEFAULT_BACKBONE, *, reporter: Reporter | None = None, **options: Any) -> None:
        known = [field.name for field in dataclasses.fields(TrainConfig)]
        for name in options:
            if name not in known:
                raise unknown("option", name, known)
        if isinstance(options.get("head"), str):
            options["head"] = head_named(options["head"])
        self.config = TrainConfig(backbone=backbone, **options)
        self.reporter: Reporter = reporter or Silent()
        self.fitted_: Fitted | None = None
        self._trained: TrainedClassifier | None = None
        self._seen: Any = None
        self._trained_on: dict[str, str] | None = None
        self._forget: Callable[[], object] = bool

    @property
    def trained(self) -> TrainedClassifier:
        """The network with its class names and temperature.

        Raises: ClassifierError before ``fit`` or ``load``.
        """
        if self._trained is None:
            raise ClassifierError("the classifier is not trained yet", next_step="Call fit() or load() first.")
        return self._trained

    @property
    def classes_(self) -> np.ndarray:
        """Class names ``[K]``, in the order of ``predict_proba``'s columns; whole numbers where those were given."""
        names = self.trained.class_names
        return np.array([int(name) for name in names] if self.trained.config.numbered else names)

    def fit(self, images: Any, labels: Sequence[Any] | None = None) -> ImageClassifier:
        """Train; returns itself.

        ``images``: a folder, a CSV list, a TFDS name or ``LabelledImages``; or, with ``labels`` (one class
        name or number each), a sequence of paths, bytes, arrays ``[H, W, 3]`` or Pillow images. A test split
        that the data has is kept out; none is made. ``fitted_`` then tells what was seen.

        Raises: DataError, ConfigError, WeightsError, StorageError.
        """
        # What was in memory lies in files as long as this classifier lives, to be fine-tuned on and to check exports.
        folder = Path() if labels is None else Path(tempfile.mkdtemp(prefix="tlkeras-"))
        forget = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True) if labels is not None else None
        dataset = labelled(images, labels, folder, **self.config.layout)
        again = labels is None and images is self._seen and self._trained is not None
        numbered = self.trained.config.numbered if again else labels is not None and _whole_numbers(labels)
        fitted = fit(self.config, dataset, self.reporter, hold_out_test=False)
        if numbered:
            config = dataclasses.replace(fitted.classifier.config, numbered=True)
            trained = TrainedClassifier(config, fitted.classifier.backbone, fitted.classifier.head_weights)
            fitted = dataclasses.replace(fitted, classifier=trained)
        self.fitted_, self._trained = fitted, fitted.classifier
        if forget is not None:
            self._forget()
            self._forget = forget
        self._seen = images if labels is None else dataset
        kept = zip(fitted.verdicts, fitted.images.splits, strict=True)
        self._trained_on = {verdict.sha256: str(split) for verdict, split in kept if split in ("train", "validation")}
        return self

    def fine_tune(
        self, images: Any = None, labels: Sequence[Any] | None = None, *, epochs: int = 10, **options: Any
    ) -> ImageClassifier:
        """Train the network itself on, after its head; returns itself.

        ``images``, ``labels``: as ``fit`` takes them; those that ``fit`` was given by default. The head is fitted as
        ``fit`` does it, from stored features. ``options``: the other fields of
        ``tlkeras.fine_tuning.config.FineTuneConfig``. The fine-tuned network is kept only where it is better on
        validation; ``fitted_.fine_tuning`` tells.

        Raises: DataError where there are no images; ConfigError for an option that is unknown or has an impossible
        value; and as ``fit`` does.
        """
        known = [field.name for field in dataclasses.fields(FineTuneConfig)]
        for name in options:
            if name not in known:
                raise unknown("option", name, known)
        if images is None:
            images = self._seen
        if images is None:
            raise DataError("fine-tuning needs the training images", next_step="Pass them as to fit().")
        self.config = dataclasses.replace(self.config, fine_tune=FineTuneConfig(epochs=epochs, **options))
        return self.fit(images, labels)

    def predict_proba(self, images: Any) -> np.ndarray:
        """Calibrated probabilities, float32 ``[N, K]``.

        ``images``: one image or a sequence of them, each a path, a folder, a glob pattern, the bytes of an
        image file, an array ``[H, W, 3]`` in 0..255 or a Pillow image.

        Raises: ImageError, naming the image, for one that cannot be decoded; DataError, ConfigError.
        """
        items = listed(images)
        return self.trained.predictor(engine=self.config.engine, images=len(items)).predict(items)

    def predict(self, images: Any) -> np.ndarray:
        """The most probable class name of each image, ``[N]``; see ``predict_proba``."""
        return self.classes_[self.predict_proba(images).argmax(axis=1)]

    def score(self, images: Any, labels: Sequence[Any] | None = None, *, include_seen: bool = False) -> float:
        """Accuracy, 0..1, on labelled images; see ``evaluate``."""
        return self.evaluate(images, labels, include_seen=include_seen).accuracy

    def evaluate(self, images: Any, labels: Sequence[Any] | None = None, *, include_seen: bool = False) -> Evaluation:
        """All measures on labelled images as ``fit`` takes them.

        Of a data set, on its test split where it has one, on images that the audit keeps. Given with ``labels``, every
        image counts, copies too. Images that took part in training are left out with a warning, unless
        ``include_seen``; it is known of them after ``fit``, and after ``load`` of a run directory.

        Raises: DataError for a class that the classifier does not know, or no image that is left; ImageError, naming
        the image, for one with a label that cannot be decoded.
        """
        options: dict[str, Any] = {"trained_on": self._trained_on, "include_seen": include_seen}
        if labels is None:
            dataset = labelled(images, None, Path(), **self.config.layout, for_training=False)
            found = measure(self.trained, dataset, **options, engine=self.config.engine, reporter=self.reporter)
            if found.seen is not None:
                _warn(found.seen)
            return found.evaluation
        items, names = _paired(images, labels)
        if not items:
            raise DataError("an evaluation needs at least one image", received="none")
        paths = [str(item) if isinstance(item, str | Path) else f"image {row}" for row, item in enumerate(items)]
        given = with_class_names(_dataset(names, sorted(set(names)), paths), self.trained.class_names)
        split_of = [(self._trained_on or {}).get(_content(item), "") for item in items]
        left, seen = without_seen(given, split_of, known=self._trained_on is not None, include_seen=include_seen)
        if seen.left_out:
            items = [item for item, split in zip(items, split_of, strict=True) if not split]
        _warn(seen)
        predictor = self.trained.predictor(engine=self.config.engine, images=len(items))
        return evaluate_probabilities(predictor.predict(items), left.labels, left.class_names, paths=left.paths)

    def save(self, folder: str | Path) -> Path:
        """Save into a new folder: ``classifier.json`` and its weights.

        Raises: StorageError when the folder exists or the disk refuses.
        """
        return self.trained.save(folder)

    def export(self, folder: str | Path, *, images: Sequence[str | Path] | None = None, **options: Any) -> Published:
        """Publish into ``folder/<next free number>`` for TensorFlow Serving, ONNX Runtime and browsers.

        The export is checked first: every runtime must answer as ``predict`` does, on ``images`` (files, folders,
        patterns; by default photos of ``fit``, of its validation first, else drawn pictures). ``options``: the fields
        of ``tlkeras.export.formats.ExportConfig``: formats, signature, top_k, half.

        Raises: ParityError when an answer differs, and nothing is published; ConfigError, ExportError, StorageError.
        """
        from tlkeras.export.formats import ExportConfig
        from tlkeras.export.publish import export
        from tlkeras.export.samples import samples_for

        known = list(inspect.signature(ExportConfig).parameters)
        for name in options:
            if name not in known:
                raise unknown("option", name, known)
        config = ExportConfig(**options)
        trained = self.trained
        taught = None if self.fitted_ is None else self.fitted_.images
        seen = () if taught is None else taught.in_split("validation").paths or taught.paths
        samples = samples_for(images, seen=seen, reporter=self.reporter)
        facts = RunFacts(Path(folder), dataclasses.asdict(trained.config), run=self._known())
        return export(trained, folder, samples, config, facts=facts, reporter=self.reporter)

    def _known(self) -> dict[str, Any]:
        """What a run directory would say of the training, as far as ``fit`` was called here."""
        if self.fitted_ is None:
            return {}
        return {
            "config": self.config.to_json(),
            "head": self.fitted_.head.description,
            "images": {split: int((self.fitted_.images.splits == split).sum()) for split in SPLITS},
        }

    @classmethod
    def load(cls, folder: str | Path, *, reporter: Reporter | None = None) -> ImageClassifier:
        """Load what ``save`` wrote, or a run directory of ``tlkeras train``.

        Raises: ClassifierError when it is not there, was changed, or does not fit.
        """
        trained = TrainedClassifier.load(folder)
        saved = trained.config
        classifier = cls(
            saved.backbone,
            reporter=reporter,
            size_px=saved.size_px,
            fit=saved.fit,
            mirror=saved.mirror,
            head=saved.head,
        )
        classifier._trained = trained
        classifier._trained_on = trained_on(folder)
        return classifier


def listed(images: Any) -> list[Any]:
    """One image or many, as a list; folders and patterns become the files that they name."""
    if isinstance(images, str | Path):
        return list(image_files([images]))
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    if isinstance(images, bytes | bytearray | memoryview) or hasattr(images, "getexif"):
        return [images]
    found: list[Any] = []
    for image in images:
        found += image_files([image]) if isinstance(image, str | Path) else [image]
    return found


def labelled(images: Any, labels: Sequence[Any] | None, folder: Path, **how: Any) -> LabelledImages:
    """Whatever ``fit`` takes as LabelledImages; images in memory are written into ``folder`` as files first.

    ``how``: for ``open_dataset``.

    Raises: DataError when images and labels do not match; ConfigError for an array that is no image.
    """
    if labels is None:
        if isinstance(images, LabelledImages):
            return images
        if isinstance(images, str | Path):
            return open_dataset(images, **how)
        raise DataError(
            "images without a folder structure need labels", next_step="Pass labels=[…], one for each image."
        )
    items, names = _paired(images, labels)
    # Numbers in their own order: 2 before 10.
    order = {str(label): label for label in labels} if _whole_numbers(labels) else {name: name for name in names}
    class_names = tuple(sorted(order, key=order.__getitem__))
    if len(class_names) < 2:
        raise DataError("a classifier needs at least two classes", received=", ".join(class_names) or "no images")
    return _dataset(names, class_names, [_as_file(item, folder / f"{row:07d}") for row, item in enumerate(items)])


def _dataset(names: Sequence[str], class_names: Sequence[str], paths: Sequence[str]) -> LabelledImages:
    position = {name: index for index, name in enumerate(class_names)}
    return LabelledImages(
        name="images",
        source="memory",
        class_names=tuple(class_names),
        paths=tuple(paths),
        labels=np.array([position[name] for name in names], np.int32),
        splits=np.full(len(names), "", dtype="U10"),
    )


def _paired(images: Any, labels: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """Images and the names of their classes, as many of both."""
    items = list(images)
    if len(items) != len(labels):
        raise DataError("there must be one label for each image", received=f"{len(items)} images, {len(labels)} labels")
    return items, [str(label) for label in labels]


def _whole_numbers(labels: Sequence[Any]) -> bool:
    return all(isinstance(label, Integral) and not isinstance(label, bool) for label in labels)


def _content(image: Any) -> str:
    """The SHA-256 of an image's file, or of the one that ``_as_file`` would write; empty where it cannot be read."""
    if isinstance(image, str | Path):
        try:
            return sha256_of(image)
        except OSError:
            return ""  # the predictor says what is wrong with it
    return hashlib.sha256(_encoded(image)).hexdigest()


def _encoded(image: Any) -> bytes:
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    return png_bytes(as_uint8(image))


def _warn(seen: Seen) -> None:
    for line in seen.report() if seen.left_out else ():
        warnings.warn(line.removeprefix("warning: ").replace("--include-seen", "include_seen=True"), stacklevel=3)


def _as_file(image: Any, path: Path) -> str:
    """An image on disk: the path it has, or a new file."""
    if isinstance(image, str | Path):
        return str(image)
    path.write_bytes(_encoded(image))
    return str(path)
