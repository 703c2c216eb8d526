"""Whether a member belongs to the leader's group, and which of two of its incarnations is newer."""

import json
from collections.abc import Mapping
from typing import Any

from trainer.gathering.messages import Offer, shorten

_MAX_VALUE = 200
_SAME = ("run", "job", "num_workers", "code_version")


def find_difference(leader: Offer, member: Offer) -> str | None:
    """Why the member is refused: the first key that differs, with both values; None if none."""
    if member.index >= leader.num_workers:
        return (
            f"worker {member.index} is none of this group's {leader.num_workers}"
            f" (0-{leader.num_workers - 1})"
        )
    ours, theirs = ({name: getattr(offer, name) for name in _SAME} for offer in (leader, member))
    differing = _differing(ours, theirs)
    where = ""
    if not differing:
        ours, theirs, where = leader.config, member.config, "configuration key "
        differing = _differing(ours, theirs)
    if not differing:
        return None
    key, others = differing[0], len(differing) - 1
    return (
        f"worker {member.index} differs from worker 0 in {where}{shorten(key, _MAX_VALUE)}: "
        f"{_show(theirs, key)} instead of {_show(ours, key)}"
        + (f" (and in {others} more)" if others else "")
        + ": start all workers of a run with the same configuration and image"
    )


def is_older(offer: Offer, than: Offer) -> bool:
    """Whether another incarnation of the same index started before; ties go by name."""
    return (offer.started, offer.pod) < (than.started, than.pod)


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    # As a rule nothing does, and one comparison of all is far cheaper than one of each.
    if json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True):
        return []
    keys = [*ours, *(key for key in theirs if key not in ours)]
    return [key for key in keys if _text(ours, key) != _text(theirs, key)]


def _text(values: Mapping[str, Any], key: str) -> str | None:
    # As JSON: True is not 1, and NaN is NaN.
    return json.dumps(values[key], sort_keys=True) if key in values else None


def _show(values: Mapping[str, Any], key: str) -> str:
    text = _text(values, key)
    return "nothing" if text is None else shorten(text, _MAX_VALUE)
