"""Whatever a feature file or a model holds, reading it gives an answer or one sentence: no traceback, no crash, no hang.

By default few cases, in this process, so that hypothesis can make them small;
the long proof runs thousands in a process that is watched.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from damage import damaged_bundle, damaged_store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from use import outcome, use_bundle, use_store
from watched import Watch

WORKER = Path(__file__).with_name("fuzz_worker.py")
_BOUNDED = settings(max_examples=150, deadline=10_000, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize(
    ("damage", "use", "good"),
    [(damaged_store, use_store, "fake_store"), (damaged_bundle, use_bundle, "fake_bundle")],
    ids=["store", "bundle"],
)
def test_an_answer_or_a_sentence(
    damage: Callable[[Path, Path, random.Random], None],
    use: Callable[[Path], None],
    good: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sound: Path = request.getfixturevalue(good)
    monkeypatch.chdir(tmp_path)
    bad, outcomes = tmp_path / f"bad{sound.suffix}", []

    @_BOUNDED
    @given(st.randoms(use_true_random=False))
    def run(rng: random.Random) -> None:
        damage(sound, bad, rng)
        outcomes.append(outcome(use, bad))

    run()
    assert list(tmp_path.iterdir()) == [bad]
    assert set(outcomes) == {"sound", "refused"}  # neither is everything let through, nor is everything refused


@pytest.fixture(scope="session")
def stores(fake_store: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Feature files of all kinds: plain, compressed, of half precision, virtual."""
    from ffe import pack

    folder = tmp_path_factory.mktemp("stores")
    pack([fake_store], folder / "gzip.h5", compress="gzip")
    pack([fake_store], folder / "lzf.h5", compress="lzf")
    return [fake_store, folder / "gzip.h5", folder / "lzf.h5"]


@pytest.fixture(scope="session")
def bundles(fake_store: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A model of each kind of head."""
    from ffe.commands.tune import train

    folder = tmp_path_factory.mktemp("bundles")
    heads = ("logistic", "svm", "forest", "dense")
    for head in heads:
        train(fake_store, folder / f"{head}.ffe", head=head)
    return [folder / f"{head}.ffe" for head in heads]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("store", 3000), ("bundle", 3000)])
def test_thousands_in_a_process_that_is_watched(kind: str, count: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    watch = Watch(WORKER, (kind, str(tmp_path)), request.getfixturevalue(f"{kind}s"), {"sound", "refused"})
    watch.run(count)
    assert watch.faults == []
    assert watch.outcomes.total() == count
    assert watch.outcomes["sound"] > 0.02 * count
