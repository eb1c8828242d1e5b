"""What OpenVINO brings to the backbones of timm, against PyTorch on the same processor.

    python -m pytest -m benchmark -s tests/benchmarks/bench_torch_backbones.py

Seeded random weights, the sizes of the slow test of equality; both sides in turn, in one run, over several rounds.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest

from ffe.backbones.resolve import make_spec
from ffe.backbones.torch_library import import_library
from ffe.base.system import cores
from ffe.engines.factory import open_engine
from ffe.engines.throughput import images_per_second

pytestmark = pytest.mark.benchmark

ROUNDS, SECONDS, BATCH, WANTED = 3, 2.0, 8, 1.5

# ten families: with registers and without, towers of CLIP and SigLIP, convolutions, windows
MODELS = {
    "vit_small_patch14_dinov2.lvd142m": 224,
    "vit_small_patch14_reg4_dinov2.lvd142m": 224,
    "vit_base_patch16_clip_224.openai": 224,
    "vit_base_patch16_siglip_224.webli": 224,
    "convnext_tiny.fb_in22k": 224,
    "efficientnet_b0.ra_in1k": 224,
    "mobilenetv4_conv_small.e2400_r224_in1k": 224,
    "swin_tiny_patch4_window7_224.ms_in1k": 224,
    "resnet50.a1_in1k": 224,
    "eva02_tiny_patch14_224.mim_in22k": 224,
}


def test_openvino_against_pytorch() -> None:
    timm = import_library("timm", "timm")
    import torch

    torch.set_num_threads(cores())
    ratios = {}
    for name, side in MODELS.items():
        spec, weights = make_spec(f"timm:{name}", side, "random")
        images = np.random.default_rng(0).integers(0, 256, (4 * BATCH, side, side, 3), np.uint8)
        engine = open_engine(spec, weights)
        fixed = timm.models.get_pretrained_cfg(name).fixed_input_size
        model = timm.create_model(name, **({"img_size": side} if fixed else {})).eval()
        batch = torch.zeros(BATCH, 3, side, side)

        def theirs() -> float:
            with torch.inference_mode():
                model.forward_features(batch)  # noqa: B023
                started, count = time.perf_counter(), 0
                while time.perf_counter() - started < SECONDS:
                    model.forward_features(batch)  # noqa: B023
                    count += BATCH
            return count / (time.perf_counter() - started)

        rates = [(images_per_second(engine, images, SECONDS), theirs()) for _ in range(ROUNDS)]
        ratios[name] = statistics.median(ours / other for ours, other in rates)
        ours, other = (statistics.median(side) for side in zip(*rates, strict=True))
        print(f"{name}: OpenVINO {ours:.1f}/s, PyTorch {other:.1f}/s, ratio {ratios[name]:.2f}", flush=True)
    middle = statistics.median(ratios.values())
    print(f"median ratio {middle:.2f}")
    assert middle >= WANTED
