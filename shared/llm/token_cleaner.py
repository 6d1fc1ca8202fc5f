"""Removes tokens of clusters that no cluster names: replaced ones, and those of a request that came to nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from shared.clock import Clock, utc_now
from shared.dynamodb.cleanup_list import CleanupList
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Table
from shared.errors import ApiError
from shared.llm.cluster_tokens import ClusterTokens
from shared.models.cluster import Cluster
from shared.observability import logger


class TokenCleaner:
    """Removes tokens by the list ``cluster#purges``. The list names parameters, because they outlive the cluster."""

    def __init__(self, table: Table, tokens: ClusterTokens, clock: Clock = utc_now) -> None:
        self.purges = CleanupList(table, "cluster", clock)
        self._clusters = Repository(table, Cluster, kind="cluster")
        self._tokens = tokens

    @contextmanager
    def watching(self, space_id: str, *parameters: str | None) -> Iterator[None]:
        """Of these parameters only those stay that the space's cluster names in the end.

        What fails otherwise than by our own refusal may still take effect: the reconciler looks again later.
        """
        watched = [each for each in parameters if each is not None]
        for parameter in watched:
            self.purges.write(self.purges.note(space_id, parameter))
        try:
            yield
        except ApiError:
            self._try_to_clean(space_id, watched)
            raise
        self._try_to_clean(space_id, watched)

    def _try_to_clean(self, space_id: str, parameters: Sequence[str]) -> None:
        try:
            for parameter in parameters:
                self.clean(space_id, parameter)
        except (ClientError, BotoCoreError):
            logger.exception("a token may remain: the reconciler looks again", extra={"space_id": space_id})

    def clean(self, space_id: str, parameter: str) -> None:
        """Removes a token that is not in use. Safe to repeat."""
        cluster = self._clusters.get_many(space_id, [space_id]).get(space_id)
        named = {cluster.token_parameter, cluster.manager_token_parameter} if cluster else set()
        if parameter not in named:
            self._tokens.forget(parameter)
        self.purges.write(self.purges.done(parameter))
