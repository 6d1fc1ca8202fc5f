"""Which architectures a training can use, and what each can do."""

import jsonschema_rs
import pytest
from fastapi.testclient import TestClient

from functions.jobs.fitting.auto import members_for
from functions.jobs.fitting.families import FAMILIES
from shared.dynamodb.table import Table
from shared.settings import Settings
from tests.fixtures.trainings import training_request


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Returns the settings of a deployment that has the weights of all architectures."""
    return settings.model_copy(update={"tabicl_weights_license": "MIT", "tabicl_weights_sha256": "0" * 64})


@pytest.mark.row("ML-1", "TR-2", "Y-7")
def test_every_architecture_is_listed_with_its_settings_and_a_free_license(client: TestClient) -> None:
    listed = {each["name"]: each for each in client.get("/architectures").json()["data"]}

    assert listed.keys() == FAMILIES.keys()
    assert [name for name, each in listed.items() if each["is_default"]] == ["auto"]
    assert {each["license"] for each in listed.values()} <= {"MIT", "Apache-2.0", "BSD-3-Clause"}
    assert {name for name, each in listed.items() if each["uses_gpus"]} == {
        "auto",
        "lightgbm",
        "tabicl",
        "tabm",
        "xgboost",
    }
    for use in ("uses_several_gpus", "uses_several_instances"):
        assert {name for name, each in listed.items() if each[use]} == {"tabm", "xgboost"}
    assert [name for name, each in listed.items() if each["exceeds_memory"]] == ["xgboost"]
    assert [name for name, each in listed.items() if not each["explains_exactly"]] == ["tabm"]
    for each in listed.values():
        jsonschema_rs.validate(each["configuration"], {"excluded_columns": ["name"]})
        assert not jsonschema_rs.is_valid(each["configuration"], {"no such setting": 1})
    assert "minutes" in listed["auto"]["configuration"]["properties"]


@pytest.mark.row("DT-3")
@pytest.mark.parametrize("hardware", [{"gpu_count": 1}, {"gpu_count": 2}, {"instance_count": 2}])
def test_hardware_that_an_architecture_cannot_use_is_refused_with_those_that_can(
    client: TestClient, table: Table, hardware: dict[str, int]
) -> None:
    [(field, count)] = hardware.items()
    use = "uses_gpus" if hardware == {"gpu_count": 1} else f"uses_several_{field.removesuffix('_count')}s"
    listed = {each["name"]: each[use] for each in client.get("/architectures").json()["data"]}
    can = ", ".join(name for name, uses in listed.items() if uses)
    for name, uses in listed.items():
        answer = client.post("/trainings", json=training_request(client, table, architecture=name, **hardware))
        if uses:
            assert (answer.status_code, answer.json()[field]) == (201, count)
            client.delete(f"/trainings/{answer.json()['id']}")
        else:
            assert answer.status_code == 400
            assert answer.json()["details"][0]["field"] == f"body.{field}"
            assert answer.json()["error"].endswith(f": {can}")


@pytest.mark.row("DT-3")
def test_a_training_cannot_change_to_an_architecture_that_leaves_its_hardware_idle(
    client: TestClient, table: Table
) -> None:
    body = training_request(client, table, architecture="xgboost", instance_count=2)
    created = client.post("/trainings", json=body).json()
    refused = client.put(f"/trainings/{created['id']}", json={"architecture": "auto"})
    assert (refused.status_code, refused.json()["details"][0]["field"]) == (400, "body.instance_count")
    assert client.get(f"/trainings/{created['id']}").json()["architecture"] == "xgboost"


@pytest.mark.row("ML-2")
@pytest.mark.parametrize(("rows", "gpu_count"), [(1_000, 0), (50_000, 0), (500_000, 1)])
def test_the_list_says_when_auto_uses_an_architecture(client: TestClient, rows: int, gpu_count: int) -> None:
    listed = {each["name"]: each["in_auto"] for each in client.get("/architectures").json()["data"]}
    used = {member.architecture for member in members_for(rows, rows // 2, gpu_count)}

    assert used <= {name for name, when in listed.items() if when}
    assert listed["auto"] is None
    for name, when in listed.items():
        if when and when.startswith("below 20,000 rows") and "from" not in when and "GPU" not in when:
            assert (name in used) == (rows < 20_000)
