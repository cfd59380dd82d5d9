"""The part of a document that is converted: what the chosen operations take. The rest may be as large as it likes."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from tasak_rest.operations import Operation
from tasak_rest.references import Reader, dict_of, list_of, text_of

# A parameter of one of these names is to be ignored (OpenAPI 3.1, 4.8.12.2).
NEVER_ASKED = frozenset({"accept", "content-type", "authorization"})

# The converter takes the first media type: the one that carries most of what a schema says.
FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")


def excerpt(reader: Reader, operations: Iterable[Operation], *, given: Iterable[str]) -> dict[str, Any]:
    """An OpenAPI document of these operations' parameters and bodies.

    Parameters that are headers of the names `given` are left out: the config has them.

    Raises:
        ConnectFailed: an operation refers to what is not in the document.
    """
    unasked = NEVER_ASKED.union(name.lower() for name in given)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = inputs(reader, operation, unasked)
    return {
        # The converter knows some versions by name; what it makes of them differs only between these two.
        "openapi": "3.0.3" if reader.document["openapi"].startswith("3.0") else "3.1.0",
        "info": {"title": "an excerpt", "version": "1"},
        "paths": paths,
        "components": reader.components(paths),
    }


def inputs(reader: Reader, operation: Operation, unasked: Collection[str]) -> dict[str, Any]:
    # The operation's own first: a later one of the same name and place does not count.
    parameters = [reader.resolved(each) for each in [*list_of(operation.said.get("parameters")), *operation.shared]]
    converted: dict[str, Any] = {
        "parameters": [as_flag(each) for each in parameters if not is_among(unasked, each)],
        "responses": {"default": {"description": "not converted"}},
    }
    if body := reader.resolved(operation.said.get("requestBody")):
        converted["requestBody"] = {**body, "content": preferred(dict_of(body.get("content")))}
    return converted


def is_among(unasked: Collection[str], parameter: Mapping[str, Any]) -> bool:
    return parameter.get("in") == "header" and text_of(parameter.get("name")).lower() in unasked


def as_flag(parameter: Mapping[str, Any]) -> dict[str, Any]:
    """One that is a text of some media type stays a text: the converter would take it for the value in it."""
    if "content" not in parameter:
        return dict(parameter)
    media_type = next(iter(dict_of(parameter["content"])), "text/plain")
    others = {key: value for key, value in parameter.items() if key != "content"}
    return {**others, "schema": {"type": "string", "contentMediaType": media_type}}


def preferred(content: Mapping[str, Any]) -> dict[str, Any]:
    return {media_type: content[media_type] for media_type in sorted(content, key=rank)[:1]}


def rank(media_type: str) -> int:
    kind = media_type.partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return 0
    return 1 + FORM_TYPES.index(kind) if kind in FORM_TYPES else 1 + len(FORM_TYPES)
