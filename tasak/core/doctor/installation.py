"""What is installed: Python and the libraries within their bounds, and plugins that load."""

import re
import sys
from collections.abc import Iterator
from importlib import metadata

from tasak.core.app_options import options_of
from tasak.core.doctor.finding import Finding
from tasak.transports.registry import Registry

BOUND = re.compile(r"(>=|<)\s*([0-9]+(?:\.[0-9]+)*)")


def of_versions(distribution: str = "tasak") -> Iterator[Finding]:
    """Python and the libraries that the distribution needs, where theirs is a version that it was not made for."""
    python = metadata.metadata(distribution)["Requires-Python"] or ""
    ours = ".".join(map(str, sys.version_info[:3]))
    if not is_within(ours, python):
        yield Finding("version", f"this is Python {ours}, and {distribution} needs {python}", "install it with another")
    for requirement in metadata.requires(distribution) or ():
        name = re.match(r"[\w.-]+", requirement)
        if name is not None and "extra ==" not in requirement:
            yield from of_library(name[0], requirement, distribution)


def of_library(name: str, requirement: str, distribution: str) -> Iterator[Finding]:
    fix = f"{sys.executable} -m pip install '{requirement}'"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        yield Finding("version", f"{name} is not installed, and {distribution} needs it", fix)
        return
    if not is_within(version, requirement):
        yield Finding("version", f"{name} is {version}, and {distribution} needs {requirement}", fix)


def is_within(version: str, bounds: str) -> bool:
    """Whether the version is within bounds such as `>=2.3,<3`."""
    release = numbers(version)
    return all(
        release >= numbers(bound) if sign == ">=" else release < numbers(bound) for sign, bound in BOUND.findall(bounds)
    )


def numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def of_plugins(registry: Registry) -> Iterator[Finding]:
    """The transports that cannot be used. Loading them runs their code, as their first call would."""
    for each in registry.listing(options_of):
        if each.state == "broken":
            yield Finding("plugin", each.reason or f"the transport {each.name!r} does not load", mends(each.file))


def mends(file: str | None) -> str:
    return f"mend or uninstall the package that {file} is of" if file else "install or uninstall its package"
