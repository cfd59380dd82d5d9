"""Turns the words of a command line into a tool's arguments, by the tool's own JSON Schema and nothing else.

Two steps: words become `Given`s, each with the parameter that it is for, and these become values. Nothing is guessed
from how a value looks; what cannot be told for certain is an error that says what was expected.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn

from tasak.core.nearest import nearest
from tasak.core.schema import Inputs, Parameter, inputs
from tasak.core.signature import OURS, kind, label, shown, signature, tool_name
from tasak.core.strict_json import Flawed, NotJson, from_json, has_lone_surrogate, integer, number, refuse_flaws
from tasak.errors import BadArguments, NeedsInput
from tasak.inert import one_line

# A path is shown whole: the reader is told what to read.
SOURCE_LENGTH = 4096

TRUTH = {"true": True, "false": False}

# Options of `tasak` itself: whoever puts one behind the app is told where it belongs.
BEFORE_APP = frozenset({"json", "timeout", "session", "call-id", "no-daemon", "debug"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What a command line says: arguments that the tool takes, or that its help is wanted (and nothing else)."""

    arguments: dict[str, Any]
    wants_help: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One option, with the word that is its value: for a parameter, for us (`args`, `help`), or a mistake."""

    word: str
    form: Literal["text", "json", "args", "help", "mistake"]
    parameter: Parameter | None = None
    text: str = ""
    """The value, or what the mistake is."""
    behind: Parameter | None = None
    """The switch that a word follows which is for nothing."""


def read_words(taken: Inputs, argv: Sequence[str]) -> Iterator[Given]:
    """What each option is for. An option that wants a value takes the next word, whatever that looks like."""
    pending = list(reversed(argv))
    switch: Parameter | None = None
    while pending:
        word = pending.pop()
        name, has_value, text = word.removeprefix("--").partition("=")
        if word in ("-h", "--help"):
            yield Given(word=word, form="help")
        elif word.startswith("--"):
            given = read_flag(taken, word, name, text if has_value else None, pending)
            switch = given.parameter if given.parameter and given.parameter.is_switch else None
            yield given
        elif has_value and name and not name.startswith("-"):
            yield read_pair(taken, word, name, text)
        else:
            yield Given(word=word, form="mistake", text=f"unexpected word {shown(word)}", behind=switch)


def read_flag(taken: Inputs, word: str, name: str, text: str | None, pending: list[str]) -> Given:
    """`--name`, with the `text` that stood behind `=` or the next word, which it then takes off `pending`."""
    if name == "args" and (text is not None or pending):
        return Given(word=word, form="args", text=pending.pop() if text is None else text)
    parameter = None if name in OURS else find(taken, name)
    switched = find(taken, name.removeprefix("no-")) if name.startswith("no-") else None
    if parameter is None and switched and switched.is_switch:
        if text is not None:
            return Given(word=word, form="mistake", parameter=switched, text=f"--{name} takes no value")
        return Given(word=word, form="text", parameter=switched, text="false")
    if parameter is None and taken.others and name and name not in OURS:
        parameter = replace(taken.others, name=name)
    if parameter is None:
        problem = "--args needs a value: JSON, @file or -" if name == "args" else f"unknown flag {label_of(word)}"
        return Given(word=word, form="mistake", text=problem)
    if text is None and parameter.is_switch:
        text = pending.pop() if pending and pending[-1] in TRUTH else "true"
    if text is None and not pending:
        problem = f"{label_of(word)} needs a value: {kind(parameter)}"
        return Given(word=word, form="mistake", parameter=parameter, text=problem)
    return Given(word=word, form="text", parameter=parameter, text=pending.pop() if text is None else text)


def read_pair(taken: Inputs, word: str, name: str, text: str) -> Given:
    """`name=text`, or `name:=text` for JSON."""
    is_json = name.endswith(":")
    name = name.removesuffix(":")
    parameter = find(taken, name) or (replace(taken.others, name=name) if taken.others and name else None)
    if parameter is None:
        return Given(word=word, form="mistake", text=f"unknown argument {shown(name)}")
    return Given(word=word, form="json" if is_json else "text", parameter=parameter, text=text)


def find(taken: Inputs, name: str) -> Parameter | None:
    """The parameter of that very name, else the only one for which each `-` may stand for a `_` of its name."""
    if name in taken.named or "-" not in name:
        return taken.named.get(name)
    folded = name.replace("-", "_")
    found = [
        parameter
        for own, parameter in taken.named.items()
        if own.replace("-", "_") == folded
        and all(mine == "_" or mine == its for mine, its in zip(own, name, strict=True))
    ]
    return found[0] if len(found) == 1 else None


def label_of(word: str) -> str:
    return one_line(word.partition("=")[0], 60)


class ArgumentReader:
    """Makes values of what is given for one tool (as `tools/list` has it), and words the errors."""

    def __init__(self, app: str, tool: Mapping[str, Any]) -> None:
        self._app = app
        self._tool = tool
        self._taken = inputs(tool)

    def parse(self, argv: Sequence[str]) -> Parsed:
        """The arguments that `argv`, the words behind the tool's name, gives.

        Raises:
            BadArguments: the tool does not take them.
            NeedsInput: `--args @file` or `--args -` is there, and no mistake otherwise.
        """
        given = list(read_words(self._taken, argv))
        if any(each.form == "help" for each in given):
            return Parsed(arguments={}, wants_help=True)
        arguments = self._arguments(given)
        self.check(arguments)
        return Parsed(arguments=arguments)

    def _arguments(self, given: Sequence[Given]) -> dict[str, Any]:
        """The arguments, not yet checked against what the tool takes."""
        for each in given:
            self._refuse_mistakes(each)
        values: dict[str, list[Any]] = {}
        of_name = {each.parameter.name: each.parameter for each in given if each.parameter}
        for each in given:
            if each.parameter:
                values.setdefault(each.parameter.name, []).append(self._value(each, each.parameter))
        flags = {name: self._joined(of_name[name], several) for name, several in values.items()}
        documents = [each.text for each in given if each.form == "args"]
        if len(documents) > 1:
            self._refuse("--args is given twice")
        document = self._document(documents[0]) if documents else {}
        if twice := next((name for name in flags if name in document), None):
            self._refuse(f"{label(twice)} is given twice: by itself and in --args")
        return document | flags

    def check(self, arguments: Mapping[str, Any]) -> None:
        """See that the tool takes `arguments`, as far as names, types and choices go; the server judges the rest.

        Raises:
            BadArguments: it does not.
        """
        for name, value in arguments.items():
            try:
                refuse_flaws(name)
                refuse_flaws(value)
            except Flawed as flaw:
                self._refuse(f"{label(name)} cannot be sent: {flaw}")
            parameter = self._taken.named.get(name) or self._taken.others
            if parameter is None:
                self._refuse(f"unknown argument {shown(name)}", hint=did_you_mean(self._nearest_label(name)))
            if not parameter.accepts(value):
                choices = [choice for choice in parameter.choices if isinstance(choice, str)]
                close = nearest(value, choices) if isinstance(value, str) else None
                named = replace(parameter, name=name)
                hint = null_of(named, value) or did_you_mean(shown(close) if close else None)
                self._refuse(expected(named, shown(value)), hint=hint)
        missing = [each for each in self._taken.named.values() if each.required and each.name not in arguments]
        if missing:
            names = ", ".join(f"{label(each.name)} ({kind(each)})" for each in missing)
            self._refuse(f"missing {one_line(names)}")

    def _refuse_mistakes(self, given: Given) -> None:
        if given.form == "mistake":
            self._refuse(given.text, hint=None if given.parameter else self._hint(given.word, given.behind))
        # The name of a file that `--args` is read from is the caller's own affair.
        if given.parameter and (has_lone_surrogate(given.parameter.name) or has_lone_surrogate(given.text)):
            self._refuse(f"{label(given.parameter.name)}: expected UTF-8, got {shown(given.text)}")

    def _value(self, given: Given, parameter: Parameter) -> Any:
        try:
            return from_json(given.text) if given.form == "json" else from_text(parameter, given.text)
        except (NotJson, Flawed) as problem:
            what = "JSON" if given.form == "json" else kind(parameter)
            message = expected(parameter, shown(given.text), what=what, why=str(problem))
            self._refuse(message, hint=null_of(parameter, given.text))

    def _joined(self, parameter: Parameter, values: list[Any]) -> Any:
        if len(values) == 1:
            return values[0]
        if "array" not in parameter.types:
            self._refuse(f"{label(parameter.name)} is given twice, and it is one {kind(parameter)}")
        return [item for value in values for item in (value if isinstance(value, list) else [value])]

    def _document(self, text: str) -> dict[str, Any]:
        if text == "-" or text.startswith("@"):
            source = "stdin" if text == "-" else f"the file {one_line(text[1:], SOURCE_LENGTH)}"
            raise NeedsInput(
                self._about(f"--args is to be read from {source}, which only the caller can"),
                fix="send the text itself: --args '{…}'",
            )
        try:
            value = from_json(text)
        except (NotJson, Flawed) as problem:
            self._refuse(f"--args: expected a JSON object, @file or -, got {shown(text)} ({problem})")
        if not isinstance(value, dict):
            self._refuse(f"--args: expected a JSON object, @file or -, got {shown(text)}")
        return value

    def _nearest_label(self, name: str) -> str | None:
        close = nearest(name, self._taken.named)
        return None if close is None else label(close)

    def _hint(self, word: str, switch: Parameter | None) -> str | None:
        """What may have been meant by a word that is for no parameter, perhaps behind a switch."""
        if place := place_of(word, self._app):
            return f"{place};"
        if switch:
            return f"{label(switch.name)} takes true or false, and alone it is true;"
        if close := self._nearest_label(word.lstrip("-").partition("=")[0].removesuffix(":")):
            return did_you_mean(close)
        name = next(iter(self._taken.named), None)
        is_value = not word.startswith("-") and "=" not in word
        return f"each value has its name before it, as in {label(name)} VALUE;" if is_value and name else None

    def _about(self, message: str) -> str:
        return f"{one_line(self._app)} {one_line(tool_name(self._tool))}: {message}"

    def _refuse(self, message: str, *, hint: str | None = None) -> NoReturn:
        usage = f"usage: {signature(self._tool)}"
        raise BadArguments(self._about(message), fix=f"{hint} {usage}" if hint else usage) from None


def did_you_mean(close: str | None) -> str | None:
    return close and f"did you mean {close}?"


def null_of(parameter: Parameter, value: Any) -> str | None:
    """How null is given, where the word for it is none of the choices."""
    return f"null itself is {one_line(parameter.name)}:=null;" if value == "null" and parameter.accepts(None) else None


def place_of(word: str, app: str) -> str | None:
    """Where an option of ours belongs, for one that stands behind the app."""
    name = word.removeprefix("--").partition("=")[0]
    if not word.startswith("--") or name not in BEFORE_APP:
        return None
    return f"--{name} stands before the app, as in `tasak --{name} … {one_line(app)}`"


def expected(parameter: Parameter, got: str, *, what: str = "", why: str = "") -> str:
    reason = f" ({why})" if why else ""
    return f"{label(parameter.name)}: expected {what or kind(parameter)}, got {got}{reason}"


def from_text(parameter: Parameter, text: str) -> Any:
    """The value that `text` is by the parameter's types; a string wherever it can be one.

    Raises:
        NotJson: no type takes it.
        Flawed: one would, if it were not too long, too large or ambiguous.
    """
    if parameter.has_text and (not parameter.choices or parameter.accepts(text)):
        return text
    # No such string may be chosen, but perhaps a number that is written so; null stays a word here.
    types = parameter.types - {"string", "null"} if parameter.has_text else parameter.types
    if not types:
        return text
    if text == "null" and "null" in types and not (parameter.is_array and item_of(parameter).has_text):
        return None
    if text in TRUTH and "boolean" in types:
        return TRUTH[text]
    why = ""
    for name, read in (("integer", integer), ("number", number), ("object", json_object)):
        try:
            if name in types:
                return read(text)
        except NotJson as problem:
            why = str(problem)
    if "array" in types:
        return array(item_of(parameter), text)
    raise NotJson(why)


def json_object(text: str) -> dict[str, Any]:
    if not text.lstrip().startswith("{"):
        raise NotJson
    value: dict[str, Any] = from_json(text)
    return value


def array(item: Parameter, text: str) -> list[Any]:
    """A JSON array is the array, or one of its items where they are arrays; anything else is one item."""
    try:
        value = from_json(text) if text.lstrip().startswith("[") else None
    except NotJson:
        if not item.has_text:
            raise
        value = None
    if not isinstance(value, list):
        return [from_text(item, text)]
    is_item = "array" in item.types and not all(isinstance(each, list) for each in value)
    return [value] if is_item else value


def item_of(parameter: Parameter) -> Parameter:
    return Parameter(name=parameter.name, types=parameter.item_types)
