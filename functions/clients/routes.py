"""Defines the routes of customers and of the contacts with them."""

from typing import Annotated

from fastapi import Depends

from functions.clients.contacts import ContactService
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.routers import CurrentContext, GroupRouter
from shared.models.contact import Contact, ContactCreate

router = GroupRouter("clients", prefix="")


async def _contacts(resources: CurrentResources) -> ContactService:
    return ContactService(resources.table, resources.insights, resources.clock)


Contacts = Annotated[ContactService, Depends(_contacts)]


@router.post("/contacts", extension=True, status_code=201, responses=errors(409))
def record_contact(body: ContactCreate, context: CurrentContext, service: Contacts) -> Contact:
    """Report that a contact with a customer was reserved, sent or seen, or that it failed.

    Reports may arrive in any order, late and several times: limits count contacts by `occurred_at`.
    """
    return service.record(context, body)
