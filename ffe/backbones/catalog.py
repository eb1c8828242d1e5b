"""The backbones, as rows of data: names, sizes, scaling and cache files as in Keras 3 (https://keras.io/api/applications/).

The licences are those that the weights were published under, as that page and the original publications state them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ffe.base.text import did_you_mean
from ffe.errors import BackboneError
from ffe.specs import PreprocessMode


@dataclass(frozen=True)
class Backbone:
    """One network of ``keras.applications``, EfficientNet-Lite0, the small one of ``ffe scratch``, or the fake one for tests."""

    name: str  # what users type
    application: str  # the function in ``keras.applications``; empty for the others
    size: int  # input height and width where the user names none
    min_size: int  # smallest input height and width
    mode: PreprocessMode  # scaling of the pixel values
    licence: str  # licence of the published weights
    parameters: int = 0  # of the network without its top, as Keras counts them
    channels: int = 0  # of its output; as many features once the grid is pooled
    # arithmetic for one picture of the default size, in 10**9 operations: two for each multiplication
    gflops: float = 0.0
    # share of ImageNet's validation photos, in per cent, that the published network, top included, is right on. From
    # https://keras.io/api/applications/; of EfficientNet-Lite0 from its authors (see ``ffe.backbones.lite0``); of MobileNetV3
    # from the docstring of ``keras.applications``; of the narrower MobileNets from Howard et al. 2017,
    # https://arxiv.org/abs/1704.04861 (table 6); of the narrower and wider MobileNetV2s from
    # https://github.com/tensorflow/models/tree/master/research/slim/nets/mobilenet (that of 1.0 differs in both by half a point
    # at most)
    top1: float = 0.0
    # name of the weights file in Keras's own cache; ``{rows}`` stands for the resolution that the weights were trained at
    cache_file: str = ""
    alpha: float | None = None  # width multiplier of the MobileNets
    # resolutions that ``{rows}`` may take; the last is taken for every other size, as Keras does
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

    @property
    def weights_bytes(self) -> int:
        """Size of the weights, as float32."""
        return 4 * self.parameters


LITE0 = "efficientnetlite0"
DEFAULT = LITE0  # of all commands: its weights come with the installation
FAKE = "fake"
CONVNET = "convnet"

_APACHE, _MIT, _BSD, _CC_BY = "Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0"
_ROWS_V1 = (128, 160, 192, 224)
_V3 = "weights_mobilenet_v3_{}_224_1.0_float_no_top_v2.h5"
_KERNELS = "_weights_tf_dim_ordering_tf_kernels_notop.h5"


def _mobilenet(alpha: float, digits: str, parameters: int, channels: int, gflops: float, top1: float) -> Backbone:
    name = "mobilenet" if alpha == 1 else f"mobilenet_{alpha:g}"
    file = f"mobilenet_{digits}_{{rows}}_tf_no_top.h5"
    facts = (parameters, channels, gflops, top1, file, alpha, _ROWS_V1)
    return Backbone(name, "MobileNet", 224, 32, "tf", _APACHE, *facts)


def _mobilenetv2(alpha: float, parameters: int, channels: int, gflops: float, top1: float) -> Backbone:
    name = "mobilenetv2" if alpha == 1 else f"mobilenetv2_{alpha:g}"
    file = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{float(alpha)}_{{rows}}_no_top.h5"
    facts = (parameters, channels, gflops, top1, file, alpha, (96, *_ROWS_V1))
    return Backbone(name, "MobileNetV2", 224, 32, "tf", _APACHE, *facts)


def _keras(application: str, *more: Any) -> Backbone:
    return Backbone(application.lower(), application, *more)


_ROWS = (
    Backbone(LITE0, "", 224, 32, "tf", _APACHE, 3_413_024, 1280, 0.77, 75.1, "efficientnet-lite0-57934424.pth"),
    # VGG at 150, as in the article that ffe started from: 4 * 4 * 512 = 8192 features
    _keras("VGG16", 150, 32, "caffe", _CC_BY, 14_714_688, 512, 13.23, 71.3, f"vgg16{_KERNELS}"),
    _keras("VGG19", 150, 32, "caffe", _CC_BY, 20_024_384, 512, 16.76, 71.3, f"vgg19{_KERNELS}"),
    _mobilenet(0.25, "2_5", 218_544, 256, 0.08, 50.6),
    _mobilenet(0.5, "5_0", 829_536, 512, 0.3, 63.7),
    _mobilenet(0.75, "7_5", 1_832_976, 768, 0.65, 68.4),
    _mobilenet(1, "1_0", 3_228_864, 1024, 1.14, 70.4),
    _mobilenetv2(0.35, 410_208, 1280, 0.12, 60.3),
    _mobilenetv2(0.5, 706_224, 1280, 0.19, 65.4),
    _mobilenetv2(0.75, 1_382_064, 1280, 0.42, 69.8),
    _mobilenetv2(1, 2_257_984, 1280, 0.6, 71.3),
    _mobilenetv2(1.3, 3_766_048, 1664, 1.02, 74.4),
    _mobilenetv2(1.4, 4_363_712, 1792, 1.16, 75.0),
    _keras("MobileNetV3Small", 224, 32, "none", _APACHE, 939_120, 576, 0.11, 68.1, _V3.format("small")),
    _keras("MobileNetV3Large", 224, 32, "none", _APACHE, 2_996_352, 960, 0.43, 75.6, _V3.format("large")),
    _keras("EfficientNetB0", 224, 32, "none", _APACHE, 4_049_571, 1280, 0.77, 77.1, "efficientnetb0_notop.h5"),
    _keras("EfficientNetB1", 240, 32, "none", _APACHE, 6_575_239, 1280, 1.37, 79.1, "efficientnetb1_notop.h5"),
    _keras("EfficientNetB2", 260, 32, "none", _APACHE, 7_768_569, 1408, 1.98, 80.1, "efficientnetb2_notop.h5"),
    _keras("EfficientNetB3", 300, 32, "none", _APACHE, 10_783_535, 1536, 3.65, 81.6, "efficientnetb3_notop.h5"),
    _keras("EfficientNetB4", 380, 32, "none", _APACHE, 17_673_823, 1792, 8.78, 82.9, "efficientnetb4_notop.h5"),
    _keras("EfficientNetB5", 456, 32, "none", _APACHE, 28_513_527, 2048, 20.53, 83.6, "efficientnetb5_notop.h5"),
    _keras("EfficientNetB6", 528, 32, "none", _APACHE, 40_960_143, 2304, 38.13, 84.0, "efficientnetb6_notop.h5"),
    _keras("EfficientNetB7", 600, 32, "none", _APACHE, 64_097_687, 2560, 75.49, 84.3, "efficientnetb7_notop.h5"),
    _keras("EfficientNetV2B0", 224, 32, "none", _APACHE, 5_919_312, 1280, 1.43, 78.7, "efficientnetv2-b0_notop.h5"),
    _keras("EfficientNetV2B1", 240, 32, "none", _APACHE, 6_931_124, 1280, 2.39, 79.8, "efficientnetv2-b1_notop.h5"),
    _keras("EfficientNetV2B2", 260, 32, "none", _APACHE, 8_769_374, 1408, 3.39, 80.5, "efficientnetv2-b2_notop.h5"),
    _keras("EfficientNetV2B3", 300, 32, "none", _APACHE, 12_930_622, 1536, 6.02, 82.0, "efficientnetv2-b3_notop.h5"),
    _keras("EfficientNetV2S", 384, 32, "none", _APACHE, 20_331_360, 1280, 16.73, 83.9, "efficientnetv2-s_notop.h5"),
    _keras("EfficientNetV2M", 480, 32, "none", _APACHE, 53_150_388, 1280, 49.16, 85.3, "efficientnetv2-m_notop.h5"),
    _keras("EfficientNetV2L", 480, 32, "none", _APACHE, 117_746_848, 1280, 112.16, 85.7, "efficientnetv2-l_notop.h5"),
    _keras("ResNet50", 224, 32, "caffe", _MIT, 23_587_712, 2048, 7.71, 74.9, f"resnet50{_KERNELS}"),
    _keras("ResNet101", 224, 32, "caffe", _MIT, 42_658_176, 2048, 15.14, 76.4, f"resnet101{_KERNELS}"),
    _keras("ResNet152", 224, 32, "caffe", _MIT, 58_370_944, 2048, 22.56, 76.6, f"resnet152{_KERNELS}"),
    _keras("ResNet50V2", 224, 32, "tf", _BSD, 23_564_800, 2048, 6.96, 76.0, f"resnet50v2{_KERNELS}"),
    _keras("ResNet101V2", 224, 32, "tf", _BSD, 42_626_560, 2048, 14.38, 77.2, f"resnet101v2{_KERNELS}"),
    _keras("ResNet152V2", 224, 32, "tf", _BSD, 58_331_648, 2048, 21.81, 78.0, f"resnet152v2{_KERNELS}"),
    _keras("DenseNet121", 224, 32, "torch", _BSD, 7_037_504, 1024, 5.67, 75.0, f"densenet121{_KERNELS}"),
    _keras("DenseNet169", 224, 32, "torch", _BSD, 12_642_880, 1664, 6.72, 76.2, f"densenet169{_KERNELS}"),
    _keras("DenseNet201", 224, 32, "torch", _BSD, 18_321_984, 1920, 8.58, 77.3, f"densenet201{_KERNELS}"),
    _keras("Xception", 299, 71, "tf", _MIT, 20_861_480, 2048, 16.71, 79.0, f"xception{_KERNELS}"),
    _keras("InceptionV3", 299, 75, "tf", _APACHE, 21_802_784, 2048, 11.42, 77.9, f"inception_v3{_KERNELS}"),
    _keras("InceptionResNetV2", 299, 75, "tf", _APACHE, 54_336_736, 1536, 26.31, 80.3, f"inception_resnet_v2{_KERNELS}"),
    _keras("NASNetMobile", 224, 32, "tf", _APACHE, 4_269_716, 1056, 1.13, 74.4, "nasnet_mobile_no_top.h5"),
    _keras("NASNetLarge", 331, 32, "tf", _APACHE, 84_916_818, 4032, 47.56, 82.5, "nasnet_large_no_top.h5"),
    _keras("ConvNeXtTiny", 224, 32, "none", _MIT, 27_820_128, 768, 8.91, 81.3, "convnext_tiny_notop.h5"),
    _keras("ConvNeXtSmall", 224, 32, "none", _MIT, 49_454_688, 768, 17.37, 82.3, "convnext_small_notop.h5"),
    _keras("ConvNeXtBase", 224, 32, "none", _MIT, 87_566_464, 1024, 30.71, 85.3, "convnext_base_notop.h5"),
    _keras("ConvNeXtLarge", 224, 32, "none", _MIT, 196_230_336, 1536, 68.72, 86.3, "convnext_large_notop.h5"),
    _keras("ConvNeXtXLarge", 224, 32, "none", _MIT, 348_147_968, 2048, 121.84, 86.7, "convnext_xlarge_notop.h5"),
)

CATALOG = {row.name: row for row in _ROWS}

# not in the catalogue: the first is for tests, the second has no weights but those that ``ffe scratch`` makes
_OTHERS = {
    FAKE: Backbone(FAKE, "", 32, 4, "none", _APACHE),
    CONVNET: Backbone(CONVNET, "", 150, 46, "none", _APACHE),
}


def find(name: str) -> Backbone:
    """Return the row of a backbone; a BackboneError offers the nearest name."""
    row = _OTHERS.get(name) or CATALOG.get(name.lower())
    if row is None:
        more = did_you_mean(name, CATALOG) or " Names of timm and Hugging Face begin with timm: and hf:, files end with .onnx."
        raise BackboneError(f"There is no backbone '{name}'; 'ffe backbones' lists all of them.{more}")
    return row


def check_size(row: Backbone, size: tuple[int, int]) -> None:
    """Refuse an input (height, width) that is smaller than the backbone takes."""
    if min(size) < row.min_size:
        raise BackboneError(
            f"The backbone '{row.name}' takes pictures of at least {row.min_size} pixels; "
            f"choose --size {row.min_size} or more instead of {min(size)}."
        )
