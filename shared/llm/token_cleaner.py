"""Removes tokens that no cluster uses: replaced tokens, and the tokens of failed requests."""

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
    """A remover of tokens. It uses the cleanup list ``cluster#purges``, which keeps the names after a cluster's end."""

    def __init__(self, table: Table, tokens: ClusterTokens, clock: Clock = utc_now) -> None:
        self.purges = CleanupList(table, "cluster", clock)
        self._clusters = Repository(table, Cluster, kind="cluster")
        self._tokens = tokens

    @contextmanager
    def watching(self, space_id: str, *parameters: str | None) -> Iterator[None]:
        """Removes the parameters at the end of the block, except the parameters that the space's cluster uses.

        After any error except an ApiError, it is unknown whether the write took effect, so the reconciler checks later.
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
            logger.exception("cannot remove a token: the reconciler will try again", extra={"space_id": space_id})

    def clean(self, space_id: str, parameter: str) -> None:
        """Removes a token unless the cluster uses it. The call can be repeated."""
        with self.purges.settling(parameter):
            cluster = self._clusters.get_many(space_id, [space_id]).get(space_id)
            named = {cluster.token_parameter, cluster.manager_token_parameter} if cluster else set()
            if parameter not in named:
                self._tokens.forget(parameter)
