"""A real GCS emulator (fake-gcs-server) on loopback, for tests."""

import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 30
GOOGLE = "storage.googleapis.com"


@dataclass(frozen=True)
class Emulator:
    """Where it listens, and the folder that holds a folder a bucket."""

    port: int
    root: Path

    @property
    def url(self) -> str:
        """What STORAGE_EMULATOR_HOST takes."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self, port: int | None = None) -> dict[str, str]:
        """What a process needs in order to use it, maybe through a proxy's port; never a cloud."""
        return {
            "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port or self.port}",
            # Nobody there: a client that looks for a cloud's identity must not wait for one.
            "GCE_METADATA_HOST": "127.0.0.1:9",
        }

    def make_bucket(self, name: str) -> None:
        """Create an empty bucket."""
        (self.root / name).mkdir()


@dataclass(frozen=True)
class Tls:
    """A second door, by TLS, for clients that know Google's own address alone."""

    port: int
    certificate: Path
    key: Path


@contextmanager
def emulator(root: Path, *, tls: Tls | None = None) -> Iterator[Emulator]:
    """Runs while the context does; objects stay in `root`."""
    port = free_port()
    doors = ["-scheme", "http", "-port", str(port), "-public-host", f"127.0.0.1:{port}"]
    if tls is not None:
        doors = [
            "-scheme", "both", "-port-http", str(port), "-port", str(tls.port),
            "-public-host", GOOGLE, "-cert-location", str(tls.certificate),
            "-private-key-location", str(tls.key),
        ]  # fmt: skip
    process = subprocess.Popen(
        ["fake-gcs-server", "-host", "127.0.0.1", *doors,
         "-filesystem-root", str(root), "-log-level", "error"],
    )  # fmt: skip
    try:
        _wait_until_up(process, port)
        yield Emulator(port, root)
    finally:
        process.terminate()
        process.wait()


def _wait_until_up(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_internal/healthcheck", timeout=5)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"fake-gcs-server did not start (exit code {process.poll()})")


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
