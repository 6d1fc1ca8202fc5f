"""Fixtures of the tests of events."""

import pytest
from fastapi.testclient import TestClient

from shared.dynamodb.table import Table
from shared.resources import Resources
from tests.fixtures.clocks import MovableClock
from tests.fixtures.sagemaker import FakeSageMaker
from tests.fixtures.trainings import training_request
from tests.functional.conftest import same_caller
from tests.functional.events.helpers import START, FakeStepFunctions, World


@pytest.fixture
def world(client: TestClient, resources: Resources, table: Table) -> World:
    steps, sagemaker, clock = FakeStepFunctions(), FakeSageMaker(), MovableClock(START)
    resources = Resources(resources.settings, clock, step_functions=steps, sagemaker=sagemaker)
    world = World(same_caller(client, resources), resources, table, steps, sagemaker, {}, clock)
    world.training = world.client.post("/trainings", json=training_request(client, table)).json()
    return world
