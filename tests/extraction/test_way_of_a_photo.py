"""The way of one photo through ``ffe.extract`` goes through few files: what is called for each photo, from scan to stored row."""

from __future__ import annotations

import inspect
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import ffe
from ffe.extraction.run import extract
from ffe.images.drawings import draw_folder

PACKAGE = Path(ffe.__file__).parent
LOOPS = ("<genexpr>", "<listcomp>", "<setcomp>", "<dictcomp>")  # part of the function that they stand in
MOST_FILES = 18
MOST_ENTRIES = 2


class _Calls:
    """Counts, in all threads, the calls of functions of ffe by (file, function), and those that come from another file.

    What runs while a module is imported is not counted.
    """

    def __init__(self) -> None:
        self.of: Counter[tuple[str, str]] = Counter()
        self.entries: Counter[str] = Counter()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        file = Path(code.co_filename)
        if event != "call" or not file.is_relative_to(PACKAGE) or not code.co_flags & inspect.CO_OPTIMIZED:
            return
        if code.co_name in LOOPS:
            return
        name = file.relative_to(PACKAGE).as_posix()
        self.of[name, code.co_qualname] += 1
        caller = frame.f_back
        while caller is not None and not Path(caller.f_code.co_filename).is_relative_to(PACKAGE):
            caller = caller.f_back
        if caller is None or caller.f_code.co_filename != code.co_filename:
            self.entries[name] += 1


def calls_of(folder: Path, count: int) -> _Calls:
    """Run an extraction of so many drawn pictures with the fake backbone, while the clock stands still.

    What is called once a second, such as a look at the machine's memory, would count as called for each photo on a slow machine.
    """
    draw_folder(folder / "pictures", count // 2)
    calls = _Calls()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: 0.0)
        threading.setprofile(calls)
        sys.setprofile(calls)
        try:
            extract(folder / "pictures", folder / "f.h5", backbone="fake", batch_size=4)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    return calls


@pytest.fixture(scope="module")
def few_and_more(tmp_path_factory: pytest.TempPathFactory) -> tuple[_Calls, _Calls]:
    folder = tmp_path_factory.mktemp("way")
    calls_of(folder / "first", 4)  # imports what a run needs
    return calls_of(folder / "few", 8), calls_of(folder / "more", 16)


def test_few_files_are_entered_for_each_photo(few_and_more: tuple[_Calls, _Calls]) -> None:
    few, more = few_and_more
    files = sorted({file for (file, function), count in more.of.items() if count - few.of[file, function] >= 8})
    assert "extraction/pipeline.py" in files
    assert "extraction/run.py" not in files
    assert len(files) <= MOST_FILES, "\n".join(files)


def test_the_run_is_entered_twice_at_the_most(few_and_more: tuple[_Calls, _Calls]) -> None:
    """By who calls ``extract``, and once the engine tells the shape of its features; however many photos there are."""
    for calls in few_and_more:
        assert 1 <= calls.entries["extraction/run.py"] <= MOST_ENTRIES
