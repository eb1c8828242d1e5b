"""Photos at gs://, az:// and hf:// give the file of the folder; what fails is said; only what changed is read again.

pip install gcsfs gcp-storage-emulator adlfs huggingface_hub; npm install azurite
FFE_TEST_AZURITE=node_modules/.bin/azurite-blob python -m pytest -m slow tests/extraction/test_clouds.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud_servers import CLOUDS, Cloud
from feature_files import differences

from ffe.commands.tune import train
from ffe.images.image_handle import READERS
from ffe.store.reader import FeatureStore

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=list(CLOUDS))
def cloud(request: pytest.FixtureRequest, pictures: Path) -> Iterator[Cloud]:
    with CLOUDS[request.param]() as server:
        for name in names_of(pictures):
            server.put(name, (pictures / name).read_bytes())
        yield server


def names_of(pictures: Path) -> list[str]:
    return sorted(file.relative_to(pictures).as_posix() for file in pictures.glob("*/*.png"))


def ffe(*arguments: object, code: int = 0, **environment: str) -> str:
    """Run a command in a process of its own, as the libraries read their environment once; return what it says."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "GOOGLE_", "HF_"))}
    command = [sys.executable, "-m", "ffe", *map(str, arguments)]
    done = subprocess.run(command, env={**known, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def extract(cloud: Cloud, source: object, output: Path) -> list[str]:
    """Extract, and return what was read, sorted."""
    cloud.reads.clear()
    cloud.asked = 0
    ffe("extract", source, "-o", output, "--backbone", "fake", **cloud.environment)
    return sorted(set(cloud.reads))


def test_a_folder_of_classes(cloud: Cloud, pictures: Path, fake_store: Path, tmp_path: Path) -> None:
    """One has no right to a photo at first; another is replaced then."""
    output, names = tmp_path / "features.h5", names_of(pictures)
    cloud.refused.add(names[0])
    assert extract(cloud, cloud.root, output) == names
    assert cloud.reads.count(names[0]) == 1  # what is refused is not asked for again and again
    assert cloud.asked <= len(names) + READERS + 8  # a thread may ask for what all of it is in
    with FeatureStore(output) as store:
        (skipped,) = store.skipped
        assert (skipped.path, skipped.reason) == (names[0], "unreadable")
        assert skipped.message.startswith("you have no right to read it (")
    cloud.refused.clear()
    assert extract(cloud, cloud.root, output) == [names[0]]
    assert differences(fake_store, output) == {"stat", "source", "tables_sha256"}
    assert extract(cloud, cloud.root, output) == []
    cloud.put(names[1], (pictures / names[1]).read_bytes() + b"more")
    assert extract(cloud, cloud.root, output) == [names[1]]
    cloud.put(names[1], (pictures / names[1]).read_bytes())


def test_lists_and_who_goes_back_to_a_photo(cloud: Cloud, pictures: Path, fake_store: Path, tmp_path: Path) -> None:
    names = names_of(pictures)
    here = tmp_path / "photos.csv"
    here.write_text("path,label\n" + "".join(f"{cloud.root}/{name},{name[:3]}\n" for name in names))
    assert extract(cloud, here, tmp_path / "here.h5") == names
    assert extract(cloud, here, tmp_path / "here.h5") == []
    cloud.put("photos.csv", ("path,label\n" + "".join(f"{name},{name[:3]}\n" for name in names)).encode())
    extract(cloud, f"{cloud.root}/photos.csv", tmp_path / "there.h5")
    assert differences(fake_store, tmp_path / "there.h5") == {"stat", "source", "tables_sha256"}
    for output in (tmp_path / "here.h5", tmp_path / "there.h5"):
        assert "3 rows computed again" in ffe("verify", output, "--recompute", 3, **cloud.environment)
    model = tmp_path / "model.ffe"
    train(fake_store, model, head="logistic")
    local = ffe("predict", model, pictures / names[0], pictures / names[-1])
    far = ffe("predict", model, f"{cloud.root}/{names[0]}", f"{cloud.root}/{names[-1]}", **cloud.environment)
    assert far.replace(cloud.root, str(pictures)) == local


def test_what_is_not_there_and_who_has_no_right(cloud: Cloud, tmp_path: Path) -> None:
    """Each is one sentence, without a secret."""
    output = tmp_path / "features.h5"
    for source in (cloud.nowhere, f"{cloud.root}/nothing"):
        said = ffe("extract", source, "-o", output, code=3, **cloud.environment)
        assert said.startswith((f"ffe: There is nothing at '{source}'; check the names", f"ffe: '{source}' cannot be read: ")), (
            said
        )
    said = ffe("extract", cloud.root, "-o", output, code=3, **cloud.wrong)
    assert said.startswith(f"ffe: '{cloud.root}' cannot be read: "), said
    assert "give its library your credentials as it wants them (" in said
    assert said.count("\n") == 1
    assert not any(secret in said for secret in ("secret-of-mine", "c2VjcmV0LW9mLW1pbmU"))
    assert not output.exists()
