"""What the schema of a transport's options has to say about some."""

from types import ModuleType

from jsonschema import Draft202012Validator


def complaints(transport: ModuleType, options: object) -> list[str]:
    schema = transport.transport_schema()
    Draft202012Validator.check_schema(schema)
    return [problem.message for problem in Draft202012Validator(schema).iter_errors(options)]
