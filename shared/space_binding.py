"""Binds a unit of work to its space, so that AWS calls for another space can be refused."""

from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import Any

# The space of the current request or workflow step. Work for no space, or for several, is not bound.
bound_space: ContextVar[str | None] = ContextVar("bound_space", default=None)


class BoundThreads(ThreadPoolExecutor):
    """Threads that work for the space of the code that submits the work. Plain pools forget it."""

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        return super().submit(copy_context().run, function, *args, **kwargs)
