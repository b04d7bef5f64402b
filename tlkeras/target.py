"""The network that is looked into or attacked: an ImageNet network or a trained classifier, behind one face."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import backbones
from tlkeras.backbones import imagenet
from tlkeras.backbones.folding import fold_batch_norm
from tlkeras.backbones.weights import IMAGENET
from tlkeras.data.pipeline import fitted_image
from tlkeras.engines import Runner
from tlkeras.errors import ConfigError, unknown
from tlkeras.heads.logits import ranked, softmax
from tlkeras.trained import TrainedClassifier, find

# How photos become square for a network with its ImageNet top: nothing is distorted, as when it was trained.
IMAGENET_FIT = "crop"


@dataclass(frozen=True)
class Target:
    """A network from pixels to logits, and what the words for its classes are.

    name: the backbone's name, or the folder that a classifier was loaded from.
    backbone: the backbone's name in ``tlkeras.backbones``.
    network: Keras model, float32 ``[N, S, S, 3]`` RGB in 0..255 → logits float32 ``[N, K]``.
    class_names: K names in the order of the logits; ``wordnet_ids``: K ids for ImageNet, else empty.
    size_px, fit: S, and how images become ``[S, S, 3]`` (see ``tlkeras.images.resize``).
    temperature: probabilities are ``softmax(logits / temperature)``.
    classifier: what was trained, where it is that and not a backbone with its ImageNet top.
    """

    name: str
    backbone: str
    network: Any
    class_names: tuple[str, ...]
    size_px: int
    fit: str
    temperature: float = 1.0
    wordnet_ids: tuple[str, ...] = ()
    classifier: TrainedClassifier | None = None

    @cached_property
    def sha256(self) -> str:
        """The hash of the network's weights, by which an engine keeps it."""
        return backbones.weights_sha256(self.network)

    def logits(self, pixels: Any) -> Any:
        """Logits, a float32 tensor ``[N, K]``, of a float32 tensor ``[N, S, S, 3]`` in 0..255; differentiable."""
        return self.network(pixels, training=False)

    @cached_property
    def folded(self) -> Target:
        """The same network with its batch normalisations folded: the same answers up to rounding, quicker gradients."""
        return replace(self, network=fold_batch_norm(self.network))

    @cached_property
    def _forward(self) -> Any:
        import tensorflow as tf

        signature = [tf.TensorSpec([None, self.size_px, self.size_px, 3], tf.float32)]
        return tf.function(self.logits, input_signature=signature)

    def probabilities(self, pixels: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
        """Probabilities float32 ``[N, K]`` of pixels ``[N, S, S, 3]`` in 0..255, uint8 or float.

        Raises: ConfigError for pixels of another shape.
        """
        return softmax(self.batched_logits(pixels, batch_size=batch_size), self.temperature)

    def batched_logits(self, pixels: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
        """Logits float32 ``[N, K]`` of pixels ``[N, S, S, 3]`` in 0..255, uint8 or float.

        Raises: ConfigError for pixels of another shape.
        """
        side = self.size_px
        if np.ndim(pixels) != 4 or np.shape(pixels)[1:] != (side, side, 3):
            raise ConfigError(f"pixels must be [N, {side}, {side}, 3]", received=list(np.shape(pixels)))
        answers = np.empty((len(pixels), len(self.class_names)), np.float32)
        for start in range(0, len(pixels), batch_size):
            batch = np.ascontiguousarray(pixels[start : start + batch_size], np.float32)
            answers[start : start + batch_size] = self._forward(batch).numpy()
        return answers

    def quick_answers(self, images: int | None = None) -> Callable[[np.ndarray], np.ndarray]:
        """From pixels float32 ``[n, S, S, 3]`` in 0..255 to probabilities ``[n, K]``, without gradients, on the engine.

        ``images``: how many there will be, where that is known; see ``tlkeras.engines.Runner``.
        """
        if self.classifier is not None:
            return self.classifier.predictor(images=images).of_pixels
        run = Runner(self, images=images)
        return lambda pixels: softmax(run(pixels), self.temperature)

    def load(self, image: Any) -> np.ndarray:
        """One image as the network takes it: float32 ``[S, S, 3]`` in 0..255.

        ``image``: a path, the bytes of an image file, a Pillow image or an array in 0..255.

        Raises: ImageError when it cannot be decoded; ConfigError for an array of another shape or range.
        """
        return fitted_image(image, self.size_px, self.fit)

    def ranked(self, probabilities: np.ndarray, top: int = 3) -> list[dict[str, Any]]:
        """The most probable classes of one row ``[K]``: ``{"label", "probability"}``, best first."""
        return [
            {"label": self.class_names[k], "probability": round(float(probabilities[k]), 6)}
            for k in ranked(probabilities, top)
        ]

    def class_index(self, text: str | int) -> int:
        """The index of a class that is named by its name, its WordNet id or its index.

        Case does not matter, nor whether words are joined by blanks, underscores or hyphens.

        Raises: ConfigError, with the nearest name, for a class that the network does not have or a name
        that several classes have.
        """
        return _class_index(self, str(text).strip())


def load_target(
    network: str | Path | TrainedClassifier | Target, *, weights: str = IMAGENET, size_px: int | None = None
) -> Target:
    """Open a backbone with its ImageNet top by its name, or a classifier by its run directory.

    ``weights``, ``size_px``: see ``backbones.build``; for a backbone only, a classifier brings its own.

    Raises: ConfigError for a name that is neither; WeightsError; ClassifierError for a damaged classifier.
    """
    if isinstance(network, Target):
        return network
    if isinstance(network, TrainedClassifier):
        return _of_classifier(network, "classifier")
    text = str(network)
    # A folder called like a backbone is meant when it is written as a path: ./vgg16
    if text in backbones.BACKBONES:
        model = backbones.build(text, weights, size_px=size_px, top=True)
        return Target(
            name=text,
            backbone=text,
            network=model,
            class_names=imagenet.class_names(),
            size_px=model.input_shape[1],
            fit=IMAGENET_FIT,
            wordnet_ids=imagenet.wordnet_ids(),
        )
    if not Path(text).exists():
        step = "Give the folder of a run, or a backbone; 'tlkeras backbones' lists all."
        raise unknown("network", text, backbones.BACKBONES, next_step=step)
    if weights != IMAGENET or size_px is not None:
        raise ConfigError("a trained classifier brings its own weights and size", received=f"others for '{text}'")
    return _of_classifier(TrainedClassifier.load(find(text)), text)


def _of_classifier(classifier: TrainedClassifier, name: str) -> Target:
    config = classifier.config
    return Target(
        name=name,
        backbone=config.backbone,
        network=classifier.network,
        class_names=config.class_names,
        size_px=config.size_px,
        fit=config.fit,
        temperature=config.temperature,
        classifier=classifier,
    )


def _plain(text: str) -> str:
    return " ".join(text.replace("_", " ").replace("-", " ").casefold().split())


def _class_index(target: Target, text: str) -> int:
    names, ids = target.class_names, target.wordnet_ids
    exact = [k for k, name in enumerate(names) if name == text]
    same = exact or [k for k, name in enumerate(names) if _plain(name) == _plain(text)]
    if len(same) == 1:
        return same[0]
    if same:
        choices = ", ".join(f"{k} ({ids[k]})" if ids else f"{k} ('{names[k]}')" for k in same)
        raise ConfigError(f"{len(same)} classes are called '{text}': {choices}", next_step="Give one by its number.")
    if text.lower() in ids:
        return ids.index(text.lower())
    if text.lstrip("-").isdecimal():
        if 0 <= int(text) < len(names):
            return int(text)
        raise ConfigError(f"classes of {target.name} are numbered 0..{len(names) - 1}", received=text)
    hint = _suggestion(names, text)
    raise ConfigError(f"unknown class '{text}'; {hint} Name, number and WordNet id are understood.")


def _suggestion(names: tuple[str, ...], text: str) -> str:
    plain = {_plain(name): name for name in names}
    wanted = _plain(text)
    # One word of a name first: "terrier" is meant as it stands, whatever else is spelt like it.
    near = [key for key in plain if wanted and wanted in key.split()][:6]
    near = near or difflib.get_close_matches(wanted, plain, n=1, cutoff=0.55)
    if near:
        return f"did you mean {' or '.join(repr(plain[key]) for key in near)}?"
    shown = ", ".join(names[:8])
    return f"known are {shown}{', …' if len(names) > 8 else ''}."
