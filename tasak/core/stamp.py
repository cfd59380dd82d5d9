"""What each request carries beside its own parameters, as the agreed era of MCP wants it."""

from collections.abc import Mapping
from typing import Any

from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    encode_header_value,
    find_invalid_x_mcp_header,
    mcp_param_headers,
    x_mcp_header_map,
)
from mcp_types import CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY, PROTOCOL_VERSION_META_KEY

from tasak import __version__

CLIENT = {"name": "tasak", "version": __version__}
CAPABILITIES: dict[str, Any] = {}

Params = Mapping[str, Any]
Headers = dict[str, str]


class Stamp:
    """Nothing: before an era is agreed on."""

    is_agreed = False

    def meta(self) -> Params:
        """What stands under `_meta`."""
        return {}

    def headers(self, method: str, params: Params) -> Headers:
        """For a transport that has headers."""
        return {}

    def heard(self, method: str, result: dict[str, Any]) -> dict[str, Any]:
        """The result of a request, as its caller may see it."""
        return result


class HandshakeStamp(Stamp):
    """After a handshake only HTTP names the version again."""

    is_agreed = True

    def __init__(self, version: str) -> None:
        self._version = version

    def headers(self, method: str, params: Params) -> Headers:
        return {MCP_PROTOCOL_VERSION_HEADER: self._version}


class StatelessStamp(Stamp):
    """Without a session each request says who asks, and HTTP repeats in headers what it asks for.

    Parameters that a tool's schema marks with `x-mcp-header` are repeated too; a tool that marks them wrongly does
    not exist (MCP 2026-07-28, basic/transports).
    """

    is_agreed = True

    def __init__(self, version: str) -> None:
        self._version = version
        self._parameter_headers: dict[str, Mapping[tuple[str, ...], str]] = {}

    def meta(self) -> Params:
        return {
            PROTOCOL_VERSION_META_KEY: self._version,
            CLIENT_INFO_META_KEY: CLIENT,
            CLIENT_CAPABILITIES_META_KEY: CAPABILITIES,
        }

    def headers(self, method: str, params: Params) -> Headers:
        headers = {MCP_PROTOCOL_VERSION_HEADER: self._version, MCP_METHOD_HEADER: method}
        name = params.get(NAME_BEARING_METHODS.get(method, ""))
        if isinstance(name, str):
            headers[MCP_NAME_HEADER] = encode_header_value(name)
        if method == "tools/call" and (marked := self._parameter_headers.get(str(name))):
            headers |= mcp_param_headers(marked, params.get("arguments") or {})
        return headers

    def heard(self, method: str, result: dict[str, Any]) -> dict[str, Any]:
        if method != "tools/list" or not isinstance(result.get("tools"), list):
            return result
        tools = [tool for tool in result["tools"] if self._is_sound(tool)]
        return {**result, "tools": tools}

    def _is_sound(self, tool: Any) -> bool:
        match tool:
            case {"name": str(name), "inputSchema": dict(schema)}:
                if find_invalid_x_mcp_header(schema) is not None:
                    return False
                self._parameter_headers[name] = x_mcp_header_map(schema)
        return True
