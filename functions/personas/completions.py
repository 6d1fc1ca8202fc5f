"""Drafts personas with a language model. The model returns only the fields to change."""

import json
from typing import Any

from shared.clock import Clock, utc_now
from shared.errors import ValidationFailedError
from shared.llm.language_models import Caller, LanguageModelAccess
from shared.llm.windows import fit
from shared.models.chat import Message, Role
from shared.models.inference_log import CallType
from shared.models.persona import PersonaUpdate
from shared.models.persona_completion import PersonaCompletion, PersonaCompletionCreate
from shared.spaces.members import SpaceContext

FIELDS = ("name", "birthdate", "notes")
DATA_CHANGES = 20
COMPLETION_TOKENS = 800
SHOWN_CHARACTERS = 8000

_INSTRUCTIONS = (
    "You help to draft a persona, a description of one customer. Answer with the fields that the user's last message "
    "changes and only those, their new values, and a short message to the user. `birthdate` is YYYY-MM-DD. Other facts "
    "about the customer go to `data` as field and value."
)
_TEXT = {"type": "string", "maxLength": 300}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 200},
        "birthdate": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
        "notes": {"type": "string", "maxLength": 1500},
        "data": {
            "type": "array",
            "maxItems": DATA_CHANGES,
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string", "minLength": 1, "maxLength": 100},
                    "value": {"anyOf": [_TEXT, {"type": "number"}, {"type": "boolean"}, {"type": "null"}]},
                },
                "required": ["field", "value"],
                "additionalProperties": False,
            },
        },
        "message": _TEXT,
    },
    "required": ["message"],
    "additionalProperties": False,
}


class PersonaCompletionService:
    def __init__(self, access: LanguageModelAccess, clock: Clock = utc_now) -> None:
        self._access = access
        self._clock = clock

    async def complete(
        self, context: SpaceContext, request: PersonaCompletionCreate, correlation_id: str
    ) -> PersonaCompletion:
        """Returns the changed draft of a persona.

        Raises ValidationFailedError for a draft that is too long, ContextOverflowError for a prompt that is too long
        for the model, and the errors of the language model.
        """
        current = json.dumps(request.current_persona, ensure_ascii=False)
        if len(current) > SHOWN_CHARACTERS:
            raise ValidationFailedError.of(
                "body.current_persona", f"has more than {SHOWN_CHARACTERS:,} characters as JSON: shorten it"
            )
        models = await self._access.open(Caller.of(context, correlation_id))
        model = await models.model(None)
        system = Message(role=Role.SYSTEM, content=f"{_INSTRUCTIONS}\nThe persona so far: {current}")
        talk = [*request.history, Message(role=Role.USER, content=request.prompt)]
        shown = [message.for_model() for message in await fit(models, model, [system], talk, COMPLETION_TOKENS)]
        changes, record = await models.structured(
            CallType.PERSONA, model.id, shown, "persona", _SCHEMA, COMPLETION_TOKENS
        )
        persona, changed, refused = _merged(request.current_persona, changes, self._clock().date().isoformat())
        usage = {
            "prompt_tokens": record.input_tokens,
            "completion_tokens": record.output_tokens,
            "total_tokens": record.input_tokens + record.output_tokens,
        }
        return PersonaCompletion(
            persona=persona,
            changed=changed,
            refused=refused,
            message=changes["message"],
            model=record.model,
            usage=usage,
        )


def _merged(
    current: dict[str, Any], changes: dict[str, Any], today: str
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Returns the draft with its valid changes, the names of the changed fields, and the names of invalid fields."""
    persona, changed, refused = dict(current), [], []
    data = {**_object(current.get("data")), **{each["field"]: each["value"] for each in changes.get("data", ())}}
    values = {name: changes[name] for name in FIELDS if name in changes} | (
        {"data": data} if changes.get("data") else {}
    )
    for name, value in values.items():
        try:
            checked = getattr(PersonaUpdate.model_validate({name: value}), name)
        except ValueError:
            refused.append(name)
            continue
        if name == "birthdate" and checked > today:
            refused.append(name)
        elif current.get(name) != checked:
            persona[name] = checked
            changed.append(name)
    return persona, changed, refused


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
