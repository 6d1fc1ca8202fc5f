"""Defines the routes of the architectures that trainings can use."""

from shared.http.routers import CurrentContext, GroupRouter
from shared.models.architecture import Architectures, PublishedArchitecture
from shared.propensity.architectures.registry import ARCHITECTURES, DEFAULT_ARCHITECTURE

router = GroupRouter("trainings", prefix="/architectures")


@router.get("", extension=True)
def list_architectures(_: CurrentContext) -> Architectures:
    """List the architectures that a training can use, with the schemas of their configurations."""
    return _published()


def _published() -> Architectures:
    return Architectures(
        data=[
            PublishedArchitecture(
                name=each.name,
                title=each.title,
                is_default=each.name == DEFAULT_ARCHITECTURE,
                license=each.license,
                source=each.source,
                uses_gpus=each.uses_gpus,
                uses_several_gpus=each.uses_workers,
                uses_several_instances=each.uses_workers,
                exceeds_memory=each.exceeds_memory,
                explains_exactly=each.explains_exactly,
                in_auto=each.in_auto or None,
                configuration=each.configuration.model_json_schema(),
            )
            for each in ARCHITECTURES.values()
        ]
    )
