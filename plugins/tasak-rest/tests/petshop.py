"""A real REST service with a memory, and the description that it gives of itself."""

import asyncio
import ssl
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from aiohttp import web

PNG = b"\x89PNG\r\n\x1a\n\x00\xff"
PDF = b"%PDF-1.7\n\xff\xfe"
TOKEN = "Bearer open-sesame"

DESCRIPTION: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Pet shop", "version": "2.5"},
    "servers": [{"url": "/{stage}", "variables": {"stage": {"default": "v1"}}}],
    "paths": {
        "/pets": {
            "parameters": [{"$ref": "#/components/parameters/RequestId"}],
            "get": {
                "operationId": "listPets",
                "summary": "List pets",
                "description": "Lists the pets of the shop. A page at a time.",
                "parameters": [
                    {"$ref": "#/components/parameters/Limit"},
                    {
                        "name": "status",
                        "in": "query",
                        "description": "Only those",
                        "schema": {"type": "array", "items": {"$ref": "#/components/schemas/Status"}},
                    },
                    {"name": "sort", "in": "query", "schema": {"enum": ["name", "age"], "default": "name"}},
                    {"name": "Authorization", "in": "header", "required": True, "schema": {"type": "string"}},
                ],
                "responses": {"200": {"description": "a page"}},
            },
            "post": {
                "operationId": "createPet",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/xml": {"schema": {"type": "string"}},
                        "application/json": {"schema": {"$ref": "#/components/schemas/Pet"}},
                    },
                },
                "responses": {
                    "201": {
                        "description": "it is there",
                        "content": {"application/json": {"schema": {"type": "object"}}},
                    }
                },
            },
        },
        "/pets/{petId}": {
            "parameters": [
                {"name": "petId", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 1}}
            ],
            "get": {"operationId": "getPet", "responses": {"200": {"description": "the pet"}}},
            "delete": {"operationId": "deletePet", "responses": {"204": {"description": "it is gone"}}},
        },
        "/pets/{petId}/photo": {
            "get": {
                "operationId": "getPhoto",
                "parameters": [{"name": "petId", "in": "path", "required": True, "schema": {"type": "integer"}}],
                "responses": {"200": {"description": "a picture", "content": {"image/png": {}}}},
            }
        },
        "/payments": {
            "post": {
                "operationId": "pay",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["with", "amount"],
                                "properties": {
                                    "amount": {"type": "number", "exclusiveMinimum": 0},
                                    "with": {
                                        "oneOf": [
                                            {"$ref": "#/components/schemas/Card"},
                                            {"$ref": "#/components/schemas/Transfer"},
                                        ]
                                    },
                                },
                            }
                        }
                    },
                },
                "responses": {"200": {"description": "paid"}},
            }
        },
        "/search": {
            "get": {
                "operationId": "search",
                "summary": "Search the old way",
                "deprecated": True,
                "parameters": [
                    {"name": "filter", "in": "query", "content": {"application/json": {"schema": {"type": "object"}}}}
                ],
                "responses": {"200": {"description": "what was found"}},
            }
        },
        "/stats": {"get": {"responses": {"200": {"description": "numbers"}}}},
        "/stats/{year}/reset": {
            "post": {
                "parameters": [{"name": "year", "in": "path", "required": True, "schema": {"type": "string"}}],
                "responses": {"202": {"description": "it will be done"}},
            }
        },
        "/slow": {"post": {"operationId": "slow", "responses": {"200": {"description": "late"}}}},
        "/answers/{kind}": {
            "post": {
                "operationId": "answer",
                "parameters": [{"name": "kind", "in": "path", "required": True, "schema": {"type": "string"}}],
                "responses": {"200": {"description": "of that kind"}},
            }
        },
    },
    "components": {
        "parameters": {
            "Limit": {
                "name": "limit",
                "in": "query",
                "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
            },
            "RequestId": {"name": "X-Request-ID", "in": "header", "schema": {"type": "string"}},
        },
        "schemas": {
            "Status": {"type": "string", "enum": ["free", "sold"]},
            "Pet": {
                "type": "object",
                "required": ["id", "name", "owner"],
                "properties": {
                    "id": {"type": "integer", "readOnly": True},
                    "name": {"type": "string", "minLength": 1, "description": "What it listens to"},
                    "status": {"$ref": "#/components/schemas/Status"},
                    "tag": {"type": ["string", "null"]},
                    "owner": {"$ref": "#/components/schemas/Owner"},
                    "friends": {"type": "array", "items": {"type": "integer"}},
                },
            },
            "Owner": {
                "type": "object",
                "required": ["email"],
                "properties": {"email": {"type": "string"}, "boss": {"$ref": "#/components/schemas/Owner"}},
            },
            "Card": {
                "type": "object",
                "required": ["number"],
                "properties": {"number": {"type": "string"}},
                "additionalProperties": False,
            },
            "Transfer": {
                "type": "object",
                "required": ["iban"],
                "properties": {"iban": {"type": "string"}},
                "additionalProperties": False,
            },
        },
    },
}


class Petshop:
    """The service on a port of 127.0.0.1; `async with` opens and closes it, and it can be opened again."""

    def __init__(self, certificate: Any = None) -> None:
        self.port = 0
        self._certificate = certificate
        self.description: Any = DESCRIPTION
        self.pets: dict[int, dict[str, Any]] = {}
        self.requests: list[web.BaseRequest] = []
        """Every request to an operation."""
        self.bodies: list[Any] = []
        self.pings: list[web.BaseRequest] = []
        self.is_well = True
        self.begun = asyncio.Event()
        """A slow request is under way."""
        self.cancelled = asyncio.Event()
        """Whoever made the slow request does not wait any more."""
        self.gathering = asyncio.Barrier(1)
        """As many requests as it takes are answered together."""
        self.elsewhere = ""
        """Another server."""

    @property
    def url(self) -> str:
        return f"http{'s' if self._certificate else ''}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._note])
        app.router.add_get("/openapi.json", self._describe)
        app.router.add_route("*", "/v1", self._root)
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/pets", self._list)
        app.router.add_post("/v1/pets", self._create)
        app.router.add_get("/v1/pets/{id}", self._get)
        app.router.add_delete("/v1/pets/{id}", self._delete)
        app.router.add_get("/v1/pets/{id}/photo", self._photo)
        app.router.add_post("/v1/slow", self._slow)
        app.router.add_post("/v1/answers/{kind}", self._answer)
        app.router.add_route("*", "/v1/{rest:.*}", self._echo)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        context = None
        if self._certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._certificate.configure_cert(context)
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True, ssl_context=context)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path.startswith("/v1/"):
            self.requests.append(request)
            self.bodies.append(await request.read())
        elif request.path != "/openapi.json":
            self.pings.append(request)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _describe(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        return web.json_response(self.description)

    async def _root(self, request: web.Request) -> web.Response:
        return web.Response(status=404)

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(status=204 if self.is_well else 503)

    async def _list(self, request: web.Request) -> web.Response:
        pets = list(self.pets.values())[: int(request.query.get("limit", "20"))]
        return web.json_response(pets, headers={"Link": '</v1/pets?page=2>; rel="next"', "Set-Cookie": "secret=1"})

    async def _create(self, request: web.Request) -> web.Response:
        pet = await request.json()
        if pet["name"] == "Nobody":
            return web.json_response({"detail": "nobody is no name"}, status=422, reason="Unprocessable Entity")
        pet["id"] = len(self.pets) + 1
        self.pets[pet["id"]] = pet
        return web.json_response(pet, status=201, headers={"Location": f"/v1/pets/{pet['id']}"})

    async def _get(self, request: web.Request) -> web.Response:
        pet = self.pets.get(int(request.match_info["id"]))
        return web.json_response(pet) if pet else web.Response(status=404, text="no such pet")

    async def _delete(self, request: web.Request) -> web.Response:
        self.pets.pop(int(request.match_info["id"]))
        return web.Response(status=204)

    async def _photo(self, request: web.Request) -> web.Response:
        return web.Response(body=PNG, content_type="image/png")

    async def _slow(self, request: web.Request) -> web.Response:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        raise AssertionError("only the end of the connection ends this")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        match request.match_info["kind"]:
            case "pdf":
                return web.Response(body=PDF, content_type="application/pdf")
            case "array":
                return web.json_response([1, 2])
            case "latin":
                return web.Response(
                    body="größer".encode("latin-1"), headers={"Content-Type": "text/plain; charset=latin-1"}
                )
            case "broken-json":
                return web.Response(body=b'{"a": NaN', content_type="application/json")
            case "huge":
                return await self._huge(request)
            case "gathering":
                await self.gathering.wait()
                return web.Response(text="together")
            case "moved":
                return web.Response(status=307, headers={"Location": "/v1/arrived?by=redirect"})
            case "found":
                return web.Response(status=302, headers={"Location": "/v1/arrived"})
            case "away":
                return web.Response(status=307, headers={"Location": f"{self.elsewhere}/v1/arrived"})
            case "around":
                return web.Response(status=307, headers={"Location": "/v1/answers/around"})
        return web.Response(status=int(request.match_info["kind"]), text="as you say")

    async def _huge(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            for _ in range(65):
                await response.write(bytes(1 << 20))
        return response

    async def _echo(self, request: web.Request) -> web.Response:
        body = (await request.read()).decode()
        return web.json_response(
            {
                "method": request.method,
                "path": request.raw_path,
                "headers": {name.lower(): value for name, value in request.headers.items()},
                "body": body,
            }
        )
