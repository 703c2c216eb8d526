"""What `helm test` finds out of a leader and a page that really run."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import CollectorRegistry

from tests.small_group import cluster, on_loop
from trainer.gathering import connection, stranger
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
    options = {"patience": 0.0} | options
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
    assert look(page, f"127.0.0.1:{closed_port()}", is_kept_out=True, patience=0.0) is None


def test_no_leader_where_none_is_hidden(page):
    port = closed_port()
    said = look(page, f"127.0.0.1:{port}", is_kept_out=False, patience=0.0)
    assert said == f"worker 0 cannot be reached at 127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("is_kept_out", "reached"), [(True, [True, False]), (False, [False, True])]
)
def test_a_policy_that_comes_or_lets_through_late_is_waited_for(
    page, monkeypatch, is_kept_out, reached
):
    monkeypatch.setattr(stranger, "_is_reached", lambda *_: reached.pop(0))
    leader = f"127.0.0.1:{closed_port()}"
    assert look(page, leader, is_kept_out=is_kept_out, patience=60) is None
    assert reached == []


def test_an_agent_that_answers_late_is_waited_for(page, monkeypatch):
    answers = ["reset", None]
    monkeypatch.setattr(stranger, "_unanswered", lambda _: answers.pop(0))
    assert look(page, None, is_kept_out=False, patience=60) is None
    assert answers == []


def test_an_agent_that_does_not_answer(capsys, monkeypatch):
    monkeypatch.setattr(stranger, "_PATIENCE_SECONDS", 0.0)
    assert main(["--page", f"http://127.0.0.1:{closed_port()}"]) == 1
    assert "worker 0 does not answer" in capsys.readouterr().out


def test_what_is_no_web_page_is_told(monkeypatch, capsys):
    monkeypatch.setattr(stranger, "_PATIENCE_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as pool:

        def babble():
            for _ in range(2):
                client, _ = listener.accept()
                with client:
                    client.recv(1024)
                    client.sendall(b"no page\n")

        pool.submit(babble)
        assert main(["--page", f"http://127.0.0.1:{listener.getsockname()[1]}"]) == 1
    assert "does not answer" in capsys.readouterr().out


def test_one_worker_gathers_with_nobody(page, capsys):
    assert main(["--page", page]) == 0
    assert capsys.readouterr().out == (
        "ok: worker 0 answers, and gathers with nobody, so no stranger could join\n"
    )


def test_what_no_policy_protects_is_said(page, capsys):
    async def run():
        async with cluster(1) as running:
            leader = f"--leader=127.0.0.1:{running.leader.port}"
            return await asyncio.to_thread(main, [f"--page={page}", leader])

    assert asyncio.run(run()) == 0
    said = capsys.readouterr().out
    assert said.startswith("ok: worker 0 answers, and a stranger was refused")
    assert "open to all pods of the cluster" in said
