"""What `--workers` shows of the workers beside the first, and where they meet."""

import asyncio
import json
import socket

import pytest

from trainer.agent.local_group import _forward
from trainer.agent.ports import free_port, is_free
from trainer.agent.process import with_options


def line(level, event):
    return json.dumps({"level": level, "event": event}).encode() + b"\n"


def forwarded(*parts, limit=200):
    """Each part is there only when all before it have been read, as from a pipe."""

    async def run():
        stream = asyncio.StreamReader(limit=limit)
        forwarding = asyncio.create_task(_forward(1, stream))
        for data in parts:
            stream.feed_data(data)
            for _ in range(10):
                await asyncio.sleep(0)
        stream.feed_eof()
        await forwarding

    asyncio.run(run())


def test_what_is_no_mere_information_is_shown(capsys):
    shown = [line("warning", "slow"), b"Illegal instruction\n", line("error", "lost")]
    forwarded(line("info", "step"), *shown, line("debug", "more"))
    assert capsys.readouterr().err == "".join(f"worker 1: {text.decode()}" for text in shown)


@pytest.mark.parametrize(
    "parts",
    [[b"x" * 1000 + b"\n"], [b"x" * 150, b"x" * 150, b"x" * 20 + b"\n"], [b"x" * 150, b"\n"]],
    ids=["at once", "in parts", "its end alone"],
)
def test_a_line_beyond_all_bounds_is_left_out(capsys, parts):
    after = line("warning", "after")
    forwarded(*parts, after, limit=100)
    assert capsys.readouterr().err == f"worker 1: {after.decode()}"


def test_the_rest_of_such_a_line_is_left_out_at_the_end(capsys):
    forwarded(b"x" * 150, b"x" * 20, limit=100)
    assert capsys.readouterr().err == ""


def test_a_port_is_free_unless_somebody_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        there, _ = server.accept()
        assert not is_free(port, "127.0.0.1")
        assert free_port([port], "127.0.0.1") is None
        # Whoever closes first keeps the port for a minute, in TIME_WAIT.
        there.close()
        client.close()
    assert is_free(port, "127.0.0.1")
    assert free_port([port], "127.0.0.1") == port


@pytest.mark.parametrize(
    ("arguments", "whole"),
    [
        (["train", "-c", "a"], ["train", "-c", "a", "--set=b=1"]),
        (["run", "--", "a.py", "--", "-c"], ["run", "--set=b=1", "--", "a.py", "--", "-c"]),
    ],
)
def test_more_options_are_none_of_a_script(arguments, whole):
    assert with_options(arguments, ["--set=b=1"]) == whole
