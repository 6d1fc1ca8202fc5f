"""Applies the limits of a space, a user and an API key to the calls of one request."""

import json
from collections.abc import Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import ApiError
from shared.llm.limit_usage import (
    Amount,
    BudgetExceededError,
    LimitUsages,
    RateLimitedError,
    Reservation,
    Subject,
)
from shared.llm.tokens import estimate_tokens
from shared.models.limits import SpaceLimits
from shared.observability import logger
from shared.spaces.members import SpaceContext

# Tokens to reserve for a completion if the call does not limit it.
COMPLETION_TOKENS = 4096


def limit_subjects(context: SpaceContext) -> tuple[Subject, ...]:
    """Returns the owners of the limits that apply to the caller: API key, user, space."""
    subjects: list[Subject] = []
    if context.key is not None and context.key.limits is not None:
        subjects.append(Subject.key(context.space_id, context.key.id, context.key.limits))
    if context.limits is not None:
        subjects.append(Subject.user(context.space_id, context.user_id, context.limits))
        subjects.append(Subject.space(context.space_id, context.limits))
    return tuple(each for each in subjects if each.limits.ceilings)


class CallLimits:
    """The limits for the calls of one request. Only the first call counts as a request."""

    def __init__(self, usages: LimitUsages, subjects: Sequence[Subject], prices: SpaceLimits) -> None:
        self._usages = usages
        self._subjects = subjects
        self._prices = prices
        self._reservations: list[Reservation] = []
        self._is_counted = False
        self._used = Amount()

    @property
    def is_holding(self) -> bool:
        return bool(self._reservations)

    def reserve(self, model: str, body: dict[str, Any]) -> None:
        """Reserves the most that the call may use.

        Raises BudgetExceededError or RateLimitedError, and then reserves nothing.
        """
        amount = self._most(model, body)
        try:
            for subject in self._subjects:
                # Noted before it is stored, because the response may be lost.
                self._reservations.append(Reservation(subject, amount))
                self._usages.reserve(self._reservations[-1])
        except (BudgetExceededError, RateLimitedError):
            del self._reservations[-1]
            self.replace_reservations()
            raise
        except BaseException:
            self.replace_reservations()
            raise
        self._is_counted = True

    def use(self, model: str, input_tokens: int, output_tokens: int) -> None:
        """Adds the tokens and the cost that a call used."""
        cost = self._prices.price(model).cost(input_tokens, output_tokens)
        self._used = Amount(tokens=self._used.tokens + input_tokens + output_tokens, cost=self._used.cost + cost)

    def replace_reservations(self) -> None:
        """Replaces all reservations with the amounts that the calls used.

        A failure concerns one subject: the other subjects count the use. It does not fail the call, which has its
        result; the reservation then expires.
        """
        used, self._used = self._used, Amount()
        while self._reservations:
            reservation = self._reservations.pop()
            try:
                self._usages.replace(reservation, used)
            except (ApiError, BotoCoreError, ClientError):
                logger.exception("a reservation stays until it expires", extra={"limits_of": reservation.subject.name})

    def _most(self, model: str, body: dict[str, Any]) -> Amount:
        # Every text that goes to the server may become a part of the prompt.
        said = {
            name: value
            for name, value in body.items()
            if isinstance(value, dict | list) or name in ("grammar", "prompt", "suffix")
        }
        prompt = {name: value for name, value in said.items() if name != "stream_options"}
        prompt_tokens = estimate_tokens(json.dumps(prompt, ensure_ascii=False))
        bound = body.get("max_completion_tokens") or body.get("max_tokens") or COMPLETION_TOKENS
        output = 0 if "input" in body else bound * (body.get("n") or 1)
        if "prediction" in body:  # what the model writes otherwise costs too
            output += estimate_tokens(json.dumps(body["prediction"], ensure_ascii=False))
        return Amount(
            requests=0 if self._is_counted else 1,
            calls=1,
            tokens=prompt_tokens + output,
            cost=self._prices.price(model).cost(prompt_tokens, output),
        )
