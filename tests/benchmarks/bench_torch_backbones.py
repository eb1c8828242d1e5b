"""What OpenVINO brings to the backbones of timm, against PyTorch on the same processor.

    python -m pytest -m benchmark -s tests/benchmarks/bench_torch_backbones.py

Seeded random weights, the sizes of the slow test of equality; both sides in turn, in one run, over several rounds, each
at the batch that it is fastest with. Beside the rates stands how much of the peak each side reaches: the peak is the
fastest product of two large float32 matrices in the same run, and neither side can go beyond it without fewer products.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import pytest

from ffe.backbones.resolve import make_spec
from ffe.backbones.torch_library import import_library
from ffe.base.system import cores
from ffe.base.text import counted
from ffe.engines.factory import open_engine
from ffe.engines.throughput import images_per_second

pytestmark = pytest.mark.benchmark

ROUNDS, SECONDS, BATCHES, WANTED = 3, 2.0, (1, 2, 4, 8), 1.5

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


def _products_per_second() -> float:
    """Return the most multiplications and additions a second of this machine, in 1e9, by products of 2,048 x 2,048."""
    import torch

    ours, theirs = np.ones((2048, 2048), np.float32), torch.ones(2048, 2048)
    best = float("inf")
    for one in (ours, theirs):
        for _ in range(20):
            started = time.perf_counter()
            one @ one
            best = min(best, time.perf_counter() - started)
    return 2 * 2048**3 / best / 1e9


def _products(model: Any, side: int) -> float:
    """Return the multiplications and additions of one picture, in 1e9."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.forward_features(torch.zeros(1, 3, side, side))
    return counter.get_total_flops() / 1e9


def _torch_rate(model: Any, side: int, batch: int, seconds: float) -> float:
    import torch

    pixels = torch.zeros(batch, 3, side, side)
    with torch.inference_mode():
        model.forward_features(pixels)
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            model.forward_features(pixels)
            count += batch
    return count / (time.perf_counter() - started)


def test_openvino_against_pytorch() -> None:
    timm = import_library("timm", "timm")
    import torch

    torch.set_num_threads(cores())
    peak = _products_per_second()
    print(f"\npeak: {peak:.0f} GFLOP/s in float32 on {counted(cores(), 'core')}", flush=True)
    ratios = {}
    for name, side in MODELS.items():
        spec, weights = make_spec(f"timm:{name}", side, "random")
        images = np.random.default_rng(0).integers(0, 256, (4 * max(BATCHES), side, side, 3), np.uint8)
        engine = open_engine(spec, weights)
        fixed = timm.models.get_pretrained_cfg(name).fixed_input_size
        model = timm.create_model(name, **({"img_size": side} if fixed else {})).eval()

        def ours(batch: int, seconds: float) -> float:
            engine.batch_size = batch  # noqa: B023
            return images_per_second(engine, images, seconds)  # noqa: B023

        def theirs(batch: int, seconds: float) -> float:
            return _torch_rate(model, side, batch, seconds)  # noqa: B023

        best = [max(BATCHES, key=lambda batch: rate(batch, SECONDS / 2)) for rate in (ours, theirs)]
        rates = [(ours(best[0], SECONDS), theirs(best[1], SECONDS)) for _ in range(ROUNDS)]
        ratios[name] = statistics.median(one / other for one, other in rates)
        middle = [statistics.median(each) for each in zip(*rates, strict=True)]
        shares = [rate * _products(model, side) / peak for rate in middle]
        print(
            f"{name}: OpenVINO {middle[0]:.1f}/s (batch {best[0]}, {shares[0]:.0%} of the peak), "
            f"PyTorch {middle[1]:.1f}/s (batch {best[1]}, {shares[1]:.0%}), ratio {ratios[name]:.2f}",
            flush=True,
        )
    middle_ratio = statistics.median(ratios.values())
    print(f"median ratio {middle_ratio:.2f}")
    assert middle_ratio >= WANTED
