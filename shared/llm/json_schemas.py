"""JSON schemas that clients give us."""

from typing import Any

from shared.errors import ValidationFailedError


def check_parameters(parameters: dict[str, Any], field: str) -> None:
    """Raises ValidationFailedError, naming ``field``, for what is no JSON schema of an object, or asks for another."""
    import jsonschema_rs

    try:
        jsonschema_rs.meta.validate(parameters)
        # A reference to an address would have us call it.
        jsonschema_rs.validator_for(parameters, offline=True)
    except jsonschema_rs.ValidationError as error:
        where = "/".join(str(part) for part in error.instance_path)
        raise ValidationFailedError.of(
            field, f"is no valid JSON schema{f' at {where}' if where else ''}: {error.message[:300]}"
        ) from None
    if parameters.get("type", "object") != "object":
        raise ValidationFailedError.of(field, 'must describe an object: {"type": "object", ...}')
