"""Defines the routes of the architectures that trainings can use."""

from shared.dependencies import CurrentResources
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.architecture import Architectures, PublishedArchitecture
from shared.propensity.architectures.registry import ARCHITECTURES, DEFAULT_ARCHITECTURE, ArchitectureDescription
from shared.settings import Settings
from shared.spaces.members import SpaceContext
from shared.trainings.availability import obstacle, weights_of

router = GroupRouter("trainings", prefix="/architectures")


@router.get("", extension=True)
def list_architectures(context: CurrentContext, resources: CurrentResources) -> Architectures:
    """List the architectures that a training can use, with the schemas of their configurations."""
    settings = resources.settings
    return Architectures(data=[_published(each, settings, context) for each in ARCHITECTURES.values()])


def _published(each: ArchitectureDescription, settings: Settings, context: SpaceContext) -> PublishedArchitecture:
    weights, missing = weights_of(each, settings), obstacle(each, settings, context.accepted_licenses)
    return PublishedArchitecture(
        name=each.name,
        title=each.title,
        is_default=each.name == DEFAULT_ARCHITECTURE,
        license=each.license,
        source=each.source,
        weights_license=weights and weights.license,
        is_available=missing is None,
        unavailable_because=missing and str(missing),
        uses_gpus=each.uses_gpus,
        uses_several_gpus=each.uses_workers,
        uses_several_instances=each.uses_workers,
        exceeds_memory=each.exceeds_memory,
        explains_exactly=each.explains_exactly,
        in_auto=each.in_auto or None,
        configuration=each.configuration.model_json_schema(),
    )
