"""Chromium without a window, driven by its DevTools protocol: what a page does, asks for and complains of."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars"),
)

# The browser reads commands from its file 3, and writes to 4.
_LAUNCH = """
import fcntl, os, sys
commands, answers = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 9) for number in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""

# JavaScript: of elements, how many there are, and whose text has a contrast below 4.5 to 1 to what is behind it.
WEAK = """
  const rgb = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const light = (c) => { const [r, g, b] = c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const style = (e) => getComputedStyle(e);
  const behind = (e) => { const own = rgb(style(e).backgroundColor);
    return own[3] === 0 ? behind(e.parentElement) : own.length > 3 ? over(own, behind(e.parentElement)) : own; };
  const weak = (shown) => ({count: shown.length, weak: shown.map((e) => {
    const a = light(rgb(style(e).color).slice(0, 3)), b = light(behind(e));
    return [e.className || e.tagName, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]; }).filter(([, ratio]) => ratio < 4.5)});
"""

KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}


class Tab:
    """One page of a browser of its own; ``close`` ends both.

    Attributes:
        requests: the addresses that the page has asked for.
        complaints: what it wrote to the console, and what the browser held against it; not that an answer had an error's code.
    """

    def __init__(self, profile: Path, *flags: str) -> None:
        (theirs, self._commands), (self._answers, theirs_too) = os.pipe(), os.pipe()
        own = ("--remote-debugging-pipe", f"--user-data-dir={profile}")
        self._process = subprocess.Popen(
            [sys.executable, "-IS", "-c", _LAUNCH, str(theirs), str(theirs_too), CHROMIUM or "", *QUIET, *own, *flags],
            pass_fds=(theirs, theirs_too),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(theirs_too)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._read = b""
        self._number = 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")
        self.call("Network.setCacheDisabled", cacheDisabled=True)

    def close(self) -> None:
        """End the browser."""
        self._session = None
        self.call("Browser.close")
        os.close(self._commands)
        self._process.wait(30)
        os.close(self._answers)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self, seconds: float = 60) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while b"\0" not in self._read:
            ready, *_ = select.select([self._answers], [], [], max(0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            more = os.read(self._answers, 1 << 20)
            assert more, "the browser has ended"
            self._read += more
        line, _, self._read = self._read.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        said = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(said["request"]["url"])
            case "Runtime.exceptionThrown" | "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(said))
            case "Log.entryAdded" if "responded with a status of" not in said["entry"]["text"]:
                self.complaints.append(json.dumps(said["entry"]))

    def open(self, url: str, width: int, height: int = 900, scale: float = 1, *, dark: bool = False) -> None:
        """Show a page, as wide as a telephone or a desk, and wait until it has loaded; what the last one did is forgotten."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url="about:blank")
        self.requests.clear()
        self.complaints.clear()
        self.call("Page.navigate", url=url)
        self.until("location.href !== 'about:blank' && document.readyState === 'complete'")

    def run(self, code: str) -> Any:
        """Run the body of an asynchronous function in the page, and return what it returns."""
        done = self.call("Runtime.evaluate", expression=f"(async () => {{ {code} }})()", awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def until(self, condition: str, seconds: float = 30) -> None:
        """Wait until a condition holds in the page."""
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({condition});"):
            assert time.monotonic() < end, f"not so after {seconds} s: {condition}"
            time.sleep(0.05)

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            name = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": KEYS[key]}
            text = {"text": "\r" if key == "Enter" else key} if key in ("Enter", " ") else {}
            self.call("Input.dispatchKeyEvent", type="keyDown", **name, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", **name)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write what is seen as a PNG; ``whole``: the page to its end."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))


def drop(tab: Tab, files: dict[str, bytes], event: str = "DragEvent", kind: str = "drop", field: str = "dataTransfer") -> None:
    """Drop files, by their names, on a page; or let another event bring them, in a field of it."""
    contents = json.dumps({name: base64.b64encode(data).decode() for name, data in files.items()})
    tab.run(f"""
        const {field} = new DataTransfer();
        for (const [name, data] of Object.entries({contents}))
          {field}.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name));
        document.body.dispatchEvent(new {event}("{kind}", {{{field}, bubbles: true, cancelable: true}}));
    """)
