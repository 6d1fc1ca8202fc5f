"""Rules of the list of language models."""

from collections.abc import Sequence

from shared.errors import ApiError, UnavailableError
from shared.llm.language_models import LanguageModelAccess
from shared.models.cluster import LanguageModel
from shared.store.members import Scope


class ModelService:
    def __init__(self, access: LanguageModelAccess) -> None:
        self._access = access

    async def list(self, scope: Scope) -> tuple[Sequence[LanguageModel], bool]:
        """The models, and whether the list is an old one. Raises UnavailableError where none can be had."""
        target = await self._access.targets.target(scope.space_id)
        try:
            found, is_stale = await self._access.lists.current(target)
        except UnavailableError:
            raise
        except ApiError as error:
            raise UnavailableError(f"The cluster lists no models just now. {error.message}") from error
        return found.models, is_stale
