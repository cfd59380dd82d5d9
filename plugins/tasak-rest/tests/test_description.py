"""Where the description comes from, and what it has to be."""

import copy
import json
from typing import Any

import pytest
import trustme
from conftest import call, connect, text
from petshop import DESCRIPTION, TOKEN, Petshop
from tasak.plugin import BadConfig, ConnectFailed

YAML = """
openapi: 3.1.0
info: {title: Dates, version: 1.0}
servers: &servers
  - url: URL
paths:
  /days/{day}:
    parameters:
      - {name: day, in: path, required: true, schema: {type: string, default: 2026-11-26}}
      - {name: country, in: query, schema: {enum: [no, se, on], default: no}}
      - {name: old, in: query, schema: {type: boolean, default: true}}
      - {name: size, in: query, schema: {type: number, default: 1e3}}
    get:
      operationId: day
      responses:
        200: {description: a day}
        default: {description: an error}
x-servers: *servers
"""

BOMB = "\n".join(
    ["openapi: 3.1.0", "a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    + [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
)


async def tool(session: Any, name: str) -> dict[str, Any]:
    listed = await session.request("tools/list", None, timeout=1)
    return next(tool for tool in listed["tools"] if tool["name"] == name)


async def refused(rest: Any, **options: Any) -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        async with rest(**options):
            pass
    return caught.value


def changed(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(DESCRIPTION), **changes}


# Files


async def test_a_file_is_found_from_the_apps_directory(rest, shop, tmp_path):
    (tmp_path / "shop.json").write_text(json.dumps(DESCRIPTION))

    async with rest(openapi="shop.json", base_url=f"{shop.url}/v1") as session:
        assert "[]" == text(await call(session, "listPets"))


async def test_a_file_may_name_the_server(rest, shop, tmp_path):
    (tmp_path / "shop.json").write_text(json.dumps(changed(servers=[{"url": f"{shop.url}/v1/"}])))

    async with rest(openapi=str(tmp_path / "shop.json")) as session:
        assert "[]" == text(await call(session, "listPets"))


async def test_a_file_that_names_no_server_needs_a_base_url(rest, tmp_path):
    (tmp_path / "shop.json").write_text(json.dumps(DESCRIPTION))

    problem = await refused(rest, openapi="shop.json")

    assert "'/v1' is no http:// or https:// URL" in problem.message
    assert "base_url" in problem.fix


async def test_yaml_is_read_as_openapi_reads_it(rest, shop, tmp_path):
    (tmp_path / "days.yaml").write_text(YAML.replace("URL", f"{shop.url}/v1"))

    async with rest(openapi="days.yaml") as session:
        properties = (await tool(session, "day"))["inputSchema"]["properties"]

        assert ["no", "se", "on"] == properties["country"]["enum"]
        assert ("2026-11-26", "no") == (properties["day"]["default"], properties["country"]["default"])
        assert (True, 1000) == (properties["old"]["default"], properties["size"]["default"])
        assert {"name": "Dates", "version": "1.0"} == session.server_info


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is no OpenAPI 3 document"),
        ("<!doctype html><html></html>", "is no OpenAPI 3 document"),
        ('{"openapi": "3.1.0",', "is neither JSON nor YAML"),
        ("a: [b", "is neither JSON nor YAML"),
        ("a: !!python/object/apply:os.getcwd []", "is neither JSON nor YAML"),
        ('{"swagger": "2.0"}', "is written in Swagger 2.0"),
        ('{"openapi": "4.0.0"}', "is written in OpenAPI 4.0.0"),
        ('{"openapi": "3.1.0"}', "the description has no operations"),
        ("a: &a [*a]\nopenapi: 3.1.0", "is neither JSON nor YAML"),
        (BOMB, "larger than 16 MiB"),
        ("[" * 100_000, "is neither JSON nor YAML"),
    ],
    ids=["empty", "html", "cut json", "cut yaml", "python", "swagger", "version", "no paths", "circle", "bomb", "deep"],
)
async def test_what_is_no_openapi_3_is_refused_with_the_reason(rest, tmp_path, content, reason):
    (tmp_path / "description").write_text(content)

    problem = await refused(rest, openapi="description", base_url="http://127.0.0.1:1")

    assert reason in problem.message


async def test_a_file_that_is_not_there_is_named(rest, tmp_path):
    problem = await refused(rest, openapi="nothing.json")

    assert f"{tmp_path}/nothing.json" in problem.message


async def test_a_file_that_is_too_large_is_refused(rest, tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate((16 << 20) + 1)

    assert "larger than 16 MiB" in (await refused(rest, openapi="large")).message


async def test_a_description_that_is_wrong_is_refused_with_its_place(rest, shop):
    shop.description = changed()
    shop.description["paths"]["/pets"]["get"]["parameters"] = [{"name": "x", "in": "somewhere"}]

    problem = await refused(rest)

    assert "paths./pets.get.parameters.0" in problem.message
    assert "exclude" in problem.fix


# References


@pytest.mark.parametrize("ref", ["http://127.0.0.1:1/other.json#/Pet", "other.json#/Pet", "file:///etc/passwd"])
async def test_nothing_outside_of_the_description_is_fetched(rest, shop, ref):
    shop.description = changed()
    shop.description["components"]["schemas"]["Owner"] = {"$ref": ref}

    problem = await refused(rest)

    assert f"{ref!r}, outside of it, which is not fetched" in problem.message
    assert "bundle" in problem.fix


async def test_a_reference_that_leads_nowhere_is_named(rest, shop):
    shop.description = changed()
    del shop.description["components"]["schemas"]["Owner"]

    assert "'#/components/schemas/Owner', which is not in it" in (await refused(rest)).message


async def test_what_no_operation_needs_may_refer_to_anywhere(rest, shop):
    shop.description = changed()
    shop.description["components"]["schemas"]["Unused"] = {"$ref": "other.json"}
    shop.description["components"]["schemas"]["Owner"]["example"] = {"$ref": "other.json"}

    async with rest() as session:
        assert "[]" == text(await call(session, "listPets"))


async def test_the_variants_of_a_discriminator_come_along(rest, shop):
    shop.description = changed()
    shop.description["components"]["schemas"] |= {
        "Pet": {
            "type": "object",
            "required": ["kind"],
            "properties": {"kind": {"type": "string"}},
            "discriminator": {"propertyName": "kind", "mapping": {"cat": "Cat", "dog": "#/components/schemas/Dog"}},
        },
        "Cat": {"type": "object", "properties": {"lives": {"type": "integer"}}},
        "Dog": {"type": "object", "properties": {"bark": {"type": "string"}}},
    }

    async with rest() as session:
        properties = (await tool(session, "createPet"))["inputSchema"]["properties"]

    assert {"kind", "lives", "bark"} <= set(properties)


# Over HTTP


async def test_a_description_that_is_not_there_is_refused_with_the_status(rest, shop):
    problem = await refused(rest, openapi=f"{shop.url}/nothing?token=secret", headers={"Authorization": TOKEN})

    assert f"GET {shop.url}/nothing answered 404 Not Found" in problem.message
    assert "headers are sent only to the host of base_url" in problem.message
    assert "secret" not in problem.message


async def test_a_description_that_is_too_large_is_refused(rest, shop):
    shop.description = "x" * (17 << 20)

    assert "larger than 16 MiB" in (await refused(rest)).message


async def test_a_host_that_is_not_there_is_named(rest):
    problem = await refused(rest, openapi="http://127.0.0.1:1/openapi.json")

    assert "GET http://127.0.0.1:1/openapi.json: it cannot be reached" in problem.message


async def test_the_configs_headers_go_only_to_the_host_that_the_config_names(rest, shop):
    async with Petshop() as other:
        async with rest(base_url=f"{other.url}/v1", headers={"Authorization": TOKEN}) as session:
            await call(session, "listPets")

        assert "Authorization" not in shop.requests[0].headers
        assert TOKEN == other.requests[-1].headers["Authorization"]


async def test_a_description_does_not_send_the_configs_headers_to_another_host(rest, shop):
    async with Petshop() as other:
        shop.description = changed(servers=[{"url": f"{other.url}/v1"}])

        problem = await refused(rest, headers={"Authorization": TOKEN})
        async with rest() as session:
            await call(session, "listPets")

    assert "names another host, 127.0.0.1, which would get the headers" in problem.message
    assert f"base_url: {other.url}/v1" in problem.fix
    assert 1 == len(other.requests)


async def test_the_description_is_fetched_once(rest, shop):
    async with rest() as session:
        await call(session, "listPets")
        await session.request("tools/list", None, timeout=1)

    assert ["/openapi.json", "/v1/pets"] == [request.path for request in shop.requests]


# Ways to get there


async def test_a_private_certificate_authority_is_trusted(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    async with Petshop(certificate=authority.issue_cert("127.0.0.1")) as shop:
        options = {"openapi": f"{shop.url}/openapi.json", "ca_file": "ca.pem"}
        with pytest.raises(ConnectFailed, match="certificate verify failed"):
            await connect(tmp_path, {"openapi": f"{shop.url}/openapi.json"})
        session = await connect(tmp_path, options)
        await session.aclose()

    assert 1 == len(shop.pings)


async def test_a_file_of_no_certificates_is_refused(rest, tmp_path):
    (tmp_path / "ca.pem").write_text("nothing")

    with pytest.raises(BadConfig, match=r"ca_file: .*/ca.pem cannot be used"):
        async with rest(ca_file="ca.pem"):
            pass


async def test_a_proxy_is_gone_through(rest, shop):
    # A service that takes whole URLs, as proxies do, is proxy enough.
    async with Petshop() as proxy, rest(proxy=proxy.url) as session:
        await call(session, "listPets")

    assert [] == shop.requests
    assert shop.url + "/v1/pets" in str(proxy.requests[-1].raw_path)


async def test_a_proxy_that_is_no_url_is_refused(rest):
    with pytest.raises(BadConfig, match="proxy: "):
        async with rest(proxy="http://[::1"):
            pass


async def test_the_proxies_of_the_environment_do_not_count(rest, shop, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    async with rest() as session:
        assert "[]" == text(await call(session, "listPets"))


async def test_a_header_with_a_line_break_is_refused_without_being_shown(rest):
    with pytest.raises(BadConfig, match="headers: Authorization: ") as caught:
        async with rest(headers={"Authorization": "Bearer x\ny"}):
            pass

    assert "Bearer" not in str(caught.value)


async def test_the_line_break_at_the_end_of_a_variable_does_no_harm(rest, shop):
    async with rest(base_url=f"{shop.url}/v1", headers={"Authorization": f"{TOKEN}\n"}):
        pass

    assert TOKEN == shop.pings[-1].headers["Authorization"]
