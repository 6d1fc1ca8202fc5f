"""The whole API in one app, for the dev server, the OpenAPI document and the tests.

In AWS each group is its own function, built by the same factory from the same routers.
"""

from typing import Any

from fastapi import FastAPI

from functions.action_groups.routes import router as action_groups
from functions.actions.routes import router as actions
from functions.api_keys.routes import router as api_keys
from functions.arguments.routes import router as arguments
from functions.audit_logs.routes import router as audit_logs
from functions.benchmarks.routes import router as benchmarks
from functions.chats.openai_routes import router as openai
from functions.chats.responses_routes import router as openai_responses
from functions.chats.routes import router as chats
from functions.chats.text_routes import router as openai_texts
from functions.checkpoints.routes import router as checkpoints
from functions.clients.routes import router as clients
from functions.clusters.routes import router as clusters
from functions.connectors.routes import router as connectors
from functions.console.routes import router as console
from functions.data_models.routes import router as data_models
from functions.decision_runs.routes import router as decision_runs
from functions.documentation.reference import add_reference
from functions.documentation.routes import router as documentation
from functions.evaluations.routes import router as evaluations
from functions.experts.routes import router as experts
from functions.inference_logs.routes import router as inference_logs
from functions.insights.routes import router as insights
from functions.leaderboards.routes import router as leaderboards
from functions.models.routes import router as models
from functions.personas.routes import router as personas
from functions.predictions.routes import router as predictions
from functions.spaces.routes import router as spaces
from functions.trainings.architecture_routes import router as architectures
from functions.trainings.routes import router as trainings
from functions.users.routes import router as users
from functions.webhook_endpoints.routes import router as webhook_endpoints
from functions.webhooks.routes import router as webhooks
from shared.http.app import create_app
from shared.propensity.architectures.registry import configuration_schemas
from shared.resources import Resources

# The order of the published page. Extensions follow in the same order.
ROUTERS = (
    action_groups,
    actions,
    api_keys,
    arguments,
    audit_logs,
    benchmarks,
    chats,
    checkpoints,
    clients,
    clusters,
    connectors,
    data_models,
    evaluations,
    experts,
    inference_logs,
    insights,
    leaderboards,
    users,
    models,
    personas,
    predictions,
    decision_runs,
    spaces,
    webhook_endpoints,
    trainings,
    architectures,
    webhooks,
    openai,
    openai_texts,
    openai_responses,
    documentation,
    console,
)


def build_api(resources: Resources | None = None) -> FastAPI:
    app = create_app(resources or Resources(), *ROUTERS)
    describe_plainly = app.openapi

    def describe_for_people() -> dict[str, Any]:
        return add_reference(_close_bodies(_publish_configurations(describe_plainly())))

    app.openapi = describe_for_people  # type: ignore[method-assign]
    return app


def _publish_configurations(document: dict[str, Any]) -> dict[str, Any]:
    """Documents the contents of a training's ``configuration``, by architecture."""
    schemas = document["components"]["schemas"]
    references = []
    for architecture, schema in configuration_schemas("#/components/schemas/{model}").items():
        name = schema["title"]
        schemas |= schema.pop("$defs", {})
        schemas[name] = {**schema, "description": f"The `configuration` of the architecture `{architecture}`."}
        references.append({"$ref": f"#/components/schemas/{name}"})
    schemas["TrainingCreate"]["properties"]["configuration"] = {"anyOf": references, "title": "Configuration"}
    return document


def _close_bodies(document: dict[str, Any]) -> dict[str, Any]:
    """Documents that objects in bodies take no unknown fields. OpenAI's shapes do, and so do those of our jobs."""
    for path, operations in document["paths"].items():
        if path.startswith(("/v1/", "/webhooks")):
            continue
        for operation in operations.values():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if body:
                _close(body["schema"], document["components"]["schemas"], set())
    return document


def _close(schema: Any, schemas: dict[str, Any], seen: set[str]) -> None:
    if isinstance(schema, list):
        for each in schema:
            _close(each, schemas, seen)
    elif isinstance(schema, dict):
        name = str(schema.get("$ref", "")).rpartition("/")[2]
        if name and name not in seen:
            seen.add(name)
            _close(schemas[name], schemas, seen)
        if isinstance(schema.get("properties"), dict):
            schema.setdefault("additionalProperties", False)
        for each in schema.values():
            _close(each, schemas, seen)


app = build_api()
