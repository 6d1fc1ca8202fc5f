"""CloudFormation creates each resource after everything that AWS uses or checks at its creation.

CloudFormation creates resources in parallel. Only references and DependsOn put two of them in order, so a test of one
order proves nothing: these tests ask for each pair whether the order is certain.
"""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.infra.conftest import Resource, Synthesised, listed

Resources = dict[str, Resource]
Pair = tuple[str, str]

# Lambda checks the role of a function when it creates these.
CHECKS_FUNCTION = ("AWS::Lambda::EventInvokeConfig", "AWS::Lambda::EventSourceMapping")
# A function needs its permissions only when it runs.
CHECKS_NO_ROLE = ("AWS::IAM::Policy", "AWS::Lambda::Function")
# API Gateway refuses with status 409 to create two of these at the same time in an account and region.
ONE_AT_A_TIME = ("AWS::ApiGateway::UsagePlanKey",)


def references(value: Any) -> Iterator[str]:
    """Yields the logical ids that a value refers to."""
    match value:
        case {"Ref": str(name)} | {"Fn::GetAtt": [str(name), *_]}:
            yield name
        case {"Fn::Sub": str(text)}:
            yield from re.findall(r"\$\{(\w+)", text)
        case dict():
            for each in value.values():
                yield from references(each)
        case list():
            for each in value:
                yield from references(each)


def created_before(resources: Resources) -> dict[str, set[str]]:
    """Returns for each resource all that CloudFormation creates before it. Raises RecursionError for a cycle."""
    direct = {
        name: {*references(one.get("Properties", {})), *listed(one.get("DependsOn", []))} & resources.keys()
        for name, one in resources.items()
    }
    found: dict[str, set[str]] = {}

    def visit(name: str) -> set[str]:
        if name not in found:
            found[name] = direct[name].union(*(visit(each) for each in direct[name]))
        return found[name]

    return {name: visit(name) for name in resources}


def of_type(resources: Resources, *types: str) -> list[str]:
    return [name for name, one in resources.items() if one["Type"] in types]


def checked_roles(resources: Resources) -> Iterator[Pair]:
    """Yields resources with a role whose permissions AWS checks when it creates the resource."""
    roles, functions = (set(of_type(resources, f"AWS::{kind}")) for kind in ("IAM::Role", "Lambda::Function"))
    for name, one in resources.items():
        used = set(references(one.get("Properties", {})))
        if one["Type"] not in CHECKS_NO_ROLE:
            yield from ((name, role) for role in used & roles)
        if one["Type"] in CHECKS_FUNCTION:
            for function in used & functions:
                yield from ((name, role) for role in references(resources[function]["Properties"]["Role"]))


def needs(resources: Resources) -> Iterator[Pair]:
    """Yields pairs of a resource and another that AWS uses or checks when it creates the first."""
    policies = {
        name: set(references(resources[name]["Properties"]["Roles"])) for name in of_type(resources, "AWS::IAM::Policy")
    }
    for name, role in checked_roles(resources):
        yield from ((name, policy) for policy, roles in policies.items() if role in roles)
    for name in of_type(resources, "AWS::ApiGateway::Stage"):
        # API Gateway refuses to log without the account's role, and would create the group of a stage itself.
        yield from ((name, account) for account in of_type(resources, "AWS::ApiGateway::Account"))
        for group in of_type(resources, "AWS::Logs::LogGroup"):
            if "API-Gateway-Execution-Logs_" in json.dumps(resources[group]["Properties"].get("LogGroupName", "")):
                yield name, group
    for name in of_type(resources, "AWS::ApiGateway::Deployment"):
        # A deployment is a copy of everything that its API has at this moment.
        parts = of_type(resources, "AWS::ApiGateway::Method", "AWS::ApiGateway::GatewayResponse")
        yield from ((name, part) for part in parts)
    for name in of_type(resources, "AWS::ApiGateway::UsagePlan", "AWS::WAFv2::WebACLAssociation"):
        yield from ((name, stage) for stage in of_type(resources, "AWS::ApiGateway::Stage"))
    for name in of_type(resources, "AWS::WAFv2::LoggingConfiguration"):
        groups = of_type(resources, "AWS::Logs::LogGroup")
        named = [one for one in groups if "aws-waf-logs-" in str(resources[one]["Properties"].get("LogGroupName"))]
        assert named, "WAF accepts only groups whose names begin with aws-waf-logs-"
        yield from ((name, one) for one in named)


def uncertain(resources: Resources) -> list[str]:
    """Returns a sentence for each pair whose order CloudFormation does not ensure."""
    before = created_before(resources)
    found = [f"{name} may be created before {other}" for name, other in needs(resources) if other not in before[name]]
    for kind in ONE_AT_A_TIME:
        [*same] = of_type(resources, kind)
        found += [
            f"{one} and {other} may be created at the same time"
            for number, one in enumerate(same)
            for other in same[:number]
            if one not in before[other] and other not in before[one]
        ]
    return found


@pytest.mark.row("OP-1")
def test_what_a_resource_uses_at_its_creation_is_created_before_it(deployed: Synthesised) -> None:
    for stack in deployed.stacks:
        assert uncertain(deployed.template(stack)["Resources"]) == [], stack


@pytest.mark.row("OP-1")
@pytest.mark.parametrize(
    ("stack", "kind", "message"),
    [
        ("api", "AWS::ApiGateway::UsagePlanKey", "at the same time"),
        ("api", "AWS::ApiGateway::Stage", "may be created before"),
        ("workflows", "AWS::Lambda::EventSourceMapping", "may be created before Receive"),
        ("workflows", "AWS::Lambda::EventInvokeConfig", "may be created before"),
        ("workflows", "AWS::StepFunctions::StateMachine", "may be created before"),
    ],
)
def test_a_removed_dependency_is_found(prod: Synthesised, stack: str, kind: str, message: str) -> None:
    resources: Resources = copy.deepcopy(prod.template(stack)["Resources"])
    changed = of_type(resources, kind)
    for name in changed:
        resources[name].pop("DependsOn", None)
    found = uncertain(resources)
    assert {name for name in changed if any(line.startswith(name) for line in found)}
    assert all(message in line for line in found)


def test_each_import_is_an_export_of_a_stack_that_is_deployed_before(deployed: Synthesised) -> None:
    exported: set[str] = set()
    for stack in deployed.stacks:
        template = deployed.template(stack)
        assert imports(template["Resources"]) <= exported, stack
        exported |= {one["Export"]["Name"] for one in template.get("Outputs", {}).values() if "Export" in one}


def imports(value: Any) -> set[str]:
    """Returns the names of the exports that a value imports."""
    match value:
        case {"Fn::ImportValue": str(name)}:
            return {name}
        case dict():
            return set().union(*map(imports, value.values()))
        case list():
            return set().union(*map(imports, value))
    return set()


@pytest.mark.row("OP-1")
def test_no_stack_imports_what_a_later_version_may_remove(deployed: Synthesised) -> None:
    # CloudFormation refuses to remove an export that another stack still imports. Tables, the bucket, the key, the
    # secrets, the user pool and the API stay; functions, queues and workflows come and go.
    lasting = ("Key", "Entities", "InferenceLogs", "Files", "WebhookSecret", "ExternalIdKey", "Users", "Api")
    used = set().union(*(imports(deployed.template(stack)["Resources"]) for stack in deployed.stacks))
    outputs = [one for stack in deployed.stacks for one in deployed.template(stack).get("Outputs", {}).values()]
    exports = [one for one in outputs if one.get("Export", {}).get("Name") in used]
    imported = {name for one in exports for name in references(one["Value"])}
    assert imported
    assert {name for name in imported if not name.startswith(lasting)} == set()
