"""The description of the API that /openapi.json gives, where the framework's own says less than is true."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from gallery_service.schemas import ErrorAnswer
from gallery_service.web.openapi_examples import EXAMPLES
from gallery_service.web.problem_details import MEDIA_TYPE

_PROBLEM = {"schema": {"$ref": f"#/components/schemas/{ErrorAnswer.__name__}"}}
_FRAMEWORKS_OWN = ("HTTPValidationError", "ValidationError")


def describe(app: FastAPI) -> None:
    """Have the application describe its errors as they are (problem details, at any address and with any status), and
    show an example of everything else."""
    framework = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(framework())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _completed(schema: dict[str, Any]) -> dict[str, Any]:
    schemas = schema["components"]["schemas"]
    for name in _FRAMEWORKS_OWN:
        schemas.pop(name, None)
    schemas.setdefault(ErrorAnswer.__name__, ErrorAnswer.model_json_schema())
    for name, example in EXAMPLES.items():
        schemas[name]["examples"] = [example]
    for path in schema["paths"].values():
        for operation in path.values():
            answers = operation["responses"]
            answers.setdefault("default", {"description": "Refused or failed; `detail` says why and what to do"})
            for status, answer in answers.items():
                if status == "default" or (status.startswith(("4", "5")) and "Health" not in str(answer)):
                    answer["content"] = {MEDIA_TYPE: _PROBLEM}
    return schema
