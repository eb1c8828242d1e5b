"""The backbones, as rows of data. Nothing heavy is imported here.

Names, default sizes, smallest sizes, scaling and cache file names are those of
``keras.applications`` in Keras 3 (https://keras.io/api/applications/). The
licences are those that the weights were published under, as that page and the
original publications state them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ffe.base.text import did_you_mean
from ffe.errors import BackboneError
from ffe.specs import PreprocessMode


@dataclass(frozen=True)
class Backbone:
    """One network of ``keras.applications``, EfficientNet-Lite0, the small one of ``ffe scratch``, or the fake one for tests.

    Attributes:
        name: what users type.
        application: the function in ``keras.applications``; empty for the others.
        size: input height and width where the user names none.
        min_size: smallest input height and width.
        mode: scaling of the pixel values.
        licence: licence of the published weights.
        cache_file: name of the weights file in Keras's own cache; ``{rows}``
            stands for the resolution that the weights were trained at.
        alpha: width multiplier of the MobileNets.
        trained_rows: resolutions that ``{rows}`` may take; the last is taken
            for every other size, as Keras does.
    """

    name: str
    application: str
    size: int
    min_size: int
    mode: PreprocessMode
    licence: str
    cache_file: str
    alpha: float | None = None
    trained_rows: tuple[int, ...] = ()

    def keras_cache_name(self, size: tuple[int, int]) -> str:
        """Return the name of the weights file in Keras's cache for an input (height, width)."""
        if not self.trained_rows:
            return self.cache_file
        square = size[0] if size[0] == size[1] and size[0] in self.trained_rows else self.trained_rows[-1]
        return self.cache_file.format(rows=square)

    @property
    def weights_file(self) -> str:
        """Name of the weights file in a folder of weights (``FFE_WEIGHTS_DIR``)."""
        return f"{self.name}_imagenet_no_top.weights.h5"


LITE0 = "efficientnetlite0"
DEFAULT = LITE0  # of all commands: its weights come with the installation

FAKE = "fake"
CONVNET = "convnet"

_APACHE = "Apache-2.0"
_TF_KERNELS = "_weights_tf_dim_ordering_tf_kernels_notop.h5"


def _mobilenet(alpha: float, digits: str) -> Backbone:
    name = "mobilenet" if alpha == 1 else f"mobilenet_{alpha:g}"
    file = f"mobilenet_{digits}_{{rows}}_tf_no_top.h5"
    return Backbone(name, "MobileNet", 224, 32, "tf", _APACHE, file, alpha, (128, 160, 192, 224))


def _mobilenetv2(alpha: float) -> Backbone:
    name = "mobilenetv2" if alpha == 1 else f"mobilenetv2_{alpha:g}"
    file = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{float(alpha)}_{{rows}}_no_top.h5"
    return Backbone(name, "MobileNetV2", 224, 32, "tf", _APACHE, file, alpha, (96, 128, 160, 192, 224))


def _efficientnetv2(variant: str, size: int) -> Backbone:
    file = f"efficientnetv2-{variant.lower()}_notop.h5"
    return Backbone(f"efficientnetv2{variant.lower()}", f"EfficientNetV2{variant}", size, 32, "none", _APACHE, file)


def _convnext(variant: str) -> Backbone:
    name = f"ConvNeXt{variant}"
    return Backbone(name.lower(), name, 224, 32, "none", "MIT", f"convnext_{variant.lower()}_notop.h5")


_ROWS = (
    Backbone(LITE0, "", 224, 32, "tf", _APACHE, "efficientnet-lite0-57934424.pth"),
    # VGG at 150, as in the article that ffe started from: 4 * 4 * 512 = 8192 features
    Backbone("vgg16", "VGG16", 150, 32, "caffe", "CC-BY-4.0", f"vgg16{_TF_KERNELS}"),
    Backbone("vgg19", "VGG19", 150, 32, "caffe", "CC-BY-4.0", f"vgg19{_TF_KERNELS}"),
    _mobilenet(0.25, "2_5"),
    _mobilenet(0.5, "5_0"),
    _mobilenet(0.75, "7_5"),
    _mobilenet(1, "1_0"),
    *(_mobilenetv2(alpha) for alpha in (0.35, 0.5, 0.75, 1, 1.3, 1.4)),
    *(
        Backbone(
            f"mobilenetv3{kind.lower()}",
            f"MobileNetV3{kind}",
            224,
            32,
            "none",
            _APACHE,
            f"weights_mobilenet_v3_{kind.lower()}_224_1.0_float_no_top_v2.h5",
        )
        for kind in ("Small", "Large")
    ),
    *(
        Backbone(f"efficientnetb{i}", f"EfficientNetB{i}", size, 32, "none", _APACHE, f"efficientnetb{i}_notop.h5")
        for i, size in enumerate((224, 240, 260, 300, 380, 456, 528, 600))
    ),
    *(_efficientnetv2(f"B{i}", size) for i, size in enumerate((224, 240, 260, 300))),
    *(_efficientnetv2(variant, size) for variant, size in (("S", 384), ("M", 480), ("L", 480))),
    *(Backbone(f"resnet{n}", f"ResNet{n}", 224, 32, "caffe", "MIT", f"resnet{n}{_TF_KERNELS}") for n in (50, 101, 152)),
    *(
        Backbone(f"resnet{n}v2", f"ResNet{n}V2", 224, 32, "tf", "BSD-3-Clause", f"resnet{n}v2{_TF_KERNELS}")
        for n in (50, 101, 152)
    ),
    *(
        Backbone(f"densenet{n}", f"DenseNet{n}", 224, 32, "torch", "BSD-3-Clause", f"densenet{n}{_TF_KERNELS}")
        for n in (121, 169, 201)
    ),
    Backbone("xception", "Xception", 299, 71, "tf", "MIT", f"xception{_TF_KERNELS}"),
    Backbone("inceptionv3", "InceptionV3", 299, 75, "tf", _APACHE, f"inception_v3{_TF_KERNELS}"),
    Backbone("inceptionresnetv2", "InceptionResNetV2", 299, 75, "tf", _APACHE, f"inception_resnet_v2{_TF_KERNELS}"),
    Backbone("nasnetmobile", "NASNetMobile", 224, 32, "tf", _APACHE, "nasnet_mobile_no_top.h5"),
    Backbone("nasnetlarge", "NASNetLarge", 331, 32, "tf", _APACHE, "nasnet_large_no_top.h5"),
    *(_convnext(variant) for variant in ("Tiny", "Small", "Base", "Large", "XLarge")),
)


@dataclass(frozen=True)
class Facts:
    """What to choose a backbone by.

    Attributes:
        parameters: of the network without its top, as Keras counts them.
        channels: of its output; as many features once the grid is pooled.
        gflops: arithmetic for one picture of the default size, in 10**9
            operations: two for each multiplication in a convolution or dense layer.
        top1: share of ImageNet's validation photos, in per cent, that the published network, top
            included, is right on. From https://keras.io/api/applications/; of EfficientNet-Lite0
            from its authors (see ``ffe.backbones.lite0``); of MobileNetV3 from the docstring of
            ``keras.applications``; of the narrower MobileNets from Howard et al. 2017,
            https://arxiv.org/abs/1704.04861 (table 6); of the narrower and wider MobileNetV2s from
            https://github.com/tensorflow/models/tree/master/research/slim/nets/mobilenet
            (that of 1.0 differs in both by half a point at most).
    """

    parameters: int
    channels: int
    gflops: float
    top1: float

    @property
    def weights_bytes(self) -> int:
        """Size of the weights, as float32."""
        return 4 * self.parameters


FACTS = {
    "efficientnetlite0": Facts(3_413_024, 1280, 0.77, 75.1),
    "vgg16": Facts(14_714_688, 512, 13.23, 71.3),
    "vgg19": Facts(20_024_384, 512, 16.76, 71.3),
    "mobilenet_0.25": Facts(218_544, 256, 0.08, 50.6),
    "mobilenet_0.5": Facts(829_536, 512, 0.30, 63.7),
    "mobilenet_0.75": Facts(1_832_976, 768, 0.65, 68.4),
    "mobilenet": Facts(3_228_864, 1024, 1.14, 70.4),
    "mobilenetv2_0.35": Facts(410_208, 1280, 0.12, 60.3),
    "mobilenetv2_0.5": Facts(706_224, 1280, 0.19, 65.4),
    "mobilenetv2_0.75": Facts(1_382_064, 1280, 0.42, 69.8),
    "mobilenetv2": Facts(2_257_984, 1280, 0.60, 71.3),
    "mobilenetv2_1.3": Facts(3_766_048, 1664, 1.02, 74.4),
    "mobilenetv2_1.4": Facts(4_363_712, 1792, 1.16, 75.0),
    "mobilenetv3small": Facts(939_120, 576, 0.11, 68.1),
    "mobilenetv3large": Facts(2_996_352, 960, 0.43, 75.6),
    "efficientnetb0": Facts(4_049_571, 1280, 0.77, 77.1),
    "efficientnetb1": Facts(6_575_239, 1280, 1.37, 79.1),
    "efficientnetb2": Facts(7_768_569, 1408, 1.98, 80.1),
    "efficientnetb3": Facts(10_783_535, 1536, 3.65, 81.6),
    "efficientnetb4": Facts(17_673_823, 1792, 8.78, 82.9),
    "efficientnetb5": Facts(28_513_527, 2048, 20.53, 83.6),
    "efficientnetb6": Facts(40_960_143, 2304, 38.13, 84.0),
    "efficientnetb7": Facts(64_097_687, 2560, 75.49, 84.3),
    "efficientnetv2b0": Facts(5_919_312, 1280, 1.43, 78.7),
    "efficientnetv2b1": Facts(6_931_124, 1280, 2.39, 79.8),
    "efficientnetv2b2": Facts(8_769_374, 1408, 3.39, 80.5),
    "efficientnetv2b3": Facts(12_930_622, 1536, 6.02, 82.0),
    "efficientnetv2s": Facts(20_331_360, 1280, 16.73, 83.9),
    "efficientnetv2m": Facts(53_150_388, 1280, 49.16, 85.3),
    "efficientnetv2l": Facts(117_746_848, 1280, 112.16, 85.7),
    "resnet50": Facts(23_587_712, 2048, 7.71, 74.9),
    "resnet101": Facts(42_658_176, 2048, 15.14, 76.4),
    "resnet152": Facts(58_370_944, 2048, 22.56, 76.6),
    "resnet50v2": Facts(23_564_800, 2048, 6.96, 76.0),
    "resnet101v2": Facts(42_626_560, 2048, 14.38, 77.2),
    "resnet152v2": Facts(58_331_648, 2048, 21.81, 78.0),
    "densenet121": Facts(7_037_504, 1024, 5.67, 75.0),
    "densenet169": Facts(12_642_880, 1664, 6.72, 76.2),
    "densenet201": Facts(18_321_984, 1920, 8.58, 77.3),
    "xception": Facts(20_861_480, 2048, 16.71, 79.0),
    "inceptionv3": Facts(21_802_784, 2048, 11.42, 77.9),
    "inceptionresnetv2": Facts(54_336_736, 1536, 26.31, 80.3),
    "nasnetmobile": Facts(4_269_716, 1056, 1.13, 74.4),
    "nasnetlarge": Facts(84_916_818, 4032, 47.56, 82.5),
    "convnexttiny": Facts(27_820_128, 768, 8.91, 81.3),
    "convnextsmall": Facts(49_454_688, 768, 17.37, 82.3),
    "convnextbase": Facts(87_566_464, 1024, 30.71, 85.3),
    "convnextlarge": Facts(196_230_336, 1536, 68.72, 86.3),
    "convnextxlarge": Facts(348_147_968, 2048, 121.84, 86.7),
}

CATALOG = {row.name: row for row in _ROWS}

# not in the catalogue: the first is for tests, the second has no weights but those that ``ffe scratch`` makes
_OTHERS = {
    FAKE: Backbone(FAKE, "", 32, 4, "none", _APACHE, ""),
    CONVNET: Backbone(CONVNET, "", 150, 46, "none", _APACHE, ""),
}


def find(name: str) -> Backbone:
    """Return the row of a backbone.

    Raises:
        BackboneError: there is no such name; the message offers the nearest.
    """
    row = _OTHERS.get(name) or CATALOG.get(name.lower())
    if row is None:
        raise BackboneError(f"There is no backbone '{name}'; 'ffe backbones' lists all of them.{did_you_mean(name, CATALOG)}")
    return row


def check_size(row: Backbone, size: tuple[int, int]) -> None:
    """Check an input (height, width).

    Raises:
        BackboneError: it is smaller than the backbone takes.
    """
    if min(size) < row.min_size:
        raise BackboneError(
            f"The backbone '{row.name}' takes pictures of at least {row.min_size} pixels; "
            f"choose --size {row.min_size} or more instead of {min(size)}."
        )
