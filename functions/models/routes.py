"""The language models of the space's cluster, over HTTP."""

from fastapi import Response

from functions.models.service import ModelService
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.base import Page
from shared.models.cluster import LanguageModel

router = GroupRouter("models")


@router.get("", responses=errors(502, 503, 504))
async def list_models(context: CurrentContext, resources: CurrentResources, response: Response) -> Page[LanguageModel]:
    """List the models that the cluster serves. While it does not respond, this is an old list, with a `Warning`."""
    models, is_stale = await ModelService(resources.language_model_targets, resources.model_lists).list(context)
    if is_stale:
        response.headers["Warning"] = '110 - "Response is Stale"'
    return Page(count=len(models), data=list(models), has_more=False)
