"""How long agents wait for each other."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Timings:
    """Seconds, all of them.

    The leader pings every `ping`; who hears nothing for `silence`, leader or member, takes the
    other for gone. `wait` bounds the gathering of a group, `choose` the choice of its checkpoint,
    and `stop` the time between the first and the last worker's agreed stop. `connect` bounds one
    attempt to reach the leader, `retry` the pause after it (random up to that), `proof` how long
    a connection may stay unproven, `close` how long a last message may take.
    """

    wait: float = 120.0
    ping: float = 1.0
    silence: float = 3.5
    choose: float = 600.0
    stop: float = 120.0
    connect: float = 10.0
    retry: float = 1.0
    proof: float = 5.0
    close: float = 2.0
