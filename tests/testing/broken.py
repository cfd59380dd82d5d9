"""Transports that break one promise each; in all else they are `stdio`."""

import asyncio
import os
import subprocess
import sys
import threading
from typing import Any, ClassVar

from tasak.errors import NotExecuted, OutcomeUnknown, ServerError, SessionLost, TasakError
from tasak.plugin import hookimpl
from tasak.transports import stdio


class Wrapped:
    """A session with `stdio`'s behind it; what it does not say otherwise is that one's."""

    def __init__(self, inner: Any, app: Any, host: Any) -> None:
        self.inner = inner
        self.app = app
        self.host = host

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Sound:
    """Breaks nothing. `session` is what wraps the sessions."""

    session: type[Wrapped] = Wrapped
    schema: dict[str, Any] = stdio.SCHEMA

    @hookimpl
    def transport_schema(self):
        return self.schema

    @hookimpl
    async def connect(self, app, host):
        return self.session(await stdio.connect(app, host), app, host)

    @hookimpl
    async def ping(self, session):
        await stdio.ping(session.inner)

    @hookimpl
    async def close(self, session):
        await stdio.close(session.inner)


def with_session(session: type[Wrapped]) -> Sound:
    plugin = Sound()
    plugin.session = session
    return plugin


def with_option(**described: Any) -> Sound:
    plugin = Sound()
    plugin.schema = {**stdio.SCHEMA, "properties": {**stdio.SCHEMA["properties"], "more": described}}
    return plugin


def with_schema(**keywords: Any) -> Sound:
    plugin = Sound()
    plugin.schema = {**stdio.SCHEMA, **keywords}
    return plugin


# Opening


class EndsWithAnEventOfAThread(Wrapped):
    def __init__(self, *made):
        super().__init__(*made)
        self.ended = threading.Event()


class KnowsItsPeerByNoJson(Wrapped):
    server_info: ClassVar[Any] = {"name": {"a", "set"}}


class FailsInItsOwnWords(Sound):
    @hookimpl
    async def connect(self, app, host):
        try:
            return await super().connect(app, host)
        except Exception as problem:
            raise OSError("no route") from problem


class NeverGivesUp(Sound):
    @hookimpl
    async def connect(self, app, host):
        while True:
            try:
                return await super().connect(app, host)
            except Exception:  # noqa: BLE001 - whatever it is
                await asyncio.sleep(0.01)


class LeavesATaskWhereItFails(Sound):
    def __init__(self):
        self.left = []

    @hookimpl
    async def connect(self, app, host):
        self.left.append(asyncio.create_task(asyncio.sleep(1000)))
        return await super().connect(app, host)

    def clear_up(self):
        for task in self.left:
            task.cancel()


class GoesOnWhenItIsCancelled(Sound):
    def __init__(self):
        self.left = []

    @hookimpl
    async def connect(self, app, host):
        opening = asyncio.ensure_future(super().connect(app, host))
        self.left.append(opening)
        return await asyncio.shield(opening)

    async def clear_up(self):
        for session in await asyncio.gather(*self.left, return_exceptions=True):
            if isinstance(session, Wrapped):
                await super().close(session)


class Leaves(Sound):
    """Something of each session stays, which `clear_up` puts away."""

    def __init__(self):
        self.left = []

    @hookimpl
    async def connect(self, app, host):
        self.leave()
        return await super().connect(app, host)

    def leave(self):
        raise NotImplementedError

    def clear_up(self):
        raise NotImplementedError


class LeavesATask(Leaves):
    def leave(self):
        self.left.append(asyncio.create_task(asyncio.sleep(1000), name="forgotten"))

    def clear_up(self):
        for task in self.left:
            task.cancel()


class LeavesADescriptor(Leaves):
    def leave(self):
        self.left += os.pipe()

    def clear_up(self):
        for descriptor in self.left:
            os.close(descriptor)


class LeavesAThread(Leaves):
    def leave(self):
        over = threading.Event()
        thread = threading.Thread(target=over.wait, name="forgotten")
        thread.start()
        self.left.append((thread, over))

    def clear_up(self):
        for thread, over in self.left:
            over.set()
            thread.join()


class LeavesAProcess(Leaves):
    def leave(self):
        self.left.append(subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE))

    def clear_up(self):
        for process in self.left:
            process.communicate()


# Calling


class DropsWhatIsNotAscii(Wrapped):
    async def request(self, method, params, **how):
        text = params.get("arguments", {}).get("text", "") if params else ""
        if not text.isascii():
            params = {**params, "arguments": {"text": text.encode("ascii", "ignore").decode()}}
        return await self.inner.request(method, params, **how)


class MixesAnswers(Wrapped):
    last = None

    async def request(self, method, params, **how):
        result = await self.inner.request(method, params, **how)
        self.last, earlier = result, self.last
        return earlier or result


class ForgetsBetweenCalls(Wrapped):
    async def request(self, method, params, **how):
        session = await stdio.connect(self.app, self.host)
        try:
            return await session.request(method, params, **how)
        finally:
            await stdio.close(session)


class OneAtATime(Wrapped):
    def __init__(self, *made):
        super().__init__(*made)
        self.lock = asyncio.Lock()

    async def request(self, method, params, **how):
        async with self.lock:
            return await self.inner.request(method, params, **how)


class ForgetsTools(Wrapped):
    async def request(self, method, params, **how):
        result = await self.inner.request(method, params, **how)
        return {**result, "tools": result["tools"][1:]} if method == "tools/list" else result


class CutsLargeResults(Wrapped):
    async def request(self, method, params, **how):
        result = await self.inner.request(method, params, **how)
        for block in result.get("content", []):
            block["text"] = block["text"][: 1 << 20]
        return result


class RaisesToolErrors(Wrapped):
    async def request(self, method, params, **how):
        result = await self.inner.request(method, params, **how)
        if result.get("isError"):
            raise ServerError("the tool failed")
        return result


class AnswersErrors(Wrapped):
    async def request(self, method, params, **how):
        try:
            return await self.inner.request(method, params, **how)
        except ServerError:
            return {}


class KnowsNothingOfErrors(Wrapped):
    async def request(self, method, params, **how):
        try:
            return await self.inner.request(method, params, **how)
        except ServerError as problem:
            raise OutcomeUnknown(problem.message) from problem


class AnswersUnknownTools(Wrapped):
    async def request(self, method, params, **how):
        try:
            return await self.inner.request(method, params, **how)
        except ServerError:
            return {"content": [], "isError": False}


class DropsProgress(Wrapped):
    async def request(self, method, params, **how):
        return await self.inner.request(method, params, **{**how, "on_progress": None})


class MixesProgress(Wrapped):
    def __init__(self, *made):
        super().__init__(*made)
        self.told = []

    async def request(self, method, params, **how):
        if on_progress := how.get("on_progress"):
            self.told.append(on_progress)
        return await self.inner.request(method, params, **{**how, "on_progress": self.tell})

    def tell(self, progress):
        for each in self.told:
            each(progress)


class CountsTimeFromTheBeginning(Wrapped):
    async def request(self, method, params, **how):
        try:
            async with asyncio.timeout(how["timeout"]):
                return await self.inner.request(method, params, **how)
        except TimeoutError:
            raise OutcomeUnknown("too late") from None


class KnowsNoTime(Wrapped):
    async def request(self, method, params, **how):
        return await self.inner.request(method, params, **{**how, "timeout": 1000})


# The ends


class KeepsCancellingToItself(Wrapped):
    async def request(self, method, params, **how):
        return await asyncio.shield(self.inner.request(method, params, **how))


class EndsWithACancelledCall(Wrapped):
    async def request(self, method, params, **how):
        try:
            return await self.inner.request(method, params, **how)
        except asyncio.CancelledError:
            self.ended.set()
            raise


class PingsNobody(Sound):
    @hookimpl
    async def ping(self, session):
        pass


class PingsFromMemory(Sound):
    @hookimpl
    async def ping(self, session):
        if session.ended.is_set():
            raise SessionLost("it has ended")


class NoticesNoDeath(Wrapped):
    def __init__(self, *made):
        super().__init__(*made)
        self.ended = asyncio.Event()


class Lies(Wrapped):
    """Says that nothing was executed, of what was."""

    async def request(self, method, params, **how):
        try:
            return await self.inner.request(method, params, **how)
        except SessionLost as problem:
            raise NotExecuted(problem.message) from problem


class SendsAgain(Wrapped):
    """What was lost is sent again, to a new process."""

    async def request(self, method, params, **how):
        try:
            return await self.inner.request(method, params, **how)
        except (SessionLost, NotExecuted):
            session = await stdio.connect(self.app, self.host)
            try:
                return await session.request(method, params, **how)
            finally:
                await stdio.close(session)


class WaitsForTheDead(Wrapped):
    async def request(self, method, params, **how):
        try:
            return await self.inner.request(method, params, **how)
        except (SessionLost, NotExecuted):
            await asyncio.Event().wait()


class RaisesItsOwnError(Wrapped):
    async def request(self, method, params, **how):
        try:
            return await self.inner.request(method, params, **how)
        except (SessionLost, NotExecuted) as problem:
            raise ConnectionError("lost") from problem


class ClosesOnce(Sound):
    def __init__(self):
        self.closed = []

    @hookimpl
    async def close(self, session):
        if session in self.closed:
            raise RuntimeError("it is closed")
        self.closed.append(session)
        await super().close(session)


class ClosesOnlyTheLiving(Sound):
    @hookimpl
    async def close(self, session):
        is_dead = session.ended.is_set()
        await super().close(session)
        if is_dead:
            raise ConnectionError("it is dead")


class ClosesOnlyTheAnswering(Sound):
    @hookimpl
    async def close(self, session):
        try:
            await stdio.ping(session.inner)
        except TasakError as problem:
            raise OSError("it does not answer") from problem
        finally:
            await super().close(session)


class ClosesNothing(Sound):
    def __init__(self):
        self.open = []

    @hookimpl
    async def close(self, session):
        self.open.append(session)

    async def clear_up(self):
        for session in self.open:
            await super().close(session)
