"""What a stranger gets to see of a run; `helm test` runs it in a pod that is none of the run's.

    python -m trainer.gathering.stranger --page http://HOST:9400 [--leader HOST:8470] [--kept-out]

Ends with 0 when worker 0's agent answers, and keeps strangers out.
"""

import argparse
import asyncio
import secrets
import socket as sockets
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException

from aiohttp import ClientError, ClientSession, WSMsgType

from trainer.gathering.connection import PATH
from trainer.gathering.seal import NONCE_BYTES, TAG_BYTES

# More than an unproven connection is given.
_SECONDS = 8.0
# Who enforces policies needs some to know of a new pod: until then it may let all through or none.
_PATIENCE_SECONDS = 15.0
_AGAIN_SECONDS = 0.2


def main(arguments: list[str] | None = None) -> int:
    """Say what was found; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", required=True, help="URL before /healthz")
    parser.add_argument("--leader", help="HOST:PORT, where workers gather")
    parser.add_argument(
        "--kept-out", action="store_true", help="a NetworkPolicy should be in the way"
    )
    options = parser.parse_args(arguments)
    is_kept_out = options.kept_out
    problem = look(
        options.page, options.leader, is_kept_out=is_kept_out, patience=_PATIENCE_SECONDS
    )
    print(problem or f"ok: worker 0 answers, and {_tried(options.leader, is_kept_out)}", flush=True)
    return int(problem is not None)


def _tried(leader: str | None, is_kept_out: bool) -> str:
    if leader is None:
        return "gathers with nobody, so no stranger could join"
    if is_kept_out:
        return "strangers are kept out"
    return (
        "a stranger was refused; networkPolicy.enabled is false, so TensorFlow's ports, which know "
        "no secret, are open to all pods of the cluster"
    )


def look(page: str, leader: str | None, *, is_kept_out: bool, patience: float) -> str | None:
    """What is still wrong after `patience` seconds; None if nothing is."""
    url = f"{page}/healthz"
    if not _eventually(lambda: _unanswered(url) is None, patience) and (reason := _unanswered(url)):
        return f"worker 0 does not answer at {page}: {reason}: see whether its pod runs"
    return None if leader is None else _wrong_at(leader, is_kept_out, patience)


def _wrong_at(leader: str, is_kept_out: bool, patience: float) -> str | None:
    host, _, port = leader.rpartition(":")
    is_right = _eventually(lambda: _is_reached(host, int(port)) is not is_kept_out, patience)
    if is_kept_out and is_right:
        return None
    if not is_kept_out and not is_right:
        return f"worker 0 cannot be reached at {leader}"
    if asyncio.run(_is_let_in(host, int(port))):
        return f"a stranger joined at {leader} with a secret of its own: this is a fault of ours"
    if is_kept_out:
        return (
            f"this pod, which is none of the run's, reached {leader}: network policies are not "
            "enforced in this cluster, and TensorFlow's ports are open to all of its pods. Have "
            "them enforced (GKE: Dataplane V2), or say that you know: networkPolicy.enabled=false"
        )
    return None


def _eventually(is_so: Callable[[], bool], patience: float) -> bool:
    end = time.monotonic() + patience
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(_AGAIN_SECONDS)
    return True


def _unanswered(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS):
            return None
    except (OSError, HTTPException) as error:
        return str(error) or type(error).__name__


def _is_reached(host: str, port: int) -> bool:
    with suppress(OSError), sockets.create_connection((host, port), _SECONDS):
        return True
    return False


async def _is_let_in(host: str, port: int) -> bool:
    """Whether a proof that is none opens the door: who is in, is pinged."""
    with suppress(ClientError, OSError):
        async with (
            asyncio.timeout(_SECONDS),
            ClientSession() as session,
            session.ws_connect(f"ws://{host}:{port}{PATH}") as socket,
        ):
            await socket.send_bytes(secrets.token_bytes(NONCE_BYTES))
            await socket.receive()  # the leader proves itself first
            await socket.send_bytes(secrets.token_bytes(TAG_BYTES))
            return (await socket.receive()).type == WSMsgType.BINARY
    return False


if __name__ == "__main__":
    sys.exit(main())
