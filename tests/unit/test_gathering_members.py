"""Members and their leader over real connections: gather, break, stop, end."""

import asyncio
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from tests.gathering_process import child
from tests.small_group import QUICK, NotedPeer, cluster, offer, on_loop
from trainer.errors import CheckpointError, ConfigError, GatheringError, TrainerError
from trainer.gathering.messages import Ended, Stop
from trainer.gathering.rules import Rules


async def events(running, *indices):
    """The next event of each of these members."""
    return await asyncio.gather(*(running.members[index].next_event() for index in indices))


@on_loop
async def test_three_members_get_the_same_plan():
    async with cluster() as running:
        plans = await running.join_all()
        assert plans[0] == plans[1] == plans[2]
        assert plans[0].addresses == tuple(f"10.0.0.{index}:2222" for index in range(3))
        assert plans[0].chosen == {"step": 100}


def test_an_agent_needs_no_tensorflow():
    code = "import trainer.gathering.leader, trainer.gathering.member, sys; print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "aiohttp" in imported.stdout.split()
    assert not {"tensorflow", "keras", "numpy"} & set(imported.stdout.split())


@on_loop
async def test_a_group_of_one():
    async with cluster(1) as running:
        assert [plan.indices for plan in await running.join_all(1)] == [(0,)]


@on_loop
async def test_a_difference_ends_the_member_with_code_2():
    async with cluster() as running:
        member = await running.member(1)
        with pytest.raises(ConfigError, match=r"train\.epochs: 9 instead of 3"):
            await member.join(offer(1, config=offer().config | {"train.epochs": 9}))
        assert "train.epochs" in running.log.calls[0].kwargs["reason"]


@on_loop
async def test_a_configuration_that_no_message_holds_is_refused_here():
    async with cluster() as running:
        member = await running.member(1)
        with pytest.raises(ConfigError, match="at most 65504 can be sent"):
            await member.join(offer(1, config={"key": "v" * 70_000}))


@on_loop
async def test_a_newer_incarnation_replaces_a_waiting_one_and_the_zombie_stays_out():
    async with cluster() as running:
        old, new = await running.member(1), await running.member("new")
        waiting = asyncio.create_task(old.join(offer(1)))
        newer = offer(1, pod="newer", started=101.0, address="10.0.0.9:2222")
        joins = [asyncio.create_task(new.join(newer))]
        with pytest.raises(GatheringError, match="replaced by its newer incarnation newer"):
            await waiting
        with pytest.raises(GatheringError, match="replaced by its newer incarnation newer"):
            await old.join(offer(1))
        joins += [asyncio.create_task((await running.member(i)).join(offer(i))) for i in (0, 2)]
        plans = await asyncio.gather(*joins)
        assert plans[0].addresses[1] == "10.0.0.9:2222"


@on_loop
async def test_a_newer_incarnation_breaks_the_generation_of_the_older():
    async with cluster() as running:
        await running.join_all()
        old = running.members[1]
        rejoined = asyncio.create_task(
            (await running.member(1)).join(offer(1, pod="newer", started=101.0))
        )
        assert [event.reason for event in await events(running, 0, 2)] == [
            "worker 1: it was replaced"
        ] * 2
        with pytest.raises(GatheringError, match="newer"):
            await old.next_event()
        await asyncio.gather(running.join_all(indices=[0, 2]), rejoined)


@on_loop
async def test_a_closed_connection_breaks_the_generation():
    async with cluster() as running:
        await running.join_all()
        await running.members.pop(1).close()
        broken = await events(running, 0, 2)
        assert broken[0] == broken[1]
        assert (broken[0].generation, broken[0].index) == (1, 1)
        assert [plan.generation for plan in await running.join_all()] == [2, 2, 2]


@on_loop
async def test_a_frozen_member_breaks_the_generation_and_learns_it_when_it_wakes():
    timings = replace(QUICK, silence=0.5)
    async with (
        cluster(2, timings=timings) as running,
        child("join", running.leader.port, 1, 2) as p,
    ):
        await running.join_all(2, indices=[0])
        assert b'"plan"' in await p.stdout.readline()
        p.send_signal(signal.SIGSTOP)
        (broken,) = await events(running, 0)
        assert broken.reason.startswith("worker 1: not heard of for 0.")
        p.send_signal(signal.SIGCONT)
        assert b'"broken"' in await p.stdout.readline()
        assert (await running.join_all(2, indices=[0]))[0].generation == 2


@on_loop
async def test_who_was_frozen_takes_nobody_for_gone():
    async with cluster(2, timings=replace(QUICK, silence=0.5)) as running:
        await running.join_all(2)
        time.sleep(1)  # of the whole process: the leader and both members
        running.members[1].stop()
        assert await events(running, 0, 1) == [Stop(index=1)] * 2


@on_loop
async def test_a_dead_worker_breaks_the_generation_for_all():
    async with cluster() as running:
        await running.join_all()
        running.members[2].failed("exit code 137")
        broken = await events(running, 0, 1, 2)
        assert {event.reason for event in broken} == {"worker 2: exit code 137"}
        assert [plan.generation for plan in await running.join_all()] == [2, 2, 2]


@pytest.mark.parametrize("code", [0, 3])
@on_loop
async def test_an_end_is_told_to_all_and_to_who_comes_late(code):
    async with cluster() as running:
        await running.join_all()
        ended = Ended(index=1, code=code, message="record 7 is missing")
        assert await running.members[1].end(code, "record 7 is missing") == ended
        assert await events(running, 0, 2) == [ended, ended]
        assert await running.members[2].join(offer(2)) == ended


@on_loop
async def test_a_stop_is_told_to_all_and_75_breaks_nothing():
    async with cluster() as running:
        await running.join_all()
        running.members[1].stop()
        assert await events(running, 0, 1, 2) == [Stop(index=1)] * 3
        for member in running.members.values():
            member.stopped()
        await running.members.pop(1).leave()
        again = asyncio.create_task(running.join_all(indices=[0, 2]))
        successor = await running.member(1)
        plan = await successor.join(offer(1, pod="successor", started=200.0))
        assert [each.generation for each in await again] == [2, 2] == [plan.generation] * 2


@on_loop
async def test_the_deadline_names_the_missing_to_all():
    hosts = Rules(host_of=lambda index: f"demo-{index}")
    async with cluster(timings=replace(QUICK, wait=1), rules=hosts) as running:
        joins = [(await running.member(index)).join(offer(index)) for index in (0, 2)]
        for error in await asyncio.gather(*joins, return_exceptions=True):
            assert isinstance(error, GatheringError)
            assert str(error).startswith(
                "worker 1 did not join generation 1 within 1 s (have 0, 2): check pod demo-1"
            )


@on_loop
async def test_fewer_begin_after_the_wait_and_the_leader_says_when_it_could_grow():
    rules = Rules(min_workers=2, allowed={2, 4}.__contains__)
    async with cluster(4, timings=replace(QUICK, wait=1), rules=rules) as running:
        late = asyncio.create_task((await running.member(2)).join(offer(2, 4)))
        plans = await running.join_all(4, indices=[0, 1])
        assert [plan.indices for plan in plans] == [(0, 1)] * 2
        assert not running.leader.can_grow
        latest = asyncio.create_task((await running.member(3)).join(offer(3, 4)))
        while not running.leader.can_grow:
            await asyncio.sleep(0.01)
        for index in (0, 1):
            running.members[index].stopped()
        plans = await asyncio.gather(running.join_all(4, indices=[0, 1]), late, latest)
        assert plans[1] == plans[2] == plans[0][0]
        assert plans[1].indices == (0, 1, 2, 3)


async def damaged(generation, indices):
    raise CheckpointError("step 7 is damaged")


async def no_json(generation, indices):
    return {"step": NotedPeer()}


async def slow(generation, indices):
    await asyncio.Event().wait()


async def too_long(generation, indices):
    return {"step": "7" * 2_000_000}


# the choice -> the members' error
CHOICES = [
    (damaged, CheckpointError, "step 7 is damaged"),
    (no_json, TrainerError, "holding the run for generation 1 failed: ValidationError"),
    (slow, TrainerError, r"holding the run for generation 1 took longer than 0\.2 s"),
    (too_long, ConfigError, "'plan' has 2000"),
]


@pytest.mark.parametrize(("choose", "kind", "text"), CHOICES)
@on_loop
async def test_an_error_of_the_choice_reaches_all(choose, kind, text):
    async with cluster(choose=choose, timings=replace(QUICK, choose=0.2)) as running:
        joins = [(await running.member(index)).join(offer(index)) for index in range(3)]
        errors = await asyncio.gather(*joins, return_exceptions=True)
        assert [type(error) for error in errors] == [kind] * 3
        with pytest.raises(kind, match=text):
            raise errors[2]


@on_loop
async def test_who_gives_up_waiting_is_not_counted_on():
    begun, may_go_on = asyncio.Queue(), asyncio.Event()

    async def choose(generation, indices):
        begun.put_nowait(generation)
        await may_go_on.wait()
        return {}

    async with cluster(choose=choose) as running:
        tasks = [
            asyncio.create_task((await running.member(index)).join(offer(index)))
            for index in range(3)
        ]
        assert await begun.get() == 1
        tasks[1].cancel()
        await asyncio.wait({tasks[1]})
        tasks[1] = asyncio.create_task(running.members[1].join(offer(1)))
        assert await begun.get() == 2
        may_go_on.set()
        assert {plan.generation for plan in await asyncio.gather(*tasks)} == {2}


@on_loop
async def test_the_snapshot_knows_phase_and_steps():
    async with cluster(2) as running:
        await running.join_all(2)
        for index, step in ((0, 7), (1, 5)):
            running.members[index].progress(step)
            running.members[index].stop()  # is told to all, and so is a sign that it arrived
        assert await events(running, 0) != await events(running, 0)
        found = running.leader.snapshot()
        assert (found.phase, found.generation, found.running) == ("running", 1, (0, 1))
        assert (found.min_step, found.max_step) == (5, 7)
