"""Who may call which operation: one table for the whole API. The routers enforce it, and a route needs a row.

``make authorisation`` prints the table to docs/authorisation.md. A row of PUT is also the row of PATCH, which is the
same partial update.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from shared.errors import PermissionDeniedError
from shared.models.api_key import BroadScope, KeyScope
from shared.models.space import Privilege, Right, UserPermission
from shared.spaces.members import SpaceContext


class AllowedCaller(StrEnum):
    """Who may call an operation. ``CREATOR``, ``SERVICE`` and ``FORMER_OWNER`` need more than the router knows."""

    ANYONE = "anyone, also without a token"
    # The route checks the signature.
    SERVICE = "holders of the webhook secret"
    USER = "every signed-in user"
    MEMBER = "every member of the space"
    # The service compares the entity's creator: see ``SpaceContext.require_creator``.
    CREATOR = "the owners of the space, and the member who created it"
    SELF = "the owners of the space, and the member in question"
    OWNER = "only the owners of the space"
    # A deleted space hides its memberships, so its store looks for the owner.
    FORMER_OWNER = "only the owners of the deleted space"

    @property
    def needs_token(self) -> bool:
        return self not in (AllowedCaller.ANYONE, AllowedCaller.SERVICE)

    @property
    def enters_space(self) -> bool:
        return self.needs_token and self not in (AllowedCaller.USER, AllowedCaller.FORMER_OWNER)


@dataclass(frozen=True)
class AccessRule:
    """One row. No ``scopes``: no API key may call it. A key needs one of them, and its user the ``permission``.

    ``carries_out`` says how an operation takes data out of the space, or decides where data goes or comes from; such an
    operation is the owner's. ``fields`` are fields of the body for fewer callers, with the reason.
    """

    caller: AllowedCaller
    scopes: tuple[KeyScope, ...] = ()
    permission: Right | None = None
    carries_out: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def require(self, context: SpaceContext | None, path: Mapping[str, str]) -> None:
        """Raises PermissionDeniedError, which names what is missing and who has it."""
        if context is None:
            if self.caller.enters_space:
                raise PermissionDeniedError("Select a space of yours with the header X-Space-Id.")
            return
        if context.key is not None:
            self._require_scope(context.key.scopes)
        if self.permission and not context.allows(self.permission):
            raise PermissionDeniedError(
                f"You need the permission {self.permission.value} in this space. Ask an owner of it for it."
            )
        itself = self.caller is AllowedCaller.SELF and path.get("user_id") == context.user_id
        if self.caller in (AllowedCaller.OWNER, AllowedCaller.SELF) and not (context.is_owner or itself):
            because = f", because it {self.carries_out}" if self.carries_out else ""
            raise PermissionDeniedError(
                f"Only the owners of the space may do this{because}. "
                f"GET /spaces/{context.space_id}/members shows who they are; ask one of them."
            )

    def _require_scope(self, scopes: Iterable[KeyScope]) -> None:
        if not self.scopes:
            raise PermissionDeniedError("No API key may do this. Sign in, and send the token.")
        if not set(self.scopes) & set(scopes):
            raise PermissionDeniedError(f"The API key needs the scope {' or '.join(self.scopes)}. Add it to the key.")

    def __str__(self) -> str:
        """Returns the rule as sentences of the OpenAPI document."""
        with_permission = f"members with the permission `{self.permission}`, and the owners of the space"
        keys = f"API keys with the scope {' or '.join(f'`{scope}`' for scope in self.scopes)}"
        no_keys = "; no API key" if self.caller.needs_token else ""
        sentences = [
            f"**May call it:** {with_permission if self.permission else self.caller}"
            f"{f'; {keys}' if self.scopes else no_keys}.",
            f"It {self.carries_out}." if self.carries_out else "",
            *(f"`{name}`: {reason}." for name, reason in self.fields.items()),
            f"{self.note}." if self.note else "",
        ]
        return " ".join(filter(None, sentences))


READ, WRITE, CHAT = BroadScope.READ, BroadScope.WRITE, BroadScope.CHAT


def _member(*scopes: BroadScope, note: str = "", fields: Mapping[str, str] | None = None) -> AccessRule:
    return AccessRule(AllowedCaller.MEMBER, scopes, fields=fields or {}, note=note)


def _permitted(permission: str, scope: BroadScope) -> AccessRule:
    wanted = UserPermission(permission)
    return AccessRule(AllowedCaller.MEMBER, (wanted, scope), wanted)


def _privileged(privilege: Privilege, note: str = "", fields: Mapping[str, str] | None = None) -> AccessRule:
    """Returns the rule of what reaches customers. No broad scope of a key is enough."""
    return AccessRule(AllowedCaller.MEMBER, (privilege,), privilege, fields=fields or {}, note=note)


def _creator(scope: BroadScope) -> AccessRule:
    return AccessRule(AllowedCaller.CREATOR, (scope,))


def _owner(carries_out: str = "") -> AccessRule:
    return AccessRule(AllowedCaller.OWNER, carries_out=carries_out)


_ANYONE = AccessRule(AllowedCaller.ANYONE)
_USER = AccessRule(AllowedCaller.USER)
_OWN_KEYS = _member()
_REVIEW = _member(WRITE, note="While another member has the argument, only that member and the owner may")
_ACTIVE = {"status": "only members with `actions:publish` may set `active`"}
_LIVE = "Only members with `actions:publish` may change an active action"
_PROMPTS = "decides which server gets the prompts of the space, and what is stored of them"
_SOURCES = "decides where the data of the space comes from"
_EVENTS = "decides which addresses get the events of the space"
_SENDS = "sends events of the space to an address outside"

TABLE: dict[str, AccessRule] = {
    "GET /action-groups": _member(READ),
    "POST /action-groups": _member(WRITE),
    "DELETE /action-groups/{id}": _member(WRITE),
    "GET /action-groups/{id}": _member(READ),
    "PUT /action-groups/{id}": _member(WRITE),
    "GET /actions": _member(READ),
    "POST /actions": _member(WRITE, fields=_ACTIVE),
    "DELETE /actions/{id}": _member(WRITE, note=_LIVE),
    "GET /actions/{id}": _member(READ),
    "PUT /actions/{id}": _member(WRITE, fields=_ACTIVE, note=_LIVE),
    # A key could extend its own rights with these.
    "GET /api-keys": _OWN_KEYS,
    "POST /api-keys": _OWN_KEYS,
    "DELETE /api-keys/{id}": _OWN_KEYS,
    "GET /api-keys/{id}": _OWN_KEYS,
    "PUT /api-keys/{id}": _OWN_KEYS,
    "GET /arguments": _member(READ),
    "POST /arguments": _member(WRITE),
    "DELETE /arguments/{id}": _member(WRITE),
    "GET /arguments/{id}": _member(READ),
    "PUT /arguments/{id}": replace(
        _REVIEW, fields={"review": "only members with `arguments:approve` may set `status` to `success`"}
    ),
    "POST /arguments/queue/next": _member(WRITE),
    "POST /arguments/{id}/release": _REVIEW,
    "POST /arguments/{id}/assign": _REVIEW,
    "GET /arguments/{id}/comments": _member(READ),
    "POST /arguments/{id}/comments": _member(WRITE),
    "GET /arguments/{id}/lineage": _member(READ),
    "GET /arguments/{id}/history": _member(READ),
    "GET /audit-logs": _owner("returns what every member did"),
    "GET /audit-logs/export": _owner("returns what every member did"),
    "GET /audit-logs/verification": _owner(),
    "GET /benchmarks": _permitted("benchmarks:list", READ),
    "POST /benchmarks": _permitted("benchmarks:create", WRITE),
    "DELETE /benchmarks/{id}": _creator(WRITE),
    "GET /benchmarks/{id}": _permitted("benchmarks:get", READ),
    "PUT /benchmarks/{id}": _creator(WRITE),
    "GET /chats": _member(CHAT, READ),
    "POST /chats": _member(CHAT, WRITE),
    "DELETE /chats/{id}": _member(CHAT, WRITE),
    "GET /chats/{id}": _member(CHAT, READ),
    "PUT /chats/{id}": _member(
        CHAT, WRITE, fields={"guard_enabled": "only the owner of the space and the chat's creator may change it"}
    ),
    "GET /chats/{id}/window": _member(CHAT, READ),
    "POST /v1/chat/completions": _member(CHAT, WRITE),
    "POST /v1/completions": _member(CHAT, WRITE),
    "POST /v1/embeddings": _member(CHAT, WRITE),
    "GET /v1/models": _member(CHAT, READ),
    "GET /v1/models/{model:path}": _member(CHAT, READ),
    "POST /v1/responses": _member(CHAT, WRITE),
    "GET /checkpoints": _member(READ),
    "POST /checkpoints/{id}/predictions": _member(WRITE),
    "GET /checkpoints/aliases": _member(READ),
    "GET /checkpoints/aliases/{alias}": _member(READ),
    "PUT /checkpoints/aliases/{alias}": _privileged(
        Privilege.ALIASES_PROMOTE,
        fields={"required_benchmark_ids": "only an owner of the space may change it"},
        note="While `champion` has no gate, only an owner moves it",
    ),
    "DELETE /checkpoints/aliases/{alias}": _privileged(
        Privilege.ALIASES_PROMOTE, note="Only an owner deletes `champion`, or an alias with a gate"
    ),
    "GET /checkpoints/aliases/{alias}/gate": _member(READ),
    "PUT /checkpoints/aliases/{alias}/gate": _owner(),
    "GET /architectures": _member(READ),
    "GET /clients/{key:path}": _member(READ),
    "DELETE /clients/{key:path}": _owner(),
    "POST /contacts": _member(WRITE),
    "DELETE /clusters": _owner(_PROMPTS),
    "GET /clusters": _member(READ),
    "POST /clusters": _owner(_PROMPTS),
    "PUT /clusters": _owner(_PROMPTS),
    "GET /connectors": _member(READ),
    "POST /connectors": _owner(_SOURCES),
    "DELETE /connectors/{id}": _owner(_SOURCES),
    "GET /connectors/{id}": _member(READ),
    "PUT /connectors/{id}": _owner(_SOURCES),
    "GET /connectors/{id}/files": _member(READ),
    "POST /connectors/{id}/scan": _member(WRITE),
    "GET /connectors/access/aws-role": _member(READ),
    "GET /connectors/{id}/catalog": _member(READ),
    "PUT /connectors/{id}/catalog/{file:path}": _member(WRITE),
    "DELETE /connectors/{id}/files/{file:path}": _member(WRITE),
    "POST /connectors/{id}/preview": _member(WRITE),
    "GET /connectors/{id}/drifts": _member(READ),
    "POST /connectors/{id}/drifts/{drift_id}/acknowledge": _member(WRITE),
    "POST /connectors/{id}/uploads": _member(WRITE),
    "POST /connectors/{id}/downloads": _owner("returns an address from which anybody can read a file of the space"),
    "GET /data-models": _permitted("data-models:list", READ),
    "POST /data-models": _permitted("data-models:create", WRITE),
    "DELETE /data-models/{id}": _permitted("data-models:delete", WRITE),
    "GET /data-models/{id}": _permitted("data-models:get", READ),
    "PUT /data-models/{id}": _permitted("data-models:update", WRITE),
    "POST /evaluations": _permitted("evaluations:create", WRITE),
    "GET /evaluations": _member(READ, note="The owner sees all, other members what they created"),
    "GET /evaluations/{id}": _creator(READ),
    "GET /evaluations/{id}/report": _creator(READ),
    "GET /experts": _member(READ),
    "POST /experts": _member(WRITE),
    "DELETE /experts/{id}": _member(WRITE),
    "GET /experts/{id}": _member(READ),
    "PUT /experts/{id}": _member(WRITE),
    "GET /experts/{id}/versions": _member(READ),
    "GET /inference-logs": _member(READ),
    "GET /inference-logs/summary": _member(READ),
    "GET /inference-logs/usage": _member(READ),
    "POST /insights": _member(WRITE),
    "GET /insights/acceptance-rates": _member(READ),
    "POST /insights/exports": _owner("copies reactions and the clients' features to a file"),
    "GET /insights/experiments": _member(READ),
    "PUT /insights/experiments": _owner(),
    "GET /insights/policy": _member(READ),
    "PUT /insights/policy": _owner(),
    "GET /insights/uplift": _member(READ),
    "GET /insights/{id}": _member(READ),
    "GET /insights/{id}/lineage": _member(READ),
    "POST /insights/{id}/reactions": _member(WRITE),
    "GET /leaderboards": _permitted("leaderboards:list", READ),
    "GET /me": _USER,
    "PUT /me": _USER,
    "POST /users/{id}/permissions": _owner(),
    "POST /users/invites/accept": replace(_USER, note="Only invites to the user's own verified address count"),
    "GET /models": _member(READ),
    "GET /personas": _member(READ),
    "POST /personas": _member(WRITE),
    "DELETE /personas/{id}": _member(WRITE),
    "GET /personas/{id}": _member(READ),
    "PUT /personas/{id}": _member(WRITE),
    "POST /personas/completions": _member(WRITE),
    "POST /personas/upload": _member(WRITE),
    "POST /personas/upload/{upload_token}/confirm": _member(WRITE),
    "POST /personas/uploads": _member(WRITE),
    "POST /personas/uploads/{upload_token}/process": _member(WRITE),
    "GET /decision-runs": _member(READ),
    "POST /decision-runs": _member(WRITE),
    "GET /decision-runs/{id}": _member(READ),
    "GET /decision-runs/{id}/summary": _member(READ),
    "GET /decision-runs/{id}/files": _owner("returns addresses from which anybody can read the decisions"),
    "POST /decision-runs/{id}/stop": _member(WRITE),
    "POST /decision-runs/{id}/restart": _member(WRITE),
    "POST /decision-runs/{id}/cancel": _member(WRITE),
    "GET /predictions": _member(READ),
    "POST /predictions": _member(WRITE),
    "GET /predictions/{id}": _member(READ),
    "GET /predictions/{id}/files": _owner("returns addresses from which anybody can read the scores"),
    "POST /predictions/{id}/stop": _member(WRITE),
    "POST /predictions/{id}/restart": _member(WRITE),
    "GET /spaces": _USER,
    "POST /spaces": _USER,
    # From here on, the path names the space.
    "DELETE /spaces/{id}": _owner(),
    "GET /spaces/{id}": _member(),
    "PUT /spaces/{id}": _owner(),
    "POST /spaces/{id}/invite": _owner("lets others read the data of the space"),
    "POST /spaces/{id}/restore": AccessRule(AllowedCaller.FORMER_OWNER),
    "GET /spaces/{id}/api-keys": _owner(),
    "DELETE /spaces/{id}/api-keys/{key_id}": _owner(),
    "GET /spaces/{id}/invites": _owner(),
    "DELETE /spaces/{id}/invites/{invite_id}": _owner(),
    "GET /spaces/{id}/limits": _member(),
    "PUT /spaces/{id}/limits": _owner(),
    "GET /spaces/{id}/members": _member(),
    "PUT /spaces/{id}/members/{user_id}": _owner(),
    "DELETE /spaces/{id}/members/{user_id}": AccessRule(AllowedCaller.SELF),
    "GET /spaces/{id}/review-rules": _member(),
    "PUT /spaces/{id}/review-rules": _owner(),
    "POST /spaces/{id}/service-accounts": _owner("lets a program read the data of the space"),
    "POST /spaces/{id}/service-accounts/{account_id}/api-keys": _owner("lets a program read the data of the space"),
    "GET /trainings": _permitted("trainings:list", READ),
    "POST /trainings": _permitted("trainings:create", WRITE),
    "DELETE /trainings/{id}": _permitted("trainings:delete", WRITE),
    "POST /trainings/{id}/stop": _permitted("trainings:update", WRITE),
    "GET /trainings/{id}": _permitted("trainings:get", READ),
    "GET /trainings/{id}/report": _permitted("trainings:get", READ),
    "GET /trainings/{id}/logs": _permitted("trainings:get", READ),
    "PUT /trainings/{id}": _permitted("trainings:update", WRITE),
    "GET /webhook-endpoints": _owner(),
    "POST /webhook-endpoints": _owner(_EVENTS),
    "GET /webhook-endpoints/{id}": _owner(),
    "PUT /webhook-endpoints/{id}": _owner(_EVENTS),
    "DELETE /webhook-endpoints/{id}": _owner(_EVENTS),
    "POST /webhook-endpoints/{id}/rotate-secret": _owner("returns the secret that proves events of the space"),
    "POST /webhook-endpoints/{id}/verify": _owner(_EVENTS),
    "POST /webhook-endpoints/{id}/test": _owner(_SENDS),
    "GET /webhook-endpoints/{id}/deliveries": _owner(),
    "POST /webhook-endpoints/{id}/deliveries/replay": _owner(_SENDS),
    "POST /webhook-endpoints/{id}/deliveries/{delivery_id}/replay": _owner(_SENDS),
    "POST /webhooks": AccessRule(AllowedCaller.SERVICE),
    "GET /health": _ANYONE,
    "GET /openapi.json": _ANYONE,
    "GET /": _ANYONE,
    "GET /console": _ANYONE,
    "GET /console/config.json": _ANYONE,
    "GET /console/{file:path}": _ANYONE,
    "GET /docs": _ANYONE,
    "GET /docs/{file:path}": _ANYONE,
}


def rule_of(method: str, path: str) -> AccessRule:
    """Returns the row of an operation. Raises LookupError for an operation without a row."""
    rule = TABLE.get(f"{'PUT' if method == 'PATCH' else method} {path}")
    if rule is None:
        raise LookupError(f"{method} {path} has no row in shared/http/authorisation.py. Say there who may call it.")
    return rule
