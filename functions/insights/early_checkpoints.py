"""Reads checkpoints while the history of a customer is read, because neither read needs the other."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

from shared.checkpoints.aliases import CheckpointAliases
from shared.models.action import Action
from shared.models.checkpoint import Checkpoint
from shared.space_binding import aside


class EarlyCheckpoints:
    """The checkpoints of one request. Within ``begun``, those of its actions are on their way."""

    def __init__(self, aliases: CheckpointAliases) -> None:
        self._aliases = aliases
        self._asked: set[str] = set()
        self._reading: Future[dict[str, Checkpoint]] = Future()
        # Without ``begun``, nothing is on its way.
        self._reading.set_result({})

    @contextmanager
    def begun(self, space_id: str, actions: Sequence[Action]) -> Iterator[None]:
        self._asked = {action.model_id for action in actions if action.model_id}
        with aside(self._aliases.checkpoints, space_id, sorted(self._asked)) as self._reading:
            yield

    def checkpoints(self, space_id: str, references: list[str]) -> dict[str, Checkpoint]:
        """Returns the existing checkpoints, by the requested id or alias."""
        early = self._reading.result()
        found = {each: early[each] for each in references if each in early}
        # An arm of an experiment may have another model than its action.
        return found | self._aliases.checkpoints(space_id, [each for each in references if each not in self._asked])
