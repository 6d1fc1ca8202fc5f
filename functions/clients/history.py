"""Lists what is stored about one customer."""

from datetime import datetime
from itertools import takewhile

from functions.clients.customers import Customers, events_of
from shared.errors import NotFoundError
from shared.models.client_history import ClientHistory
from shared.spaces.members import SpaceContext


class HistoryService:
    def __init__(self, customers: Customers) -> None:
        self._customers = customers

    def read(self, context: SpaceContext, text: str, before: datetime | None, limit: int) -> ClientHistory:
        """Returns the customer's history before a time, newest first. Raises NotFoundError for an unknown customer."""
        customer = self._customers.named(context.space_id, text)
        events = [event for _, item in self._customers.items(customer) for event in events_of(item)]
        if not events:
            raise NotFoundError("Nothing is stored about a customer with this key in the space.")
        wanted = [each for each in events if before is None or each.occurred_at < before]
        wanted.sort(key=lambda each: (each.occurred_at, each.kind, each.id), reverse=True)
        data, rest = wanted[:limit], wanted[limit:]
        data += takewhile(lambda each: each.occurred_at == data[-1].occurred_at, rest)
        data = self._customers.with_releases(customer, data)
        return ClientHistory(client_key=customer.key, data=data, has_more=len(data) < len(wanted))
