"""Rules of the list of language models."""

from collections.abc import Sequence

from shared.errors import ApiError
from shared.llm.completions import blame_deployment
from shared.llm.model_lists import ModelLists
from shared.llm.targets import Targets
from shared.models.cluster import LanguageModel
from shared.spaces.members import SpaceContext


class ModelService:
    def __init__(self, targets: Targets, lists: ModelLists) -> None:
        self._targets = targets
        self._lists = lists

    async def list(self, context: SpaceContext) -> tuple[Sequence[LanguageModel], bool]:
        """Returns the models, and whether the list is stale. Raises the error of the cluster if there is no list."""
        target = await self._targets.target(context.space_id)
        try:
            found, is_stale = await self._lists.current(target)
        except ApiError as error:
            if target.is_shared:
                blame_deployment(error)
            raise
        return found.models, is_stale
