"""Rules of experts."""

from collections.abc import Callable

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.repository import Idempotency
from shared.errors import ConflictError, PreconditionFailedError, ValidationFailedError
from shared.experts.store import Experts
from shared.llm.json_schemas import check_parameters
from shared.llm.tokens import estimate_tokens
from shared.models.base import Deleted, Page
from shared.models.expert import Expert, ExpertCreate, ExpertUpdate, ExpertVersion
from shared.spaces.members import SpaceContext

UPDATE_ATTEMPTS = 5
# The tokens of prompt and answer that the space's models take, where that is known.
Window = Callable[[str], int | None]


class ExpertService:
    def __init__(self, experts: Experts, window: Window, clock: Clock = utc_now) -> None:
        self._experts = experts
        self._window = window
        self._clock = clock

    def create(self, context: SpaceContext, request: ExpertCreate, idempotency: Idempotency | None) -> Expert:
        now = self._clock()
        expert = Expert(id=new_id(), created_at=now, updated_at=now, **request.model_dump())
        self._check(context, expert)
        return self._experts.create(context.space_id, expert, idempotency)

    def list_after(self, context: SpaceContext, after: str, limit: int) -> Page[Expert]:
        return self._experts.list_after(context.space_id, after, limit)

    def get(self, context: SpaceContext, expert_id: str) -> Expert:
        return self._experts.get(context.space_id, expert_id)

    def update(
        self, context: SpaceContext, expert_id: str, request: ExpertUpdate, expected_version: int | None
    ) -> Expert:
        """Updates an expert; every change makes a version. Raises as a create does, and PreconditionFailedError."""
        for _ in range(UPDATE_ATTEMPTS):
            current = self._experts.get(context.space_id, expert_id)
            if expected_version not in (None, current.version):
                raise PreconditionFailedError(
                    "The entity was changed since you read it. Get it again and use its new ETag."
                )
            changes = request.changes()
            if not changes:
                return current
            changed = current.model_copy(update=changes)
            self._check(context, changed)
            try:
                return self._experts.update(context.space_id, changed, expected_version)
            except ConflictError:
                continue  # somebody else's change came between: make this one on top of it
        raise ConflictError("Others are changing the expert at the same time. Try again in a moment.")

    def delete(self, context: SpaceContext, expert_id: str, expected_version: int | None) -> Deleted:
        return self._experts.delete(context.space_id, expert_id, expected_version)

    def versions(self, context: SpaceContext, expert_id: str, before: int | None, limit: int) -> Page[ExpertVersion]:
        return self._experts.versions(context.space_id, expert_id, before, limit)

    def _check(self, context: SpaceContext, expert: Expert) -> None:
        for index, tool in enumerate(expert.tools):
            check_parameters(tool.function.parameters, f"body.tools.{index}.function.parameters")
        text = "\n".join([expert.context or "", *(file.content for file in expert.file_context)])
        tokens, window = estimate_tokens(text), self._window(context.space_id)
        if window is not None and tokens > window:
            raise ValidationFailedError.of(
                "body.context",
                f"context and files have about {tokens} tokens; the longest window of the space's models is {window}. "
                "Shorten them",
            )
