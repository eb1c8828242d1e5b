"""What does a cluster cost? The same two cores, through the local runner and through Ray."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
from photo_lists import listed

from ffe.extraction.run import extract

ROOT = Path(__file__).resolve().parent.parent.parent
ROUNDS = 3
PHOTOS = 1399


@pytest.mark.benchmark
@pytest.mark.parametrize("machines", [1, 2])
def test_rate_of_the_image_loop(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machines: int) -> None:
    """The image loop of ``--runner ray`` runs at 0.8 of the local one's rate, or better; the cluster's start does not count."""
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.cluster_utils import Cluster

    files = sorted((shared / "images" / "dogs_vs_cats").glob("*/*.jpg"))[:PHOTOS]
    listing = listed(tmp_path / "photos.csv", files)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2 // machines, "include_dashboard": False})
    try:
        for _ in range(machines - 1):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        options: dict[str, dict[str, Any]] = {"local": {}, "ray": {"runner": "ray", "address": cluster.address}}
        ratios = []
        for number in range(ROUNDS):
            rate = {}
            for where in ("ray", "local") if number % 2 else ("local", "ray"):  # some machines are fast at first
                rate[where] = extract(listing, tmp_path / f"{where}{number}.h5", **options[where]).images_per_second
            assert (tmp_path / f"local{number}.h5").read_bytes() == (tmp_path / f"ray{number}.h5").read_bytes()
            ratios.append(rate["ray"] / rate["local"])
            print(f"local {rate['local']:.1f}/s, ray {rate['ray']:.1f}/s, ratio {ratios[-1]:.3f}", flush=True)
            (tmp_path / f"local{number}.h5").unlink()
            (tmp_path / f"ray{number}.h5").unlink()
    finally:
        ray.shutdown()
        cluster.shutdown()
    print(f"{machines} machines: median ratio {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")
    assert statistics.median(ratios) >= 0.8
