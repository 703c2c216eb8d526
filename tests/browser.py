"""A page as a real browser shows it: Chromium without a window, by its DevTools protocol."""

import asyncio
import base64
import itertools
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

DEADLINE = 60.0


@dataclass
class Seen:
    """What became of a page: complaints of the browser, what it asked for, values, a picture."""

    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    png: bytes = b""


@dataclass(frozen=True)
class Browser:
    """A running one, by the URL of its DevTools."""

    url: str

    def look(self, page: Path, *expressions: str, width: int, dark: bool = False) -> Seen:
        """Open a file in a new tab; the JavaScript `expressions` are evaluated in it."""
        return asyncio.run(
            asyncio.wait_for(self._look(page.as_uri(), expressions, width, dark), DEADLINE)
        )

    async def _look(self, url: str, expressions: tuple[str, ...], width: int, dark: bool) -> Seen:
        async with aiohttp.ClientSession() as http:
            async with http.put(f"{self.url}/json/new?about:blank") as reply:
                tab = await reply.json()
            async with http.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                return await _Tab(socket).look(url, expressions, width, dark)


class _Tab:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._seen = Seen()
        self._events: set[str] = set()

    async def look(self, url: str, expressions: tuple[str, ...], width: int, dark: bool) -> Seen:
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self._ask(f"{domain}.enable")
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
        await self._ask("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self._ask("Emulation.setEmulatedMedia", features=[scheme])
        self._events.clear()
        await self._ask("Page.navigate", url=url)
        while "Page.loadEventFired" not in self._events:
            self._note(await self._socket.receive_json())
        for expression in expressions:
            asked = {"expression": expression, "returnByValue": True}
            answer = await self._ask("Runtime.evaluate", **asked)
            self._seen.values.append(answer["result"].get("value"))
        asked = {"format": "png", "captureBeyondViewport": True}
        answer = await self._ask("Page.captureScreenshot", **asked, clip=await self._whole(width))
        self._seen.png = base64.b64decode(answer["data"])
        return self._seen

    async def _whole(self, width: int) -> dict[str, float]:
        height = (await self._ask("Page.getLayoutMetrics"))["cssContentSize"]["height"]
        return {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}

    async def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while (message := await self._socket.receive_json()).get("id") != number:
            self._note(message)
        assert "error" not in message, message
        return dict(message["result"])

    def _note(self, message: dict[str, Any]) -> None:
        method, params = message.get("method", ""), message.get("params", {})
        self._events.add(method)
        if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self._seen.errors.append(str(params))
        elif method == "Network.requestWillBeSent":
            self._seen.requests.append(params["request"]["url"])


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Debian's, with a profile in `folder`."""
    program = shutil.which("chromium")
    assert program is not None
    process = subprocess.Popen(
        [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--disable-background-networking", "--no-first-run", "--remote-debugging-port=0",
         f"--user-data-dir={folder}", "about:blank"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        said = next(line for line in process.stderr if line.startswith("DevTools listening on "))
        host = said.split("ws://")[1].partition("/")[0]
        yield Browser(f"http://{host}")
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE)
