"""What a call sends, and what becomes of the answer."""

import asyncio
import base64
import json
import re
from typing import Any

import pytest
from conftest import call, text
from petshop import PDF, PNG, Petshop
from tasak.plugin import BadArguments, ServerError


def described(**said: Any) -> dict[str, Any]:
    """A service with one operation."""
    paths = {"/a": {"post": {"operationId": "a", **said}}}
    return {"openapi": "3.1.0", "info": {}, "servers": [{"url": "/v1"}], "paths": paths}


# Requests


async def test_a_call_is_a_request_with_path_query_and_header(rest, shop):
    async with rest() as session:
        await call(session, "listPets", limit=2, status=["free", "sold"], **{"X-Request-ID": "r 1"})

    request = shop.requests[-1]
    assert ("GET", "/v1/pets") == (request.method, request.path)
    assert [("limit", "2"), ("status", "free"), ("status", "sold")] == list(request.query.items())
    assert "r 1" == request.headers["X-Request-ID"]


async def test_what_is_not_given_is_not_sent(rest, shop):
    async with rest() as session:
        await call(session, "listPets")

    assert "/v1/pets" == shop.requests[-1].raw_path


async def test_a_body_is_put_together_again(rest, shop):
    owner = {"email": "a@b", "boss": {"email": "c@d"}}

    async with rest() as session:
        await call(session, "createPet", name="Rex", tag=None, owner=owner, friends=[])

    assert {"name": "Rex", "tag": None, "owner": owner, "friends": []} == json.loads(shop.bodies[-1])
    assert "application/json" == shop.requests[-1].headers["Content-Type"]


async def test_the_service_keeps_its_state_between_calls(rest, shop):
    async with rest() as session:
        await call(session, "createPet", name="Rex", owner={"email": "a@b"})
        found = await call(session, "getPet", petId=1)
        await call(session, "deletePet", petId=1)
        gone = await call(session, "getPet", petId=1)

    assert "Rex" == found["structuredContent"]["name"]
    assert "HTTP 404 Not Found\nno such pet" == text(gone)


async def test_one_of_several_bodies_is_sent_as_it_is(rest, shop):
    async with rest() as session:
        await call(session, "pay", amount=1.5, **{"with": {"iban": "DE1"}})

    assert {"amount": 1.5, "with": {"iban": "DE1"}} == json.loads(shop.bodies[-1])


async def test_text_in_a_path_stays_one_part_of_it(rest, shop):
    async with rest() as session:
        await call(session, "post_stats_year_reset", year="a/b?c d")

    assert "/v1/stats/a%2Fb%3Fc%20d/reset" == shop.requests[-1].raw_path


@pytest.mark.parametrize(
    ("tool", "arguments", "reason"),
    [
        ("getPet", {"petId": "1"}, "petId: '1' is not of type 'integer'"),
        ("getPet", {"petId": 0}, "petId: 0 is less than the minimum of 1"),
        ("getPet", {}, "'petId' is a required property"),
        ("listPets", {"sort": "size"}, "sort: 'size' is not one of ['name', 'age']"),
        ("listPets", {"status": ["free", "lost"]}, "status.1: 'lost' is not one of ['free', 'sold']"),
        ("listPets", {"limits": 5}, "'limits' was unexpected"),
        ("createPet", {"name": "Rex", "owner": {"boss": {}}}, "owner: 'email' is a required property"),
        ("createPet", {"name": "Rex", "owner": None}, "owner: None is not of type 'object'"),
        ("pay", {"amount": 1, "with": {"iban": 5}}, "with.iban: 5 is not of type 'string'"),
        ("post_stats_year_reset", {"year": ".."}, "cannot contain dot segments"),
        ("listPets", {"X-Request-ID": "größer"}, "cannot be asked so"),
    ],
)
async def test_what_does_not_fit_is_refused_before_anything_is_sent(rest, shop, tool, arguments, reason):
    async with rest() as session:
        before = len(shop.requests)
        with pytest.raises(BadArguments, match=re.escape(reason)):
            await call(session, tool, **arguments)

    assert before == len(shop.requests)


async def test_a_refusal_does_not_repeat_a_whole_document(rest):
    async with rest() as session:
        with pytest.raises(BadArguments) as caught:
            await call(session, "getPet", petId="x" * 100_000)

    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("content_type", "schema", "arguments", "sent"),
    [
        ("application/x-www-form-urlencoded", {"type": "object", "properties": {"a": {}}}, {"a": "b c"}, b"a=b+c"),
        ("application/merge-patch+json", {"type": "object", "properties": {"a": {}}}, {"a": [1]}, b'{"a": [1]}'),
        ("application/json", {"type": "array", "items": {"type": "integer"}}, {"body": [1, 2]}, b"[1,2]"),
        ("application/json", {"type": "object", "additionalProperties": True}, {"body": {"a": 1}}, b'{"a":1}'),
        ("text/plain", {"type": "string", "title": "Note"}, {"note": "größer"}, "größer".encode()),
    ],
)
async def test_bodies_of_other_kinds(rest, shop, content_type, schema, arguments, sent):
    body = {"required": True, "content": {content_type: {"schema": schema}}}
    shop.description = described(requestBody=body)

    async with rest() as session:
        await call(session, "a", **arguments)

    assert sent == shop.bodies[-1]
    assert content_type == shop.requests[-1].headers["Content-Type"]


async def test_a_parameter_may_be_a_cookie(rest, shop):
    shop.description = described(parameters=[{"name": "flavour", "in": "cookie", "schema": {"type": "string"}}])

    async with rest() as session:
        await call(session, "a", flavour="mint")

    assert {"flavour": "mint"} == dict(shop.requests[-1].cookies)


async def test_parameters_of_one_name_in_two_places_are_told_apart(rest, shop):
    body = {"content": {"application/json": {"schema": {"type": "object", "properties": {"a": {"type": "string"}}}}}}
    parameter = {"name": "a", "in": "query", "schema": {"type": "integer"}}
    shop.description = described(requestBody=body, parameters=[parameter])

    async with rest() as session:
        await call(session, "a", a__query=1, a="two")

    assert ({"a": "1"}, b'{"a":"two"}') == (dict(shop.requests[-1].query), shop.bodies[-1])


async def test_where_a_schema_is_wrong_the_service_has_the_last_word(rest, shop):
    parameter = {"name": "a", "in": "query", "schema": {"type": "string", "pattern": r"^\p{L}+$"}}
    shop.description = described(parameters=[parameter])

    async with rest() as session:
        result = await call(session, "a", a="b")

    assert "/v1/a?a=b" == result["structuredContent"]["path"]


async def test_fifty_calls_go_side_by_side(rest, shop):
    shop.gathering = asyncio.Barrier(50)

    async with rest() as session:
        results = await asyncio.gather(*(call(session, "answer", kind="gathering") for _ in range(50)))

    assert {"together"} == {text(result) for result in results}


# Answers


async def test_json_comes_as_it_was_sent_and_as_a_value(rest):
    async with rest() as session:
        result = await call(session, "createPet", name="Rex", owner={"email": "a@b"})

    assert {"name": "Rex", "owner": {"email": "a@b"}, "id": 1} == result["structuredContent"]
    assert result["structuredContent"] == json.loads(text(result))
    assert result["isError"] is False


async def test_json_that_is_no_object_is_text(rest):
    async with rest() as session:
        result = await call(session, "answer", kind="array")

    assert "[1, 2]" == text(result)
    assert "structuredContent" not in result


async def test_status_and_headers_are_there_for_those_who_page(rest):
    async with rest() as session:
        result = await call(session, "listPets")

    http = result["_meta"]["http"]
    assert (200, '</v1/pets?page=2>; rel="next"') == (http["status"], http["headers"]["link"])
    assert "set-cookie" not in http["headers"]


async def test_no_content_is_no_content(rest, shop):
    shop.pets[1] = {}

    async with rest() as session:
        result = await call(session, "deletePet", petId=1)

    assert ([], False, 204) == (result["content"], result["isError"], result["_meta"]["http"]["status"])


async def test_a_picture_is_an_image(rest):
    async with rest() as session:
        result = await call(session, "getPhoto", petId=1)

    assert [{"type": "image", "mimeType": "image/png", "data": base64.b64encode(PNG).decode()}] == result["content"]


async def test_other_bytes_are_a_resource(rest, shop):
    async with rest() as session:
        (block,) = (await call(session, "answer", kind="pdf"))["content"]

    assert {
        "uri": f"{shop.url}/v1/answers/pdf", "mimeType": "application/pdf", "blob": base64.b64encode(PDF).decode(),
    } == block["resource"]  # fmt: skip


async def test_text_is_read_in_its_own_charset(rest):
    async with rest() as session:
        assert "größer" == text(await call(session, "answer", kind="latin"))


async def test_what_is_called_json_and_is_none_is_text(rest):
    async with rest() as session:
        result = await call(session, "answer", kind="broken-json")

    assert '{"a": NaN' == text(result)
    assert "structuredContent" not in result


async def test_an_error_of_the_service_is_the_tools_error_with_status_and_body(rest):
    async with rest() as session:
        result = await call(session, "createPet", name="Nobody", owner={"email": "a@b"})

    assert result["isError"] is True
    assert 'HTTP 422 Unprocessable Entity\n{"detail": "nobody is no name"}' == text(result)
    assert {"detail": "nobody is no name"} == result["structuredContent"]


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500, 503])
async def test_every_error_status_is_an_answer(rest, status):
    async with rest() as session:
        result = await call(session, "answer", kind=str(status))

    assert result["isError"] is True
    assert text(result).startswith(f"HTTP {status} ")


async def test_an_answer_that_is_too_large_is_given_up(rest):
    async with rest() as session:
        result = await call(session, "answer", kind="huge")
        after = await call(session, "answer", kind="array")

    assert result["isError"] is True
    assert "larger than 64 MiB" in text(result)
    assert "[1, 2]" == text(after)


# Redirects


async def test_a_redirect_that_keeps_the_request_is_followed_within_the_origin(rest, shop):
    async with rest(headers={"Authorization": "secret"}) as session:
        result = await call(session, "answer", kind="moved")

    arrived = result["structuredContent"]
    assert ("POST", "/v1/arrived?by=redirect") == (arrived["method"], arrived["path"])
    assert "secret" == arrived["headers"]["authorization"]


async def test_a_redirect_that_would_make_a_post_a_get_is_not_followed(rest, shop):
    async with rest() as session:
        result = await call(session, "answer", kind="found")

    assert result["isError"] is True
    assert "HTTP 302 Found: it points at /v1/arrived, which is not followed" == text(result)


async def test_no_request_leaves_the_origin(rest, shop):
    async with Petshop() as other, rest(headers={"Authorization": "secret"}) as session:
        shop.elsewhere = other.url
        result = await call(session, "answer", kind="away")

    assert result["isError"] is True
    assert [] == other.requests


async def test_redirects_in_a_circle_end(rest, shop):
    async with rest() as session:
        result = await call(session, "answer", kind="around")

    assert result["isError"] is True
    assert "HTTP 307" in text(result)


# What MCP asks beside tools


async def test_an_unknown_tool_is_an_error_of_the_server(rest):
    async with rest() as session:
        with pytest.raises(ServerError, match="there is no tool 'nothing'"):
            await call(session, "nothing")


async def test_an_unknown_method_is_an_error_of_the_server(rest):
    async with rest() as session:
        with pytest.raises(ServerError, match="resources/list"):
            await session.request("resources/list", None, timeout=1)
