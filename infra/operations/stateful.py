"""Finds changes that would replace resources that hold data or that clients know by name.

CloudFormation replaces a resource when its logical id or one of certain properties changes, and its data is then
orphaned or lost. The baseline stateful_resources.json records both, so that a review shows each change of them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

BASELINE = Path(__file__).parent.parent / "stateful_resources.json"
STACKS = ("data", "api", "workflows", "observability")

# Properties that cannot change without replacement, from CloudFormation's reference of each type.
REPLACING = {
    "AWS::ApiGateway::RestApi": (),
    "AWS::Cognito::UserPool": ("AliasAttributes", "Schema", "UsernameAttributes", "UsernameConfiguration"),
    "AWS::Cognito::UserPoolClient": ("GenerateSecret", "UserPoolId"),
    "AWS::DynamoDB::Table": ("ImportSourceSpecification", "KeySchema", "LocalSecondaryIndexes", "TableName"),
    "AWS::KMS::Key": ("KeySpec", "KeyUsage", "MultiRegion", "Origin"),
    "AWS::S3::Bucket": ("BucketName", "BucketNamePrefix"),
    "AWS::SecretsManager::Secret": ("Name",),
}
# The console asks for the id of its client at each start, so a new client harms nobody.
REPLACEABLE = ("api", "AWS::Cognito::UserPoolClient")
POLICIES = ("DeletionPolicy", "UpdateReplacePolicy")
TemplateResources = dict[str, dict[str, Any]]


def stateful(templates: Mapping[str, Mapping[str, Any]]) -> TemplateResources:
    """Returns the stateful resources of templates by ``stack/LogicalId``, with the values that must not change."""
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
        if resource["Type"] in REPLACING and (stack, resource["Type"]) != REPLACEABLE
    }


def templates_in(folder: Path, stage: str) -> dict[str, dict[str, Any]]:
    """Reads the stage's templates from the folder of ``cdk synth``. Raises FileNotFoundError if there are none."""
    found = {stack: folder / f"inference-{stage}-{stack}.template.json" for stack in STACKS}
    if not found["data"].is_file():
        raise FileNotFoundError(
            f"{folder} does not contain {found['data'].name}: run `npx cdk synth -q -c stage={stage}`"
        )
    return {stack: json.loads(path.read_text()) for stack, path in found.items() if path.is_file()}


def baseline() -> TemplateResources:
    found: TemplateResources = json.loads(BASELINE.read_text())
    return found


def replacements(before: TemplateResources, after: TemplateResources) -> Iterator[str]:
    """Yields a sentence for each resource that a deployment would replace or stop protecting."""
    for name, was in before.items():
        now = after.get(name)
        if now is None or now["type"] != was["type"]:
            yield f"{name} ({was['type']}) would be removed (a changed id makes a new resource)"
            continue
        for changed in sorted({*was["properties"], *now["properties"]}):
            old, new = was["properties"].get(changed), now["properties"].get(changed)
            if old != new:
                yield f"{name} would be replaced by an empty one: {changed} changes from {_short(old)} to {_short(new)}"
        for policy, old, new in zip(POLICIES, was["policies"], now["policies"], strict=True):
            if old == "Retain" != new:
                yield f"{name} would no longer outlive its stack: {policy} changes from {old} to {new}"
    for name in after.keys() - before.keys():
        yield f"{name} ({after[name]['type']}) is new and not protected yet: run the command below"


def lines(resources: TemplateResources) -> str:
    """Returns the text of the baseline file, which shows each change in a diff."""
    return json.dumps(resources, indent=2, sort_keys=True) + "\n"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def explain(found: Iterable[str]) -> str:
    return "\n".join(
        [
            "This change would replace resources or stop protecting them:",
            *(f"- {one}" for one in found),
            "Restore the old id or property of the construct.",
            "If the change is intended, move the data first (docs/runbooks/restore.md), then update the baseline with",
            "`python -m infra.operations protect --write` and have it reviewed.",
        ]
    )
