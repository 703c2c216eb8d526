"""Proofs and seals: who does not know the secret can neither prove, nor say anything."""

from dataclasses import astuple

import pytest

from tests.small_group import SECRET
from trainer.errors import ConfigError
from trainer.gathering.seal import ProofError, Seal, check_proof, check_secret, make_proofs

NONCES = {"member_nonce": b"m" * 32, "leader_nonce": b"l" * 32}


def test_proofs_and_keys_all_differ():
    assert len(set(astuple(make_proofs(SECRET, **NONCES)))) == 4


def test_both_sides_make_the_same():
    assert make_proofs(SECRET, **NONCES) == make_proofs(SECRET, **NONCES)


@pytest.mark.parametrize(
    "other",
    [
        make_proofs(b"another secret of a run", **NONCES),
        make_proofs(SECRET, **NONCES | {"member_nonce": b"x" * 32}),
        make_proofs(SECRET, **NONCES | {"leader_nonce": b"x" * 32}),
        make_proofs(SECRET, member_nonce=b"l" * 32, leader_nonce=b"m" * 32),
    ],
    ids=["secret", "member's nonce", "leader's nonce", "nonces swapped"],
)
def test_everything_counts(other):
    ours = make_proofs(SECRET, **NONCES)
    assert not set(astuple(ours)) & set(astuple(other))
    with pytest.raises(ProofError, match="did not prove that it knows the secret"):
        check_proof(other.by_leader, ours.by_leader)


@pytest.mark.parametrize("nonce", [b"", b"m" * 31, b"m" * 33])
def test_a_nonce_of_another_length_is_refused(nonce):
    with pytest.raises(ProofError):
        make_proofs(SECRET, member_nonce=nonce, leader_nonce=b"l" * 32)


def test_sealed_messages_open_in_their_order():
    ours, theirs = Seal(b"key"), Seal(b"key")
    sent = [b"", b"one", b"one"]
    assert [theirs.open(ours.close(payload)) for payload in sent] == sent


@pytest.mark.parametrize("what", ["changed", "repeated", "left out", "reflected", "cut", "empty"])
def test_a_broken_seal_does_not_open(what):
    ours, theirs = Seal(b"key"), Seal(b"key")
    first, second = ours.close(b"first"), ours.close(b"second")
    theirs.open(first)
    bad = {
        "changed": second[:-1] + b"x",
        "repeated": first,
        "left out": ours.close(b"third"),
        "reflected": Seal(b"the other key").close(b"second"),
        "cut": second[:20],
        "empty": b"",
    }
    with pytest.raises(ProofError, match="seal is broken"):
        theirs.open(bad[what])


def test_a_short_secret_is_refused_and_not_shown():
    with pytest.raises(ConfigError, match="has 5 bytes: use at least 16") as error:
        check_secret(b"12345")
    assert "12345" not in str(error.value)
