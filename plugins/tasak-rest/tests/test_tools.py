"""Which tools there are, what they are called, and what they take."""

import copy
import logging
from typing import Any

import pytest
from conftest import PATIENCE
from petshop import DESCRIPTION, TOKEN
from tasak.plugin import ConnectFailed


async def tools(session: Any) -> dict[str, dict[str, Any]]:
    listed = await session.request("tools/list", None, timeout=1)
    return {tool["name"]: tool for tool in listed["tools"]}


def described(paths: dict[str, Any], **components: Any) -> dict[str, Any]:
    return {
        "openapi": "3.0.1",
        "info": {"title": "t", "version": "1"},
        "servers": [{"url": "/v1"}],
        "paths": paths,
        "components": components,
    }


def operation(**said: Any) -> dict[str, Any]:
    return {"responses": {"200": {"description": "fine"}}, **said}


async def test_operations_are_tools_in_the_order_of_the_document(rest):
    async with rest() as session:
        names = list(await tools(session))

    assert [
        "listPets", "createPet", "getPet", "deletePet", "getPhoto", "pay", "search",
        "get_stats", "post_stats_year_reset", "slow", "answer",
    ] == names  # fmt: skip


async def test_the_service_says_who_it_is(rest):
    async with rest() as session:
        assert {"name": "Pet shop", "version": "2.5"} == session.server_info


async def test_a_tool_tells_what_it_does_and_where(rest):
    async with rest() as session:
        listed = await tools(session)

    assert "List pets" == listed["listPets"]["title"]
    assert "Lists the pets of the shop. A page at a time.\n\nGET /pets" == listed["listPets"]["description"]
    assert "(deprecated) Search the old way\n\nGET /search" == listed["search"]["description"]
    assert "GET /stats" == listed["get_stats"]["description"]


async def test_methods_promise_what_http_promises(rest):
    async with rest() as session:
        listed = await tools(session)

    assert listed["getPet"]["annotations"]["readOnlyHint"] is True
    assert listed["createPet"]["annotations"]["readOnlyHint"] is False
    assert listed["deletePet"]["annotations"]["destructiveHint"] is True


async def test_parameters_keep_their_types_defaults_choices_and_words(rest):
    async with rest() as session:
        taken = (await tools(session))["listPets"]["inputSchema"]

    properties = taken["properties"]
    assert {"type": "integer", "minimum": 1, "maximum": 100, "default": 20} == properties["limit"]
    assert {"enum": ["name", "age"], "default": "name"} == properties["sort"]
    assert ("array", "Only those") == (properties["status"]["type"], properties["status"]["description"])
    assert {"type": "string", "enum": ["free", "sold"]} == taken["$defs"]["Status"]
    assert "X-Request-ID" in properties


async def test_a_body_is_taken_apart_into_arguments(rest):
    async with rest() as session:
        taken = (await tools(session))["createPet"]["inputSchema"]

    assert {"X-Request-ID", "name", "status", "tag", "owner", "friends"} == set(taken["properties"])
    assert ["name", "owner"] == taken["required"]
    assert "What it listens to" == taken["properties"]["name"]["description"]
    assert ["string", "null"] == taken["properties"]["tag"]["type"]
    assert {"$ref": "#/$defs/Owner"} == taken["$defs"]["Owner"]["properties"]["boss"]


async def test_nullable_of_openapi_3_0_is_null(rest, shop):
    parameter = {"name": "tag", "in": "query", "schema": {"type": "string", "nullable": True}}
    shop.description = described({"/a": {"get": operation(parameters=[parameter])}})

    async with rest() as session:
        taken = (await tools(session))["get_a"]["inputSchema"]

    assert {"type": ["string", "null"]} == taken["properties"]["tag"]


async def test_a_header_that_the_config_gives_is_no_parameter(rest):
    async with rest(headers={"x-request-id": "mine"}) as session:
        taken = (await tools(session))["createPet"]["inputSchema"]

    assert "X-Request-ID" not in taken["properties"]


async def test_authorization_is_never_a_parameter(rest):
    async with rest() as session:
        taken = (await tools(session))["listPets"]["inputSchema"]

    assert "Authorization" not in taken["properties"]
    assert [] == taken["required"]


async def test_a_parameter_that_is_text_of_a_media_type_is_a_string(rest):
    async with rest() as session:
        taken = (await tools(session))["search"]["inputSchema"]

    assert {"type": "string", "contentMediaType": "application/json"} == taken["properties"]["filter"]


# Names


async def test_a_name_is_made_of_what_command_lines_and_mcp_take(rest, shop):
    shop.description = described(
        {
            "/a": {"get": operation(operationId="pets/list all"), "put": operation(operationId="--größe")},
            "/b/{id}.json": {"get": operation()},
            "/": {"get": operation()},
        }
    )

    async with rest() as session:
        names = list(await tools(session))

    assert ["pets_list_all", "gr_e", "get_b_id_.json", "get"] == names


async def test_names_that_would_be_the_same_are_told_apart_whatever_the_order(rest, shop):
    paths = {
        "/a": {"get": operation(operationId="get_b")},
        "/b": {"get": operation()},
        "/c": {"get": operation(operationId="x y")},
        "/d": {"get": operation(operationId="x/y")},
    }

    shop.description = described(paths)
    async with rest() as session:
        names = {tool["description"]: name for name, tool in (await tools(session)).items()}
    shop.description = described(dict(reversed(paths.items())))
    async with rest() as session:
        reversed_names = {tool["description"]: name for name, tool in (await tools(session)).items()}

    assert names == reversed_names
    assert "get_b" == names["GET /a"]
    assert ["get_b_", "x_y_", "x_y_"] == [names[place][:-6] for place in ("GET /b", "GET /c", "GET /d")]
    assert 4 == len(set(names.values()))


async def test_an_operation_id_that_is_there_twice_names_neither(rest, shop):
    shop.description = described(
        {"/a": {"get": operation(operationId="same")}, "/b": {"get": operation(operationId="same")}}
    )

    async with rest() as session:
        names = list(await tools(session))

    assert 2 == len(set(names))
    assert "same" not in names


async def test_a_long_name_is_cut_and_stays_distinct(rest, shop):
    shop.description = described(
        {f"/{end}": {"get": operation(operationId="very" * 30 + end)} for end in ("one", "two")}
    )

    async with rest() as session:
        names = set(await tools(session))

    assert 2 == len(names)
    assert {64} == {len(name) for name in names}


# Which operations


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"include": ["listPets"]}, {"listPets"}),
        ({"include": ["get_*", "GET /pets/*"]}, {"get_stats", "getPet", "getPhoto"}),
        ({"include": ["*Pet*"], "exclude": ["DELETE *", "POST *"]}, {"listPets", "getPet"}),
    ],
)
async def test_include_and_exclude_name_operations_and_places(rest, options, names):
    async with rest(**options) as session:
        assert names == set(await tools(session))


async def test_when_nothing_is_left_the_reader_learns_how_operations_are_called(rest):
    with pytest.raises(ConnectFailed, match="leave none of the 11 operations") as caught:
        async with rest(include=["pets"]):
            pass

    assert "'listPets' or 'GET /pets'" in caught.value.fix


async def test_what_is_excluded_may_be_wrong(rest, shop):
    shop.description = copy.deepcopy(DESCRIPTION)
    shop.description["paths"]["/payments"]["post"]["parameters"] = [{"in": "body", "name": "x"}]

    async with rest(exclude=["pay"]) as session:
        assert "pay" not in await tools(session)


async def test_paths_that_are_references_are_followed(rest, shop):
    shop.description = described(
        {"/a": {"$ref": "#/components/pathItems/A"}}, pathItems={"A": {"get": operation(operationId="a")}}
    )

    async with rest() as session:
        assert {"a"} == set(await tools(session))


async def test_an_operation_that_cannot_be_converted_is_left_out_and_logged(rest, shop, caplog):
    chain = {
        f"S{n}": {"type": "object", "properties": {"next": {"$ref": f"#/components/schemas/S{n + 1}"}}}
        for n in range(500)
    }
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/S0"}}}}
    shop.description = described(
        {"/a": {"get": operation()}, "/b": {"post": operation(requestBody=body)}},
        schemas={**chain, "S500": {"type": "object"}},
    )

    with caplog.at_level(logging.WARNING, "tasak"):
        async with rest() as session:
            listed = set(await tools(session))

    assert {"get_a"} == listed
    assert "POST /b is left out: FastMCP cannot convert it" in caplog.text


async def test_the_converter_says_nothing_on_stderr(rest, shop, capfd):
    shop.description = described(
        {"/a": {"get": operation(parameters=[{"$ref": "#/components/schemas/A"}])}}, schemas={"A": {}}
    )

    with pytest.raises(ConnectFailed):
        async with rest():
            pass

    assert "" == capfd.readouterr().err


async def test_no_argument_gets_into_the_log(rest, shop, caplog):
    with caplog.at_level(logging.INFO):
        async with rest() as session:
            await session.request("tools/call", {"name": "search", "arguments": {"filter": "secret"}}, timeout=PATIENCE)

    assert "secret" in shop.requests[-1].query_string
    assert "secret" not in caplog.text


async def test_unknown_headers_of_the_config_reach_every_request(rest, shop):
    async with rest(base_url=f"{shop.url}/v1", headers={"Authorization": TOKEN, "X-Number": 5}):
        pass

    assert TOKEN == shop.requests[0].headers["Authorization"]
    assert "5" == shop.pings[0].headers["X-Number"]
