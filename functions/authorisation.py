"""Writes the table of authorisation as a page: ``python -m functions.authorisation``."""

from itertools import groupby
from pathlib import Path

from shared.http.authorisation import TABLE, AccessRule, AllowedCaller

PAGE = Path(__file__).parents[1] / "docs" / "authorisation.md"

_HEAD = """# Who may call what

<!-- Printed by `make authorisation` from shared/http/authorisation.py. Change it there. -->

Every operation has a row, and the routers enforce the rows before they read a body. `PUT` is also `PATCH`. In each
column:

- **Member**: a member of the space; `a:b` is the permission that the member needs. The owner of the space has all.
- **Key**: the scopes of which an API key needs one. A key never does more than its user, and nothing that only the
  owner may.
- **User**: a signed-in user who does not belong to the space. **Nobody**: a caller without a token.
- **Carries data out**: the operation takes data out of the space, or decides where data goes or comes from. Such an
  operation is the owner's.

Everybody else gets 401 without a valid token, 404 for a space that is not theirs, and 403 with the missing right.
"""
_COLUMNS = ("Operation", "Owner", "Member", "Key", "User", "Nobody", "Carries data out, and other rules")


def page() -> str:
    """Returns the page."""
    sections = [
        f"## {group}\n\n| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}\n" + "".join(_row(*each) for each in rows)
        for group, rows in groupby(TABLE.items(), key=lambda each: each[0].split("/")[1])
    ]
    return "\n".join([_HEAD, *sections])


def _row(operation: str, rule: AccessRule) -> str:
    remarks = [
        f"**It {rule.carries_out}.**" if rule.carries_out else "",
        *(f"`{name}`: {reason}." for name, reason in rule.fields.items()),
        f"{rule.note}." if rule.note else "",
    ]
    is_public = rule.caller is AllowedCaller.ANYONE
    cells = (
        f"`{operation.replace(':path', '')}`",
        "no" if rule.caller is AllowedCaller.SERVICE else "yes",
        _member(rule),
        " ".join(f"`{scope}`" for scope in rule.scopes) or ("yes" if is_public else "no"),
        "yes" if is_public or rule.caller is AllowedCaller.USER else "no",
        {AllowedCaller.ANYONE: "yes", AllowedCaller.SERVICE: "with the webhook secret"}.get(rule.caller, "no"),
        " ".join(filter(None, remarks)),
    )
    return f"| {' | '.join(cells)} |\n"


def _member(rule: AccessRule) -> str:
    words = {
        AllowedCaller.CREATOR: "the creator",
        AllowedCaller.SELF: "themselves",
        AllowedCaller.OWNER: "no",
        AllowedCaller.FORMER_OWNER: "no",
        AllowedCaller.SERVICE: "no",
    }
    return f"`{rule.permission}`" if rule.permission else words.get(rule.caller, "yes")


if __name__ == "__main__":
    PAGE.write_text(page())
