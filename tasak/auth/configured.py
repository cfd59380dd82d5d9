"""A token that the user has from somewhere else, and wrote into the config or into a file."""

import re

from tasak.auth.flow import lack_of
from tasak.auth.options import Bearer
from tasak.errors import BadConfig, SignInNeeded
from tasak.secret import Secret

# What a header can carry in one piece. Anything else would end up in the HTTP library's complaint about it.
TOKEN = re.compile(r"[\x21-\x7e]+")


class ConfiguredToken:
    """The one token of an app; a file with it is read for each request."""

    def __init__(self, auth: Bearer) -> None:
        self._auth = auth

    async def current(self) -> Secret:
        """Raises BadConfig where it cannot be read, or is none."""
        token = self._auth.token()
        if not TOKEN.fullmatch(token):
            raise BadConfig(
                "the token of `auth:` has a character in it that no token has",
                fix="see whether it is the token alone, on one line",
            )
        return token

    async def renewed(self, stale: Secret) -> Secret:
        """The file may have another one since. Raises SignInNeeded where it has not."""
        token = await self.current()
        if token == stale:
            raise self.sign_in_needed("the server does not take the token")
        return token

    async def lacking(self, token: Secret, scopes: str | None) -> Secret:
        raise self.sign_in_needed(lack_of(scopes))

    def sign_in_needed(self, message: str) -> SignInNeeded:
        return SignInNeeded(message, fix="write another token where the app's `auth:` has this one")
