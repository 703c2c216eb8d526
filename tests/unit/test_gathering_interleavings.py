"""Any order of joins, deaths, failures and stops: one plan for all, nobody left behind."""

import asyncio
import random
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.small_group import NotedPeer, cluster, offer, on_loop
from trainer.gathering.group import Group
from trainer.gathering.messages import Broken, Ended, Failed, Leave, Plan, Refused, Stopped
from trainer.gathering.rules import Rules
from trainer.gathering.timings import Timings

NUM_WORKERS = 4


class Obedient(NotedPeer):
    """A member that does as it is told; `runs` is the generation that its worker is in."""

    def __init__(self):
        super().__init__()
        self.runs = None
        self.is_gone = False

    def send(self, payload):
        super().send(payload)
        match self.last:
            case Plan(generation=number):
                self.runs = number
            case Broken(generation=number):
                assert number == self.runs
                self.runs = None
            case Refused():
                self.runs, self.is_gone = None, True

    refuse = send


class World:
    """A group and the members of four pods, driven by a list of actions."""

    def __init__(self):
        self.now, self.choosing, self.plans = 0.0, None, {}
        self.started, self.peers = dict.fromkeys(range(NUM_WORKERS), 0.0), {}
        self.group = Group(
            offer(0, NUM_WORKERS), leader="a-leader", timings=Timings(wait=100, stop=10),
            rules=Rules(min_workers=2, allowed={2, 4}.__contains__),
            begin=self._begin, clock=lambda: self.now,
        )  # fmt: skip

    def _begin(self, number, indices):
        self.choosing = number

    def act(self, action, index):
        peer = self.peers.get(index)
        if peer is None or peer.is_gone:
            action = "join" if action not in ("choose", "expire") else action
        getattr(self, f"_{action}")(index, peer)
        self._check()

    def _join(self, index, peer):
        if peer is None or peer.is_gone:
            peer = self.peers[index] = Obedient()
        peer.runs = None
        offered = offer(index, NUM_WORKERS, started=self.started[index], pod=f"{index}")
        self.group.join(peer, offered)

    def _replace(self, index, peer):
        self.started[index] += 1
        self.peers[index] = None
        self._join(index, None)
        assert peer.is_gone

    def _die(self, index, peer):
        del self.peers[index]
        self.group.lost(peer, "closed the connection")

    def _fail(self, index, peer):
        if peer.runs:
            self.group.hear(peer, Failed(generation=peer.runs, reason="137"))
            assert peer.runs is None

    def _stop(self, index, peer):
        if peer.runs:
            self.group.hear(peer, Stopped(generation=peer.runs))
            peer.runs = None

    def _leave(self, index, peer):
        del self.peers[index]
        self.group.hear(peer, Leave())

    def _choose(self, index, peer):
        if self.choosing is not None:
            self.group.chosen(self.choosing, {"step": self.choosing})

    def _expire(self, index, peer):
        if self.group.deadline is not None:
            self.now = self.group.deadline
            self.group.expire()

    def _check(self):
        found = self.group.snapshot()
        here = {index: peer for index, peer in self.peers.items() if not peer.is_gone}
        running = {index for index, peer in here.items() if peer.runs is not None}
        # No member runs in a generation that the leader ended, and it knows of all that run.
        assert running == set(found.running)
        assert {here[index].runs for index in running} <= {found.generation}
        assert found.present == tuple(sorted(here))
        for peer in here.values():
            for plan in peer.of(Plan):
                assert self.plans.setdefault(plan.generation, plan) == plan
        # Whoever waits, waits for something that has an end.
        is_bounded = self.group.deadline is not None
        assert found.phase in ("choosing", "running") or is_bounded or not found.waiting


ACTIONS = ["join", "join", "choose", "replace", "die", "fail", "stop", "leave", "expire"]


@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, NUM_WORKERS - 1)), max_size=80))
@settings(max_examples=300, deadline=None)
def test_any_order_of_events_leaves_nobody_behind(actions):
    world = World()
    for index in range(NUM_WORKERS):
        world.act("join", index)
    for action, index in actions:
        world.act(action, index)
    # And when all is quiet again, all run together.
    for _ in range(2):
        for index in range(NUM_WORKERS):
            world.act("join", index)
    world.act("choose", 0)
    assert world.group.snapshot().running == (0, 1, 2, 3)


class Agent:
    """A member that fails at random until its faults are used up; notes what it was told."""

    def __init__(self, running, index, rng):
        self.running, self.index, self.rng = running, index, rng
        self.faults, self.started, self.plans = 6, 100.0, []

    async def live(self):
        member = await self.running.member(self.index)
        while True:
            mine = offer(self.index, NUM_WORKERS, started=self.started, pod=str(self.started))
            joined = await member.join(mine)
            if isinstance(joined, Ended):
                return
            self.plans.append(joined)
            if self.faults == 0 and self.index == 0 and self.running.is_calm():
                await member.end(0)
                return
            event = await self._misbehave(member, joined)
            if isinstance(event, Ended):
                return
            if self.rng.random() < 0.3:
                await member.close()

    async def _misbehave(self, member, plan):
        """The event that ends this generation, or None if it was this agent."""
        waiting = asyncio.create_task(member.next_event())
        if self.faults or self.index == 0:
            for _ in range(self.rng.randrange(30)):
                await asyncio.sleep(0)
            if not waiting.done():
                waiting.cancel()
                with suppress(asyncio.CancelledError):
                    await waiting
                self.faults = max(0, self.faults - 1)
                return await self._do(self.rng.choice(["fail", "join", "die"]), member)
        event = await waiting
        if isinstance(event, Broken):
            assert event.generation == plan.generation
            found = self.running.leader.snapshot()
            assert not (found.generation == plan.generation and found.running)
        return event

    async def _do(self, action, member):
        if action == "fail":
            member.failed("137")
        if action == "die":
            await member.close()
            self.started += 1


@pytest.mark.parametrize("seed", range(8))
@on_loop
async def test_members_that_die_at_random_come_together_in_the_end(seed):
    async with cluster(NUM_WORKERS) as running:
        agents = [Agent(running, index, random.Random(10 * seed + index)) for index in range(4)]
        running.is_calm = lambda: all(agent.faults == 0 for agent in agents)
        await asyncio.gather(*(agent.live() for agent in agents))
    plans = {}
    for agent in agents:
        numbers = [plan.generation for plan in agent.plans]
        assert numbers == sorted(set(numbers))
        for plan in agent.plans:
            assert plans.setdefault(plan.generation, plan) == plan
    assert len(plans) > 6
