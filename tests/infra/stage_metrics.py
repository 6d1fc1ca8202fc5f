"""The metrics that a deployed stage would record, and the states of its alarms.

The functions run here: their metrics are read from their output and from the access log that API Gateway would write.
"""

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from functions.api import build_api
from infra.groups import GROUPS
from shared.resources import Resources
from tests.fixtures.cloudwatch import CloudWatch, Point, embedded_points, filtered_points, window

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesised

MINUTE = 60
SPACE = "0197a3c0-0000-7000-8000-00000000000a"
Properties = dict[str, Any]


def alarms(stage: "Synthesised", kind: str = "Alarm") -> dict[str, Properties]:
    """Returns the alarms by their construct ids."""
    found = stage.resources(f"AWS::CloudWatch::{kind}")
    return {name[:-8]: {**resource["Properties"], "_id": name} for name, resource in found.items()}


def runbook(alarm: Properties) -> str:
    found: str = alarm["AlarmDescription"].rpartition("docs/runbooks/")[2].removesuffix(".md")
    return found


class Stage:
    """A stage that runs its functions and returns the metrics that AWS would record."""

    def __init__(
        self,
        prod: "Synthesised",
        resources: Resources,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.template, self.resources = prod, resources
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def physical(self, value: Any) -> str:
        """Resolves a reference to a name, or to a logical id if only AWS knows the name."""
        match value:
            case str(name):
                return name
            case {"Ref": name} | {"Fn::GetAtt": [name, "Version" | "QueueName" | "Arn"]}:
                functions = self.template.resources("AWS::Lambda::Function")
                return str(functions[name]["Properties"]["FunctionName"]) if name in functions else str(name)
            case {"Fn::ImportValue": export}:
                outputs = (one for stack in self.template.stacks for one in self.outputs(stack))
                return self.physical(next(one["Value"] for one in outputs if one.get("Export") == {"Name": export}))
            case {"Fn::Join": [separator, parts]}:
                return str(separator).join(map(self.physical, parts))
        raise ValueError(f"no name for {value}")

    def outputs(self, stack: str) -> Iterable[Properties]:
        return list(self.template.template(stack).get("Outputs", {}).values())

    def printed(self, function: str, run: Callable[[], Any], **environment: str) -> list[Point]:
        """Returns the metrics that ``run`` prints with the environment of a deployed function."""
        [deployed] = [
            one
            for one in self.template.properties("AWS::Lambda::Function")
            if one["FunctionName"] == f"inference-prod-{function}"
        ]
        for name, value in {**deployed["Environment"]["Variables"], **environment}.items():
            if name.startswith(("POWERTOOLS_", "AWS_LAMBDA_FUNCTION_")):
                self._monkeypatch.setenv(name, value)
        self._capsys.readouterr()
        run()
        return list(embedded_points(self._capsys.readouterr().out))

    def request(
        self,
        client: TestClient,
        path: str,
        milliseconds: int = 20,
        *,
        method: str = "GET",
        body: Any = None,
        version: str = "1",
    ) -> list[Point]:
        """Returns the metrics of a request: from API Gateway, from its access log and from the function's output."""
        group = path.split("/")[1]
        function = group if group in {each.name for each in GROUPS} else "documentation"
        answers: list[int] = []
        printed = self.printed(
            function,
            lambda: answers.append(client.request(method, path, json=body).status_code),
            AWS_LAMBDA_FUNCTION_VERSION=version,
        )
        return [*printed, *self.logged(method, path, answers[0], milliseconds)]

    def logged(
        self, method: str, path: str, status: int, milliseconds: int = 20, error: str | None = None
    ) -> list[Point]:
        """Returns the metrics of a response from API Gateway and its access log. ``error`` names its own responses."""
        [deployed] = self.template.properties("AWS::ApiGateway::Stage")
        context = {
            "$context.status": str(status),
            "$context.httpMethod": method,
            "$context.resourcePath": path,
            "$context.error.responseType": error or "-",
            "$context.responseLatency": str(milliseconds),
        }
        text = deployed["AccessLogSetting"]["Format"]
        for name, value in context.items():
            text = text.replace(name, value)
        api = {"ApiName": "inference-prod-api", "Stage": "api"}
        return [
            Point("AWS/ApiGateway", "Count", 1, api),
            Point("AWS/ApiGateway", "5XXError", status >= 500, api),
            *filtered_points(self.template.properties("AWS::Logs::MetricFilter"), json.loads(text)),
        ]

    def client(self, resources: Resources) -> TestClient:
        return TestClient(build_api(resources), raise_server_exceptions=False)


def states(stage: Stage, parts: list[Properties], fault: list[Point], health: list[Point]) -> list[bool]:
    """Returns whether all parts of an alarm are on before a fault, at its end and after it."""
    minutes = max(map(window, parts)) // MINUTE
    cloudwatch = CloudWatch(stage.physical)
    found = []
    for phase, points in enumerate((health, fault, health)):
        for minute in range(minutes):
            cloudwatch.record((phase * minutes + minute + 1) * MINUTE, points)
        found.append(all(cloudwatch.is_alarm(one, (phase + 1) * minutes * MINUTE) for one in parts))
    return found


def composed(stage: Stage, name: str) -> list[Properties]:
    """Returns the parts of a composite alarm that needs all of them."""
    rule = alarms(stage.template, "CompositeAlarm")[name]["AlarmRule"]
    parts = rule["Fn::Join"][1]
    named = [part["Fn::GetAtt"][0] for part in parts if isinstance(part, dict)]
    text = "".join("?" if isinstance(part, dict) else part for part in parts)
    assert text == '(ALARM("?") AND ALARM("?"))'
    children = {one["_id"]: one for one in alarms(stage.template).values()}
    return [children[name] for name in named]
