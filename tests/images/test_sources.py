"""Folders and CSV files -> records."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from ffe.errors import SourceError
from ffe.images.records import UNLABELLED
from ffe.images.sources import Scan, list_images, scan


def put(root: Path, *names: str) -> Path:
    """Make files, and the folders they lie in; scan opens none of them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"picture")
    return root


def named(source: Path) -> dict[str, tuple[str, str]]:
    """Return path -> (class name or empty, split)."""
    found = scan(source)
    return {r.path: ("" if r.label == UNLABELLED else found.class_names[r.label], r.split) for r in found.records}


def test_class_folders(tmp_path: Path) -> None:
    found = scan(put(tmp_path, "dog/b.png", "dog/a.jpg", "cat/z.png"))
    assert found.kind == "class folders"
    assert found.root == tmp_path
    assert found.class_names == ("cat", "dog")
    assert [(r.path, r.label, r.split) for r in found.records] == [
        ("cat/z.png", 0, ""),
        ("dog/a.jpg", 1, ""),
        ("dog/b.png", 1, ""),
    ]
    assert [r.file for r in found.records] == [tmp_path / r.path for r in found.records]
    assert found.left_out == ()


def test_nested_files_belong_to_the_top_folder(tmp_path: Path) -> None:
    put(tmp_path, "cat/indoor/sofa/a.png", "cat/b.png", "dog/c.png")
    assert named(tmp_path) == {"cat/indoor/sofa/a.png": ("cat", ""), "cat/b.png": ("cat", ""), "dog/c.png": ("dog", "")}


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    put(
        tmp_path,
        "cat/a.png",
        "cat/.hidden.png",
        "cat/Thumbs.db",
        "cat/desktop.ini",
        "cat/.cache/b.png",
        ".git/c.png",
        ".DS_Store",
    )
    found = scan(tmp_path)
    assert [r.path for r in found.records] == ["cat/a.png"]
    assert found.left_out == ()


def test_empty_class_folder_is_no_class(tmp_path: Path) -> None:
    put(tmp_path, "cat/a.png")
    (tmp_path / "emu").mkdir()
    assert scan(tmp_path).class_names == ("cat",)


def test_stray_files_are_reported(tmp_path: Path) -> None:
    found = scan(put(tmp_path, "cat/a.png", "dog/b.png", "notes.txt"))
    assert len(found.records) == 2
    assert found.left_out == (("notes.txt", "outside the class folders"),)


def test_split_folders(tmp_path: Path) -> None:
    put(tmp_path, "train/cat/a.png", "train/dog/deep/b.png", "val/cat/c.png", "test/dog/d.png")
    assert scan(tmp_path).kind == "split folders"
    assert named(tmp_path) == {
        "train/cat/a.png": ("cat", "train"),
        "train/dog/deep/b.png": ("dog", "train"),
        "val/cat/c.png": ("cat", "valid"),
        "test/dog/d.png": ("dog", "test"),
    }


@pytest.mark.parametrize("name", ["valid", "val", "validation", "Validation", "VAL"])
def test_every_name_of_the_validation_split(tmp_path: Path, name: str) -> None:
    put(tmp_path, "Train/cat/a.png", f"{name}/cat/b.png")
    assert named(tmp_path) == {"Train/cat/a.png": ("cat", "train"), f"{name}/cat/b.png": ("cat", "valid")}


def test_file_of_a_split_outside_its_classes_is_unlabelled(tmp_path: Path) -> None:
    put(tmp_path, "train/cat/a.png", "test/b.png")
    assert named(tmp_path) == {"train/cat/a.png": ("cat", "train"), "test/b.png": ("", "test")}


def test_one_split_named_twice(tmp_path: Path) -> None:
    put(tmp_path, "train/cat/a.png", "val/cat/b.png", "valid/cat/c.png")
    with pytest.raises(SourceError, match=r"names one split twice \(train, val, valid\); keep one folder for each split"):
        scan(tmp_path)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    found = scan(put(tmp_path, "bus/a.png", "train/b.png", "tram/c.png"))
    assert found.kind == "class folders"
    assert found.class_names == ("bus", "train", "tram")


def test_splits_mixed_with_other_folders(tmp_path: Path) -> None:
    put(tmp_path, "train/cat/a.png", "test/cat/b.png", "extra/c.png")
    with pytest.raises(
        SourceError, match=r"mixes split folders \(test, train\) with other folders \(extra\); move the others away, or into"
    ):
        scan(tmp_path)


def test_splits_without_classes(tmp_path: Path) -> None:
    put(tmp_path, "train/a.png", "test/b.png")
    with pytest.raises(
        SourceError, match=r"holds only test, train and no class folders in them; put the images into one folder per class"
    ):
        scan(tmp_path)


def test_flat_folder_is_unlabelled(tmp_path: Path) -> None:
    found = scan(put(tmp_path, "b.png", "a.png", ".c.png"))
    assert found.kind == "flat folder"
    assert found.class_names == ()
    assert [(r.path, r.label, r.split) for r in found.records] == [("a.png", UNLABELLED, ""), ("b.png", UNLABELLED, "")]


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"There is no file or folder '.*pictures'; check the path\."):
        scan(tmp_path / "pictures")


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"There are no images in '.*'; expected one folder per class"):
        scan(tmp_path)


def test_neither_folder_nor_csv(tmp_path: Path) -> None:
    put(tmp_path, "cat.png")
    text = r"cat\.png' is neither a folder nor a CSV file nor an archive \(\.tar, \.zip, \.parquet\); give the folder that holds"
    with pytest.raises(SourceError, match=text):
        scan(tmp_path / "cat.png")


def test_links_are_followed(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "a.png", "b.png")
    source = put(tmp_path / "source", "dog/c.png")
    (source / "cat").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (source / "dog" / "link.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    assert sorted(named(source)) == ["cat/a.png", "cat/b.png", "dog/c.png", "dog/link.png"]


def test_loop_of_links_ends(tmp_path: Path) -> None:
    put(tmp_path, "cat/a.png", "cat/inner/b.png")
    (tmp_path / "cat" / "inner" / "again").symlink_to(tmp_path / "cat", target_is_directory=True)
    found = scan(tmp_path)
    assert [r.path for r in found.records] == ["cat/a.png", "cat/inner/b.png"]
    assert found.left_out == (("cat/inner/again", "a link back to a folder above it"),)


def test_link_to_a_folder_that_the_source_lies_in_is_not_followed(tmp_path: Path) -> None:
    """Otherwise all that lies beside the source would be photos of a class."""
    put(tmp_path, "beside.png", "project/photos/cat/a.png", "project/other/b.png")
    source = tmp_path / "project" / "photos"
    for name, target in (("parent", tmp_path / "project"), ("far", tmp_path), ("root", Path("/"))):
        (source / "cat" / name).symlink_to(target, target_is_directory=True)
    (tmp_path / "link").symlink_to(source, target_is_directory=True)
    for root in (source, tmp_path / "link"):
        found = scan(root)
        assert [r.path for r in found.records] == ["cat/a.png"]
        assert found.left_out == tuple((f"cat/{name}", "a link back to a folder above it") for name in ("far", "parent", "root"))


def test_link_to_the_source_itself_adds_no_row(tmp_path: Path) -> None:
    """Otherwise every dog would be a cat as well."""
    put(tmp_path, "cat/a.png", "dog/b.png")
    (tmp_path / "cat" / "again").symlink_to(tmp_path, target_is_directory=True)
    found = scan(tmp_path)
    assert [r.path for r in found.records] == ["cat/a.png", "dog/b.png"]
    assert found.left_out == (("cat/again", "a link back to a folder above it"),)


def test_a_folder_counts_once_in_a_class(tmp_path: Path) -> None:
    """Whatever its links are called: what lies there itself comes before what is linked."""
    put(tmp_path, "cat/z/a.png", "dog/b.png")
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat" / "z", target_is_directory=True)
    (tmp_path / "cat" / "more").symlink_to("z", target_is_directory=True)
    found = scan(tmp_path)
    assert [r.path for r in found.records] == ["cat/z/a.png", "dog/b.png"]
    assert found.left_out == tuple(
        (f"cat/{name}", "the same folder as 'cat/z', which counts already") for name in ("again", "more")
    )


def test_a_folder_that_two_classes_link_to_counts_in_both(tmp_path: Path) -> None:
    """As the user says; tuning warns of it."""
    put(tmp_path / "pets", "a.png")
    source = put(tmp_path / "source", "dog/b.png")
    for name in ("cat", "animal"):
        (source / name).symlink_to(tmp_path / "pets", target_is_directory=True)
    assert sorted(named(source)) == ["animal/a.png", "cat/a.png", "dog/b.png"]


def test_a_folder_may_stand_in_two_splits(tmp_path: Path) -> None:
    put(tmp_path, "train/cat/a.png", "train/dog/b.png", "test/dog/c.png")
    (tmp_path / "test" / "cat").symlink_to(tmp_path / "train" / "cat", target_is_directory=True)
    (tmp_path / "test" / "dog" / "again").symlink_to(tmp_path / "test" / "dog", target_is_directory=True)
    assert sorted(named(tmp_path)) == ["test/cat/a.png", "test/dog/c.png", "train/cat/a.png", "train/dog/b.png"]


def test_links_to_files_count_as_copies_do(tmp_path: Path) -> None:
    put(tmp_path, "cat/a.png", "dog/b.png")
    (tmp_path / "cat" / "c.png").symlink_to("a.png")
    assert sorted(named(tmp_path)) == ["cat/a.png", "cat/c.png", "dog/b.png"]


def test_a_lattice_of_links_is_walked_once(tmp_path: Path) -> None:
    """Thirty folders, each with two links to the next: a billion paths lead to the last one."""
    put(tmp_path, "dog/b.png", *(f"lattice/{i}/x.png" for i in range(31)))
    for i in range(30):
        for name in ("left", "right"):
            (tmp_path / "lattice" / str(i) / name).symlink_to(f"../{i + 1}", target_is_directory=True)
    (tmp_path / "cat").symlink_to(tmp_path / "lattice" / "0", target_is_directory=True)
    assert len([path for path in named(tmp_path) if path.startswith("cat/")]) == 31


def test_folders_of_any_depth(tmp_path: Path) -> None:
    """Deeper than Python's stack; where the system ends, the rest is left out with its reason."""
    here = os.getcwd()
    (tmp_path / "cat").mkdir()
    put(tmp_path, "cat/a.png", "dog/b.png")
    os.chdir(tmp_path / "cat")
    try:
        for i in range(2500):
            if i % 500 == 10:
                Path("deep.png").write_bytes(b"picture")
            os.mkdir("d")
            os.chdir("d")
        found = scan(tmp_path)
    finally:
        os.chdir(here)
        subprocess.run(["rm", "-r", str(tmp_path / "cat")], check=True)  # too deep for Python
    assert sum(r.path.endswith("deep.png") for r in found.records) >= 3
    assert {why.partition(": ")[2] for _, why in found.left_out} == {"File name too long"}


def test_a_folder_without_permission_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mocked: tests may run as root, who may read everything."""
    put(tmp_path, "cat/a.png", "cat/secret/b.png", "dog/c.png")
    scandir = os.scandir

    def forbid(folder: str) -> object:
        if os.fspath(folder).endswith("secret"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", forbid)
    found = scan(tmp_path)
    assert [r.path for r in found.records] == ["cat/a.png", "dog/c.png"]
    assert found.left_out == (("cat/secret", "folder cannot be read: Permission denied"),)


def test_a_loop_of_links_to_files_is_reported(tmp_path: Path) -> None:
    put(tmp_path, "cat/a.png")
    (tmp_path / "cat" / "round.png").symlink_to("round.png")
    assert scan(tmp_path).left_out == (("cat/round.png", "cannot be reached: Too many levels of symbolic links"),)


@pytest.mark.parametrize("name", ["__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found", "System Volume Information", "#recycle"])
def test_what_systems_and_archives_leave_behind_is_no_class(tmp_path: Path, name: str) -> None:
    found = scan(put(tmp_path, "cat/a.png", "dog/b.png", f"{name}/c.png", f"cat/{name}/d.png", "cat/ehthumbs.db", "cat/Icon\r"))
    assert found.class_names == ("cat", "dog")
    assert [r.path for r in found.records] == ["cat/a.png", "dog/b.png"]
    assert found.left_out == ()


def test_names_may_hold_line_breaks_and_be_long(tmp_path: Path) -> None:
    names = ["cat/two\nlines.png", f"cat/{'x' * 251}.png", "cat/\x1b[2J.png"]
    assert sorted(named(put(tmp_path, *names))) == sorted(names)


def test_dangling_link_is_reported(tmp_path: Path) -> None:
    put(tmp_path, "cat/a.png")
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = scan(tmp_path)
    assert [r.path for r in found.records] == ["cat/a.png"]
    assert found.left_out == (("cat/gone.png", "a link to a file that is not there"),)


def test_pipe_is_reported_and_never_opened(tmp_path: Path) -> None:
    """Opening it would wait for a writer for ever."""
    put(tmp_path, "cat/a.png")
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    found: list[Scan] = []
    thread = threading.Thread(target=lambda: found.append(scan(tmp_path)), daemon=True)
    thread.start()
    thread.join(10)
    assert [[r.path for r in each.records] for each in found] == [["cat/a.png"]]
    assert found[0].left_out == (("cat/pipe.png", "a pipe, a device or a socket, not a file"),)


def test_name_that_is_no_text_is_reported(tmp_path: Path) -> None:
    put(tmp_path, "cat/a.png")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/cat/\xff.png")).write_bytes(b"picture")
    found = scan(tmp_path)
    assert [r.path for r in found.records] == ["cat/a.png"]
    assert found.left_out == (("cat/\\xff.png", "the file name is not valid text; rename the file"),)


def refused(source: Path) -> str:
    """Return the sentence with which a source is refused; ``list_images`` looks at it all the same, and says it too."""
    with pytest.raises(SourceError) as error:
        scan(source)
    assert str(error.value).startswith(list_images(source).findings[0].text)
    return str(error.value).replace(str(source), "SOURCE")


def said(source: Path) -> list[tuple[str, str]]:
    return [(finding.level, finding.text.replace(str(source), "SOURCE")) for finding in scan(source).findings]


def test_splits_inside_classes(tmp_path: Path) -> None:
    put(tmp_path, "cat/train/a.png", "cat/Test/deep/b.png", "dog/train/c.png", "dog/val/d.png")
    assert scan(tmp_path).kind == "splits in class folders"
    assert named(tmp_path) == {
        "cat/train/a.png": ("cat", "train"),
        "cat/Test/deep/b.png": ("cat", "test"),
        "dog/train/c.png": ("dog", "train"),
        "dog/val/d.png": ("dog", "valid"),
    }


def test_what_is_no_picture_beside_splits_inside_classes_is_left_out(tmp_path: Path) -> None:
    images = ["cat/test/b.png", "cat/train/a", "dog/test/d", "dog/train/c.png"]
    others = ["cat/README.txt", "cat/notes/labels.xml", "dog/README.txt"]
    put(tmp_path, *images, *others)
    found = scan(tmp_path)
    assert (found.kind, [record.path for record in found.records]) == ("splits in class folders", images)
    assert [record.split for record in found.records] == ["test", "train", "test", "train"]
    assert found.left_out == tuple((path, "beside the splits of its class") for path in others)


def test_a_class_may_hold_a_folder_called_train(tmp_path: Path) -> None:
    found = scan(put(tmp_path, "rail/train/a.png", "rail/tram/b.png", "road/train/c.png"))
    assert (found.kind, found.class_names) == ("class folders", ("rail", "road"))


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            ["cat/train/a.png", "cat/test/b.png", "dog/c.png"],
            "In 'SOURCE', 'cat' holds split folders (test, train) and 'dog' does not; give every class the same splits, "
            "or list the images in a CSV with the columns path,label,split.",
        ),
        (
            ["cat/train/a.png", "cat/test/b.png", "cat/holdout/c.png", "dog/train/d.png", "dog/test/e.png"],
            "'SOURCE/cat' holds split folders (test, train) and other pictures beside them ('holdout'); "
            "move these into the splits, or away.",
        ),
        (
            ["cat/train/a.png", "cat/test/b.png", "cat/c.JPG", "cat/x/d.png", "dog/e.png"],
            "'SOURCE/cat' holds split folders (test, train) and other pictures beside them ('x' and loose ones); "
            "move these into the splits, or away.",
        ),
        (
            ["cat/train/a.png", "cat/test/b.png", "docs/README.txt"],
            "In 'SOURCE', 'cat' holds split folders (test, train) and 'docs' does not; give every class the same splits, "
            "or list the images in a CSV with the columns path,label,split.",
        ),
        (
            ["one/train/cat/a.png", "one/test/cat/b.png", "one/README", "two/train/cat/c.png", "two/test/cat/d.png", "two/x.txt"],
            "In 'SOURCE', 'one' and 'two' hold splits with folders in them; give one of the folders, such as 'SOURCE/one', "
            "or list the images in a CSV with the columns path,label,split.",
        ),
        (
            ["cat/val/a.png", "cat/valid/b.png", "dog/val/c.png"],
            "'SOURCE/cat' names one split twice (val, valid); keep one folder for each split.",
        ),
        (
            ["set/train/cat/a.png", "set/test/dog/b.png", "set/README.md", "notes.txt"],
            "'SOURCE' holds one folder only, and 'SOURCE/set' in it holds others ('test' and 'train'); did you mean "
            "'SOURCE/set'? Images that are all of one class belong directly into its folder.",
        ),
        (
            ["a/b/cat/1.png", "a/b/dog/2.png"],
            "'SOURCE' holds one folder only, and 'SOURCE/a/b' in it holds others ('cat' and 'dog'); did you mean 'SOURCE/a/b'? "
            "Images that are all of one class belong directly into its folder.",
        ),
        (
            ["one/train/cat/a.png", "one/test/cat/b.png", "two/train/dog/c.png"],
            "In 'SOURCE', 'one' and 'two' hold splits with folders in them; give one of the folders, such as 'SOURCE/one', "
            "or list the images in a CSV with the columns path,label,split.",
        ),
        (
            ["train/set/cat/a.png", "train/set/dog/b.png", "test/set/cat/c.png"],
            "The splits of 'SOURCE' hold one folder only, 'set', which holds others ('cat' and 'dog'); "
            "if those are the classes, move them up, directly into the splits.",
        ),
    ],
)
def test_layouts_that_are_one_level_off(tmp_path: Path, files: list[str], sentence: str) -> None:
    assert refused(put(tmp_path, *files)) == sentence


def test_one_class_is_no_level_too_many(tmp_path: Path) -> None:
    assert named(put(tmp_path, "cat/deep/a.png", "cat/b.png")) == {"cat/deep/a.png": ("cat", ""), "cat/b.png": ("cat", "")}


def test_a_class_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "cat/a.png", "dog/b.png")
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    put(folder, "c.png", "d.png")
    why = r"the folder 'caf\xe9' has a name that is not valid text; rename the folder"
    assert refused(tmp_path) == (
        rf"No image can be read in 'caf\xe9' of 'SOURCE' ({why}); mend that, "
        "or take this folder away if nothing is to be learnt from it."
    )
    assert list_images(tmp_path).left_out == tuple((rf"caf\xe9/{name}", why) for name in ("c.png", "d.png"))


def test_a_folder_in_a_class_whose_name_is_no_text_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, "cat/a.png", "dog/b.png")
    put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/cat/caf\xe9")), "c.png")
    why = r"the folder 'caf\xe9' has a name that is not valid text; rename the folder"
    assert scan(tmp_path).left_out == ((r"cat/caf\xe9/c.png", why),)


def test_a_class_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mocked: tests may run as root, who may read everything."""
    put(tmp_path, "train/cat/a.png", "train/dog/b.png", "test/cat/c.png", "test/dog/d.png", "test/emu/e.png")
    scandir = os.scandir

    def forbid(folder: str) -> object:
        if os.fspath(folder).endswith(("test/dog", "test/emu")):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", forbid)
    assert refused(tmp_path) == (
        "No image can be read in 'test/dog' and 'test/emu' of 'SOURCE' (folder cannot be read: Permission denied); mend that, "
        "or take these folders away if nothing is to be learnt from them."
    )


@pytest.mark.parametrize("name", ["dog", "dog/inner", "dog/a.png"])
def test_a_class_of_links_to_nothing_is_refused(tmp_path: Path, name: str) -> None:
    put(tmp_path, "cat/a.png", "emu/b.png")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).symlink_to(tmp_path / "gone")
    assert refused(tmp_path).startswith("No image can be read in 'dog' of 'SOURCE' (a link to a file that is not there); mend")


def test_empty_class_folders_are_said(tmp_path: Path) -> None:
    put(tmp_path, "train/cat/a.png", "train/dog/b.png", "test/cat/c.png")
    for name in ("test/dog", "valid", "train/emu"):
        (tmp_path / name).mkdir()
    assert said(tmp_path) == [
        (
            "warning",
            "'test/dog', 'train/emu' and 'valid' of 'SOURCE' are empty, so they are no classes; "
            "add images, or remove what is empty.",
        )
    ]
    assert [why for _, why in scan(tmp_path).left_out] == ["an empty folder"] * 3


def test_hidden_class_folders_are_said(tmp_path: Path) -> None:
    put(tmp_path, "cat/a.png", "dog/b.png", ".emu/c.png", ".git/config", "cat/.d/e.png")
    assert said(tmp_path) == [
        ("note", "the hidden folder is passed over: '.emu'; a name without a dot in front makes it a class")
    ]


NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_class_folders_that_look_the_same_are_one_class(tmp_path: Path) -> None:
    found = scan(put(tmp_path, f"{NFC}/a.png", f"{NFD}/b.png", "tea/c.png"))
    assert found.class_names == (NFC, "tea")
    assert [(record.path, record.label) for record in found.records] == [
        (f"{NFD}/b.png", 0),
        (f"{NFC}/a.png", 0),
        ("tea/c.png", 1),
    ]
    assert all(record.file.exists() for record in found.records)
    assert said(tmp_path) == [
        ("note", f"the name '{NFC}' is spelt in two ways that look the same; each is one class"),
    ]
    assert named(put(tmp_path / "two", f"train/{NFC}/a.png", f"test/{NFD}/b.png", "train/tea/c.png"))[f"test/{NFD}/b.png"] == (
        NFC,
        "test",
    )


def test_a_source_is_found_in_either_form(tmp_path: Path) -> None:
    put(tmp_path / NFD, "cat/a.png", "dog/b.png")
    found = scan(tmp_path / NFC)
    assert all(record.file.exists() for record in found.records)


def test_classes_that_differ_in_case_are_said(tmp_path: Path) -> None:
    put(tmp_path, "Cat/a.png", "cat/b.png", "dog/c.png")
    assert said(tmp_path) == [
        (
            "warning",
            "classes whose names differ only in capital letters: 'Cat' and 'cat'; if they are one class, give them one name",
        )
    ]


def test_several_labels_of_one_image_are_said(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("path,label\na.png,cat;dog\nb.png,cat\nc.png,cat|dog\nd.png,smile ;)\n")
    assert said(path) == [
        (
            "warning",
            "'cat;dog', 'cat|dog' and 'smile ;)' count as one class each: an image has one label in ffe; "
            "give each the label that matters, or leave such images out",
        )
    ]


def test_files_of_a_list_are_found_without_asking_the_disk_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the source is was asked for every photo, in every pass over them: on a network disk that is a visit each."""
    names = [f"photos/{i}.jpg" for i in range(50)]
    put(tmp_path, *names)
    (tmp_path / "list.csv").write_text("path,label\n" + "".join(f"{name},cat\n" for name in names), "utf-8")
    records, asked = scan(tmp_path / "list.csv").records, list[Path]()
    plain = Path.is_file
    monkeypatch.setattr(Path, "is_file", lambda path: asked.append(path) or plain(path))
    assert sorted(str(record.file) for record in records) == sorted(str(tmp_path / name) for name in names)
    assert asked == [tmp_path]  # once, for all
