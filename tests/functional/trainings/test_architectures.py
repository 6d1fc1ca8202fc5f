"""Which architectures a training can use, and what each can do."""

import jsonschema_rs
import pytest
from fastapi.testclient import TestClient

from functions.jobs.fitting.auto import members_for
from functions.jobs.fitting.families import FAMILIES


@pytest.mark.row("ML-1", "TR-2", "Y-7")
def test_every_architecture_is_listed_with_its_settings_and_a_free_license(client: TestClient) -> None:
    listed = {each["name"]: each for each in client.get("/architectures").json()["data"]}

    assert listed.keys() == FAMILIES.keys()
    assert [name for name, each in listed.items() if each["is_default"]] == ["auto"]
    assert {each["license"] for each in listed.values()} <= {"MIT", "Apache-2.0"}
    assert {name for name, each in listed.items() if each["uses_gpus"]} == {"auto", "lightgbm", "xgboost"}
    for each in listed.values():
        jsonschema_rs.validate(each["configuration"], {"excluded_columns": ["name"]})
        assert not jsonschema_rs.is_valid(each["configuration"], {"no such setting": 1})
    assert "minutes" in listed["auto"]["configuration"]["properties"]


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
