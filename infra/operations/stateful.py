"""What must never be replaced: resources that hold data, or that clients know by name, in all stacks of a stage.

CloudFormation replaces a resource when its logical id or one of certain properties changes, and what it held is left
behind or lost. Both are written down in stateful_resources.json, which a change must be seen to touch.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

BASELINE = Path(__file__).parent.parent / "stateful_resources.json"
STACKS = ("data", "api", "workflows", "observability")

# The properties whose change means replacement, or is refused, from CloudFormation's reference of each type.
REPLACING = {
    "AWS::ApiGateway::RestApi": (),
    "AWS::Cognito::UserPool": ("AliasAttributes", "Schema", "UsernameAttributes", "UsernameConfiguration"),
    "AWS::Cognito::UserPoolClient": ("GenerateSecret", "UserPoolId"),
    "AWS::DynamoDB::Table": ("ImportSourceSpecification", "KeySchema", "LocalSecondaryIndexes", "TableName"),
    "AWS::KMS::Key": ("KeySpec", "KeyUsage", "MultiRegion", "Origin"),
    "AWS::S3::Bucket": ("BucketName", "BucketNamePrefix"),
    "AWS::SecretsManager::Secret": ("Name",),
}
POLICIES = ("DeletionPolicy", "UpdateReplacePolicy")
Resources = dict[str, dict[str, Any]]


def stateful(templates: Mapping[str, Mapping[str, Any]]) -> Resources:
    """The stateful resources of a stage's templates, by ``stack/LogicalId``, with all that must stay as it is."""
    return {
        f"{stack}/{name}": {
            "type": resource["Type"],
            "properties": {
                name: value
                for name, value in sorted(resource.get("Properties", {}).items())
                if name in REPLACING[resource["Type"]]
            },
            "policies": [resource.get(policy, "Delete") for policy in POLICIES],
        }
        for stack, template in templates.items()
        for name, resource in sorted(template["Resources"].items())
        if resource["Type"] in REPLACING
    }


def templates_in(folder: Path, stage: str) -> dict[str, dict[str, Any]]:
    """The stage's templates in a folder that ``cdk synth`` wrote. Raises FileNotFoundError naming the command."""
    found = {stack: folder / f"inference-{stage}-{stack}.template.json" for stack in STACKS}
    if not found["data"].is_file():
        raise FileNotFoundError(f"{folder} holds no {found['data'].name}: run `npx cdk synth -q -c stage={stage}`")
    return {stack: json.loads(path.read_text()) for stack, path in found.items() if path.is_file()}


def baseline() -> Resources:
    found: Resources = json.loads(BASELINE.read_text())
    return found


def replacements(before: Resources, after: Resources) -> Iterator[str]:
    """What a deployment would replace or stop protecting, one sentence each."""
    for name, was in before.items():
        now = after.get(name)
        if now is None or now["type"] != was["type"]:
            yield f"{name} ({was['type']}) would be removed, and another made in its place if its id changed"
            continue
        for changed in sorted({*was["properties"], *now["properties"]}):
            old, new = was["properties"].get(changed), now["properties"].get(changed)
            if old != new:
                yield f"{name} would be replaced by an empty one: {changed} changes from {_short(old)} to {_short(new)}"
        for policy, old, new in zip(POLICIES, was["policies"], now["policies"], strict=True):
            if old == "Retain" != new:
                yield f"{name} would no longer outlive its stack: {policy} changes from {old} to {new}"
    for name in after.keys() - before.keys():
        yield f"{name} ({after[name]['type']}) is new and nothing protects it yet: run the command below"


def lines(resources: Resources) -> str:
    """The baseline as it is kept: one that shows in a diff what changed."""
    return json.dumps(resources, indent=2, sort_keys=True) + "\n"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def explain(found: Iterable[str]) -> str:
    return "\n".join(
        [
            "This change would replace or expose what must stay:",
            *(f"- {one}" for one in found),
            "Give the construct its old id and property back.",
            "If it is meant, move the data first (docs/runbooks/restore.md), then write the new state down with",
            "`python -m infra.operations protect --write` and have it reviewed.",
        ]
    )
