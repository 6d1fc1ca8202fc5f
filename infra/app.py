"""Packages and synthesises one stage: ``cdk synth -c stage=local|dev|staging|prod``."""

from pathlib import Path

import aws_cdk as cdk

from infra import nag, package
from infra.groups import GROUPS
from infra.settings import OVERRIDABLE, StageSettings, stage_settings
from infra.stacks.api import ApiStack
from infra.stacks.data import DataStack
from infra.stacks.observability import ObservabilityStack
from infra.stacks.workflows import WorkflowsStack


def add_stacks(app: cdk.App, settings: StageSettings, build: Path) -> dict[str, cdk.Stack]:
    """Adds the stacks of one stage in deployment order. ``build`` is the folder that infra.package writes."""
    data = DataStack(app, settings=settings)
    api = ApiStack(app, settings=settings, data=data, build=build, groups=GROUPS)
    workflows = WorkflowsStack(app, settings=settings, data=data, build=build, api_url=api.url)
    stacks: dict[str, cdk.Stack] = {"data": data, "api": api, "workflows": workflows}
    if settings.observability:
        stacks["observability"] = ObservabilityStack(app, settings=settings, data=data, api=api, workflows=workflows)
    cdk.Tags.of(app).add("application", "inference-api")
    cdk.Tags.of(app).add("stage", settings.stage)
    return stacks


def synthesise(app: cdk.App, settings: StageSettings, build: Path) -> None:
    """Writes the stage's cloud assembly. cdk-nag checks every stage that is deployed to AWS."""
    add_stacks(app, settings, build)
    if settings.stage != "local":
        nag.check(app)
    app.synth()


def main() -> None:
    app = cdk.App()
    overrides = {name: app.node.try_get_context(name) for name in OVERRIDABLE}
    try:
        settings = stage_settings(app.node.try_get_context("stage"), overrides)
        # A deployment of an older build would go unnoticed.
        package.build(package.BUILD, settings.stage)
    except (ValueError, package.PackagingError) as error:
        raise SystemExit(str(error)) from None
    synthesise(app, settings, package.BUILD)


if __name__ == "__main__":
    main()
