"""Which trainings a campaign has."""

from itertools import pairwise

from tests.campaign.plans import STORES, WORLDS, plans


def test_the_seed_alone_decides():
    first, same, other = (plans(seed, 200, 20) for seed in (1, 1, 2))
    assert first == same != other


def test_there_are_as_many_kills_as_asked_for_and_less_than_one_training_more():
    found = plans(0, 1000, 20)
    kills = [sum(plan.kills) for plan in found]
    assert sum(kills[:-1]) < 1000 <= sum(kills)
    assert min(kills) > 10
    assert max(kills) <= 20


def test_the_first_round_has_all_worlds_on_all_stores():
    both = {(plan.world.workers, plan.store) for plan in plans(3, 10_000, 20)[:16]}
    assert both == {(workers, store) for workers in WORLDS for store in STORES}


def test_more_kills_and_other_stores_only_add_trainings():
    few, many = plans(5, 100, 20), plans(5, 400, 20)
    assert many[: len(few)] == few
    on_one = plans(5, 100, 20, ["gs"])
    assert {plan.store for plan in on_one} == {"gs"}
    assert set(on_one) <= set(plans(5, 1000, 20))


def test_every_leg_has_epochs_of_its_own_and_a_kill():
    for each in (1, 2, 7, 20):
        for plan in plans(0, 60, each):
            epochs = (0, *plan.world.epochs)
            assert all(later - sooner >= 5 for sooner, later in pairwise(epochs))
            assert len(plan.world.workers) == len(plan.kills)
            assert min(plan.kills) >= 1


def test_a_world_has_the_same_epochs_in_all_trainings():
    worlds = {plan.world for plan in plans(0, 2000, 20)}
    assert len(worlds) == len(WORLDS)
