"""Limits how many spaces a user may own, because the limits of jobs and storage are for each space."""

from boto3.dynamodb.conditions import Attr

from shared.dynamodb.codec import StringSet
from shared.dynamodb.table import Key, Table, Write, update
from shared.errors import LimitReachedError
from shared.spaces.members import Members

OWNED_SPACES_LIMIT = 50


class OwnedSpaces:
    """A store of the spaces that each user has created. It forgets deleted ones when their places are needed."""

    def __init__(self, table: Table, members: Members) -> None:
        self._table = table
        self._members = members

    def add(self, user_id: str, space_id: str) -> Write:
        """Returns the write for the transaction that creates a space. Raises LimitReachedError.

        The transaction fails with TransactionFailedError if other spaces were faster.
        """
        key = _key(user_id)
        owned = (self._table.get(key) or {}).get("ids", StringSet())
        if len(owned) >= OWNED_SPACES_LIMIT:
            gone = StringSet(owned - {space.id for space in self._members.get_spaces(owned)})
            if not gone:
                raise LimitReachedError(
                    f"You own {len(owned)} spaces, which is the limit. Delete one that you do not need."
                )
            self._table.write(update(key, {}, take={"ids": gone}))
        room = Attr("ids").not_exists() | Attr("ids").size().lt(OWNED_SPACES_LIMIT)
        return update(key, {}, add={"ids": StringSet({space_id})}, condition=room)

    @staticmethod
    def remove(user_id: str, space_id: str) -> Write:
        """Returns the write that forgets a space."""
        return update(_key(user_id), {}, take={"ids": StringSet({space_id})})


def _key(user_id: str) -> Key:
    return Key(f"membership#{user_id}#owned", "spaces")
