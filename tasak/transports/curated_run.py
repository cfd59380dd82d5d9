"""One call of a curated tool: its steps one after the other, each with what those before it have answered."""

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasak.errors import BadArguments
from tasak.inert import one_line
from tasak.last_words import QUOTED_LINES, with_last_words
from tasak.plugin import CallTimedOut, Host, OnProgress, OutcomeUnknown, Progress, TasakError
from tasak.transports import commands
from tasak.transports.child import signal_name
from tasak.transports.curated_tools import AppStep, CommandStep, CuratedTool, Step
from tasak.transports.templates import NOTHING, Reference, Template, as_text, fill, inside

# Where nobody reads on in a line of a command's.
LINE_LENGTH = 400


class StepFailed(Exception):
    """A step came to its end, and not to a good one. Its text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What steps are carried out with."""

    host: Host
    place: commands.Place


class Run:
    """A call under way. `timeout` is in seconds of silence: it starts anew at each step and each progress."""

    def __init__(
        self,
        tool: CuratedTool,
        arguments: Mapping[str, Any],
        means: Means,
        *,
        timeout: float,
        on_progress: OnProgress | None,
    ) -> None:
        self._tool = tool
        self._arguments = arguments
        self._means = means
        self._timeout = timeout
        self._on_progress = on_progress
        self._results: list[Mapping[str, Any]] = []

    async def result(self) -> dict[str, Any]:
        """What the last step answered, or which step failed, and why.

        Raises:
            TasakError: nothing ran, or it is not known what did.
        """
        for step in self._tool.steps:
            try:
                self._results.append(await self._carried_out(step))
            except (StepFailed, commands.TooMuchOutput) as problem:
                return self._failure(step, str(problem))
            except TasakError as problem:
                return self._told(step, problem)
            self._report_done(step)
        return dict(self._results[-1])

    async def _carried_out(self, step: Step) -> Mapping[str, Any]:
        match step:
            case AppStep():
                return await self._call(step)
            case CommandStep():
                return await self._command(step)

    async def _call(self, step: AppStep) -> Mapping[str, Any]:
        def heard(progress: Progress) -> None:
            self._report(len(self._results), f"{self._label(step)}: {said(progress)}")

        arguments = fill(step.arguments, self._value)
        result = await self._means.host.call(step.app, step.tool, arguments, timeout=self._timeout, on_progress=heard)
        if result.get("isError") is True:
            raise StepFailed(text_of(result) or "the tool says so, and no more")
        return result

    async def _command(self, step: CommandStep) -> Mapping[str, Any]:
        words = [self._word(word) for word in step.words]
        try:
            async with asyncio.timeout(self._timeout):
                return as_result(await commands.run(words, self._means.place))
        except TimeoutError:
            raise CallTimedOut(f"it was not done within {self._timeout:g} s, and was ended") from None

    def _word(self, word: str | Template) -> str:
        """A word of a command line: one, whatever the values are."""
        text = as_text(fill(word, self._value))
        try:
            has_nul = b"\0" in os.fsencode(text)
        except UnicodeEncodeError:
            raise BadArguments(f"'{one_line(text)}' is not UTF-8") from None
        if has_nul:
            raise BadArguments(f"'{one_line(text)}' has a NUL in it, which no command line can have")
        return text

    def _value(self, reference: Reference) -> Any:
        root, *path = reference.path
        if root == "args":
            return inside(self._arguments, path)
        number, part, *below = path
        result = self._results[int(number)]
        if part == "text":
            return text_of(result)
        if (value := inside(result.get("structuredContent", NOTHING), below)) is NOTHING:
            raise StepFailed(f"there is no {reference} in what that step answered")
        return value

    def _report_done(self, step: Step) -> None:
        done = len(self._results)
        if done < len(self._tool.steps):
            self._report(done, f"{named(done - 1, step)} is done")

    def _report(self, done: int, message: str) -> None:
        if self._on_progress:
            self._on_progress(Progress(progress=float(done), total=float(len(self._tool.steps)), message=message))

    def _told(self, step: Step, problem: TasakError) -> dict[str, Any]:
        """The result that says it, where it is known what ran.

        Raises:
            TasakError: where nothing did, or it is not known.
        """
        if problem.outcome == "unknown":
            kind = type(problem) if isinstance(problem, OutcomeUnknown) else OutcomeUnknown
            message = f"{self._label(step)}: {problem.message}\n{self._ran_before()}"
            raise kind(message, fix=problem.fix) from problem
        if problem.outcome == "not_executed" and not self._results:
            raise type(problem)(f"{self._label(step)}: {problem.message}", fix=problem.fix) from problem
        return self._failure(step, f"{problem.message}\nfix: {problem.fix}" if problem.fix else problem.message)

    def _failure(self, step: Step, why: str) -> dict[str, Any]:
        text = f"{self._label(step)} failed: {why}\n{self._ran_before()}"
        return {"content": [{"type": "text", "text": text}], "isError": True}

    def _ran_before(self) -> str:
        steps = self._tool.steps[: len(self._results)]
        return f"ran before it: {', '.join(named(*each) for each in enumerate(steps)) or 'nothing'}"

    def _label(self, step: Step) -> str:
        """What to call the step that is under way."""
        return f"step {len(self._results)} of {self._tool.name} ({step})"


def named(number: int, step: Step) -> str:
    return f"step {number} ({step})"


def said(progress: Progress) -> str:
    if progress.message:
        return progress.message
    return f"{progress.progress:g}" if progress.total is None else f"{progress.progress:g} of {progress.total:g}"


def text_of(result: Mapping[str, Any]) -> str:
    """The text blocks of a tool's result, a newline between them."""
    content = result.get("content")
    return "\n".join(texts(content if isinstance(content, list) else ()))


def texts(blocks: Iterable[Any]) -> Iterator[str]:
    for block in blocks:
        match block:
            case {"type": "text", "text": str(text)}:
                yield text


def as_result(completed: commands.Completed) -> dict[str, Any]:
    """What a command wrote, as the result of a tool.

    Raises:
        StepFailed: its status is not 0.
    """
    if completed.status:
        raise StepFailed(with_last_words(ending(completed.status), last_words(completed)))
    text = completed.stdout.decode("utf-8", "replace").removesuffix("\n")
    return {"content": [{"type": "text", "text": text}]}


def ending(status: int) -> str:
    return f"killed by {signal_name(-status)}" if status < 0 else f"exit status {status}"


def last_words(completed: commands.Completed) -> Sequence[str]:
    """The lines on stderr; on stdout where there are none, since some programs complain there."""
    told = (completed.stderr.strip() or completed.stdout.strip()).decode("utf-8", "replace")
    return [one_line(line.rstrip(), LINE_LENGTH) for line in told.split("\n")[-QUOTED_LINES:] if line]
