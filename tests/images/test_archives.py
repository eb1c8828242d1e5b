"""The same images through any source give the same rows, names and stamps apart; and archives that are no good."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shlex
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ffe.base.digests import bytes_digest
from ffe.cli import cli
from ffe.commands.evaluate import evaluate
from ffe.commands.forget import forget
from ffe.commands.preview import preview
from ffe.commands.similar import similar
from ffe.commands.verify import verify
from ffe.dataset.split_csv import SplitCsv
from ffe.errors import DataError, DecodeError, SourceError
from ffe.extraction.run import extract
from ffe.images import parquet_archive
from ffe.images.archive import GONE, Member
from ffe.images.archive_sources import Shard, read_shards
from ffe.images.decode import read_image
from ffe.images.image_handle import ImageHandle, content_digest
from ffe.images.records import UNLABELLED
from ffe.images.sources import list_images, scan
from ffe.store.reader import FeatureStore
from tests.images.archives import class_files, put_list, put_parquet, put_tar, put_zip

pytest.importorskip("pyarrow")

KINDS = ("folder", "csv", "tar", "deep tar", "shards", "zip", "stored zip", "parquet", "members", "rows")


@pytest.fixture(scope="module", autouse=True)
def settled() -> Iterator[None]:
    """Take stamps of files that were written just now."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ffe.base.file_stat.RACY_NS", 0)
        yield


@pytest.fixture(scope="module")
def sources(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One set of images, as every kind of source."""
    root = tmp_path_factory.mktemp("sources")
    files = class_files(pictures)
    inside = {f"{file.parent.name}/{file.name}": file.read_bytes() for file in files}
    contents = list(inside.values())
    classes = [file.parent.name for file in files]
    tar = put_tar(root / "plain.tar", inside)
    for number, part in enumerate((files[::2], files[1::2])):  # keys repeat in the shards, and hold dots
        members = []
        for key, file in enumerate(part):
            beside = (
                (".cls", file.parent.name.encode()) if key % 2 else (".json", json.dumps({"label": file.parent.name}).encode())
            )
            members += [(f"img.{key}{file.suffix}", file.read_bytes()), (f"img.{key}{beside[0]}", beside[1])]
        put_tar(root / f"shard-00{number}.tar", members)
    table = put_parquet(root / "table.parquet", contents, ("cat", "dog"), label=[int(name == "dog") for name in classes])
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"path": [str(file) for file in files], "label": classes}), root / "rows.parquet")
    return {
        "folder": str(pictures),
        "csv": str(put_list(root / "list.csv", zip(map(str, files), classes, strict=True))),
        "tar": str(tar),
        "deep tar": str(put_tar(root / "deep.tar", {f"./photos/{name}": data for name, data in inside.items()})),
        "shards": str(root / "shard-{000..001}.tar"),
        "zip": str(put_zip(root / "plain.zip", inside)),
        "stored zip": str(put_zip(root / "stored.zip", inside, zipfile.ZIP_STORED)),
        "parquet": str(table),
        "members": str(put_list(root / "members.csv", ((f"plain.tar#{name}", name.split("/")[0]) for name in inside))),
        "rows": str(root / "rows.parquet"),
    }


@pytest.fixture(scope="module")
def features(sources: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The feature file of each."""
    root = tmp_path_factory.mktemp("features")
    return {kind: extract(sources[kind], root / f"{kind.replace(' ', '-')}.h5", backbone="fake").output for kind in KINDS}


def rows_of(path: Path) -> dict[str, tuple[str, bytes, int]]:
    """Return digest -> (class, features, perceptual hash)."""
    with FeatureStore(path) as store:
        features = store.features(np.arange(len(store)))
        return {
            store.sha256[i]: (store.class_names[store.labels[i]], features[i].tobytes(), int(store.phash[i]))
            for i in range(len(store))
        }


@pytest.mark.parametrize("kind", KINDS[1:])
def test_any_source_gives_the_rows_of_the_folder(kind: str, sources: dict[str, str], features: dict[str, Path]) -> None:
    rows = rows_of(features[kind])
    assert len(rows) == 40
    assert rows == rows_of(features["folder"])
    again = extract(sources[kind], features[kind], backbone="fake")
    assert (again.rows, again.read, again.computed, again.skipped) == (40, 0, 0, 0)
    assert verify(features[kind], recompute=5).ok


@pytest.mark.parametrize("kind", ["tar", "shards", "zip", "parquet"])
def test_each_image_has_a_name_that_finds_it_again(kind: str, sources: dict[str, str]) -> None:
    found = scan(sources[kind])
    assert (found.root, found.kind, found.class_names) == (
        Path(sources["csv"]).parent,
        kind if kind != "shards" else "tar",
        ("cat", "dog"),
    )
    assert len({record.path for record in found.records}) == len(found.records) == 40
    for record in found.records[::13]:
        handle = record.file
        assert isinstance(handle, Member)
        assert str(handle) == f"{found.root}{os.sep}{record.path}"
        data = read_image(handle)
        assert pickle.loads(pickle.dumps(handle)).read(1 << 20) == data  # noqa: S301 (of our own making)
        with pytest.raises(DecodeError, match=r"more than 10 bytes \(--max-bytes\)"):
            handle.read(10)


def test_shards_are_named_and_keys_cut_at_the_last_dot(sources: dict[str, str]) -> None:
    names = [record.path for record in scan(sources["shards"]).records]
    assert names[0] == "shard-000.tar#img.0.png"
    assert {"shard-000.tar#img.1.png", "shard-001.tar#img.1.png", "shard-001.tar#img.10.png"} <= set(names)


def test_members_are_predicted_and_whole_archives_too(sources: dict[str, str], fake_bundle: Path) -> None:
    def answers(*images: str) -> list[dict[str, object]]:
        done = CliRunner().invoke(cli, ["predict", str(fake_bundle), *images, "--json"])
        return [json.loads(line) for line in done.stdout.splitlines()]

    whole = answers(sources["tar"])
    assert len(whole) == 40
    one, row, gone = answers(str(whole[3]["path"]), f"{sources['parquet']}#3", f"{sources['tar']}#cat/none.png")
    assert one["path"] == whole[3]["path"]
    for same in (one, row):
        assert same["probabilities"] == pytest.approx(whole[3]["probabilities"])
    assert gone["error"] == f"no such image in '{sources['tar']}'"


def test_other_commands_go_back_to_the_image(
    sources: dict[str, str], features: dict[str, Path], fake_bundle: Path, tmp_path: Path
) -> None:
    for kind in ("tar", "parquet"):
        member = str(scan(sources[kind]).records[3].file)
        assert preview(member, tmp_path / "one.png", augment="flip", size=32).rows[0].path == Path(member).name
        found = similar(features["tar"], member, count=1, sheet=tmp_path / "near.png")
        assert (found.asked, found.images[0].same) == (member, True)
        shutil.copy(features[kind], tmp_path / "f.h5")
        assert forget([member], [tmp_path / "f.h5"], dry_run=True).files[0].rows == 1
        assert len(evaluate(fake_bundle, sources[kind]).paths) == 40
        listed = tmp_path / f"{kind}.csv"
        SplitCsv(scan(sources[kind]), listed)  # names lead from one folder into another
        records = scan(listed).records
        assert [content_digest(r.file) for r in records] == [content_digest(r.file) for r in scan(sources[kind]).records]
    with pytest.raises(DataError, match="All photos of"):
        forget([sources["tar"]], [features["tar"]], dry_run=True)


def test_an_archive_that_changed_is_read_again_and_what_it_lacks_is_said(tmp_path: Path, sources: dict[str, str]) -> None:
    members = {record.path.partition("#")[2]: read_image(record.file) for record in scan(sources["tar"]).records}
    archive, output = put_tar(tmp_path / "a.tar", members), tmp_path / "a.h5"
    extract(archive, output, backbone="fake")
    old = scan(archive).records[0].file
    listed = put_list(tmp_path / "list.csv", ((f"a.tar#{name}", name.split("/")[0]) for name in members))
    gone = next(iter(members))
    put_tar(archive, {name: data for name, data in members.items() if name != gone})
    with pytest.raises(DecodeError, match="its archive is gone, or was changed since it was listed; run this again"):
        read_image(old)
    again = extract(archive, output, backbone="fake")
    assert (again.rows, again.read, again.computed, again.changes.removed) == (39, 39, 0, 1)
    by_list = extract(listed, output, backbone="fake")
    assert (by_list.rows, by_list.skipped_files, by_list.skipped_reasons) == (39, (f"a.tar#{gone}",), {"missing": 1})


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_an_archive_that_is_replaced_while_it_is_read_gives_no_mixture(
    kind: str, sources: dict[str, str], features: dict[str, Path], tmp_path: Path
) -> None:
    archive, output = tmp_path / Path(sources[kind]).name, tmp_path / "a.h5"
    shutil.copy(sources[kind], archive)
    member = type(scan(archive).records[0].file)
    content, reads = member.content, list[int]()  # type: ignore[union-attr]

    def replaced(self: Member, max_bytes: int) -> bytes:
        data: bytes = content(self, max_bytes)
        reads.append(1)
        if len(reads) == 30:
            shutil.copy(sources[kind], tmp_path / "new")
            os.replace(tmp_path / "new", archive)
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(member, "content", replaced)
        first = extract(archive, output, backbone="fake", workers=1)
    assert (first.rows, first.skipped_reasons) == (29, {"unreadable": 11})
    with FeatureStore(output) as store:
        assert {item.message for item in store.skipped} == {GONE}
    again = extract(archive, output, backbone="fake")
    assert (again.rows, again.computed) == (40, 11)
    assert rows_of(output) == rows_of(features["folder"])


def test_a_folder_of_shards_has_splits_by_name(tmp_path: Path, pictures: Path) -> None:
    images = [file.read_bytes() for file in class_files(pictures)[:4]]
    for name in ("train-00000-of-00001", "test-00000-of-00001"):
        put_parquet(tmp_path / f"{name}.parquet", images, ("cat", "dog"), label=[0, 1, 0, -1])
    (tmp_path / "README.md").write_text("of this data set")
    found = scan(tmp_path)
    assert [(r.path.split("#")[1], r.label, r.split) for r in found.records if r.path.startswith("test")] == [
        ("0", 0, "test"),
        ("1", 1, "test"),
        ("2", 0, "test"),
        ("3", UNLABELLED, "test"),
    ]
    assert {r.split for r in found.records} == {"train", "test"}
    assert found.left_out == (("README.md", "beside the archives"),)
    assert [f.text for f in found.findings] == [f"2 images of '{tmp_path}' have no label, where others have one."]


def test_tables_bring_splits_and_groups(tmp_path: Path) -> None:
    path = put_parquet(tmp_path / "a.parquet", [b"1", b"2"], label=["cat", "dog"], split=["Train", None], group=["x", None])
    assert [(r.label, r.split, r.group) for r in scan(path).records] == [(0, "train", "x"), (1, "", "")]
    put_parquet(path, [b"1"], label=["cat"], split=["later"])
    with pytest.raises(SourceError, match=r"a\.parquet' has the split 'later'; use train, valid or test, or leave it empty\."):
        scan(path)


def test_shards_of_one_name_are_named_with_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        (tmp_path / f"part-{number}").mkdir()
        put_tar(tmp_path / f"part-{number}" / "a.tar", {"cat/1.png": b"c%d" % number, "dog/1.png": b"d%d" % number})
    found = scan(tmp_path / "part-{0..1}" / "a.tar")
    assert found.root == tmp_path
    assert (
        [(r.path, r.file.read(9)) for r in found.records]
        == [  # type: ignore[union-attr]
            (f"part-{number}/a.tar#{name}/1.png", name[:1].encode() + b"%d" % number)
            for number in range(2)
            for name in ("cat", "dog")
        ]
    )
    monkeypatch.chdir(tmp_path)
    assert [r.path for r in scan("part-{0..1}/a.tar").records] == [r.path for r in found.records]
    shards = [Shard(tmp_path / f"part-{number}" / "a.tar", "a.tar") for number in range(2)]
    with pytest.raises(
        SourceError, match=r"^Several archives of '.*' have one name; give each a name of its own in one folder\.$"
    ):
        read_shards(tmp_path, shards)


def test_numbers_are_named_by_a_list_beside_the_shards(tmp_path: Path) -> None:
    put_tar(tmp_path / "a.tar", {"1.jpg": b"a", "1.cls": b"1\n", "2.jpg": b"b", "2.cls": b"0"})
    assert [r.label for r in scan(tmp_path).records] == [1, 0]
    assert scan(tmp_path).class_names == ("0", "1")
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    found = scan(tmp_path)
    assert [found.class_names[r.label] for r in found.records] == ["cat", "dog"]
    assert found.left_out == ()
    (tmp_path / "classes.txt").write_text("dog\n")
    with pytest.raises(SourceError, match=r"names 1 class, and the labels go up to 1; mend classes\.txt or classnames\.txt, or"):
        scan(tmp_path)
    (tmp_path / "classes.txt").write_text("dog\ndog\n")
    with pytest.raises(
        SourceError, match=r"classes\.txt' names the classes, but a line is empty, or a name is there twice; mend"
    ):
        scan(tmp_path)


def test_what_is_no_picture_of_a_sample_is_left_out_with_its_reason(tmp_path: Path) -> None:
    members = {
        "a/cat.104.jpg": b"1",
        "a/cat.104.cls": b"cat",
        "a/cat.105.JPG": b"2",
        "a/cat.105.cls": b"cat",
        "a/cat.105.seg.png": b"mask",
        "a/dog.1.jpg": b"3",
        "a/dog.1.json": b'{"label": null, "cls": "dog", "width": 4}',
        "a/dog.1.txt": b"words",
        "a/lost.cls": b"dog",
        "a/bare.jpg": b"4",
    }
    found = scan(put_tar(tmp_path / "a.tar", members))
    assert [(r.path, r.label) for r in found.records] == [
        ("a.tar#a/bare.jpg", UNLABELLED),
        ("a.tar#a/cat.104.jpg", 0),
        ("a.tar#a/cat.105.JPG", 0),
        ("a.tar#a/dog.1.jpg", 1),
    ]
    assert dict(found.left_out) == {
        "a.tar#a/cat.105.seg.png": "a further part of a sample",
        "a.tar#a/dog.1.txt": "a further part of a sample",
        "a.tar#a/lost.cls": "a label without a picture",
    }


def test_nothing_leads_out_of_an_archive_and_links_are_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (("cat/link.png", tarfile.SYMTYPE), ("cat/hard.png", tarfile.LNKTYPE), ("cat/pipe", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        for name in ("/etc/a.png", "../b.png", "cat/../../c.png", "./cat/good.png", "dog//fine.png", ".git/x", "cat/Thumbs.db"):
            tar.addfile(tarfile.TarInfo(name))
    found = scan(tmp_path / "a.tar")
    assert [r.path for r in found.records] == ["a.tar#cat/good.png", "a.tar#dog/fine.png"]
    assert dict(found.left_out) == {
        "a.tar#cat/link.png": "a link, which is not followed",
        "a.tar#cat/hard.png": "a link, which is not followed",
        "a.tar#cat/pipe": "a device or a pipe, not a file",
        "a.tar#/etc/a.png": "its name leads out of the archive",
        "a.tar#../b.png": "its name leads out of the archive",
        "a.tar#cat/../../c.png": "its name leads out of the archive",
    }
    assert sorted(os.listdir(tmp_path)) == ["a.tar"]


@pytest.mark.parametrize(
    ("name", "made", "tool"),
    [
        ("photos.tar.gz", "photos.tar", "gunzip"),
        ("photos.TGZ", "photos.tar", "gunzip"),
        ("photos.tar", "photos-plain.tar", "gunzip"),
        ("photos.tar.bz2", "photos.tar", "bunzip2"),
        ("my photos.tbz2", "my photos.tar", "bunzip2"),
        ("photos.tar.xz", "photos.tar", "unxz"),
        ("photos.tar.zst", "photos.tar", "unzstd"),
        ("list.csv.gz", "list.csv", "gunzip"),
    ],
)
def test_what_is_compressed_as_a_whole_is_refused_with_a_command_that_helps(
    name: str, made: str, tool: str, tmp_path: Path, sources: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which(tool) is None or os.name == "nt":
        pytest.skip(f"no {tool} on this machine")
    monkeypatch.chdir(tmp_path)
    whole = Path(sources["tar"]).read_bytes() if made != "list.csv" else b"path,label\na.png,cat\nb.png,dog\n"
    pack = {"gunzip": ["gzip"], "bunzip2": ["bzip2"], "unxz": ["xz"], "unzstd": ["zstd"]}[tool]
    Path(name).write_bytes(subprocess.run([*pack, "-c"], input=whole, capture_output=True, check=True).stdout)
    with pytest.raises(SourceError) as caught:
        scan(name)
    command = f"{tool} -c < {shlex.quote(name)} > {shlex.quote(made)}"
    sentence = f"'{name}' is compressed as a whole, so nothing in it can be read alone; decompress it with "
    assert str(caught.value) == f"{sentence}'{command}', and give '{made}'."
    subprocess.run(command, shell=True, check=True)
    assert Path(made).read_bytes() == whole


def test_compressed_shards_of_a_folder_and_at_a_url_are_refused_unless_they_lie_there_decompressed(
    tmp_path: Path, sources: dict[str, str]
) -> None:
    packed = gzip.compress(Path(sources["tar"]).read_bytes())
    (tmp_path / "a.tar.gz").write_bytes(packed)
    for source in (tmp_path, tmp_path / "a.tar.gz", tmp_path / "{0..0}.tgz"):
        (tmp_path / "0.tgz").write_bytes(packed)
        with pytest.raises(SourceError, match=r"(a\.tar\.gz|0\.tgz)' is compressed as a whole"):
            scan(source)
    (tmp_path / "0.tgz").unlink()
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://bucket/a b.tar.gz", "wb") as file:
        file.write(packed)
    with pytest.raises(SourceError) as caught:
        scan("memory://bucket/a b.tar.gz")
    assert str(caught.value) == (
        "'memory://bucket/a b.tar.gz' is compressed as a whole, so nothing in it can be read alone; download it, decompress it "
        "with 'gunzip -c < 'a b.tar.gz' > 'a b.tar'', and give 'a b.tar'."
    )
    shutil.copy(sources["tar"], tmp_path / "a.tar")
    found = scan(tmp_path)
    assert len(found.records) == len(scan(sources["tar"]).records)
    assert ("a.tar.gz", "beside the archives") in found.left_out


def test_columns_that_are_spelt_nearly_right_are_named(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that are not taken make no difference that a user would see, and a split that is not makes a wrong score."""
    monkeypatch.chdir(tmp_path)
    images = [file.read_bytes() for file in class_files(pictures)[:4]]
    classes = ["cat", "cat", "dog", "dog"]

    def said(source: str) -> list[tuple[str, str]]:
        return [(one.level, one.text) for one in list_images(source).findings]

    put_parquet(Path("a.parquet"), images, lable=classes, spilt=["train"] * 4)
    assert said("a.parquet") == [
        (
            "warning",
            "'a.parquet' has no column 'label' (found: image, lable, spilt), so its photos have none; "
            "rename the one that holds labels, 'lable' perhaps.",
        ),
        ("warning", "'a.parquet' has a column 'spilt', which is not read; name it 'split' if that is meant."),
    ]
    put_parquet(Path("b.parquet"), images, kind=classes, group=classes)
    assert said("b.parquet") == [
        (
            "note",
            "'b.parquet' has no column 'label' (found: image, kind, group), so its photos have none; "
            "rename the one that holds labels, if one does.",
        )
    ]
    put_parquet(Path("c.parquet"), images, label=classes)
    assert said("c.parquet") == []
    Path("two").mkdir()
    for name in "ab":
        put_parquet(Path("two", f"{name}.parquet"), images, Label=classes)
    ((level, text),) = said("two")
    assert (level, text.partition(" has no column ")[0]) == ("warning", f"'{Path('two', 'a.parquet')}'")
    assert text.endswith("'Label' perhaps. So it is with 1 other archive.")
    names = [str(file) for file in class_files(pictures)[:4]]
    Path("a.csv").write_text("path,label,groups\n" + "".join(f"{name},cat,1\n" for name in names))
    assert said("a.csv") == [
        ("warning", "'a.csv' has a column 'groups', which is not read; name it 'group' if that is meant."),
    ]
    from pyarrow import parquet, table

    parquet.write_table(table({"path": names, "labels": classes}), "list.parquet")
    assert [text.partition(";")[0] for _, text in said("list.parquet")] == [
        "'list.parquet' has no column 'label' (found: path, labels), so its photos have none"
    ]
    for key, told in (("lable", "lable"), ("clss", "clss"), ("caption", "")):
        data = json.dumps({key: "cat", "width": 3}).encode()
        put_tar(Path("a.tar"), [("1.png", images[0]), ("1.json", data)])
        sentence = f"(found: {key}, width), so none is taken from it; is it '{told}'? Rename it."
        sentence = f"No .json of 'a.tar' has a 'label' or 'cls' {sentence}"
        assert said("a.tar") == ([("warning", sentence)] if told else [])


def test_archives_that_are_no_good_are_refused_in_a_sentence(tmp_path: Path, sources: dict[str, str]) -> None:
    tar, zipped, table = (Path(sources[kind]).read_bytes() for kind in ("tar", "zip", "parquet"))

    def refused(name: str, data: bytes) -> str:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SourceError) as caught:
            scan(tmp_path / name)
        return str(caught.value).replace(str(tmp_path) + os.sep, "")

    end = len(tar.rstrip(b"\0"))
    last = list(scan(sources["tar"]).records)[-1].path.partition("#")[2]
    assert refused("cut.tar", tar[: len(tar) // 2]).startswith("'cut.tar' is cut off or damaged behind 'cat/")
    assert (
        refused("open.tar", tar[: end + 512 - end % 512]) == f"'open.tar' is cut off or damaged behind '{last}'; fetch it again."
    )
    assert refused("two.tar", tar + tar) == (
        f"'two.tar' holds more behind its end, behind '{last}': it was joined from several; give these one by one."
    )
    assert refused("no.tar", b"words" * 400) == "'no.tar' is no tar archive, or its beginning is damaged; fetch it again."
    put_tar(tmp_path / "twice.tar", [("cat/a.png", b"1"), ("cat/a.png", b"2"), ("dog/b.png", b"3")])
    assert refused("twice.tar", (tmp_path / "twice.tar").read_bytes()) == (
        "'twice.tar' holds two members named 'cat/a.png'; make it again with one of them."
    )
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("cat/a.png", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("cat/a.png", b"2")
    assert refused("twice.zip", (tmp_path / "twice.zip").read_bytes()) == (
        "'twice.zip' holds two members named 'cat/a.png'; make it again with one of them."
    )
    put_tar(tmp_path / "two-labels.tar", [("1.jpg", b"1"), ("1.cls", b"cat"), ("1.cls", b"dog")])
    assert refused("two-labels.tar", (tmp_path / "two-labels.tar").read_bytes()) == (
        "'two-labels.tar' holds two members named '1.cls'; make it again with one of them."
    )
    put_tar(tmp_path / "odd.tar", {"1.jpg": b"1", "1.json": b'{"label": [1]}', "2.jpg": b"2", "2.cls": b"cat"})
    assert refused("odd.tar", (tmp_path / "odd.tar").read_bytes()) == (
        "The label in '1.json' of 'odd.tar' is neither text nor a whole number; mend it."
    )
    assert refused("cut.zip", zipped[: len(zipped) // 2]) == (
        "'cut.zip' is no zip, or its end, where its directory stands, is damaged or cut off; fetch it again."
    )
    locked = bytearray(zipped)
    locked[zipped.index(b"PK\x01\x02") + 8] |= 1
    assert refused("locked.zip", bytes(locked)).endswith("; unpack it with its password, and give the folder.")
    assert refused("cut.parquet", table[: len(table) // 2]) == (
        "'cut.parquet' is no Parquet file, or is damaged or cut off; fetch it again."
    )
    import pyarrow
    from pyarrow import parquet

    for name, columns in (("odd", {"image": [b"1"]}), ("odd-list", {"path": ["a.png"]})):
        parquet.write_table(pyarrow.table(columns | {"label": [0.5]}), tmp_path / f"{name}.parquet")
        assert refused(f"{name}.parquet", (tmp_path / f"{name}.parquet").read_bytes()) == (
            f"'{name}.parquet' has the label 0.5, which is neither text nor a whole number; mend the column."
        )
    parquet.write_table(pyarrow.table({"words": ["a"], "label": [1]}), tmp_path / "words.parquet")
    assert refused("words.parquet", (tmp_path / "words.parquet").read_bytes()) == (
        "'words.parquet' has no column of images (found: words, label); give one with the bytes of each, named 'image', "
        "or, in a single file on this machine, one named 'path' that says where they lie."
    )
    with pytest.raises(SourceError, match=r"shard-009\.tar' is not there; fetch it, or change the pattern\."):
        scan(sources["shards"].replace("000..001", "009..009"))
    with pytest.raises(
        SourceError, match=r"is no pattern of shards; write one as shard-\{000\.\.009\}\.tar, the smaller number first"
    ):
        scan(sources["shards"].replace("000..001", "001..000"))


def test_damage_in_a_member_is_the_matter_of_that_member(tmp_path: Path, pictures: Path) -> None:
    data = class_files(pictures)[0].read_bytes()
    path = put_zip(tmp_path / "a.zip", {"cat/a.png": data, "dog/b.png": data})
    whole = bytearray(path.read_bytes())
    whole[60] ^= 0xFF
    path.write_bytes(bytes(whole))
    first, second = (record.file for record in list_images(path).records)
    with pytest.raises(DecodeError, match="its content is damaged in the archive"):
        read_image(first)
    assert content_digest(second) == bytes_digest(data)
    table = put_parquet(tmp_path / "a.parquet", [data, None], label=["cat", "dog"])
    none = list_images(table).records[1].file
    with pytest.raises(DecodeError, match="its row holds no picture"):
        read_image(none)


def test_a_large_row_group_is_read_in_pieces_of_which_few_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [b"%04d" % i * 250 for i in range(100)]
    path = put_parquet(tmp_path / "a.parquet", images, rows_a_group=60, label=["cat", "dog"] * 50)
    monkeypatch.setattr(parquet_archive, "_PIECE_BYTES", 10_000)
    monkeypatch.setattr(parquet_archive, "_KEPT_BYTES", 30_000)
    parquet_archive._groups.clear()
    forget, kept = parquet_archive._forget_oldest, list[int]()

    def watched() -> None:
        kept.append(max(images.nbytes for _, images in next(reversed(parquet_archive._groups.values())).pieces))
        forget()
        assert sum(group.nbytes for group in parquet_archive._groups.values()) <= 30_000

    monkeypatch.setattr(parquet_archive, "_forget_oldest", watched)
    files = [record.file for record in scan(path).records]
    for order in (range(100), reversed(range(100)), np.random.default_rng(0).permutation(100).tolist()):
        assert all(files[i].read(1 << 20) == images[i] for i in order)  # type: ignore[union-attr]
        assert max(kept) < 12_000
        if isinstance(order, range):
            assert len(kept) == 7 + 5  # of nine rows each, and none twice


def test_no_more_of_a_row_group_is_in_memory_than_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow
    from pyarrow import parquet

    images = [np.random.default_rng(i).bytes(50_000) for i in range(60)]
    options = {"use_dictionary": False, "write_batch_size": 1, "data_page_size": 1000}
    parquet.write_table(pyarrow.table({"image": images, "label": ["cat", "dog"] * 30}), tmp_path / "a.parquet", **options)
    monkeypatch.setattr(parquet_archive, "_PIECE_BYTES", 100_000)
    file = scan(tmp_path / "a.parquet").records[0].file
    before = pyarrow.total_allocated_bytes()
    assert file.read(1 << 20) == images[0]  # type: ignore[union-attr]
    assert pyarrow.total_allocated_bytes() - before < 1_500_000


def test_a_zip_that_unpacks_to_more_than_it_says_is_bounded(tmp_path: Path) -> None:
    bomb = bytearray(put_zip(tmp_path / "a.zip", {"cat/a.png": bytes(10 << 20), "dog/b.png": b"1"}).read_bytes())
    at = bomb.index(b"PK\x01\x02")
    bomb[at + 24 : at + 28] = (100).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(bytes(bomb))
    handle = list_images(tmp_path / "a.zip").records[0].file
    assert isinstance(handle, ImageHandle)
    with pytest.raises(DecodeError, match="its content is damaged in the archive"):
        handle.read(1 << 20)
    at = bomb.index(b"PK\x01\x02")
    bomb[at + 20 : at + 24] = (3 << 30).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(bytes(bomb))
    handle = list_images(tmp_path / "a.zip").records[0].file
    assert isinstance(handle, ImageHandle)
    with pytest.raises(DecodeError, match=r"more than 1 MiB \(--max-bytes\)"):
        handle.read(1 << 20)
