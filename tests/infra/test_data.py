"""Tests of the protection of the tables, the bucket and the user pool."""

from collections.abc import Callable
from typing import Any

import pytest

from infra.settings import stage_settings
from tests.infra.conftest import Synthesised


def test_production_data_is_encrypted_backed_up_and_protected_against_deletion(
    prod: Synthesised,
) -> None:
    [(key, _)] = prod.resources("AWS::KMS::Key").items()
    tables = prod.resources("AWS::DynamoDB::Table").values()
    assert len(tables) == 2
    for table in tables:
        assert table["Properties"]["SSESpecification"]["KMSMasterKeyId"] == {"Fn::GetAtt": [key, "Arn"]}
        assert table["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert table["Properties"]["DeletionProtectionEnabled"] is True
        assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
    [pool] = prod.resources("AWS::Cognito::UserPool").values()
    assert pool["Properties"]["DeletionProtection"] == "ACTIVE"
    assert pool["DeletionPolicy"] == "Retain"
    files = next(b for name, b in prod.resources("AWS::S3::Bucket").items() if name.startswith("Files"))
    [rule] = files["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {
        "KMSMasterKeyID": {"Fn::GetAtt": [key, "Arn"]},
        "SSEAlgorithm": "aws:kms",
    }
    assert files["DeletionPolicy"] == "Retain"
    assert all(key["Properties"]["EnableKeyRotation"] for key in prod.resources("AWS::KMS::Key").values())


@pytest.mark.parametrize("stage", ["local", "dev", "prod"])
def test_the_bucket_is_private_and_versioned_and_sends_events(stage: str, request: pytest.FixtureRequest) -> None:
    synthesised: Synthesised = request.getfixturevalue(stage)
    files = next(b for name, b in synthesised.resources("AWS::S3::Bucket").items() if name.startswith("Files"))
    properties = files["Properties"]
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    assert all(properties["PublicAccessBlockConfiguration"].values())
    assert properties["NotificationConfiguration"]["EventBridgeConfiguration"]["EventBridgeEnabled"] is True
    denials = [
        one
        for policy in synthesised.properties("AWS::S3::BucketPolicy", "data")
        for one in policy["PolicyDocument"]["Statement"]
        if one["Effect"] == "Deny"
    ]
    assert {"Bool": {"aws:SecureTransport": "false"}} in [one["Condition"] for one in denials]


def test_the_tables_remove_expired_items(prod: Synthesised) -> None:
    for table in prod.properties("AWS::DynamoDB::Table"):
        keys = [(key["AttributeName"], key["KeyType"]) for key in table["KeySchema"]]
        assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
        assert keys == [("PK", "HASH"), ("SK", "RANGE")]


def test_only_the_local_stage_allows_sign_in_with_a_plain_password(
    local: Synthesised, dev: Synthesised, prod: Synthesised
) -> None:
    flows = {s.stage: s.properties("AWS::Cognito::UserPoolClient")[0]["ExplicitAuthFlows"] for s in (local, dev, prod)}
    assert {stage for stage, allowed in flows.items() if "ALLOW_USER_PASSWORD_AUTH" in allowed} == {"local"}


@pytest.mark.row("SE-9")
def test_only_an_operator_creates_accounts_in_production_unless_sign_up_is_opened(
    local: Synthesised, dev: Synthesised, prod: Synthesised, synthesise: Callable[..., Synthesised]
) -> None:
    pools = [stage.properties("AWS::Cognito::UserPool")[0] for stage in (local, dev, prod)]
    assert [_is_closed(pool) for pool in pools] == [False, False, True]
    [opened] = synthesise("prod", sign_up="open").properties("AWS::Cognito::UserPool")
    assert not _is_closed(opened)
    with pytest.raises(ValueError, match="'open' or 'closed'"):
        stage_settings("prod", {"sign_up": "yes"})


def _is_closed(pool: dict[str, Any]) -> bool:
    return bool(pool["AdminCreateUserConfig"]["AllowAdminCreateUserOnly"])
