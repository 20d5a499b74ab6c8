"""A small client of Chromium's DevTools protocol over a pipe: https://chromedevtools.github.io/devtools-protocol/"""

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

EXECUTABLE = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
]
# Chromium reads commands from the descriptor 3 and writes to 4.
WITH_PIPES = """
import fcntl, os, sys
r, w = (fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3])
os.dup2(r, 3), os.dup2(w, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
SECONDS = 20.0  # to wait for anything
KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "r": 82, "s": 83}


class Browser:
    """A browser with a profile of its own in `folder`."""

    def __init__(self, folder: Path) -> None:
        assert EXECUTABLE
        read_end, self._to = os.pipe()
        self._from, write_end = os.pipe()
        command = [sys.executable, "-ISc", WITH_PIPES, str(read_end), str(write_end), EXECUTABLE]
        self._process = subprocess.Popen(
            [*command, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            pass_fds=(read_end, write_end),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_end)
        os.close(write_end)
        self._buffer, self._last = b"", 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._receive()
            if reply.get("id") == self._last:
                assert "error" not in reply, f"{method}: {reply['error']}"
                return dict(reply["result"])
            self.events.append(reply)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._from], [], [], SECONDS)[0], "Chromium does not answer"
            chunk = os.read(self._from, 1 << 20)
            assert chunk, "Chromium has ended"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def tab(self) -> Tab:
        return Tab(self)

    def close(self) -> None:
        try:
            self.call("Browser.close")
            self._process.wait(SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._to)
            os.close(self._from)


class Tab:
    """A tab, 1280 x 800 CSS pixels at first."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(1280, 800)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def resize(self, width: int, height: int, scale: float = 1, *, phone: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.wait(f"document.readyState == 'complete' && location.href.startsWith({url!r})")

    def leave(self, script: str) -> None:
        """Do what leads to another page, or to this one anew, and wait for that."""
        self.see(f"window.left = true; {script}")
        self.wait("!window.left && document.readyState == 'complete'")

    def see(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        reply = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in reply, reply["exceptionDetails"]
        return reply["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until a JavaScript expression is true, through reloads."""
        end = time.monotonic() + SECONDS
        while True:
            try:
                if self.see(condition):
                    return
            except AssertionError:
                if time.monotonic() > end:
                    raise
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.02)

    def front(self) -> None:
        self.call("Page.bringToFront")

    def key(self, key: str, *, repeated: bool = False) -> None:
        what = {"key": key, "windowsVirtualKeyCode": KEYS[key]}
        if len(key) == 1:
            what["text"] = key
        self.call("Input.dispatchKeyEvent", type="keyDown", autoRepeat=repeated, **what)
        self.call("Input.dispatchKeyEvent", type="keyUp", **what)

    def click(self, selector: str) -> None:
        place = self._place(selector) | {"button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **place)

    def tap(self, selector: str) -> None:
        points = [self._place(selector)]
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=points)
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def _place(self, selector: str) -> dict[str, float]:
        box = f"document.querySelector({selector!r}).getBoundingClientRect()"
        x, y = self.see(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({box})")
        return {"x": x, "y": y}

    def picture(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
