"""What a server has done, in the text that Prometheus reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds

TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts; for one thread."""

    def __init__(self) -> None:
        self.photos: Counter[str] = Counter()  # by what became of them: ``answered`` or ``unreadable``
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: dict[str, list[float]] = {}  # by path: how many in each bound and beyond, and their sum

    def count(self, path: str, status: int, seconds: float) -> None:
        """Take in a request that is over."""
        self._requests[path, status] += 1
        found = self._seconds.setdefault(path, [0] * (len(_BOUNDS) + 1) + [0.0])
        found[sum(seconds > bound for bound in _BOUNDS)] += 1
        found[-1] += seconds

    def text(self, now: Mapping[str, int]) -> str:
        """Return all of it; ``now`` has gauges by name."""
        lines = ["# TYPE ffe_requests_total counter"]
        for (path, status), count in sorted(self._requests.items()):
            lines.append(f'ffe_requests_total{{path="{path}",status="{status}"}} {count}')
        lines += ["# TYPE ffe_photos_total counter"]
        lines += [f'ffe_photos_total{{outcome="{name}"}} {self.photos[name]}' for name in ("answered", "unreadable")]
        lines += ["# TYPE ffe_request_seconds histogram"]
        for path, (*counts, total) in sorted(self._seconds.items()):
            for i, bound in enumerate((*map(str, _BOUNDS), "+Inf"), 1):
                lines.append(f'ffe_request_seconds_bucket{{path="{path}",le="{bound}"}} {sum(counts[:i])}')
            lines.append(f'ffe_request_seconds_sum{{path="{path}"}} {total:.6f}')
            lines.append(f'ffe_request_seconds_count{{path="{path}"}} {sum(counts)}')
        for name, value in now.items():
            lines += [f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}", f"{name} {value}"]
        return "\n".join(lines) + "\n"
