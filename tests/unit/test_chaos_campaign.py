"""Faults that happen to processes, agents that are started again, and waits that end."""

import json
import os
import signal
import subprocess
import time

import pytest

from trainer.chaos.agents import Agents, Event
from trainer.chaos.campaign import train
from trainer.chaos.faults import Fault
from trainer.chaos.injector import Injector
from trainer.chaos.processes import state_of
from trainer.chaos.story import Story
from trainer.errors import TrainerError

PATIENCE = 30
TARGET = "say train '\"target_step\": 10'"


def agents_of(tmp_path, script, num_workers=1):
    """Agents that are shells; `say EVENT FIELDS` writes a line as agents do."""
    line = '{"event": "%s", "timestamp": "2030-01-01T00:00:00Z", %s}'
    say = (
        f'say() {{ printf \'{line}\\n\' "$1" "$2"; }}; '
        'started=$(grep -c begins "$OUTPUT"); say begins \'"pid": 0\'; '
    )

    def start(arguments, environ, output):
        with output.open("ab") as file:
            process = subprocess.Popen(
                ["sh", "-c", say + script], env={**os.environ, **environ, "OUTPUT": str(output)},
                stdout=file, stderr=file,
            )  # fmt: skip
        process.returncode = 0
        return process.pid

    return Agents(num_workers, [], tmp_path / "logs", start=start)


def test_who_was_killed_or_stopped_is_started_again_until_it_has_ended_well(tmp_path):
    # The first life waits for its end, the second one ends with 1, the third one well.
    lives = f"0) {TARGET}; sleep 60;; 1) exit 1;; *) exit 0;;"
    agents = agents_of(tmp_path, f"case $started in {lives} esac")
    kill = Fault("kill", "leader", 0, at=0.0)
    trained = train(agents, [kill], patience=PATIENCE)
    assert trained.code == 0
    assert agents.all[0].codes == [-signal.SIGKILL, 1, 0]
    assert [(fired.fault, fired.is_seen) for fired in trained.fired] == [(kill, True)]


def test_a_final_code_is_the_runs(tmp_path):
    agents = agents_of(tmp_path, 'test "$TRAINER_WORKER_INDEX" = 1 && exit 5; exit 0', 2)
    assert train(agents, patience=PATIENCE).code == 5


def test_a_run_that_hangs_is_described_and_ended(tmp_path):
    agents = agents_of(tmp_path, "echo last words; sleep 60", 2)
    with pytest.raises(TrainerError, match=r"no new step for 0\.5 s, after step 0") as error:
        train(agents, patience=0.5)
    for index in range(2):
        assert f"agent {index}: process" in str(error.value)
    assert str(error.value).count("    last words") == 2
    assert agents.code is None
    assert [agent.pid for agent in agents.all] == [None, None]


def test_what_is_frozen_goes_on_and_was_seen_to_stand_still(tmp_path):
    agents = agents_of(tmp_path, "i=0; while [ $i -lt 20 ]; do i=$((i+1)); sleep 0.1; done")
    freeze = Fault("freeze", "leader", 0, at=None, seconds=0.5)
    trained = train(agents, [freeze], patience=PATIENCE)
    assert (trained.code, trained.fired[0].is_seen) == (0, True)


def test_a_worker_is_found_by_what_its_agent_says(tmp_path):
    worker = "sleep 60 & say 'worker starts' '\"pid\": '$!; wait $!; exit 0"
    kill = Fault("kill", "worker", 0, at=None)
    trained = train(agents_of(tmp_path, worker), [kill], patience=PATIENCE)
    [fired] = trained.fired
    assert (trained.code, fired.is_seen, fired.pid) == (0, True, trained.story.pids[0])


def test_a_fault_waits_for_its_share_of_the_steps(tmp_path):
    steps = "; ".join(f"say progress '\"step\": {step}'; sleep 0.2" for step in range(1, 11))
    script = f"{TARGET}; {steps}; sleep 1"
    kill = Fault("kill", "leader", 0, at=0.5)
    agents = agents_of(tmp_path, f"test $started = 1 && exit 0; {script}")
    [fired] = train(agents, [kill], patience=PATIENCE).fired
    assert fired.step in (5, 6)


def test_a_run_that_is_ahead_of_its_faults_is_not_waited_for(tmp_path):
    steps = 'say train \'"target_step": 10\'; say restore \'"step": 0\'; say progress \'"step": '
    lives = f"0) {steps}2';; 1) {steps}9';; *) sleep 1; exit 0;;"
    agents = agents_of(tmp_path, f"case $started in {lives} esac; sleep 60")
    follower = Fault("kill", "leader", 0, at=None)
    first, late = (Fault("kill", "leader", 0, at=at, pause=600 * at) for at in (0.0, 0.5))
    trained = train(agents, [first, late, follower, follower], patience=PATIENCE)
    assert [fired.step for fired in trained.fired] == [2, 9, 9, 9]


# A worker that lives on for a moment may still tell of a step, after the signal to another one.
def test_a_step_of_the_broken_generation_is_no_progress(tmp_path):
    agents = agents_of(tmp_path, "exit 0")
    story = Story()
    faults = [Fault("kill", "leader", 0, at=0.0), Fault("stop", "leader", 0, at=0.0)]
    injector = Injector(faults, agents, story, parent=os.getpid(), on_fault=lambda _fired: None)
    with subprocess.Popen(["sleep", "60"]) as process:
        agents.all[0].pid = process.pid
        story.add(Event(0, time.time(), "train", {"target_step": 10}))
        injector.look()
        process.wait()
    steps = [("checkpoint", 4), ("restore", 2), ("first step", 3), ("progress", 5)]
    fired = []
    with subprocess.Popen(["sleep", "60"]) as process:
        agents.all[0].pid = process.pid
        for name, step in steps:
            story.add(Event(0, time.time(), name, {"step": step}))
            injector.look()
            fired.append(len(injector.fired))
    assert fired == [1, 1, 1, 2]


def test_lines_that_are_no_events_are_passed_over(tmp_path):
    lines = ["Traceback", "{", '{"event": 1}', json.dumps({"event": "a", "timestamp": "no time"})]
    script = "; ".join(f"echo '{line}'" for line in lines)
    agents = agents_of(tmp_path, f"{script}; exit 0")
    deadline = time.monotonic() + PATIENCE
    names = []
    while agents.code is None and time.monotonic() < deadline:
        names += [event.name for event in agents.look()]
    assert sorted(names) == ["agent ended", "begins"]


def test_states_are_those_of_a_child_alone():
    with subprocess.Popen(["sleep", "60"]) as process:
        assert state_of(process.pid, os.getpid()) not in (None, "Z", "T")
        assert state_of(process.pid, os.getpid() + 1) is None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert state_of(process.pid, os.getpid()) == "Z"
