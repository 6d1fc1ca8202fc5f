"""Clusters: servers of language models that speak OpenAI's API. Each space has at most one."""

import re
import ssl
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr, StringConstraints

from shared.models.base import KEEP, Entity, Model, ModelName, Name, PartialUpdate
from shared.text.comparison import comparable_text

MASK = "****"
BLOCKED_WORDS_LIMIT = 1000
FALLBACKS_LIMIT = 10

ClusterUrl = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2048)]
_TOKEN = re.compile(r"[\x21-\x7e]{1,4000}")


def _as_header(token: SecretStr) -> SecretStr:
    if not _TOKEN.fullmatch(token.get_secret_value()):
        raise ValueError("must be 1 to 4000 printable ASCII characters without spaces")
    return token


def _visible(word: str) -> str:
    if not comparable_text(word).strip():
        raise ValueError("has no visible character")
    return word


def _as_authority(pem: str) -> str:
    try:
        ssl.create_default_context(cadata=pem)
    except (ssl.SSLError, TypeError, ValueError):  # TypeError: not ASCII
        raise ValueError("must be certificates in PEM form: -----BEGIN CERTIFICATE----- …") from None
    return pem


CertificateAuthority = Annotated[str, StringConstraints(min_length=1, max_length=20_000), AfterValidator(_as_authority)]
Token = Annotated[SecretStr, AfterValidator(_as_header)]
BlockedWord = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=2, max_length=100), AfterValidator(_visible)
]


class ToolCalls(StrEnum):
    """``native``: the server supports ``tools``. ``emulated``: the API asks the model for JSON of a schema instead."""

    NATIVE = "native"
    EMULATED = "emulated"


class ClusterSettings(Model):
    """Optional settings of a space's calls."""

    default_model: ModelName | None = Field(
        default=None, description="for calls without a model; else the first listed"
    )
    fallback_models: list[ModelName] = Field(
        default_factory=list, max_length=FALLBACKS_LIMIT, description="tried in this order when the model fails"
    )
    guard_model: ModelName | None = Field(default=None, description="judges texts; else the model of the call")
    guard_blocked_words: list[BlockedWord] = Field(
        default_factory=list,
        max_length=BLOCKED_WORDS_LIMIT,
        description="words and phrases that the guard blocks without asking a model",
    )
    router_model: ModelName | None = Field(default=None, description="chooses the expert; else the model of the call")
    embedding_model: ModelName | None = Field(
        default=None, description="selects the nearest of many experts before the router chooses one"
    )
    tool_calls: ToolCalls = ToolCalls.NATIVE
    store_content: bool = Field(
        default=False,
        description="also keep the first 2,000 characters of prompts and completions in the inference logs; "
        "otherwise only counts and times",
    )


class ClusterCreate(ClusterSettings):
    ingress_url: ClusterUrl = Field(
        description="address of the OpenAI-compatible server, with or without final /v1; the address of a call, such "
        "as …/v1/chat/completions, is shortened to it"
    )
    manager_url: ClusterUrl = Field(description="address of the Kubernetes API server that runs it")
    name: Name | None = None
    token: Token | None = Field(default=None, description="the server's bearer token; returned in full only now")
    manager_token: Token | None = Field(default=None, description="Kubernetes' bearer token; `token` when left out")
    manager_ca: CertificateAuthority | None = Field(
        default=None,
        description="the authority that signs Kubernetes' certificate, in PEM form; public ones when left out",
    )


class ClusterUpdate(PartialUpdate):
    default_model: ModelName | None = None
    embedding_model: ModelName | None = None
    fallback_models: list[ModelName] = Field(default_factory=list, max_length=FALLBACKS_LIMIT)
    guard_blocked_words: list[BlockedWord] = Field(default_factory=list, max_length=BLOCKED_WORDS_LIMIT)
    guard_model: ModelName | None = None
    ingress_url: ClusterUrl = KEEP
    manager_ca: CertificateAuthority | None = None
    manager_token: Token | None = None
    manager_url: ClusterUrl = KEEP
    name: Name | None = None
    router_model: ModelName | None = None
    store_content: bool = KEEP
    token: Token | None = None
    tool_calls: ToolCalls = KEEP


class Cluster(Entity, ClusterSettings):
    """A stored cluster. Its id is the id of its space. ``…_parameter`` names the parameter with the token."""

    name: str | None = None
    ingress_url: str
    manager_url: str
    manager_ca: str | None = None
    token_parameter: str | None = None
    token_hint: str | None = None
    manager_token_parameter: str | None = None


class ClusterAnswer(Entity, ClusterSettings):
    """A cluster in a response. The token is complete when the cluster is created, and masked later."""

    name: str | None
    ingress_url: str
    manager_url: str
    manager_ca: str | None
    token: str | None
    serves: list[str] | None = Field(
        default=None, description="the models that the server listed when its address or token was set just now"
    )
    warning: str | None = Field(default=None, description="why the server did not say what it serves")


class LanguageModel(Model):
    """One of the models that a cluster serves."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = ""
    context_length: int | None = Field(default=None, description="most tokens of prompt and completion, if known")
    reads_images: bool | None = Field(default=None, description="whether messages may have images, if known")


class ClusterStatus(Model):
    """Current status of a cluster's parts. A part that can't be reached says so."""

    inference: dict[str, Any]
    ingress: dict[str, Any]
    nodes: list[dict[str, Any]]
    resources: dict[str, Any]


def masked(token: str) -> str:
    """Returns a mask, with the last four characters of a token that has 12 or more."""
    return MASK + (token[-4:] if len(token) >= 12 else "")
