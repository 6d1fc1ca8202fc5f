"""Checks JSON schemas that clients send."""

from typing import Any

from shared.errors import ValidationFailedError


def check_parameters(parameters: dict[str, Any], field: str) -> None:
    """Raises ValidationFailedError for ``field`` unless ``parameters`` is a JSON schema of an object."""
    import jsonschema_rs

    try:
        jsonschema_rs.meta.validate(parameters)
        # Offline, because otherwise the validator fetches every address that the schema refers to.
        jsonschema_rs.validator_for(parameters, offline=True)
    except jsonschema_rs.ValidationError as error:
        where = "/".join(str(part) for part in error.instance_path)
        raise ValidationFailedError.of(
            field, f"is not a valid JSON schema{f' at {where}' if where else ''}: {error.message[:300]}"
        ) from None
    except (jsonschema_rs.ReferencingError, ValueError) as error:
        raise ValidationFailedError.of(
            field, f"is not a JSON schema that can be checked without other documents: {str(error)[:300]}"
        ) from None
    if parameters.get("type", "object") != "object":
        raise ValidationFailedError.of(field, 'must describe an object: {"type": "object", ...}')
