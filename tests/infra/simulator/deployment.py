"""Reads the policies of a synthesised stage as AWS would see them, and asks a simulator of IAM about requests."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from infra.settings import IMAGE_REGISTRY_ACCOUNT, IMAGE_REPOSITORY
from tests.fixtures.environments import ENVIRONMENTS
from tests.fixtures.iam_calls import ACCOUNT, CUSTOMER_ROLE, EXTERNAL_ID, REGION
from tests.infra.conftest import Resource, Synthesised, listed, node

SIMULATOR = "@cloud-copilot/iam-simulate@0.1.173"
PSEUDO = {"AWS::Partition": "aws", "AWS::AccountId": ACCOUNT, "AWS::Region": REGION, "AWS::URLSuffix": "amazonaws.com"}
# The service and the resource in the ARN of each type, and the property with its name.
_ARNS = {
    "AWS::CloudWatch::Alarm": ("cloudwatch", "alarm:{}", ""),
    "AWS::CloudWatch::CompositeAlarm": ("cloudwatch", "alarm:{}", ""),
    "AWS::DynamoDB::Table": ("dynamodb", "table/{}", ""),
    "AWS::Events::Rule": ("events", "rule/{}", ""),
    "AWS::KMS::Key": ("kms", "key/{}", ""),
    "AWS::Lambda::Function": ("lambda", "function:{}", "FunctionName"),
    "AWS::Logs::LogGroup": ("logs", "log-group:{}:*", ""),
    "AWS::SNS::Topic": ("sns", "{}", ""),
    "AWS::SQS::Queue": ("sqs", "{}", "QueueName"),
    "AWS::SecretsManager::Secret": ("secretsmanager", "secret:{}", ""),
    "AWS::StepFunctions::StateMachine": ("states", "stateMachine:{}", "StateMachineName"),
}
_REF_IS_ARN = {
    "AWS::Lambda::Alias",
    "AWS::SNS::Topic",
    "AWS::SecretsManager::Secret",
    "AWS::StepFunctions::StateMachine",
}
# The types that hold a policy for other resources, and the property with these resources.
_POLICY_TYPES = {
    "AWS::S3::BucketPolicy": "Bucket",
    "AWS::SQS::QueuePolicy": "Queues",
    "AWS::SNS::TopicPolicy": "Topics",
}

IMAGES = f"arn:aws:ecr:{REGION}:{IMAGE_REGISTRY_ACCOUNT}:repository/{IMAGE_REPOSITORY}"

Policy = dict[str, Any]
Keys = tuple[tuple[str, str | tuple[str, ...]], ...]


def _policy(**statement: Any) -> Policy:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]}


# Policies in other accounts: everyone may pull AWS's containers, and customers let us assume their role as
# GET /connectors/access/aws-role shows.
OTHERS = {
    IMAGES: _policy(Principal="*", Action="ecr:*", Resource="*"),
    CUSTOMER_ROLE: _policy(
        Principal={"AWS": ACCOUNT},
        Action="sts:AssumeRole",
        Condition={"StringEquals": {"sts:ExternalId": EXTERNAL_ID}},
    ),
}


class Request(NamedTuple):
    """A request that IAM decides about. ``principal`` is the logical id of a role, or a service of AWS."""

    principal: str
    action: str
    resource: str
    keys: Keys = ()


class Deployment:
    """The resources of all stacks of one stage, with the names and ARNs of a deployment."""

    def __init__(self, stage: Synthesised) -> None:
        # Two stacks may use a logical id twice.
        templates = [_qualified(stage.template(one), one) for one in stage.stacks]
        self.resources: dict[str, Resource] = {
            name: resource for template in templates for name, resource in template["Resources"].items()
        }
        self._exports = {
            output["Export"]["Name"]: output["Value"]
            for template in templates
            for output in template.get("Outputs", {}).values()
            if "Export" in output
        }

    def of_type(self, *types: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, resource in self.resources.items():
            if resource["Type"] in types:
                yield name, resource.get("Properties", {})

    def resolved(self, value: Any) -> Any:
        """Returns a value of a template with the names of the deployment."""
        match value:
            case {"Fn::Join": [separator, parts]}:
                return separator.join(self.resolved(parts))
            case {"Fn::ImportValue": name}:
                return self.resolved(self._exports[name])
            case {"Fn::Sub": str(text)}:
                return re.sub(r"\$\{([^}]+)\}", lambda found: PSEUDO[found[1]], text)
            case {"Fn::Select": [index, {"Fn::Split": [separator, text]}]}:
                return self.resolved(text).split(separator)[index]
            case {"Ref": name} if name in PSEUDO:
                return PSEUDO[name]
            case {"Ref": name}:
                return self.arn(name) if self.resources[name]["Type"] in _REF_IS_ARN else self.name(name)
            case {"Fn::GetAtt": [name, "Arn"]}:
                return self.arn(name)
            case {"Fn::GetAtt": [name, "StreamArn"]}:
                return f"{self.arn(name)}/stream/1"
            case dict():
                return {key: self.resolved(each) for key, each in value.items()}
            case list():
                return [self.resolved(each) for each in value]
        return value

    def name(self, id: str) -> str:
        """Returns the name in the template, or the construct's id: ``inference-logs`` for ``InferenceLogs30FD86FE``."""
        resource = self.resources[id]
        given = resource.get("Properties", {}).get(_ARNS.get(resource["Type"], ("", "", ""))[2])
        own = re.sub(r"[0-9A-F]{8}$", "", id.partition("-")[2])
        return given or re.sub(r"(?<=[a-z])(?=[A-Z])", "-", own).lower()

    def arn(self, id: str) -> str:
        resource = self.resources[id]
        match resource["Type"]:
            case "AWS::S3::Bucket":
                return f"arn:aws:s3:::{self.name(id)}"
            case "AWS::IAM::Role":
                return f"arn:aws:iam::{ACCOUNT}:role/{id}"
            case "AWS::Lambda::Alias":
                properties = resource["Properties"]
                return f"{self.arn(properties['FunctionName']['Ref'])}:{properties['Name']}"
        service, form, _ = _ARNS[resource["Type"]]
        return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{form.format(self.name(id))}"

    def role(self, reference: Any) -> str:
        """Returns the logical id of a role by a reference to its ARN."""
        return str(self.resolved(reference)).rpartition("/")[2]

    def identity_policies(self) -> dict[str, list[Policy]]:
        """Returns the policies of each role. AWS's own policies are not among them."""
        found: dict[str, list[Policy]] = {name: [] for name, _ in self.of_type("AWS::IAM::Role")}
        for role, properties in self.of_type("AWS::IAM::Role"):
            found[role] += [self.resolved(one["PolicyDocument"]) for one in properties.get("Policies", [])]
        for _, properties in self.of_type("AWS::IAM::Policy"):
            for role in properties["Roles"]:
                found[role["Ref"]].append(self.resolved(properties["PolicyDocument"]))
        return found

    def resource_policies(self) -> dict[str, Policy]:
        """Returns the policy of each bucket, queue, topic, key, function and role (who may assume it) by its ARN."""
        found: dict[str, Policy] = {**OTHERS}
        for kind, holder in _POLICY_TYPES.items():
            for _, properties in self.of_type(kind):
                for reference in listed(properties[holder]):
                    found[self.arn(reference["Ref"])] = self.resolved(properties["PolicyDocument"])
        for name, properties in self.of_type("AWS::KMS::Key"):
            found[self.arn(name)] = self.resolved(properties["KeyPolicy"])
        for name, properties in self.of_type("AWS::IAM::Role"):
            found[self.arn(name)] = self.resolved(properties["AssumeRolePolicyDocument"])
        for _, properties in self.of_type("AWS::Lambda::Permission"):
            one = self.resolved(properties)
            permission = _policy(
                Principal={"Service": one["Principal"]},
                Action=one["Action"],
                Resource=one["FunctionName"],
                Condition={"ArnLike": {"aws:SourceArn": one["SourceArn"]}},
            )
            own = found.setdefault(one["FunctionName"], {**permission, "Statement": []})
            own["Statement"] += permission["Statement"]
        return found


def _qualified(template: dict[str, Any], stack: str) -> dict[str, Any]:
    """Returns the template with the stack before each logical id."""
    own = template["Resources"].keys()

    def renamed(value: Any) -> Any:
        match value:
            case {"Ref": name} if name in own:
                return {"Ref": f"{stack}-{name}"}
            case {"Fn::GetAtt": [name, attribute]}:
                return {"Fn::GetAtt": [f"{stack}-{name}", attribute]}
            case dict():
                return {key: renamed(each) for key, each in value.items()}
            case list():
                return [renamed(each) for each in value]
        return value

    resources = {f"{stack}-{name}": renamed(resource) for name, resource in template["Resources"].items()}
    return {**template, "Resources": resources, "Outputs": renamed(template.get("Outputs", {}))}


def owner_of(resource: str, policies: Iterable[str]) -> str | None:
    """Returns the ARN with the policy for a resource: a bucket's for its objects."""
    bucket = resource.partition("/")[0] if resource.startswith("arn:aws:s3:::") else resource
    return bucket if bucket in policies else None


def simulation(request: Request, identity: Sequence[Policy], resource_policy: Policy | None) -> dict[str, Any]:
    """Returns the input of the simulator for a request. All requests use TLS."""
    is_role = not request.principal.endswith(".amazonaws.com")
    keys = {name: value if isinstance(value, str) else list(value) for name, value in request.keys}
    owner = request.resource.split(":")[4] if request.resource.count(":") > 3 else ""
    return {
        "request": {
            "principal": f"arn:aws:iam::{ACCOUNT}:role/{request.principal}" if is_role else request.principal,
            "action": request.action,
            "resource": {"resource": request.resource, "accountId": owner or ACCOUNT},
            "contextVariables": {"aws:SecureTransport": "true", **keys},
        },
        "identityPolicies": [{"name": str(number), "policy": one} for number, one in enumerate(identity)],
        **({"resourcePolicy": resource_policy} if resource_policy else {}),
    }


def simulate(simulations: list[dict[str, Any]]) -> list[str]:
    """Returns ``Allowed``, ``ImplicitlyDenied`` or ``ExplicitlyDenied`` for each simulation."""
    folder = ENVIRONMENTS / re.sub(r"\W+", "-", SIMULATOR)
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        install = [node("npm"), "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run([*install, "--loglevel=error", SIMULATOR], check=True, timeout=120)
        (folder / "done").touch()
    script = Path(__file__).parent / "simulate.mjs"
    done = subprocess.run(
        [node("node"), str(script), str(folder)],
        input=json.dumps(simulations),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    decisions: list[str] = json.loads(done.stdout)
    return decisions
