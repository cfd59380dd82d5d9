"""Follows the references within one document, and no others."""

from collections.abc import Iterator, Mapping
from typing import Any

from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012
from tasak.plugin import ConnectFailed

# What stands below these is a value of the service's, not a part of the description …
VALUES = frozenset({"const", "default", "enum", "example", "examples"})
# … except below these, where every key is a name.
NAMES = frozenset({"$defs", "dependentSchemas", "patternProperties", "properties"})


class Reader:
    """Reads `document` by reference."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        # A registry of our own: the library's would fetch what `$ref` names from the network.
        self._resolver = Registry().with_resource("", DRAFT202012.create_resource(document)).resolver()

    def target(self, ref: str) -> Any:
        """What `ref` points at.

        Raises:
            ConnectFailed: it is not in the document.
        """
        if not ref.startswith("#"):
            raise ConnectFailed(
                f"the description refers to {ref!r}, outside of it, which is not fetched",
                fix="bundle it into one document, for example with `npx @redocly/cli bundle`",
            )
        try:
            return self._resolver.lookup(ref).contents
        # A pointer through what is neither an object nor a list fails in other ways than one through what is not there.
        except (Unresolvable, LookupError, TypeError, ValueError) as problem:
            raise ConnectFailed(f"the description refers to {ref!r}, which is not in it") from problem

    def resolved(self, value: Any) -> dict[str, Any]:
        """The object that `value` is, or refers to; an empty one where it is neither."""
        seen: set[str] = set()
        while isinstance(value, dict) and isinstance(ref := value.get("$ref"), str) and ref not in seen:
            seen.add(ref)
            value = self.target(ref)
        return dict_of(value)

    def components(self, root: Any) -> dict[str, dict[str, Any]]:
        """The document's components that `root` refers to, and those that these do: by kind, then by name."""
        found: dict[str, dict[str, Any]] = {}
        pending = [root]
        while pending:
            for ref in self._references(pending.pop()):
                self.target(ref)
                kind, name = component_of(ref)
                if kind and name not in found.setdefault(kind, {}):
                    found[kind][name] = self.document["components"][kind][name]
                    pending.append(found[kind][name])
        return found

    def _references(self, root: Any) -> Iterator[str]:
        pending = [(root, False)]
        while pending:
            node, has_names = pending.pop()
            if isinstance(node, list):
                pending.extend((each, False) for each in node)
            elif isinstance(node, dict):
                if not has_names:
                    yield from self._own_references(node)
                pending.extend(
                    (value, key in NAMES and not has_names)
                    for key, value in node.items()
                    if has_names or key not in VALUES
                )

    def _own_references(self, node: Mapping[str, Any]) -> Iterator[str]:
        if isinstance(ref := node.get("$ref"), str):
            yield ref
        schemas = dict_of(dict_of(self.document.get("components")).get("schemas"))
        for variant in dict_of(dict_of(node.get("discriminator")).get("mapping")).values():
            # It is the name of a schema or a reference to one (OpenAPI 3.1, 4.8.25).
            name = str(variant).removeprefix("#/components/schemas/")
            if name in schemas:
                yield f"#/components/schemas/{name.replace('~', '~0').replace('/', '~1')}"


def component_of(ref: str) -> tuple[str, str]:
    """The kind and name of the component that `ref` leads to, or into; empty where it leads to none."""
    match ref.split("/"):
        case ["#", "components", kind, name, *_]:
            return kind, name.replace("~1", "/").replace("~0", "~")
    return "", ""


def dict_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""
