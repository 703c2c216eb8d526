"""How two agents prove to each other that they know the run's secret, and seal what they say.

The secret never crosses the wire. Both sides send a nonce; proofs and keys are HMAC-SHA256 of
the secret over a label of their own and both nonces, so nothing that one side sends can be
played back to either of them. The leader proves first: a member tells a false leader nothing.
Every later message is sealed with the key of its direction and the number of messages before
it: a message that was changed, left out, repeated, moved or reflected does not open. Sealing
hides nothing: who can read the network reads the messages.
"""

import hmac
from dataclasses import dataclass

from trainer.errors import ConfigError

NONCE_BYTES = 32
TAG_BYTES = 32
MIN_SECRET_BYTES = 16
_LABEL = b"trainer gathering 1: "


class ProofError(Exception):
    """The other side did not prove that it knows the secret, or a seal is broken."""


@dataclass(frozen=True)
class Proofs:
    """Of a secret and two nonces: two proofs, which are sent, and two keys, which are not."""

    by_leader: bytes
    by_member: bytes
    key_of_leader: bytes
    key_of_member: bytes


def make_proofs(secret: bytes, *, member_nonce: bytes, leader_nonce: bytes) -> Proofs:
    """The proofs and keys of one connection."""
    if not len(member_nonce) == len(leader_nonce) == NONCE_BYTES:
        raise ProofError("did not send a nonce")
    labels = (b"leader proves", b"member proves", b"leader seals", b"member seals")
    nonces = member_nonce + leader_nonce
    return Proofs(*(hmac.digest(secret, _LABEL + each + nonces, "sha256") for each in labels))


def check_proof(found: bytes, expected: bytes) -> None:
    """Raises `ProofError` when they differ; takes as long when they do not."""
    if not hmac.compare_digest(found, expected):
        raise ProofError("did not prove that it knows the secret")


def check_secret(secret: bytes) -> None:
    """Raises `ConfigError` for a secret that could be guessed by trying."""
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigError(
            f"the run's secret has {len(secret)} bytes: use at least {MIN_SECRET_BYTES} random ones"
        )


class Seal:
    """One direction of one connection; sealing and opening both count the messages."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._number = 0

    def close(self, payload: bytes) -> bytes:
        """The payload behind its tag."""
        return self._tag(payload) + payload

    def open(self, sealed: bytes) -> bytes:
        """The payload. Raises `ProofError` unless it is the very next of this direction."""
        tag, payload = sealed[:TAG_BYTES], sealed[TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(payload)):
            raise ProofError("sent a message whose seal is broken")
        return payload

    def _tag(self, payload: bytes) -> bytes:
        number = self._number.to_bytes(8, "big")
        self._number += 1
        return hmac.digest(self._key, number + payload, "sha256")
