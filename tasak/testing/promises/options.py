"""The options of a transport are described so that the config can be checked, and shown."""

from typing import Any

import pytest
from jsonschema.validators import Draft202012Validator, validator_for

from tasak.core.app_definition import COMMON_KEYS
from tasak.core.app_options import TransportOptions
from tasak.errors import BadConfig
from tasak.testing.promises.case import ContractCase

# One value of each kind that JSON has.
KINDS: tuple[Any, ...] = (None, True, 1, 1.5, "text", [], {})


# The keys that every app has; a transport may only say more of what is under `tools`.
TAKEN = COMMON_KEYS - {"tools"}


class OptionPromises(ContractCase):
    async def test_its_schema_is_a_json_schema_that_describes_every_option(self) -> None:
        async with self.stage() as stage:
            schema = stage.transport.schema()

        TransportOptions(stage.transport.name, schema)
        options = schema.get("properties", {})
        described = [name for name, said in options.items() if isinstance(said, dict) and said.get("description")]

        assert schema.get("type") == "object"
        assert [*options] == described

    async def test_its_options_have_names_that_are_not_taken(self) -> None:
        async with self.stage() as stage:
            options = stage.transport.schema().get("properties", {})

        assert sorted(TAKEN.intersection(options)) == []

    async def test_its_schema_says_of_every_option_what_it_may_be(self) -> None:
        async with self.stage() as stage:
            schema = dict(stage.transport.schema())

        validator = validator_for(schema, default=Draft202012Validator)(schema)
        anything = [
            name
            for name, described in schema.get("properties", {}).items()
            if all(validator.evolve(schema=described).is_valid(kind) for kind in KINDS)
        ]

        assert anything == []

    async def test_its_schema_refuses_an_option_that_it_does_not_know(self) -> None:
        async with self.peer() as peer, self.stage() as stage:
            options = TransportOptions(stage.transport.name, stage.transport.schema())
            given = {name: value for name, value in peer.options.items() if name in options.names}
            options.check(given, "these options")

            with pytest.raises(BadConfig, match="no_such_option"):
                options.check({**given, "no_such_option": 1}, "these options")
