"""Names the nearest known name for an unknown one."""

from collections.abc import Collection, Iterable

from shared.errors import Detail, ValidationFailedError

DETAILS_LIMIT = 100
NAME_CHARACTERS = 100


def require_known_parameters(given: Iterable[str], known: Collection[str]) -> None:
    """Raises ValidationFailedError for a query parameter that the operation does not take."""
    unknown = dict.fromkeys(name for name in given if name not in known)
    if unknown:
        details = [
            Detail(f"query.{name[:NAME_CHARACTERS]}", f"is not known: {nearest(name, known, 'parameters')}")
            for name in unknown
        ][:DETAILS_LIMIT]
        raise ValidationFailedError(f"{details[0].field}: {details[0].message}", details)


def nearest(name: str, known: Collection[str], what: str) -> str:
    """Returns the hint for an unknown name."""
    # Few requests need it, and every import makes a cold start longer.
    from difflib import get_close_matches

    by_letters = {"".join(filter(str.isalnum, each)).casefold(): each for each in known}
    near = get_close_matches("".join(filter(str.isalnum, name[:NAME_CHARACTERS])).casefold(), by_letters, n=1)
    if near:
        return f"did you mean {by_letters[near[0]]}?"
    return f"the {what} are {', '.join(known)}" if known else f"this takes no {what}"
