"""What has to hold after every disturbance."""

from collections.abc import Callable

from tests.e2e.run import Result, Run


def check(
    run: Run, undisturbed: Result, *, unhurt: tuple[int, ...],
    before: list[tuple[str, int]], since: float, tell: Callable[[str], None],
) -> None:  # fmt: skip
    """The run completes as if nothing had happened, and nothing happened to the other pods."""
    result = run.wait_until_complete()
    seconds = run.seconds_to_first_step(since)
    tell(f"complete; {seconds:.1f} s from the disturbance to the first new step")
    assert result == undisturbed
    assert run.lives(*unhurt) == before
