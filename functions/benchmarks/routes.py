"""Benchmarks over HTTP."""

from typing import Annotated

from fastapi import Depends, Response

from functions.benchmarks.service import BenchmarkService
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.parameters import ExpectedVersion, IdempotencyKey, PageNumber, page_number, tagged
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.base import Deleted, Page
from shared.models.benchmark import Benchmark, BenchmarkCreate, BenchmarkUpdate

router = GroupRouter("benchmarks")


async def _service(resources: CurrentResources) -> BenchmarkService:
    return BenchmarkService(resources.table, resources.clock)


CurrentBenchmarkService = Annotated[BenchmarkService, Depends(_service)]


@router.get("", responses=errors(403))
def list_benchmarks(
    context: CurrentContext, service: CurrentBenchmarkService, page: PageNumber = page_number("page_size")
) -> Page[Benchmark]:
    """List the benchmarks of the space, newest first."""
    return service.list_page(context, page.number, page.size)


@router.post("", status_code=201, responses=errors(403, 409))
def create_benchmark(
    body: BenchmarkCreate,
    context: CurrentContext,
    service: CurrentBenchmarkService,
    idempotency: IdempotencyKey,
    response: Response,
) -> Benchmark:
    """Create a benchmark: the files to measure on and the metrics to measure."""
    return tagged(response, service.create(context, body, idempotency))


@router.delete("/{id}", responses=errors(403, 412))
def delete_benchmark(
    id: str, context: CurrentContext, service: CurrentBenchmarkService, expected_version: ExpectedVersion
) -> Deleted:
    """Delete a benchmark; its past results stay on the leaderboards."""
    return service.delete(context, id, expected_version)


@router.get("/{id}", responses=errors(403))
def get_benchmark(id: str, context: CurrentContext, service: CurrentBenchmarkService, response: Response) -> Benchmark:
    """Get a benchmark."""
    return tagged(response, service.get(context, id))


@router.update("/{id}", responses=errors(403, 412))
def update_benchmark(
    id: str,
    body: BenchmarkUpdate,
    context: CurrentContext,
    service: CurrentBenchmarkService,
    expected_version: ExpectedVersion,
    response: Response,
) -> Benchmark:
    """Update the fields that are sent; other connectors or metrics make a new revision."""
    return tagged(response, service.update(context, id, body, expected_version))
