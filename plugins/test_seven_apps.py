"""One config with seven apps, one for each transport, all of them real: the whole road, from the command to the server.

Needs Node.js and both packages beside this file. A plugin that does not load is installed beside them all the time.
"""

# ruff: noqa: SIM300 - asserts read `expected == actual`

import shutil
from collections.abc import Callable, Iterator

import pytest

from plugins.seven_apps.world import World, end, inhabited, until
from tests.shell import PATIENCE

TASAK_YAML = """
apps:
  local:                                              # a program on this machine
    command: ["${PYTHON}", "${SERVER}"]
    env: {WITNESS: "${WITNESS}"}

  events:                                             # a server of 2024
    transport: sse
    url: http://127.0.0.1:${EVENTS_PORT}/sse

  web:
    url: http://127.0.0.1:${WEB_PORT}/mcp
    protocol: handshake                               # a session, so that its loss is noticed, and said

  bridged:                                            # the same server, by way of the npm package
    transport: mcp-remote
    url: http://127.0.0.1:${WEB_PORT}/mcp
    init_timeout: 120                                 # npx fetches it first

  lab:                                                # a program on another machine
    transport: ssh
    host: lab
    identity_file: ~/.ssh/id_lab
    command: ["${PYTHON}", "${SERVER}"]
    env: {WITNESS: "${WITNESS}"}

  shop:                                               # a service that knows nothing of MCP
    transport: rest
    openapi: http://127.0.0.1:${SHOP_PORT}/openapi.json

  report:                                             # made of others, and of a command
    transport: curated
    tools:
      counter:
        description: Count at home, and have that said by the web and by a command.
        steps:
          - {app: local, tool: counter}
          - {app: web, tool: echo, arguments: {text: "${steps.0.text}"}}
          - {command: [printf, "%s", "${steps.1.text}"]}
      slow:
        parameters: {type: object, properties: {note: {type: string}}, required: [note]}
        steps:
          - {app: local, tool: slow, arguments: {note: "${args.note}"}}
"""

TRANSPORTS = {
    "local": "stdio",
    "events": "sse",
    "web": "http",
    "bridged": "mcp-remote",
    "lab": "ssh",
    "shop": "rest",
    "report": "curated",
}

# How that which answers for an app ends: a program that TASAK runs for it, or a server that others run.
CRASHES: dict[str, Callable[[World], None]] = {
    "local": lambda world: end(world.processes("local")),
    "events": lambda world: world.servers.events.kill(),
    "web": lambda world: world.servers.web.kill(),
    "bridged": lambda world: end(world.processes("bridged")),
    "lab": lambda world: end(world.processes("lab")),
    "shop": lambda world: world.servers.shop.kill(),
    "report": lambda world: end(world.processes("local")),
}

# What `pip install` leaves of a package, less its module.
BROKEN_PLUGIN = {
    "METADATA": "Metadata-Version: 2.1\nName: tasak-torn\nVersion: 1.0\n",
    "entry_points.txt": "[tasak.transports]\ntorn = nothing_of_that_name\n",
}

every_app = pytest.mark.parametrize("app", TRANSPORTS)

# The first download from npm may take minutes.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    assert shutil.which("npx"), "Node.js is missing: one of the seven apps is reached by way of an npm package"
    with inhabited(tmp_path_factory.mktemp("servers"), TASAK_YAML) as world:
        world.shell.env["npm_config_cache"] = str(tmp_path_factory.mktemp("npm"))
        install_a_broken_plugin(world)
        yield world


@pytest.fixture
def world(seven: World) -> World:
    """All servers run, whatever an earlier test did to them."""
    seven.servers.bring_back()
    return seven


def install_a_broken_plugin(world: World) -> None:
    package = world.shell.home / "site" / "tasak_torn-1.0.dist-info"
    package.mkdir(parents=True)
    for name, text in BROKEN_PLUGIN.items():
        (package / name).write_text(text)
    world.shell.env["PYTHONPATH"] = str(package.parent)


def rows(printed: str) -> list[list[str]]:
    return [line.split("\t") for line in printed.splitlines()]


def lost(app: str) -> str:
    """The notice that its state is."""
    return f"tasak: {app}: this is a fresh session; the state of the earlier one is gone\n"


def test_all_seven_transports_are_installed_beside_a_plugin_that_is_broken(world: World) -> None:
    listed = world("plugins")

    states = {name: state for name, _, _, state, _ in rows(listed.stdout)}
    assert {**dict.fromkeys(TRANSPORTS.values(), "ok"), "torn": "broken"} == states
    assert "No module named 'nothing_of_that_name'" in listed.stdout


def test_all_seven_apps_are_configured(world: World) -> None:
    listed = world()

    assert {**TRANSPORTS, "demo": "stdio"} == {app: transport for app, transport, *_ in rows(listed.stdout)}


@every_app
def test_an_app_lists_its_tools(world: World, app: str) -> None:
    listed = world(app)

    assert (0, "") == (listed.returncode, listed.stderr)
    assert "counter() - Count" in listed.stdout
    assert "slow(note: string)" in listed.stdout


@every_app
def test_the_first_call_is_cold_and_the_second_warm(world: World, app: str) -> None:
    world("daemon", "restart")

    first = world(app, "counter")
    [opened] = world.connections(app)
    second = world(app, "counter")
    [found] = world.connections(app)

    assert (0, "", 0, "") == (first.returncode, first.stderr, second.returncode, second.stderr)
    assert (opened["id"], 1, 2) == (found["id"], opened["calls"], found["calls"])
    assert int(first.stdout) + 1 == int(second.stdout)


@every_app
def test_a_ping_looks_and_a_deep_one_asks(world: World, app: str) -> None:
    world(app, "counter")

    shallow = world("ping", app)
    deep = world("ping", app, "--deep")

    assert (0, 0) == (shallow.returncode, deep.returncode)
    assert f"{app}: ok" in shallow.stdout
    assert "answered in" not in shallow.stdout
    assert "answered in" in deep.stdout


@pytest.mark.parametrize("app", ["local", "bridged", "lab"])
def test_a_killed_program_is_replaced_by_the_next_call_which_says_so(world: World, app: str) -> None:
    world(app, "counter")
    CRASHES[app](world)

    pinged = world("ping", app, "--deep")
    done = world(app, "counter")

    assert 4 == pinged.returncode
    assert (0, lost(app)) == (done.returncode, done.stderr)


@pytest.mark.parametrize("app", ["events", "web", "lab"])
def test_a_killed_server_is_missed_until_it_is_back_and_what_it_knew_is_gone(world: World, app: str) -> None:
    world(app, "counter")
    world.servers.by_app[app].kill()

    pinged = world("ping", app, "--deep")
    missed = world(app, "counter")
    world.servers.bring_back()
    done = world(app, "counter")

    assert (4, 4) == (pinged.returncode, missed.returncode)
    assert (0, "1\n", lost(app)) == (done.returncode, done.stdout, done.stderr)


def test_a_killed_service_is_missed_until_it_is_back_and_had_no_session_to_lose(world: World) -> None:
    world("shop", "counter")
    world.servers.shop.kill()

    pinged = world("ping", "shop", "--deep")
    missed = world("shop", "counter")
    world.servers.bring_back()
    done = world("shop", "counter")

    assert (4, 4) == (pinged.returncode, missed.returncode)
    assert (0, "1\n", "") == (done.returncode, done.stdout, done.stderr)


def test_a_killed_server_behind_a_bridge_is_missed_and_comes_back_in_silence(world: World) -> None:
    world("bridged", "counter")
    world.servers.web.kill()

    pinged = world("ping", "bridged", "--deep")
    missed = world("bridged", "counter")
    world.servers.bring_back()
    done = world("bridged", "counter")

    # mcp-remote does not say how far it came with a call, nor that it shook hands anew.
    assert (4, 6) == (pinged.returncode, missed.returncode)
    assert (0, "1\n", "") == (done.returncode, done.stdout, done.stderr)


def test_steps_go_on_after_their_server_was_killed(world: World) -> None:
    world("report", "counter")
    end(world.processes("local"))

    pinged = world("ping", "local", "--deep")
    done = world("report", "counter")

    assert 4 == pinged.returncode
    assert (0, "1\n") == (done.returncode, done.stdout)


def test_what_a_step_finds_lost_is_said(world: World) -> None:
    world("report", "counter")
    end(world.processes("local"))
    world("ping", "local", "--deep")

    done = world("report", "counter")

    assert lost("local") == done.stderr


@every_app
def test_a_call_whose_server_is_killed_may_have_run_and_is_not_made_twice(world: World, app: str) -> None:
    note = f"called {app}"
    call = world.shell.start(app, "slow", "--note", note)
    until(lambda: note in world.notes())

    CRASHES[app](world)
    _, said = call.communicate(timeout=PATIENCE)
    world.servers.bring_back()
    after = world(app, "counter")

    assert 6 == call.returncode
    assert b"may have run" in said
    assert 0 == after.returncode
    assert 1 == world.notes().count(note)


# The last one: nothing starts the daemon again.
def test_a_stopped_daemon_leaves_no_process_here_or_in_the_lab(world: World) -> None:
    for app in TRANSPORTS:
        world(app, "counter")

    stopped = world("daemon", "stop")

    assert 0 == stopped.returncode
    assert [] == world.shell.processes()
    assert [] == world.servers.lab.programs()
