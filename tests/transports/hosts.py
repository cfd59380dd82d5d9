"""The host of one plugin that has no pool around it."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from tasak.core.host import AppHost


def lone_host(instance: str, *, app_log: Path | None, init_timeout: float) -> AppHost:
    return AppHost(
        instance=instance,
        app_log=app_log,
        init_timeout=init_timeout,
        log=logging.getLogger(),
        protocol="handshake",
        open_sign_in=no_sign_in,
        on_tools_changed=lambda: None,
        call_part=no_parts,
    )


def no_sign_in() -> NoReturn:
    raise AssertionError("it has no sign-in")


async def no_parts(app: str, *_: Any) -> Mapping[str, Any]:
    raise AssertionError(f"there is no app {app}")
