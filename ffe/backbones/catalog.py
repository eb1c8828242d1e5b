"""The backbones, as rows of data. Nothing heavy is imported here.

Names, default sizes, smallest sizes, scaling and cache file names are those of
``keras.applications`` in Keras 3 (https://keras.io/api/applications/). The
licences are those that the weights were published under, as that page and the
original publications state them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ffe.errors import BackboneError
from ffe.specs import PreprocessMode
from ffe.text import did_you_mean


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
