"""Fixtures of the tests of invites."""

import boto3
import pytest

from shared.settings import Settings
from tests.functional.spaces.invites.helpers import SENDER


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"email_sender": SENDER, "sign_in_url": "https://app.test"})


@pytest.fixture(autouse=True)
def sender(aws: None) -> None:
    boto3.client("sesv2").create_email_identity(EmailIdentity=SENDER)
