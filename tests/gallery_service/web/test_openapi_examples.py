"""The examples in the description are what the service really takes and answers, and none is missing."""

from __future__ import annotations

import inspect
import typing

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel

from gallery_service.access.database import ACCESS
from gallery_service.access.identity import Identities
from gallery_service.databases.sqlite_file import SqliteFile
from gallery_service.settings import ServiceSettings
from gallery_service.web.app import create_app
from gallery_service.web.openapi_examples import EXAMPLES


def models(annotation: object) -> set[type[BaseModel]]:
    return {annotation} if inspect.isclass(annotation) and issubclass(annotation, BaseModel) else set()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return create_app(
        [], ServiceSettings(), Identities(SqliteFile(tmp_path_factory.mktemp("none") / "service.sqlite", ACCESS))
    )


def test_every_json_answer_and_body_has_an_example_that_is_one(app: FastAPI) -> None:
    answers: set[type[BaseModel]] = set()
    bodies: set[type[BaseModel]] = set()
    for route in iter_route_contexts(app.routes):
        if not getattr(route, "include_in_schema", False):
            continue
        hints = typing.get_type_hints(route.endpoint)
        answers |= models(hints.pop("return", None))
        for hint in hints.values():
            bodies |= models(hint)
    assert len(answers) > 10 and len(bodies) > 4
    for model in answers:
        example = EXAMPLES[model.__name__]
        assert model.model_validate(example).model_dump(mode="json", by_alias=True) == example
    described = app.openapi()["components"]["schemas"]
    for model in bodies:
        (example, *_) = described[model.__name__]["examples"]
        sent = model.model_validate(example).model_dump(mode="json", by_alias=True, exclude_unset=True)
        assert sent == example
    assert set(EXAMPLES) <= {model.__name__ for model in answers | bodies}


def test_examples_are_in_the_description(app: FastAPI) -> None:
    described = app.openapi()["components"]["schemas"]
    assert {name: described[name]["examples"] for name in EXAMPLES} == {name: [one] for name, one in EXAMPLES.items()}
