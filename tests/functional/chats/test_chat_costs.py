"""What a chat costs, counted and not timed."""

from typing import Any

import pytest
from botocore.parsers import ResponseParser
from botocore.regions import EndpointRulesetResolver
from botocore.serialize import JSONSerializer
from fastapi.testclient import TestClient

from tests.fixtures.upstream import FakeUpstream
from tests.functional.chats.helpers import ask


@pytest.mark.row("GW-9")
def test_a_warm_chat_calls_its_server_once_and_walks_no_model_of_an_aws_service(
    chatting: TestClient, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(chatting)
    upstream.requests.clear()

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("botocore's own way takes twice as long")

    with monkeypatch.context() as without_models:
        without_models.setattr(JSONSerializer, "_serialize", refuse)
        without_models.setattr(ResponseParser, "_parse_shape", refuse)
        without_models.setattr(EndpointRulesetResolver, "construct_endpoint", refuse)
        completion = ask(chatting)
    assert [path for path, *_ in upstream.requests] == ["/v1/chat/completions"]
    assert len(chatting.get(f"/chats/{completion['id']}").json()["messages"]) == 2
