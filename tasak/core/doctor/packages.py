"""Programs that fetch the package that they run: whether the command says which version of it."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tasak.core.doctor.finding import Finding

MCP_REMOTE = "mcp-remote"

# Before it, what a server said could run commands (CVE-2025-6514).
SAFE_MCP_REMOTE = (0, 1, 16)

NPM_VERSION = re.compile(r"[=v]?([0-9]+)\.([0-9]+)\.([0-9]+)(?:[-+][0-9A-Za-z.+-]+)?")
NPM_PACKAGE = re.compile(r"(@[\w.-]+/[\w.-]+|[\w.-]+)(?:@(.*))?")
PYTHON_PACKAGE = re.compile(r"([\w.-]+)(?:\[[^]]*\])?\s*(?:(?:===?|@)\s*([^*,;\s]+))?(.*)", re.DOTALL)
REPOSITORY = re.compile(r".*://|(git|github|gitlab|bitbucket)[:+@]")
ARCHIVES = (".whl", ".tgz", ".tar.gz", ".zip")
COMMIT = re.compile(r"[#@][0-9a-f]{7,40}(?=[#&]|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """One of these programs. `naming` are the options that name the package, `valued` the others with a value."""

    words: tuple[str, ...]
    kind: Literal["npm", "python"]
    naming: frozenset[str] = frozenset()
    valued: frozenset[str] = frozenset()


OF_NPX = {
    "naming": frozenset({"-p", "--package"}),
    "valued": frozenset({"-c", "--call", "-w", "--workspace", "--prefix", "--registry", "--cache"}),
}
OF_UVX = {
    "naming": frozenset({"--from"}),
    "valued": frozenset(
        {"-p", "--python", "-w", "--with", "--with-editable", "--with-requirements", "-i", "--index-url", "--index"}
        | {"--default-index", "--extra-index-url", "-f", "--find-links", "-c", "--constraints", "--overrides"}
        | {"--directory", "--project", "--config-file", "--env-file", "--cache-dir", "--exclude-newer", "--prerelease"}
    ),
}
RUNNERS = (
    Runner(words=("npx",), kind="npm", **OF_NPX),
    Runner(words=("npm", "exec"), kind="npm", **OF_NPX),
    Runner(words=("bunx",), kind="npm", **OF_NPX),
    Runner(words=("pnpm", "dlx"), kind="npm", naming=frozenset({"--package"})),
    Runner(words=("uvx",), kind="python", **OF_UVX),
    Runner(words=("uv", "tool", "run"), kind="python", **OF_UVX),
    Runner(
        words=("pipx", "run"),
        kind="python",
        naming=frozenset({"--spec"}),
        valued=frozenset({"--python", "--index-url", "-i", "--pip-args"}),
    ),
)


@dataclass(frozen=True, slots=True)
class Package:
    """What a command has its runner fetch, as it is written there."""

    runner: Runner
    spec: str


def needs_node(command: Sequence[str]) -> bool:
    return any(package.runner.words[0] in ("npx", "npm") for package in packages_in(command))


def findings(command: Sequence[str], where: str) -> Iterator[Finding]:
    """What is wrong with the packages that the command runs; `where` names the app."""
    for package in packages_in(command):
        # Which version a variable names is its own.
        if "${" not in package.spec:
            found = of_npm(package) if package.runner.kind == "npm" else of_python(package)
            yield from (Finding("package", f"{where}: {what}", fix) for what, fix in found)


def packages_in(command: Sequence[str]) -> Iterator[Package]:
    words = [os.path.basename(command[0]), *command[1:]]
    for runner in RUNNERS:
        if tuple(words[: len(runner.words)]) == runner.words:
            yield from (Package(runner, spec) for spec in specs(words[len(runner.words) :], runner))


def specs(words: Sequence[str], runner: Runner) -> list[str]:
    """The packages that options name; where none does, the first word that is no option names one."""
    named: list[str] = []
    rest = iter(words)
    for word in rest:
        option, has_value, value = word.partition("=")
        if option in runner.naming:
            named.append(value if has_value else next(rest, ""))
        elif word in runner.valued:
            next(rest, None)
        elif word == "--" or not word.startswith("-"):
            return named or [next(rest, "") if word == "--" else word]
    return named


def of_npm(package: Package) -> Iterator[tuple[str, str]]:
    found = NPM_PACKAGE.fullmatch(package.spec)
    if found is None:
        yield from of_place(package)
        return
    name, version = found[1], NPM_VERSION.fullmatch(found[2] or "")
    if name == MCP_REMOTE:
        if version and tuple(map(int, version.groups())) < SAFE_MCP_REMOTE:
            yield f"{package.spec} lets a server run commands here (CVE-2025-6514)", f"write {pinned_mcp_remote()}"
        elif not version:
            yield newest(package, name), f"write {pinned_mcp_remote()}"
    elif not version:
        yield newest(package, name), f"write {name}@VERSION; `npm view {name} version` says the newest"


def of_python(package: Package) -> Iterator[tuple[str, str]]:
    found = PYTHON_PACKAGE.fullmatch(package.spec)
    if found is None or "/" in package.spec:
        yield from of_place(package)
    elif found[3] or not found[2] or found[2] == "latest":
        fix = f"write {found[1]}==VERSION; `pip index versions {found[1]}` lists them"
        yield newest(package, found[1]), fix


def of_place(package: Package) -> Iterator[tuple[str, str]]:
    """A folder of this machine is what it is; of a repository, the newest commit is what somebody makes it."""
    is_repository = REPOSITORY.match(package.spec) and not package.spec.endswith(ARCHIVES)
    if is_repository and not COMMIT.search(package.spec):
        mark = "#" if package.runner.kind == "npm" else "@"
        what = f"{named(package.runner)} runs whatever is newest in {shown(package.spec)}"
        yield what, f"write {mark}COMMIT behind it"


def shown(spec: str) -> str:
    """The place without the name, password or query that a URL may have in it."""
    scheme, separator, rest = spec.partition("://")
    if not separator:
        return spec
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2].partition('?')[0]}{slash}{path.partition('?')[0]}"


def newest(package: Package, name: str) -> str:
    return f"{named(package.runner)} runs whatever version of {name} is the newest"


def named(runner: Runner) -> str:
    return " ".join(runner.words)


def pinned_mcp_remote() -> str:
    # Lazy: few configs need it, and it is a plugin.
    from tasak.transports.mcp_remote import PACKAGE

    return f"npx -y {PACKAGE}"
