"""One app at its server: what is configured, what is kept of it, and what may be reached for it."""

from collections.abc import Callable
from dataclasses import dataclass

import httpx2
from mcp.shared.auth import OAuthClientInformationFull

from tasak.auth.asking import ClientFactory, Refused
from tasak.auth.options import ClientCredentials, OAuth
from tasak.auth.reach import Reach
from tasak.auth.store import Login, SignedIn, TokenStore
from tasak.errors import SignInNeeded

MEND_CLIENT = "see whether `client_id`, its secret or key, and `scopes` are what the authorization server knows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What signing in to one server goes by."""

    app: str
    url: str
    auth: OAuth | ClientCredentials
    store: TokenStore
    client: ClientFactory
    """Makes a client that reaches what the app's own does, and carries none of its headers."""
    reach: Reach
    now: Callable[[], float]
    """Seconds since the epoch."""

    @property
    def place(self) -> str:
        """Under which URL it is kept: in one spelling."""
        return str(httpx2.URL(self.url).copy_with(fragment=None))

    def signed_in(self) -> SignedIn | None:
        """What is kept.

        Raises:
            BadConfig: that cannot be read.
        """
        return self.store.find(self.place, self.auth.key, self.auth.issuer)

    def everywhere(self) -> list[SignedIn]:
        """What is kept, of whichever authorization server."""
        return self.store.all(self.place, self.auth.key)

    @property
    def issuer(self) -> str | None:
        """The only authorization server that may be used: the configured one, or, for a client that was registered
        by hand, the one that it was used with."""
        if self.auth.issuer or not self.is_registered_by_hand:
            return self.auth.issuer
        found = self.signed_in()
        return found.server.issuer if found else None

    @property
    def is_registered_by_hand(self) -> bool:
        return self.auth.client_id is not None

    def client_of(self, login: Login) -> OAuthClientInformationFull | None:
        """The client with its secret, which the config has where it was registered by hand."""
        if login.client is None or not self.is_registered_by_hand:
            return login.client
        return login.client.model_copy(update={"client_secret": self.auth.client_secret})

    def sign_in_needed(self, message: str) -> SignInNeeded:
        fix = MEND_CLIENT if isinstance(self.auth, ClientCredentials) else f"tasak auth login {self.app}"
        return SignInNeeded(message, fix=fix)

    def refused(self, message: str, problem: Refused) -> SignInNeeded:
        """An authorization server said no; nobody who signs in again could make a wrong client a right one."""
        needed = self.sign_in_needed(f"{message}: {problem.said}")
        if problem.is_about_client and self.is_registered_by_hand:
            needed.fix = MEND_CLIENT
        return needed
