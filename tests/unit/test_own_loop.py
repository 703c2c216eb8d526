"""A loop's body of a recipe's own: the same training, and what it must not leave out."""

from dataclasses import dataclass, field
from typing import Any

import keras
import pytest

from tests.small_training import NoBoundary, Run, compiled, cpus, dataset_of, distance, same_weights
from trainer.checkpoint.position import Position
from trainer.errors import ConfigError, StoppedError
from trainer.loop import TrainLoop
from trainer.recipes.own_loop import classify

STEPS = 4  # of an epoch of 53 records, the last of 5


def train(vectors: str, body: Any, *, replicas: int = 1, **settings: Any) -> tuple[Any, Run, Any]:
    """(model, run, history) of two epochs."""
    strategy, history = cpus(replicas), keras.callbacks.History()
    model = compiled(strategy, dropout=0.0 if replicas > 1 else 0.3)
    run = Run(dataset_of(vectors), body=body, **({"validation": "test"} | settings))
    run.loop(model, strategy, [history])
    return model, run, history.history


@pytest.mark.parametrize(
    ("replicas", "micro_batches"),
    [(2, 2), *(pytest.param(*more, marks=pytest.mark.long) for more in ((1, 1), (1, 2), (2, 1)))],
)
def test_a_loop_by_hand_comes_to_the_usual_weights_and_metrics(
    vectors: str, replicas: int, micro_batches: int
) -> None:
    settings = {"replicas": replicas, "micro_batches": micro_batches}
    usual, _, wanted = train(vectors, None, **settings)
    own, _, history = train(vectors, classify, **settings)
    assert same_weights(own, usual) if replicas == 1 else distance(own, usual) < 1e-6
    assert history.keys() == wanted.keys()
    for name, values in wanted.items():
        assert history[name] == pytest.approx(values, abs=1e-5)


def test_a_body_learns_of_each_step_and_its_records(vectors: str) -> None:
    seen: list[Any] = []

    def body(run: TrainLoop) -> None:
        for epoch in run.epochs():
            seen.append(("begins", epoch, run.begins_epoch))
            seen.extend(run.num_records for _ in run.train_steps())
            seen.append([run.num_records for _ in run.validation_steps()])
            run.end_epoch(run.logs)

    train(vectors, body)
    epoch = [16, 16, 16, 5, [16, 5]]
    assert seen == [("begins", 0, True), *epoch, ("begins", 1, True), *epoch]


def test_two_steps_take_turns_and_go_on_in_turn(vectors: str) -> None:
    """Each epoch, one step of a body's own and then the model's; from step 2, the model's alone."""

    def trained(position: Position) -> list[str]:
        kinds: list[str] = []

        def body(run: TrainLoop) -> None:
            def step(data: Any) -> Any:
                return run.model.train_step(data)

            for _ in run.epochs():
                kinds.extend("own" for _ in run.train_steps(step, until=2))
                kinds.extend("usual" for _ in run.train_steps())
                run.end_epoch(run.logs)

        train(vectors, body, epochs=1, validation=None, position=position)
        return kinds

    assert trained(Position()) == ["own", "own", "usual", "usual"]
    assert trained(Position(step=1)) == ["own", "usual", "usual"]
    assert trained(Position(step=2)) == ["usual", "usual"]


@dataclass
class StopsAt(NoBoundary):
    """Told to stop after some steps, it remembers what a checkpoint would hold."""

    step: int
    run: Run | None = None
    saved: tuple[Position, dict[str, Any]] | None = field(default=None)

    def between_calls(self, position: Position) -> None:
        """Stop."""
        if position.step == self.step and position.phase == "train":
            assert self.run is not None
            self.saved = position, {"sums": dict(self.run.memory["sums"])}
            raise StoppedError("stopped")


def test_sums_of_an_epoch_go_on_where_they_were(vectors: str) -> None:
    """Weights do not here, so only records and begins are compared."""
    boundary = StopsAt(STEPS + 2)
    run = Run(dataset_of(vectors), body=classify, boundary=boundary, steps_per_call=1)
    boundary.run = run
    with pytest.raises(StoppedError):
        run.loop(compiled(cpus()), cpus())
    assert boundary.saved is not None
    position, memory = boundary.saved
    assert (position.step, memory["sums"]["records"]) == (STEPS + 2, 32.0)
    again = Run(dataset_of(vectors), body=classify, position=position)
    again.put_back = lambda: again.memory.set_state(memory)
    again.loop(compiled(cpus()), cpus())
    assert again.memory["sums"]["records"] == 53.0


def leaves_out_the_end(run: TrainLoop) -> None:
    for _ in run.epochs():
        list(run.train_steps())


def ends_too_early(run: TrainLoop) -> None:
    for _ in run.epochs():
        for _ in run.train_steps():
            break
        run.end_epoch({"loss": 0.0})


def ends_half_way(run: TrainLoop) -> None:
    for _ in run.epochs():
        list(run.train_steps(until=2))
        run.end_epoch({"loss": 0.0})


def returns_too_early(run: TrainLoop) -> None:
    next(iter(run.epochs()))


def stops_by_chance(run: TrainLoop) -> None:
    for _ in run.epochs():
        for _ in run.train_steps():
            run.model.stop_training = True


def stops_too_late(run: TrainLoop) -> None:
    for _ in run.epochs():
        list(run.train_steps())
        run.end_epoch(run.logs)
        run.model.stop_training = True


def breaks_off(run: TrainLoop) -> None:
    for _ in run.epochs():
        for _ in run.train_steps():
            break
        list(run.train_steps())
        run.end_epoch(run.logs)


def validates_without_end(run: TrainLoop) -> None:
    for _ in run.epochs():
        list(run.train_steps())
        list(run.validation_steps(lambda data, _=run: run.model.test_step(data)))
        run.end_epoch(run.logs)


def compiles_without_end(run: TrainLoop) -> None:
    for _ in run.epochs():
        list(run.train_steps(lambda data, _=run: run.model.train_step(data)))
        run.end_epoch(run.logs)


@pytest.mark.parametrize(
    ("body", "message", "epochs"),
    [
        (leaves_out_the_end, "left epoch 0 at step 4, without end_epoch", 2),
        pytest.param(
            ends_too_early, r"broke train_steps\(\) off after step 0", 2, marks=pytest.mark.long
        ),
        (breaks_off, r"broke train_steps\(\) off after step 0", 2),
        (ends_half_way, "ended epoch 0 at step 2, before all of train_steps", 2),
        (returns_too_early, "returned at step 0 of 8", 2),
        pytest.param(
            stops_by_chance, "ended training after step 1 of an epoch", 2, marks=pytest.mark.long
        ),
        (stops_too_late, "ended before the first step of epoch 1: .* ahead of end_epoch", 2),
        (compiles_without_end, "define a step once", 10),
        pytest.param(validates_without_end, "define a step once", 10, marks=pytest.mark.long),
    ],
)
def test_a_body_that_leaves_something_out_is_told_so(
    vectors: str, body: Any, message: str, epochs: int
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(vectors, body, epochs=epochs)


def test_no_more_steps_are_taken_than_an_epoch_has(vectors: str) -> None:
    taken: list[int] = []

    def body(run: TrainLoop) -> None:
        for _ in run.epochs():
            taken.append(sum(1 for _ in run.train_steps(until=10)))
            run.end_epoch(run.logs)

    train(vectors, body, validation=None)
    assert taken == [STEPS, STEPS]


def test_a_body_may_stop_where_a_call_is_a_step(vectors: str) -> None:
    def body(run: TrainLoop) -> None:
        for _ in run.epochs():
            for _ in run.train_steps():
                run.model.stop_training = run.step == 1  # of the steps before this one
            run.end_epoch(run.logs)

    strategy = cpus()
    run = Run(dataset_of(vectors), body=body, steps_per_call=1)
    end = run.loop(compiled(strategy), strategy)
    assert (end.step, end.stop_training) == (2, True)
