"""Which row has which digest: as a dict says, in less memory."""

from __future__ import annotations

import hashlib
import random

from ffe.base.digests import DigestIndex, key_of


def test_it_says_what_a_dict_says() -> None:
    """Names of contents and of their views, some twice, some rows without one; and after rows were taken back."""
    numbers = random.Random(0)
    names = [hashlib.sha256(bytes([n % 251, n // 251])).hexdigest() for n in range(600)]
    names = [numbers.choice([name, name, f"{name} 2 abc", None]) for name in [*names, *names[:100]]]
    index, first = DigestIndex(), dict[str, int]()
    for row, name in enumerate(names):
        index.append(None if name is None else key_of(name))
        if name is not None:
            first.setdefault(name, row)
    assert {name: index.row(name) for name in first} == first
    assert (len(index), index.rows) == (len(first), len(names))
    assert index.row("f" * 64) == -1
    assert "f" * 64 not in index
    assert len(index.keys()) == len(names) - names.count(None)
    index.keep(300)
    assert {name: index.row(name) for name in first} == {name: row if row < 300 else -1 for name, row in first.items()}
    index.put(310, key_of("a"))
    assert (index.rows, index.row("a")) == (311, 310)
    index.append(None)
    index.keep_whole()
    assert index.rows == 311
    assert not index.begins_with(["a"])
