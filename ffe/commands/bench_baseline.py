"""The usual way of tutorials, as a yardstick: one photo after another through ``model.predict``.

Run as ``python -m ffe.commands.bench_baseline LIST BACKBONE HEIGHT WIDTH WEIGHTS LAYER``,
where LIST is a file with a path on each line, and LAYER may be empty; prints its seconds as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main(listing: str, backbone: str, height: str, width: str, weights: str, layer: str) -> None:
    """Extract the features of every photo of a list, and keep none."""
    import keras

    from ffe.backbones.keras_build import build
    from ffe.backbones.resolve import make_spec
    from ffe.images.preprocess import preprocess

    size = (int(height), int(width))
    spec, found = make_spec(backbone, size, weights, layer or None)
    model = build(spec, found)
    started = time.perf_counter()
    for path in Path(listing).read_text("utf-8").splitlines():
        try:
            image = keras.utils.load_img(path, target_size=size, interpolation="bilinear")
        except OSError:  # no picture; tutorials would stop here
            continue
        array = keras.utils.img_to_array(image)[None].astype("uint8")
        model.predict(preprocess(array, spec.preprocess.mode), verbose=0)
    print(json.dumps({"loop_seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main(*sys.argv[1:])
