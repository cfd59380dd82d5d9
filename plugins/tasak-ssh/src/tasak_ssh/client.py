"""Our end of an SSH connection: it trusts no host key that is not known, and offers the keys of one login."""

from dataclasses import dataclass

import asyncssh

from tasak_ssh.keys import KeyRing
from tasak_ssh.known_hosts import has_keys_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Untrusted:
    """A host key, or one that signs them, that nobody vouches for."""

    algorithm: str
    fingerprint: str
    is_changed: bool
    """Others are known of that host."""


class Client(asyncssh.SSHClient):
    def __init__(self, known: asyncssh.SSHKnownHosts, ring: KeyRing) -> None:
        self.ring = ring
        self.untrusted: Untrusted | None = None
        self.is_identified = False
        """The host has proved to be the one that it should be."""
        self.known = known
        self._offers = ring.offers()

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.untrusted = Untrusted(
            algorithm=key.get_algorithm(),
            fingerprint=key.get_fingerprint(),
            is_changed=has_keys_of(self.known, host, addr, port),
        )
        return False

    validate_host_ca_key = validate_host_public_key

    def begin_auth(self, username: str) -> None:
        self.is_identified = True

    def public_key_auth_requested(self) -> asyncssh.SSHKeyPair | None:
        return next(self._offers, None)
