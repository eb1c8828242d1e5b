"""Where the time went, and what held the run up."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from ffe.cli.show import stages_text
from ffe.engines.fake import FakeEngine
from ffe.extraction.run import Progress, extract
from ffe.extraction.stage_times import Stages
from ffe.images.drawings import draw_folder


@pytest.mark.parametrize(
    ("stages", "limit"),
    [
        (Stages(read=1, decoding=5, waited_for_images=3, waited_for_backbone=1), "decode"),
        (Stages(read=5, decode=9, decoding=1, waited_for_images=3, waited_for_backbone=1), "read"),
        (Stages(read=5, decoding=9, waited_for_images=1, waited_for_backbone=3), "backbone"),
        (Stages(waited_for_images=1, waited_for_backbone=3, waited_for_disk=4), "write"),
        (Stages(), "backbone"),
        # 85 and 12 % of the processor, and decoding, which gives way, is waited for
        (Stages(shared=True, processor=8.5, decode=1.2, decoding=6, waited_for_images=3, waited_for_backbone=1), "backbone"),
        (Stages(shared=True, processor=1.2, decode=8.5, decoding=20, waited_for_images=1, waited_for_backbone=3), "decode"),
        # few threads on many cores: decoding waits for nobody
        (Stages(shared=True, processor=8.5, decode=1.2, decoding=1.3, waited_for_images=3, waited_for_backbone=1), "decode"),
        # a GPU
        (Stages(processor=8.5, decode=1.2, decoding=6, waited_for_images=3, waited_for_backbone=1), "decode"),
        (Stages(shared=True, processor=9, decode=1, read=8, decoding=2, waited_for_images=3), "read"),
    ],
)
def test_the_limit_is_what_was_waited_for(stages: Stages, limit: str) -> None:
    assert stages.limit == limit
    assert stages.to_json()["limit"] == limit
    assert list(stages.to_json()) == ["read", "decode", "backbone", "write", "backbone_processor", "limit"]


def test_the_text_says_who_took_the_processor() -> None:
    stages = Stages(read=0.2, decode=1.2, backbone=4, write=0.1, shared=True, processor=8.8, decoding=6, waited_for_images=3)
    assert stages_text(stages) == (
        "all threads: read 0.2 s, decode 1.2 s, backbone 4.0 s, write 0.1 s; "
        "of the processor's time the backbone took 88%, decoding 12%; limited by the backbone"
    )
    assert stages_text(Stages(decode=1, decoding=1, waited_for_images=1)).endswith("write 0.0 s; limited by decoding")


@pytest.mark.parametrize(
    ("slow", "limit"),
    [
        ("ffe.images.loader.decode_with_hash", "decode"),
        ("ffe.images.loader.read_image", "read"),
        ("ffe.engines.fake.FakeEngine.extract", "backbone"),
    ],
)
def test_a_run_names_its_bottleneck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: str, limit: str) -> None:
    from ffe.images.decode import decode_with_hash, read_image

    inner = {"decode": decode_with_hash, "read": read_image, "backbone": FakeEngine.extract}[limit]

    def slowed(*arguments: object, **options: object) -> object:
        time.sleep(0.15)  # more than all else takes on a busy machine
        return inner(*arguments, **options)  # type: ignore[operator]

    monkeypatch.setattr(slow, slowed)
    monkeypatch.setattr(FakeEngine, "on_cpu", False)  # sleep takes no processor time
    draw_folder(tmp_path / "pictures", 6)
    seen: list[Progress] = []
    summary = extract(tmp_path / "pictures", tmp_path / "f.h5", backbone="fake", batch_size=2, workers=1, progress=seen.append)
    assert summary.stages.limit == limit
    assert seen[-1].stages.limit == limit
    assert summary.stages.write > 0
    assert np.isfinite(summary.stages.read)
