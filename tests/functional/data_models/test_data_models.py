import pytest
from fastapi.testclient import TestClient


@pytest.mark.row("DM-1")
def test_a_data_model_is_created_read_renamed_listed_and_deleted(client: TestClient) -> None:
    created = client.post("/data-models", json={"name": "Churn", "description": "who leaves"})
    assert created.status_code == 201, created.text
    model = created.json()
    assert model["created_at"] == model["updated_at"]
    assert model["created_at"].endswith("Z")

    renamed = client.put(f"/data-models/{model['id']}", json={"name": "Attrition"})
    assert renamed.json()["name"] == "Attrition"
    assert renamed.json()["description"] == "who leaves"
    assert renamed.json()["updated_at"] > model["updated_at"]
    assert client.get(f"/data-models/{model['id']}").json() == renamed.json()

    page = client.get("/data-models").json()
    assert page == {"count": 1, "data": [renamed.json()], "has_more": False}

    assert client.delete(f"/data-models/{model['id']}").json() == {"id": model["id"]}
    assert client.get(f"/data-models/{model['id']}").status_code == 404
    assert client.delete(f"/data-models/{model['id']}").status_code == 404
    assert client.get("/data-models").json() == {"count": 0, "data": [], "has_more": False}
