"""Creates, reads, updates and deletes personas."""

from datetime import UTC

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.repository import Idempotency
from shared.dynamodb.table import Table
from shared.errors import ValidationFailedError
from shared.models.base import Deleted, Page
from shared.models.persona import Persona, PersonaCreate, PersonaUpdate
from shared.personas.store import Personas
from shared.spaces.members import SpaceContext


class PersonaService:
    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._personas = Personas(table, clock)
        self._clock = clock

    def create(self, context: SpaceContext, request: PersonaCreate, idempotency: Idempotency | None) -> Persona:
        self._check_past(request.birthdate)
        now = self._clock()
        persona = Persona(
            id=new_id(),
            created_at=now,
            updated_at=now,
            created_by=context.user_id,
            updated_by=context.user_id,
            **request.model_dump(),
        )
        return self._personas.create(context.space_id, persona, idempotency)

    def list_after(self, context: SpaceContext, after: str, limit: int) -> Page[Persona]:
        return self._personas.repository.list_after(context.space_id, after, limit)

    def get(self, context: SpaceContext, persona_id: str) -> Persona:
        return self._personas.repository.get(context.space_id, persona_id)

    def update(
        self, context: SpaceContext, persona_id: str, request: PersonaUpdate, expected_version: int | None
    ) -> Persona:
        changes = request.changes()
        if not changes:
            return self._personas.repository.update(context.space_id, persona_id, {}, expected_version=expected_version)
        if "birthdate" in changes:
            self._check_past(changes["birthdate"])
        return self._personas.update(
            context.space_id, persona_id, {**changes, "updated_by": context.user_id}, expected_version
        )

    def delete(self, context: SpaceContext, persona_id: str, expected_version: int | None) -> Deleted:
        return self._personas.delete(context.space_id, persona_id, expected_version)

    def _check_past(self, birthdate: str) -> None:
        if birthdate > self._clock().astimezone(UTC).date().isoformat():
            raise ValidationFailedError.of("body.birthdate", "is in the future")
