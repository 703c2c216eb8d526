"""What has to hold after every disturbance."""

from collections.abc import Callable

from tests.e2e.run import Moment, Result, Run


def check(
    run: Run, undisturbed: Result, *, before: Moment, unhurt: tuple[int, ...],
    tell: Callable[[str], None],
) -> None:  # fmt: skip
    """The run's Job completes, and all that `check_complete` says holds."""
    run.wait_until_complete()
    check_complete(run, undisturbed, before=before, unhurt=unhurt, tell=tell)


def check_complete(
    run: Run, undisturbed: Result, *, before: Moment, unhurt: tuple[int, ...],
    tell: Callable[[str], None],
) -> None:  # fmt: skip
    """The run went on from what it saved, to the same result; nothing happened to other pods."""
    restored, seconds = run.first_restored(before.time), run.seconds_to_first_step(before.time)
    tell(f"restored step {restored}; {seconds:.1f} s from the disturbance to the first new step")
    assert restored >= before.step > 0
    assert run.result() == undisturbed
    assert run.lives(*unhurt) == {index: before.lives[index] for index in unhurt}
