"""Defines the routes of customers and of the contacts with them."""

from typing import Annotated

from fastapi import Depends, Path, Query

from functions.clients.contacts import ContactService
from functions.clients.customers import Customers
from functions.clients.erasure import Eraser
from functions.clients.history import HistoryService
from shared.dependencies import CurrentResources
from shared.http.errors import errors
from shared.http.routers import CurrentContext, GroupRouter
from shared.insights.store import InsightPolicies
from shared.models.base import Timestamp
from shared.models.client_history import ClientErasure, ClientHistory
from shared.models.client_key import CLIENT_KEY_CHARACTERS
from shared.models.contact import Contact, ContactCreate

router = GroupRouter("clients", prefix="")


async def _contacts(resources: CurrentResources) -> ContactService:
    return ContactService(resources.table, resources.insights, resources.clock)


async def _customers(resources: CurrentResources) -> Customers:
    return Customers(resources.table, InsightPolicies(resources.table, resources.clock))


CurrentCustomers = Annotated[Customers, Depends(_customers)]


async def _histories(customers: CurrentCustomers) -> HistoryService:
    return HistoryService(customers)


async def _eraser(resources: CurrentResources, customers: CurrentCustomers) -> Eraser:
    # Other requests know no runs.
    from functions.clients.run_traces import RunTraces

    table, s3, storages = resources.table, resources.s3, resources.connector_storages
    runs = RunTraces(table, storages, resources.run_plans, resources.run_erasures)
    return Eraser(table, customers, resources.insights, resources.inference_logs, storages, runs, s3, resources.clock)


Contacts = Annotated[ContactService, Depends(_contacts)]
Histories = Annotated[HistoryService, Depends(_histories)]
CurrentEraser = Annotated[Eraser, Depends(_eraser)]
ClientKey = Annotated[
    str,
    Path(max_length=CLIENT_KEY_CHARACTERS, description="The customer, in any spelling of the policy's `client_key`."),
]
HappenedBefore = Annotated[Timestamp | None, Query(description="Only what happened before this time.")]
EventLimit = Annotated[int, Query(ge=1, le=1000, description="Events a page.")]


@router.post("/contacts", extension=True, status_code=201, responses=errors(409))
def record_contact(body: ContactCreate, context: CurrentContext, service: Contacts) -> Contact:
    """Report that a contact with a customer was reserved, sent or seen, or that it failed.

    Reports may arrive in any order, late and several times: limits count contacts by `occurred_at`.
    """
    return service.record(context, body)


@router.get("/clients/{key:path}", extension=True)
def get_client(
    key: ClientKey, context: CurrentContext, service: Histories, limit: EventLimit = 100, before: HappenedBefore = None
) -> ClientHistory:
    """Get the history of a customer, newest first: contacts, reactions, insights and arguments."""
    return service.read(context, key, before, limit)


@router.delete("/clients/{key:path}", extension=True, responses=errors(403))
def erase_client(key: ClientKey, context: CurrentContext, service: CurrentEraser) -> ClientErasure:
    """Erase a customer everywhere: reactions, contacts, insights, arguments, personas, logged texts and exports.

    The lineage of insights keeps ids only. The audit log keeps the counts in the response. Runs that have not ended
    leave the customer out. Published files of runs stay as they are: `outputs` names their folders.
    """
    return service.erase(context, key)
