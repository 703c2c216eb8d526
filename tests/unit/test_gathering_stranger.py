"""What `helm test` finds out of a leader and a page that really run."""

import asyncio
import socket

import pytest
from prometheus_client import CollectorRegistry

from tests.small_group import cluster, on_loop
from trainer.gathering import connection
from trainer.gathering.stranger import look, main
from trainer.metrics.exposition import MetricsServer


@pytest.fixture
def page():
    server = MetricsServer(CollectorRegistry(), port=0)
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.close()


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


async def seen(page, port, **options):
    return await asyncio.to_thread(look, page, f"127.0.0.1:{port}", **options)


@on_loop
async def test_a_leader_that_is_reached_and_refuses(page):
    async with cluster(1) as running:
        assert await seen(page, running.leader.port, is_kept_out=False) is None
        assert [call.args for call in running.log.calls] == [("connection refused",)]


@on_loop
async def test_a_policy_that_is_not_enforced_is_told(page):
    async with cluster(1) as running:
        said = await seen(page, running.leader.port, is_kept_out=True)
    assert "network policies are not enforced" in said


@on_loop
async def test_a_leader_that_takes_any_proof_is_found_out(page, monkeypatch):
    monkeypatch.setattr(connection, "check_proof", lambda *_: None)
    async with cluster(1) as running:
        said = await seen(page, running.leader.port, is_kept_out=False)
    assert said.startswith("a stranger joined")


def test_a_leader_behind_a_policy(page):
    assert look(page, f"127.0.0.1:{closed_port()}", is_kept_out=True) is None


def test_no_leader_where_none_is_hidden(page):
    port = closed_port()
    said = look(page, f"127.0.0.1:{port}", is_kept_out=False)
    assert said == f"worker 0 cannot be reached at 127.0.0.1:{port}"


def test_an_agent_that_does_not_answer(capsys):
    assert main(["--page", f"http://127.0.0.1:{closed_port()}"]) == 1
    assert "worker 0 does not answer" in capsys.readouterr().out


def test_one_worker_gathers_with_nobody(page, capsys):
    assert main(["--page", page]) == 0
    assert capsys.readouterr().out.startswith("ok")
