"""What `--workers` shows of the workers beside the first, and where they meet."""

import asyncio
import json
import socket

import pytest

from trainer.agent.local_group import _forward
from trainer.agent.ports import free_port, is_free


def line(level, event):
    return json.dumps({"level": level, "event": event}).encode() + b"\n"


def forwarded(*lines, limit=200):
    async def run():
        stream = asyncio.StreamReader(limit=limit)
        for data in lines:
            stream.feed_data(data)
        stream.feed_eof()
        await _forward(1, stream)

    asyncio.run(run())


def test_what_is_no_mere_information_is_shown(capsys):
    shown = [line("warning", "slow"), b"Illegal instruction\n", line("error", "lost")]
    forwarded(line("info", "step"), *shown, line("debug", "more"))
    assert capsys.readouterr().err == "".join(f"worker 1: {text.decode()}" for text in shown)


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_beyond_all_bounds_is_left_out(capsys, end):
    forwarded(b"x" * 1000 + end, line("warning", "after"), limit=100)
    err = capsys.readouterr().err
    assert "xxx" not in err
    assert ("after" in err) == bool(end)


def test_a_port_is_free_unless_somebody_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        there, _ = server.accept()
        assert not is_free(port)
        assert free_port([port], "127.0.0.1") is None
        # Whoever closes first keeps the port for a minute, in TIME_WAIT.
        there.close()
        client.close()
    assert is_free(port)
    assert free_port([port]) == port
