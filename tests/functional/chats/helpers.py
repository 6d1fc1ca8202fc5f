"""Helpers that send chat requests, and scripts of the fake language model server."""

import json
from typing import Any

from fastapi.testclient import TestClient

from tests.fixtures.upstream import Body, FakeUpstream, schema_name

QUESTION = {"role": "user", "content": "Which offer suits Ada?"}


def register(client: TestClient, upstream: FakeUpstream, **settings: Any) -> None:
    cluster = {"ingress_url": upstream.url, "manager_url": upstream.url, "token": "a-token-of-the-cluster", **settings}
    created = client.post("/clusters", json=cluster)
    assert created.status_code == 201, created.text
    upstream.requests.clear()  # the registration asks for the models


def ask(client: TestClient, text: str = "Which offer suits Ada?", **body: Any) -> Any:
    response = client.post("/chats", json={"messages": [{"role": "user", "content": text}], **body})
    assert response.status_code == 201, response.text
    return response.json()


def events(client: TestClient, path: str = "/chats", **body: Any) -> list[Any]:
    """Returns the events of a stream without comments, decoded except for ``[DONE]``."""
    request = {"messages": [QUESTION], "stream": True, **body}
    with client.stream("POST", path, json=request) as response:
        assert response.headers["content-type"].startswith("text/event-stream"), response.read()
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def streamed_text(chunks: list[Any]) -> str:
    deltas = [choice["delta"] for chunk in chunks if chunk != "[DONE]" for choice in chunk.get("choices", [])]
    return "".join(delta.get("content") or "" for delta in deltas)


def logs(client: TestClient, **filters: Any) -> list[Any]:
    data: list[Any] = client.get("/inference-logs", params=filters).json()["data"]
    return data


def guard_script(flagged: Any, completion: str = "Hello there.") -> Any:
    """Returns a script that flags the texts for which ``flagged`` is true, and completes other requests."""

    def script(body: Body) -> Any:
        if schema_name(body) == "guard":
            text = body["messages"][-1]["content"]
            verdict = {"flagged": flagged(text), "categories": ["crime"] if flagged(text) else []}
            if "reasoning" in body["response_format"]["json_schema"]["schema"]["properties"]:
                verdict["reasoning"] = "because"
            return json.dumps(verdict)
        return completion

    return script


def create_expert(client: TestClient, name: str, **fields: Any) -> str:
    created = client.post("/experts", json={"name": name, "description": f"answers about {name}", **fields})
    assert created.status_code == 201, created.text
    expert_id: str = created.json()["id"]
    return expert_id


def router_script(expert_id: str) -> Any:
    def script(body: Body) -> Any:
        if schema_name(body) == "router":
            properties = body["response_format"]["json_schema"]["schema"]["properties"]
            return json.dumps(
                {**({"reasoning": "it fits"} if "reasoning" in properties else {}), "expert_id": expert_id}
            )
        return "Answered."

    return script
