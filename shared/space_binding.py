"""Binds a unit of work to its space, so that AWS calls for another space can be refused."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")

# The space of the current request or workflow step. Work for no space, or for several, is not bound.
bound_space: ContextVar[str | None] = ContextVar("bound_space", default=None)


class BoundThreads(ThreadPoolExecutor):
    """Threads that work for the space of the code that submits the work. Plain pools forget it."""

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        return super().submit(copy_context().run, function, *args, **kwargs)


# A function handles one request at a time; the development server handles several.
_ASIDE = BoundThreads(16, "aside")


@contextmanager
def aside(function: Callable[..., T], *arguments: Any) -> Iterator["Future[T]"]:
    """Lets a function work beside the block, for the same space. It has ended when the block ends."""
    future = _ASIDE.submit(function, *arguments)
    try:
        yield future
    finally:
        wait([future])
