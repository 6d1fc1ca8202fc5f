"""Whether trainings of a space can use an architecture: its weights must be there, and their license must allow it."""

from collections.abc import Collection

from shared.errors import ApiError, ConflictError, PermissionDeniedError
from shared.models.job import JobWeights
from shared.propensity.architectures.registry import ArchitectureDescription, describe_architecture
from shared.settings import Settings

# SPDX identifiers of licenses that allow commercial use.
COMMERCIAL_LICENSES = frozenset(
    {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "CC0-1.0", "ISC", "MIT", "Unlicense"}
)


def weights_of(architecture: ArchitectureDescription, settings: Settings) -> JobWeights | None:
    """Returns the weights that the operator put into the bucket for an architecture, if it needs some."""
    sha256, stated = settings.tabicl_weights_sha256, settings.tabicl_weights_license
    if not (architecture.weights_key and sha256 and stated):
        return None
    return JobWeights(bucket=settings.bucket_name, key=architecture.weights_key, sha256=sha256, license=stated)


def obstacle(
    architecture: ArchitectureDescription, settings: Settings, accepted_licenses: Collection[str]
) -> ApiError | None:
    """Returns why a space cannot use an architecture, if it cannot."""
    weights = weights_of(architecture, settings)
    if architecture.weights_key and not weights:
        return ConflictError(
            f"This deployment has no weights for the architecture {architecture.name}. Its operator has to put them "
            f"into the bucket as {architecture.weights_key}, and to state their license and checksum. Until then, "
            "choose another architecture."
        )
    for needed in (architecture.license, *([weights.license] if weights else [])):
        if needed not in COMMERCIAL_LICENSES and needed not in accepted_licenses:
            return PermissionDeniedError(
                f"The architecture {architecture.name} has the license {needed}, which is not known to allow "
                "commercial use. An owner of the space has to accept it first: PUT /spaces/{id} with "
                f'accepted_licenses ["{needed}"]. Or choose another architecture.'
            )
    return None


def require_available(name: str, settings: Settings, accepted_licenses: Collection[str]) -> None:
    """Raises ConflictError without the weights of an architecture, and PermissionDeniedError for their license."""
    if found := obstacle(describe_architecture(name), settings, accepted_licenses):
        raise found
