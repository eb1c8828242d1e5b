"""Model files: round trip, digests, and everything that must be refused."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ffe._version import __version__
from ffe.base.digests import bytes_digest
from ffe.base.feature_layout import FeatureLayout
from ffe.base.model_archive import CARD, GOLDEN, HEAD, MANIFEST, SPLITS
from ffe.bundle.io import Bundle, SplitRow, write_bundle
from ffe.bundle.manifest import Manifest
from ffe.errors import BundleError
from ffe.images.drawings import KINDS
from ffe.store.reader import FeatureStore

MEMBERS = (HEAD, GOLDEN, SPLITS, CARD)
EPOCH = (1980, 1, 1, 0, 0, 0)


def _members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _write(path: Path, members: dict[str, bytes]) -> Path:
    """Write a zip that is sound as a zip, whatever its members are."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), data)
    return path


def _with_digests(members: dict[str, bytes]) -> dict[str, bytes]:
    """Put the right digests of all members into the manifest."""
    record = json.loads(members[MANIFEST])
    record["members"] = {name: bytes_digest(data) for name, data in members.items() if name != MANIFEST}
    return {**members, MANIFEST: json.dumps(record).encode()}


def test_a_bundle_holds_what_was_put_into_it(fake_bundle: Path, fake_store: Path) -> None:
    bundle = Bundle(fake_bundle)
    with FeatureStore(fake_store) as store:
        manifest = bundle.manifest
        assert manifest.spec == store.spec
        assert manifest.spec_digest == store.spec_digest
        assert manifest.layout == store.layout == FeatureLayout.of_shape((4, 4, 3))
        assert manifest.class_names == ("cat", "dog")
        splits = bundle.splits()
        assert {row.path: row.sha256 for row in splits} == dict(zip(store.paths, store.sha256, strict=True))
    assert {row.split for row in splits} == {"train", "test"}
    assert manifest.ffe_version == __version__
    assert manifest.head.name == "logistic"
    assert manifest.head.parameters == {"pooling": "avg", "scaling": "sqrt_l2", "pca": False, "C": 100.0}
    assert set(manifest.libraries) >= {"keras", "scikit-learn", "numpy"}
    assert manifest.evaluation["test"]["n"] == sum(row.split == "test" for row in splits)
    assert set(manifest.members) == set(MEMBERS)
    assert not bundle.has_backbone
    assert bundle.card().startswith("# Image classifier")


def test_the_head_answers_the_golden_pictures_as_it_did(fake_bundle: Path) -> None:
    bundle = Bundle(fake_bundle)
    golden = bundle.golden()
    assert golden["images"].shape == (len(KINDS), 32, 32, 3)
    assert golden["images"].dtype == np.uint8
    assert golden["features"].shape == (len(KINDS), 48)
    np.testing.assert_array_equal(bundle.head().predict_proba(golden["features"]), golden["probabilities"])


def _copy(bundle: Bundle, path: Path) -> Manifest:
    return write_bundle(
        path,
        bundle.manifest,
        head=bundle.head(),
        golden=bundle.golden(),
        splits=bundle.splits(),
        card=bundle.card(),
    )


def test_equal_content_gives_equal_bytes(fake_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle(fake_bundle)
    manifest = _copy(bundle, tmp_path / "again.ffe")
    assert manifest == bundle.manifest
    assert (tmp_path / "again.ffe").read_bytes() == fake_bundle.read_bytes()
    _copy(bundle, tmp_path / "again.ffe")
    assert (tmp_path / "again.ffe").read_bytes() == fake_bundle.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["again.ffe"]


def test_a_backbone_travels_along_and_is_lent_as_a_file(fake_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle(fake_bundle)
    (tmp_path / "backbone").write_bytes(b"layers")
    path = tmp_path / "model.ffe"
    write_bundle(
        path,
        bundle.manifest,
        head=bundle.head(),
        golden={},
        splits=[SplitRow("a.png", "0" * 64, "train")],
        card="card",
        backbones=[(tmp_path / "backbone", None)],
    )
    again = Bundle(path)
    assert again.has_backbone
    assert again.ir() is None
    with again.keras_file() as file:
        assert file is not None
        assert file.read_bytes() == b"layers"
        assert file.suffix == ".keras"
    assert not file.exists()
    assert again.splits() == [SplitRow("a.png", "0" * 64, "train")]


def test_a_write_that_fails_leaves_the_old_file(fake_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.ffe"
    path.write_bytes(b"old")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ffe.base.atomic.sync", full)
    with pytest.raises(BundleError, match="is full; make room there"):
        _copy(Bundle(fake_bundle), path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["model.ffe"]


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"^There is no model file '.*none\.ffe'; make one with 'ffe tune FEATURES\.h5 -o "):
        Bundle(tmp_path / "none.ffe")
    with pytest.raises(BundleError, match=r"^'.*' is a folder; give a model file \(\.ffe\), such as 'ffe tune' writes\.$"):
        Bundle(tmp_path)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_flipped_byte_in_a_member_is_found_by_its_digest(fake_bundle: Path, tmp_path: Path, name: str) -> None:
    members = _members(fake_bundle)
    data = bytearray(members[name])
    data[len(data) // 2] ^= 1
    path = _write(tmp_path / "model.ffe", {**members, name: bytes(data)})
    with pytest.raises(BundleError, match=f"cannot be used: its member '{name}' was changed after it was written; make it again"):
        Bundle(path)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_flipped_byte_on_the_disk_is_found_by_the_zip(fake_bundle: Path, tmp_path: Path, name: str) -> None:
    raw = bytearray(fake_bundle.read_bytes())
    data = _members(fake_bundle)[name]
    raw[raw.index(data) + len(data) // 2] ^= 1
    (tmp_path / "model.ffe").write_bytes(raw)
    with pytest.raises(BundleError, match=r"^The model file '.*model\.ffe' is damaged or no model file; make it again\.$"):
        Bundle(tmp_path / "model.ffe")


def test_a_changed_spec_in_the_manifest_is_found(fake_bundle: Path, tmp_path: Path) -> None:
    members = _members(fake_bundle)
    changed = members[MANIFEST].replace(b'"mode": "none"', b'"mode": "tf"')
    assert changed != members[MANIFEST]
    with pytest.raises(BundleError, match="its spec does not match its spec digest; make it again"):
        Bundle(_write(tmp_path / "model.ffe", {**members, MANIFEST: changed}))


def _without_field(members: dict[str, bytes], field: str) -> dict[str, bytes]:
    record = json.loads(members[MANIFEST])
    del record[field]
    return {**members, MANIFEST: json.dumps(record).encode()}


def _with_field(parts: dict[str, bytes], **fields: object) -> dict[str, bytes]:
    return {**parts, MANIFEST: json.dumps({**json.loads(parts[MANIFEST]), **fields}).encode()}


CASES: dict[str, tuple[Callable[[dict[str, bytes]], dict[str, bytes]], str]] = {
    "no manifest": (lambda m: {n: d for n, d in m.items() if n != MANIFEST}, "it is not one of ffe's"),
    "extra member": (lambda m: {**m, "notes.txt": b"hello"}, "it is not one of ffe's"),
    "extra member with its digest": (lambda m: _with_digests({**m, "notes.txt": b"hello"}), "it is not one of ffe's"),
    "path upwards": (lambda m: _with_digests({**m, "../evil": b"x"}), "it is not one of ffe's"),
    "absolute path": (lambda m: _with_digests({**m, "/tmp/evil": b"x"}), "it is not one of ffe's"),
    "known member that the manifest omits": (
        lambda m: {**m, "backbone.keras": b"x"},
        "its members are not those of its manifest",
    ),
    "missing member": (lambda m: {n: d for n, d in m.items() if n != CARD}, "it is not one of ffe's"),
    "no head": (lambda m: _with_digests({n: d for n, d in m.items() if n != HEAD}), "make it again"),
    "other schema": (lambda m: _with_field(m, schema=6), "it has schema 6, but this version of ffe reads schema 5"),
    "no schema": (lambda m: _without_field(m, "schema"), "it has no schema number"),
    "manifest is a list": (lambda m: {**m, MANIFEST: b"[]"}, "it has no schema number"),
    "no grid": (lambda m: _without_field(m, "grid"), r"its manifest is incomplete \(KeyError\('grid'\)\)"),
    "grid of two": (lambda m: _with_field(m, grid=[1, 2]), "its manifest is incomplete"),
    "temperature of nought": (
        lambda m: _with_field(m, calibration={"temperature": 0}),
        "is incomplete .*temperature 0",
    ),
    "no temperature": (lambda m: _with_field(m, calibration={}), r"its manifest is incomplete \(KeyError\('temperature'\)\)"),
    "certainty wanted": (lambda m: _with_field(m, reject=1.0), "its manifest is incomplete .*reject 1.0"),
    "members are a number": (lambda m: _with_field(m, members=3), "its manifest is incomplete"),
    "spec lacks fields": (lambda m: _with_field(m, spec={}), "a ExtractSpec needs the fields"),
    "manifest is no JSON": (lambda m: {**m, MANIFEST: b"{"}, "is damaged or no model file"),
    "manifest is no text": (lambda m: {**m, MANIFEST: b"\xff\xfe\xff"}, "is damaged or no model file"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_zip_that_is_no_bundle_is_refused(fake_bundle: Path, tmp_path: Path, case: str) -> None:
    change, sentence = CASES[case]
    path = _write(tmp_path / "model.ffe", change(_members(fake_bundle)))
    with pytest.raises(BundleError, match=sentence) as caught:
        Bundle(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith("make it again.")
    assert [file.name for file in tmp_path.iterdir()] == ["model.ffe"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_stands_twice_is_refused(fake_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.ffe"
    shutil.copy(fake_bundle, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(CARD, "another card")
    with pytest.raises(BundleError, match="it is not one of ffe's"):
        Bundle(path)


@pytest.mark.parametrize("content", [b"no zip at all", b"PK\x03\x04" + b"\0" * 100], ids=["text", "zip magic"])
def test_a_file_that_is_no_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.ffe").write_bytes(content)
    with pytest.raises(BundleError, match=r"^'.*model\.ffe' is no model file, or a damaged one; give a \.ffe file that"):
        Bundle(tmp_path / "model.ffe")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(fake_bundle: Path, tmp_path: Path, share: float) -> None:
    raw = fake_bundle.read_bytes()
    (tmp_path / "model.ffe").write_bytes(raw[: int(len(raw) * share)])
    # a cut behind the arrays, which are zips themselves, looks like a zip of other members
    with pytest.raises(
        BundleError,
        match=r"is no model file, or a damaged|is damaged or no model file; make it again|cannot be used: it is not one of ffe's"
        "|cannot be used: its manifest or its end was changed",
    ):
        Bundle(tmp_path / "model.ffe")


class _Evil:
    """Unpickling it would leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (self.mark,))  # type: ignore[return-value]


def test_a_pickle_inside_the_arrays_is_refused_and_not_run(fake_bundle: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, weights=np.asarray([_Evil(tmp_path / "mark")], object), allow_pickle=True)
    members = _with_digests({**_members(fake_bundle), HEAD: buffer.getvalue()})
    bundle = Bundle(_write(tmp_path / "model.ffe", members))
    with pytest.raises((BundleError, ValueError), match=r"pickle|make it again"):
        bundle.head()
    assert not (tmp_path / "mark").exists()


def test_arrays_with_objects_are_not_written(fake_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle(fake_bundle)
    with pytest.raises(ValueError, match="allow_pickle"):
        write_bundle(
            tmp_path / "model.ffe",
            bundle.manifest,
            head=bundle.head(),
            golden={"images": np.asarray([{}], object)},
            splits=[],
            card="",
        )
    assert list(tmp_path.iterdir()) == []


@given(data=st.data())
@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_damage_gives_a_refusal_or_a_sound_bundle(fake_bundle: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Whatever is flipped or cut, the answer is ``BundleError``, or a bundle whose parts are all as they were."""
    raw = bytearray(fake_bundle.read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=4), label="flipped"):
        raw[position] ^= data.draw(st.integers(1, 255), label="by")
    start = data.draw(st.sampled_from([0, 0, 0, 1, 37]), label="cut at the start")
    end = data.draw(st.one_of(st.just(len(raw)), st.integers(0, len(raw))), label="cut at the end")
    path = tmp_path / "model.ffe"
    path.write_bytes(raw[start:end])
    try:
        bundle = Bundle(path)
    except BundleError:
        return
    original = Bundle(fake_bundle)
    assert bundle.splits() == original.splits()
    assert bundle.card() == original.card()
    features = original.golden()["features"]
    np.testing.assert_array_equal(bundle.head().predict_proba(features), original.head().predict_proba(features))


@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
@example(position=0, bit=0)
@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_directory_of_the_zip_gives_a_refusal_or_a_sound_bundle(
    fake_bundle: Path, tmp_path: Path, position: int, bit: int
) -> None:
    """One flipped bit in the last 600 bytes, where the zip keeps its directory."""
    raw = bytearray(fake_bundle.read_bytes())
    raw[len(raw) - 1 - position % 600] ^= 1 << bit
    path = tmp_path / "model.ffe"
    path.write_bytes(raw)
    try:
        bundle = Bundle(path)
    except BundleError:
        return
    assert bundle.splits() == Bundle(fake_bundle).splits()
    np.testing.assert_array_equal(bundle.head().arrays()["weights"], Bundle(fake_bundle).head().arrays()["weights"])


def test_calibration_and_reject_are_written_and_older_files_go_without(fake_bundle: Path, tmp_path: Path) -> None:
    members = _members(fake_bundle)
    record = json.loads(members[MANIFEST])
    assert record["reject"] == 0.0
    assert record["calibration"]["rows"] == 33
    assert set(record["calibration"]) == {
        *("temperature", "rows", "error_before", "error_after", "log_loss_before", "log_loss_after", "before", "after"),
    }
    tuned = {**record, "calibration": {"temperature": 0.5, "rows": 90}, "reject": 0.8}
    again = Bundle(_write(tmp_path / "tuned.ffe", {**members, MANIFEST: json.dumps(tuned).encode()})).manifest
    assert (again.temperature, again.calibration["rows"], again.reject) == (0.5, 90, 0.8)
    assert Manifest.from_json(again.to_json()) == again
    del record["calibration"], record["reject"]
    older = Bundle(_write(tmp_path / "older.ffe", {**members, MANIFEST: json.dumps(record).encode()})).manifest
    assert (older.temperature, older.reject) == (1.0, 0.0)
