"""Gives routes the resources of their process."""

from typing import Annotated

from fastapi import Depends, Request

from shared.resources import Resources


# FastAPI runs plain functions in threads, which costs more than this function does.
async def _resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


CurrentResources = Annotated[Resources, Depends(_resources)]
