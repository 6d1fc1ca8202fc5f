"""Spaces over HTTP."""

from typing import Annotated

from fastapi import Depends, Query, Response

from functions.spaces.invite_mails import InviteMails
from functions.spaces.service import SpaceService
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.parameters import After, ExpectedVersion, IdempotencyKey, Limit, tagged
from shared.http.routers import CurrentContext, CurrentPrincipal, GroupRouter
from shared.models.api_key import ApiKeyCreate, NewApiKey, SpaceApiKey
from shared.models.base import Deleted, Page
from shared.models.invite import Invite, Invited, InviteRequest
from shared.models.limits import SpaceLimits, SpaceLimitsAnswer
from shared.models.space import (
    ListedSpace,
    MemberUpdate,
    ReviewRules,
    ServiceAccountCreate,
    Space,
    SpaceCreate,
    SpaceMember,
    SpaceReviewRules,
    SpaceUpdate,
)

router = GroupRouter("spaces")


async def _service(resources: CurrentResources) -> SpaceService:
    settings = resources.settings
    mails = InviteMails(resources.ses if settings.email_sender else None, settings.email_sender, settings.sign_in_url)
    usages = resources.storage_usages
    return SpaceService(resources.table, resources.job_launcher, mails, usages, resources.clock)


CurrentSpaceService = Annotated[SpaceService, Depends(_service)]


@router.get("", response_model_exclude_unset=True)
def list_spaces(
    principal: CurrentPrincipal,
    service: CurrentSpaceService,
    limit: Limit = 10,
    after: After = "",
    deleted: Annotated[
        bool, Query(description="The deleted spaces that you may restore, in place of the others.")
    ] = False,
) -> Page[ListedSpace]:
    """List the spaces you belong to, newest first."""
    return service.list_after(principal.user_id, after, limit, deleted=deleted)


@router.post("", status_code=201, responses=errors(409, 429))
def create_space(
    body: SpaceCreate,
    principal: CurrentPrincipal,
    service: CurrentSpaceService,
    idempotency: IdempotencyKey,
    response: Response,
) -> Space:
    """Create a space; you become its owner."""
    return tagged(response, service.create(principal, body, idempotency))


@router.delete("/{id}", responses=errors(403, 404, 412))
def delete_space(context: CurrentContext, service: CurrentSpaceService, expected_version: ExpectedVersion) -> Deleted:
    """Delete a space and all that belongs to it. An owner can restore it for 30 days."""
    return service.delete(context, expected_version)


@router.get("/{id}", responses=errors(404))
def get_space(context: CurrentContext, service: CurrentSpaceService, response: Response) -> Space:
    """Get a space you belong to."""
    return tagged(response, service.get(context))


@router.update("/{id}", responses=errors(403, 404, 412))
def update_space(
    body: SpaceUpdate,
    context: CurrentContext,
    service: CurrentSpaceService,
    expected_version: ExpectedVersion,
    response: Response,
) -> Space:
    """Update the fields that are sent."""
    return tagged(response, service.update(context, body, expected_version))


@router.post("/{id}/invite", responses=errors(403, 404))
def invite_to_space(
    body: InviteRequest, principal: CurrentPrincipal, context: CurrentContext, service: CurrentSpaceService
) -> Invited:
    """Invite people by e-mail, for a week; inviting somebody again renews the invite."""
    return service.invite(principal, context, body)


@router.post("/{id}/restore", responses=errors(403, 404))
def restore_space(id: str, principal: CurrentPrincipal, service: CurrentSpaceService) -> Deleted:
    """Restore a space that was deleted within the last 30 days, with all that belonged to it."""
    return service.restore(principal.user_id, id)


@router.get("/{id}/api-keys", extension=True)
def list_space_api_keys(
    context: CurrentContext, service: CurrentSpaceService, limit: Limit = 10, after: After = ""
) -> Page[SpaceApiKey]:
    """List the API keys of all members, newest first; revoked ones stay for 90 days."""
    return service.list_api_keys(context, after, limit)


@router.delete("/{id}/api-keys/{key_id}", extension=True)
def revoke_space_api_key(key_id: str, context: CurrentContext, service: CurrentSpaceService) -> Deleted:
    """Revoke an API key of any member: within 10 seconds nothing takes it any more."""
    return service.revoke_api_key(context, key_id)


@router.get("/{id}/invites", extension=True, responses=errors(403, 404))
def list_invites(
    context: CurrentContext, service: CurrentSpaceService, limit: Limit = 10, after: After = ""
) -> Page[Invite]:
    """List the invites to a space, newest first."""
    return service.list_invites(context, after, limit)


@router.delete("/{id}/invites/{invite_id}", extension=True, responses=errors(403, 404, 409))
def revoke_invite(invite_id: str, context: CurrentContext, service: CurrentSpaceService) -> Deleted:
    """Revoke an invite that was not accepted."""
    return service.revoke_invite(context, invite_id)


@router.get("/{id}/limits", extension=True, responses=errors(404))
def get_space_limits(context: CurrentContext, service: CurrentSpaceService, response: Response) -> SpaceLimitsAnswer:
    """Get what may be used of the language models, of jobs and of storage, and what is used of it."""
    return tagged(response, service.limits(context))


@router.put("/{id}/limits", extension=True, responses=errors(403, 404, 412))
def set_space_limits(
    body: SpaceLimits,
    context: CurrentContext,
    service: CurrentSpaceService,
    expected_version: ExpectedVersion,
    response: Response,
) -> SpaceLimitsAnswer:
    """Set all that may be used of the language models, in place of what was set."""
    return tagged(response, service.set_limits(context, body, expected_version))


@router.get("/{id}/members", extension=True, responses=errors(404))
def list_members(
    context: CurrentContext, service: CurrentSpaceService, limit: Limit = 10, after: After = ""
) -> Page[SpaceMember]:
    """List who belongs to a space."""
    return service.list_members(context, after, limit)


@router.update("/{id}/members/{user_id}", extension=True, responses=errors(403, 404, 409, 412))
def update_member(
    user_id: str,
    body: MemberUpdate,
    context: CurrentContext,
    service: CurrentSpaceService,
    expected_version: ExpectedVersion,
    response: Response,
) -> SpaceMember:
    """Set rights of a member in place of the present ones: raise or lower them, share ownership, pass it on."""
    return tagged(response, service.set_rights(context, user_id, body, expected_version))


@router.post("/{id}/service-accounts", extension=True, status_code=201, responses=errors(403, 404))
def create_service_account(
    body: ServiceAccountCreate, context: CurrentContext, service: CurrentSpaceService, response: Response
) -> SpaceMember:
    """Add a service account: a member that is no person, so its API keys outlive people. It is never an owner."""
    return tagged(response, service.add_service_account(context, body))


@router.post(
    "/{id}/service-accounts/{account_id}/api-keys", extension=True, status_code=201, responses=errors(403, 409)
)
def create_service_account_key(
    account_id: str, body: ApiKeyCreate, context: CurrentContext, service: CurrentSpaceService, response: Response
) -> NewApiKey:
    """Create an API key of a service account; `key` is answered only now."""
    return tagged(response, service.create_service_key(context, account_id, body))


@router.get("/{id}/review-rules", extension=True, responses=errors(404))
def get_review_rules(context: CurrentContext, service: CurrentSpaceService, response: Response) -> SpaceReviewRules:
    """Get what an argument needs before it is approved."""
    return tagged(response, service.review_rules(context))


@router.put("/{id}/review-rules", extension=True, responses=errors(403, 404, 412))
def set_review_rules(
    body: ReviewRules,
    context: CurrentContext,
    service: CurrentSpaceService,
    expected_version: ExpectedVersion,
    response: Response,
) -> SpaceReviewRules:
    """Set what an argument needs before it is approved, in place of the present rules."""
    return tagged(response, service.set_review_rules(context, body, expected_version))


@router.delete("/{id}/members/{user_id}", extension=True, responses=errors(403, 404, 409))
def remove_member(user_id: str, context: CurrentContext, service: CurrentSpaceService) -> Deleted:
    """Remove a person or a service account from a space, or leave it."""
    return service.remove_member(context, user_id)
