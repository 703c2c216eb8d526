"""What it costs to lead a group: 4, 64 and 512 members that speak the real protocol on loopback.

The leader has a process of its own, so its CPU and memory are its own; the members share one, and
are as light as they can be. A round is a life of a generation: all but one have joined, the last
one does, all are told; one dies, all the others are told, and join again.
"""

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, TCPConnector, WSMsgType

from bench.pairs import Result, noise_floor, run_alone
from trainer.gathering.connection import PATH, prove_as_member
from trainer.gathering.leader import Leader
from trainer.gathering.messages import MAX_BYTES_OF_LEADER, Join, Offer, Pong, encode
from trainer.gathering.seal import Seal
from trainer.gathering.timings import Timings
from trainer.log import get_log

SIZES = (4, 64, 512)
ROUNDS = 8
STEADY_SECONDS = 15.0
TOLD_AIM, DEATH_AIM, CPU_AIM, MEMORY_AIM, GROWTH_AIM = 2.0, 1.0, 0.05, 100.0, 1.5
SECRET = b"a secret for a benchmark"
CONFIG = {f"section{number % 8}.key_{number}": f"value {number}" for number in range(100)}
_PONG = encode(Pong())


def offer(index: int, num_workers: int) -> Offer:
    """As agents make them, with a hundred keys."""
    return Offer(
        index=index, num_workers=num_workers, pod=f"pod-{index}", started=1.0, run="bench",
        job="bench", code_version="1", config=CONFIG,
        address=f"bench-{index}.bench.namespace.svc.cluster.local:8471",
    )  # fmt: skip


class LightMember:
    """Joins, answers pings, and notes when it was told something else."""

    def __init__(self, session: ClientSession, url: str, offered: Offer) -> None:
        self._session, self._url = session, url
        self._join = encode(Join(offer=offered))
        self.told: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def connect(self) -> None:
        """Prove itself, once."""
        self._socket: ClientWebSocketResponse = await self._session.ws_connect(
            self._url, max_msg_size=MAX_BYTES_OF_LEADER
        )
        proofs = await prove_as_member(self._socket, SECRET)
        self._outgoing, self._incoming = Seal(proofs.key_of_member), Seal(proofs.key_of_leader)
        self._reading = asyncio.create_task(self._read())

    async def join(self) -> None:
        """Wait for the next generation."""
        self.told = asyncio.get_running_loop().create_future()
        await self._socket.send_bytes(self._outgoing.close(self._join))

    async def die(self) -> None:
        """Close the connection, without a word of ours."""
        await self._socket.close()
        await self._reading

    async def _read(self) -> None:
        while (message := await self._socket.receive()).type is WSMsgType.BINARY:
            payload = self._incoming.open(message.data)
            if payload.startswith(b'{"type":"ping"'):
                await self._socket.send_bytes(self._outgoing.close(_PONG))
            elif not self.told.done():
                self.told.set_result(payload)


class LeaderProcess:
    """A leader for `num_workers`, elsewhere."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process, self.port = process, port

    async def usage(self) -> tuple[float, float, int]:
        """CPU seconds so far, resident megabytes, and how many members wait."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        seconds, megabytes, waiting = json.loads(await self._process.stdout.readline())
        return seconds, megabytes, waiting

    async def has_waiting(self, number: int) -> None:
        """Return when so many members wait."""
        while (await self.usage())[2] != number:
            await asyncio.sleep(0.02)  # each look takes from what is measured


@asynccontextmanager
async def leader_process(num_workers: int) -> AsyncIterator[LeaderProcess]:
    """Ended with the context."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.gathering", "--lead", str(num_workers),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield LeaderProcess(process, int(await process.stdout.readline()))
    finally:
        process.kill()
        await process.wait()


async def lead(num_workers: int) -> None:
    """Be that process."""

    async def choose(generation: int, indices: tuple[int, ...]) -> dict[str, Any]:  # noqa: ARG001
        return {"checkpoint": "checkpoints/step-000001200-f1"}

    leader = Leader(
        offer(0, num_workers), choose, secret=SECRET, timings=Timings(), log=get_log()
    )  # fmt: skip
    await leader.start()
    print(leader.port, flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        waiting = len(leader.snapshot().waiting)
        print(json.dumps([time.process_time(), _resident_megabytes(), waiting]), flush=True)


def _resident_megabytes() -> float:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS: bytes


async def run_group(num_workers: int) -> dict[str, Any]:
    """Seconds of every round, the leader's share of a core at rest, and its memory."""
    gathered, told, died = [], [], []
    async with (
        leader_process(num_workers) as leader,
        ClientSession(connector=TCPConnector(limit=0)) as session,
    ):
        url = f"http://127.0.0.1:{leader.port}{PATH}"
        members = [LightMember(session, url, offer(i, num_workers)) for i in range(num_workers)]
        await asyncio.gather(*(member.connect() for member in members))
        first = members[:-1]
        for _ in range(ROUNDS):
            began = (await leader.usage())[0]
            await asyncio.gather(*(member.join() for member in first))
            await leader.has_waiting(len(first))
            started = time.perf_counter()
            await members[-1].join()
            await _all_told(members, b'"plan"')
            told.append(time.perf_counter() - started)
            gathered.append((await leader.usage())[0] - began)
            for member in first:
                member.told = asyncio.get_running_loop().create_future()
            started = time.perf_counter()
            dying = asyncio.create_task(members[-1].die())
            await _all_told(first, b'"broken"')
            died.append(time.perf_counter() - started)
            await dying
            await members[-1].connect()
        await asyncio.gather(*(member.join() for member in members))
        await _all_told(members, b'"plan"')
        shares, megabytes = await _steady(leader)
    return {
        "gathered": gathered, "told": told, "died": died, "shares": shares,
        "megabytes": megabytes,
    }  # fmt: skip


async def _all_told(members: Sequence[LightMember], kind: bytes) -> None:
    async with asyncio.timeout(60):
        payloads = await asyncio.gather(*(member.told for member in members))
    if not all(kind in payload[:20] for payload in payloads):
        raise RuntimeError(f"a member was not told {kind!r}")


async def _steady(leader: LeaderProcess) -> tuple[list[float], float]:
    shares = []
    before, wall = (await leader.usage())[0], time.perf_counter()
    for _ in range(4):
        await asyncio.sleep(STEADY_SECONDS / 4)
        after, now = (await leader.usage())[0], time.perf_counter()
        shares.append((after - before) / (now - wall))
        before, wall = after, now
    return shares, (await leader.usage())[1]


def measure() -> list[Result]:
    """All of it at 512 members, and how a whole gathering's CPU time grows from 64."""
    groups = {size: asyncio.run(run_group(size)) for size in SIZES}
    small, large = groups[64], groups[512]
    results = [
        _result("gathering_told", groups, "told", TOLD_AIM, "s"),
        _result("gathering_death", groups, "died", DEATH_AIM, "s"),
        _result("gathering_cpu", groups, "shares", CPU_AIM, "of a core"),
    ]
    sizes = {f"{size} members": f"{groups[size]['megabytes']:.0f} MB" for size in SIZES}
    results.append(Result("gathering_memory", large["megabytes"], 0.0, MEMORY_AIM, "lower", sizes))
    growth = [b / 512 / (a / 64) for a, b in zip(small["gathered"], large["gathered"], strict=True)]
    noise = noise_floor(growth[::2], growth[1::2])
    gathered = {
        f"{size} members": f"{1000 * median(group['gathered']):.3g} ms of CPU"
        for size, group in groups.items()
    }
    results.append(Result("gathering_growth", median(growth), noise, GROWTH_AIM, "lower", gathered))
    return results


def _result(
    name: str, groups: dict[int, dict[str, Any]], key: str, aim: float, unit: str
) -> Result:
    values = groups[512][key]
    details = {
        f"{size} members": f"{median(groups[size][key]):.3g} {unit}, at most"
        f" {max(groups[size][key]):.3g}"
        for size in SIZES
    }
    noise = noise_floor(values[::2], values[1::2])
    return Result(name, median(values), noise, aim, "lower", details)


NAMES = (
    "gathering_told", "gathering_death", "gathering_cpu", "gathering_memory", "gathering_growth",
)  # fmt: skip
MEASURES = dict.fromkeys(NAMES, measure)

if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * max(SIZES)), hard))
    if sys.argv[1:2] == ["--lead"]:
        asyncio.run(lead(int(sys.argv[2])))
    else:
        run_alone(MEASURES, about=__doc__)
