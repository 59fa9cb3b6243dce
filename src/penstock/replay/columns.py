"""Which column of a JSON or CSV log holds a field, by the user's word or by what such columns are usually called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from penstock.replay.keys import OF_REQUEST, SYNONYMS, FieldError, Part, Transform, path, transform_of, without_port
from penstock.replay.times import time_ns
from penstock.replay.wording import printable

ALIASES: dict[str, str] = {
    "time": "time timestamp @timestamp ts datetime date_time time_iso8601 time_local start_time starttime msec epoch "
    "date t",
    "address": "address remote_addr client_ip ip remote_ip clientip client_addr client_address remote_address "
    "remote_host ip_address src_ip source_ip c_ip addr client request.client_ip request.remote_ip source.ip client.ip "
    "clienthost downstream_remote_address",
    "user": "user remote_user username user_name user_id userid user.name account account_id",
    "request": "request request_line requestline",
    "method": "method request_method http_method verb request.method http.request.method",
    "path": "path uri url target request_uri request_path requestpath request.uri url.path url.original cs_uri_stem "
    "x_envoy_origin_path x_envoy_original_path endpoint",
    "target": "target request_uri uri url path request.uri url.original x_envoy_origin_path x_envoy_original_path",
    "protocol": "protocol server_protocol http_version request.proto",
    "status": "status status_code response_code response_status code http.response.status_code",
    "size": "size bytes body_bytes_sent bytes_sent response_size",
    "referrer": "referrer referer http_referer http_referrer",
    "user-agent": "user_agent http_user_agent useragent agent user_agent.original request.headers.user_agent",
    "host": "host http_host vhost server_name domain :authority request.host",
}
"""Words separated by spaces, the likeliest first; upper and lower case, "-" and "_" are the same."""


class Columns:
    """columns: their names; rows: some of the first rows; named: field -> column, as the user says."""

    def __init__(
        self, name: str, columns: Iterable[str], rows: Sequence[Mapping[str, object]], named: Mapping[str, str]
    ) -> None:
        self._name = name
        self._rows = rows
        self._named = named
        self._all = list(columns)
        self._plain = {_plain(column): column for column in reversed(self._all)}

    def time(self) -> str:
        """The column that holds the time; raises FieldError."""
        if column := self._given("time"):
            return column
        for alias in ALIASES["time"].split():
            candidate = self._plain.get(alias)
            if candidate is not None and (not self._rows or any(is_time(row.get(candidate)) for row in self._rows)):
                return candidate
        raise FieldError(f"{self._name}: no field holds a time; name it with --field time=COLUMN; {self._there_are()}")

    def find(self, part: Part) -> tuple[str, Transform | None]:
        """The column for a part of the key, and what is to be done to its text; raises FieldError."""
        field = SYNONYMS.get(part.name, part.name)
        first = path if field == "path" else without_port if field == "address" else None
        if column := self._given(part.name) or self._given(field):
            return column, transform_of(part, first)
        if part.name in self._all:
            return part.name, transform_of(part, first)
        for alias in (_plain(part.name), *ALIASES.get(field, "").split()):
            if column := self._plain.get(alias):
                return column, transform_of(part, first)
        if field in OF_REQUEST and (column := self._column_of_request()):
            return column, transform_of(part, OF_REQUEST[field])
        raise FieldError(f"{self._name}: no field {part.name!r}; {self._there_are()}")

    def _column_of_request(self) -> str | None:
        return next((self._plain[alias] for alias in ALIASES["request"].split() if alias in self._plain), None)

    def _given(self, field: str) -> str | None:
        column = self._named.get(field)
        if column is not None and column not in self._all:
            raise FieldError(f"{self._name}: --field {field}={column}: no such field; {self._there_are()}")
        return column

    def _there_are(self) -> str:
        names = [printable(column.encode("utf-8", "surrogatepass"), 40) for column in self._all[:40]]
        return f"its fields are {', '.join(names)}" if names else "no field at all was found"


def _plain(column: str) -> str:
    return column.strip().lower().replace("-", "_")


def names_a_time(header: Sequence[str], named: Mapping[str, str]) -> bool:
    """True when one of the names is that of a time's column: the first line of a CSV file."""
    return len(header) > 1 and (
        named.get("time") in header or not set(ALIASES["time"].split()).isdisjoint(map(_plain, header))
    )


def is_time(value: object) -> bool:
    """True when `value` can be read as a log's time."""
    try:
        time_ns(str(value).encode("utf-8", "replace"))
    except ValueError:
        return False
    return True
