"""The tests stay apart from whoever runs them: another home, other caches, no weights of theirs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ffe.backbones.weights import keras_home
from ffe.base.system import cache_root

_PRINT = """
import os, platformdirs
from pathlib import Path
from ffe.backbones.weights import keras_home
from ffe.base.system import cache_root
print(Path.home(), cache_root(), keras_home(), platformdirs.user_cache_path("ffe"), platformdirs.user_data_path("ffe"), sep="\\n")
"""


def test_home_and_caches_are_those_of_this_run() -> None:
    run = Path.home().parent
    assert run.name.startswith("ffe-tests-")
    assert {Path.home().parent, cache_root().parent, keras_home().parent} == {run}


def test_so_they_are_in_other_processes() -> None:
    done = subprocess.run([sys.executable, "-c", _PRINT], capture_output=True, text=True, check=True, timeout=300)
    folders = [Path(line) for line in done.stdout.splitlines()]
    assert len(folders) == 5
    assert [folder for folder in folders if Path.home().parent not in folder.parents] == []


def test_no_setting_of_the_user_reaches_a_test() -> None:
    left = {name for name in os.environ if name.startswith(("FFE_", "XDG_", "NUMBA_CACHE"))}
    assert left <= {"FFE_CACHE_DIR", "FFE_TEST_DATA"}
