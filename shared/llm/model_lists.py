"""Lists the models of clusters, and reads each list at most once a minute."""

from anyio.to_thread import run_sync as in_thread

from shared.clock import Clock, utc_now
from shared.errors import ApiError
from shared.llm.circuits import MODEL_LIST
from shared.llm.clusters import Clusters, ModelList
from shared.llm.targets import Target


class ModelLists:
    def __init__(self, clusters: Clusters, clock: Clock = utc_now) -> None:
        self._clusters = clusters
        self._clock = clock

    async def current(self, target: Target) -> tuple[ModelList, bool]:
        """Returns the list of the models, and whether it is stale. It is stale while the cluster does not respond.

        Raises the error of the cluster if there is no earlier list.
        """
        known = target.state.models
        if known is not None and known.is_fresh(self._clock()):
            return known, False
        try:
            async with target.circuits.around(MODEL_LIST):
                models = await target.upstream.models()
        except ApiError:
            if known is None:
                raise
            return known, True
        return await in_thread(self._clusters.save_models, target.owner, models), False
