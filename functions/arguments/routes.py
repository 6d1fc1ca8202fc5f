"""Defines the routes of arguments."""

from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response

from functions.arguments.completions import ArgumentCompletionService
from functions.arguments.service import ArgumentService
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.parameters import (
    After,
    ExpectedVersion,
    IdempotencyKey,
    Limit,
    PageNumber,
    page_number,
    tagged,
)
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.argument import (
    Argument,
    ArgumentAssignment,
    ArgumentChange,
    ArgumentComment,
    ArgumentCreate,
    ArgumentStatus,
    ArgumentUpdate,
    CommentCreate,
    ReviewStatus,
)
from shared.models.base import Deleted, Page
from shared.models.lineage import Lineage

router = GroupRouter("arguments")


async def _service(resources: CurrentResources) -> ArgumentService:
    return ArgumentService(resources.table, resources.lineages, resources.clock)


async def _completions(resources: CurrentResources) -> ArgumentCompletionService:
    return ArgumentCompletionService(resources.table, resources.lineages, resources.language_models, resources.clock)


CurrentArgumentService = Annotated[ArgumentService, Depends(_service)]
Completions = Annotated[ArgumentCompletionService, Depends(_completions)]
ReviewStatusFilter = Annotated[ReviewStatus | None, Query(description="Only arguments with this review status.")]
ActionId = Annotated[str, Query(max_length=200, description="Only arguments for this action.")]

_FAILED: dict[int | str, dict[str, Any]] = {
    200: {"model": Argument, "description": "The language model wrote no usable argument; `error` has the reason."}
}


@router.get("")
def list_arguments(
    context: CurrentContext,
    service: CurrentArgumentService,
    response: Response,
    status: ReviewStatusFilter = None,
    action_id: ActionId = "",
    page: PageNumber = page_number("page_size", 100),
) -> list[Argument]:
    """List the arguments of the space, newest first; `X-Total-Count` and `X-Has-More` describe the other pages."""
    found = service.list_page(context, page.number, page.size, status, action_id)
    response.headers["X-Total-Count"] = str(found.count)
    response.headers["X-Has-More"] = str(found.has_more).lower()
    return found.data


@router.post("", status_code=201, responses={**_FAILED, **errors(402, 409, 429, 502, 503, 504)})
async def create_argument(
    body: ArgumentCreate,
    request: Request,
    context: CurrentContext,
    completions: Completions,
    idempotency: IdempotencyKey,
    response: Response,
) -> Argument:
    """Let a language model write an argument from the facts of the request. It then waits for its review."""
    argument = await completions.complete(context, body, idempotency, request.state.request_id)
    response.status_code = 200 if argument.status is ArgumentStatus.FAILED else 201
    return tagged(response, argument)


@router.delete("/{id}", responses=errors(412))
def delete_argument(
    id: str, context: CurrentContext, service: CurrentArgumentService, expected_version: ExpectedVersion
) -> Deleted:
    """Delete an argument, its comments and its history."""
    return service.delete(context, id, expected_version)


@router.get("/{id}")
def get_argument(id: str, context: CurrentContext, service: CurrentArgumentService, response: Response) -> Argument:
    """Get an argument."""
    return tagged(response, service.get(context, id))


@router.update("/{id}", responses=errors(403, 409, 412))
def update_argument(
    id: str,
    body: ArgumentUpdate,
    context: CurrentContext,
    service: CurrentArgumentService,
    expected_version: ExpectedVersion,
    response: Response,
) -> Argument:
    """Update the fields of an argument or its review that are sent. The history keeps the previous values."""
    return tagged(response, service.update(context, id, body, expected_version))


@router.post("/queue/next", extension=True)
def take_next_argument(context: CurrentContext, service: CurrentArgumentService, response: Response) -> Argument:
    """Begin to review the argument that has waited longest for you or for anyone. 404 if no argument waits."""
    return tagged(response, service.take_next(context))


@router.post("/{id}/release", extension=True, responses=errors(403, 409, 412))
def release_argument(
    id: str,
    context: CurrentContext,
    service: CurrentArgumentService,
    expected_version: ExpectedVersion,
    response: Response,
) -> Argument:
    """Put an argument that you review at the end of the queue for all reviewers."""
    return tagged(response, service.release(context, id, expected_version))


@router.post("/{id}/assign", extension=True, responses=errors(403, 409, 412))
def assign_argument(
    id: str,
    body: ArgumentAssignment,
    context: CurrentContext,
    service: CurrentArgumentService,
    expected_version: ExpectedVersion,
    response: Response,
) -> Argument:
    """Assign an argument to one member. It then waits only for the review of this member."""
    return tagged(response, service.assign(context, id, body, expected_version))


@router.get("/{id}/comments", extension=True)
def list_argument_comments(
    id: str, context: CurrentContext, service: CurrentArgumentService, limit: Limit = 10, after: After = ""
) -> Page[ArgumentComment]:
    """List the comments on an argument, newest first."""
    return service.comments(context, id, after, limit)


@router.post("/{id}/comments", extension=True, status_code=201, responses=errors(409))
def create_argument_comment(
    id: str,
    body: CommentCreate,
    context: CurrentContext,
    service: CurrentArgumentService,
    idempotency: IdempotencyKey,
    response: Response,
) -> ArgumentComment:
    """Comment on an argument, with any review status."""
    return tagged(response, service.comment(context, id, body, idempotency))


@router.get("/{id}/lineage", extension=True)
def get_argument_lineage(id: str, context: CurrentContext, service: CurrentArgumentService) -> Lineage:
    """Get the lineage of an argument: from its review back to the versions of the model's training files."""
    return service.lineage(context, id)


@router.get("/{id}/history", extension=True)
def list_argument_history(
    id: str, context: CurrentContext, service: CurrentArgumentService, limit: Limit = 10, after: After = ""
) -> Page[ArgumentChange]:
    """List the changes of an argument with their authors, newest first."""
    return service.history(context, id, after, limit)
