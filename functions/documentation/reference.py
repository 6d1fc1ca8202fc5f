"""Adds to the OpenAPI document what only people need: the introduction, real examples, and code samples.

``examples.json`` holds a request of each operation and what the API answered. Tests send the requests and record the
responses: ``make examples``.
"""

import json
from pathlib import Path
from typing import Any

from functions.documentation.samples import samples

FOLDER = Path(__file__).parent
EXAMPLES = FOLDER / "examples.json"
INTRODUCTION = FOLDER / "introduction.md"
SIGN_IN = "The ID token of a signed-in user, or an API key. `Sign in` at the top of this page fills it in."


def add_reference(document: dict[str, Any]) -> dict[str, Any]:
    """Returns the document with the introduction, and with an example and code samples for each operation."""
    document["info"]["description"] = INTRODUCTION.read_text(encoding="utf-8")
    for scheme in document["components"]["securitySchemes"].values():
        scheme["description"] = SIGN_IN
    examples = json.loads(EXAMPLES.read_text(encoding="utf-8"))
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            example = examples.get(f"{method.upper()} {path}")
            if example is not None:
                _add_example(operation, example)
                operation["x-codeSamples"] = samples(method.upper(), path, operation, example)
    return document


def _add_example(operation: dict[str, Any], example: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", []):
        given = example.get(parameter["in"], {})
        if parameter["name"] in given:
            parameter["example"] = given[parameter["name"]]
    if "body" in example:
        operation["requestBody"]["content"]["application/json"]["example"] = example["body"]
    if "response" in example:
        content = operation["responses"][str(example["status"])].get("content", {})
        if "application/json" in content:
            content["application/json"]["example"] = example["response"]
