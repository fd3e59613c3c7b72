"""Every route has a handler and stands in the OpenAPI document, and neither holds anything else."""

from __future__ import annotations

import inspect
import re
from types import ModuleType

import pytest

from paynow.api_keys import SCOPES
from paynow.http import openapi
from paynow.http.routing import ROUTES, Route
from paynow.http.server import HANDLERS, handler_of

OPEN = {"openapi", "events_schema", "asyncapi", "docs", "docs_asset", "error_page", "healthz", "readyz"}
ALL = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)


def handlers_in(module: ModuleType) -> set[str]:
    return {
        name
        for name, function in inspect.getmembers(module, inspect.iscoroutinefunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }


def test_names_and_paths_are_unique() -> None:
    assert len({route.name for route in ROUTES}) == len(ROUTES)
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


def test_every_route_has_one_handler_and_every_handler_a_route() -> None:
    found = [name for module in HANDLERS for name in handlers_in(module)]
    assert sorted(found) == sorted(route.name for route in ROUTES)


@ALL
def test_every_handler_names_its_route(route: Route) -> None:
    assert f"`{route.method} {route.path}`" in (inspect.getdoc(handler_of(route)) or "")


def test_the_document_holds_every_route_and_no_other() -> None:
    described = {(method.upper(), path) for path, item in openapi.document()["paths"].items() for method in item}
    assert described == {(route.method, route.path) for route in ROUTES}


@ALL
def test_every_route_is_described(route: Route) -> None:
    operation = openapi.document()["paths"][route.path][route.method.lower()]
    assert operation["summary"] == route.summary
    assert operation["tags"][0] in openapi.TAGS
    assert {name["name"] for name in operation["parameters"] if name.get("in") == "path"} == set(re.findall(r"{(\w+)}", route.path))
    assert [name["name"] for name in operation["parameters"] if name.get("in") == "query"] == [parameter.name for parameter in route.query]
    assert ("requestBody" in operation) is (route.takes is not None)
    assert list(operation["responses"]["200"]["content"]) == [route.media_type]


@ALL
def test_nothing_that_tells_or_changes_anything_is_open(route: Route) -> None:
    assert (route.scope is None) is (route.name in OPEN)
    assert route.scope is None or route.scope in SCOPES


def test_every_scope_but_that_which_widens_another_opens_a_route() -> None:
    assert set(SCOPES) - {route.scope for route in ROUTES} == {"cases:admin"}


def test_every_tag_has_a_route() -> None:
    used = {operation["tags"][0] for item in openapi.document()["paths"].values() for operation in item.values()}
    assert used == set(openapi.TAGS)
