"""Creates the resources that hold data: the tables, the bucket, the user pool and the secrets."""

import aws_cdk as cdk
from aws_cdk import aws_cognito as cognito
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from infra.nag import acknowledge
from infra.settings import StageSettings

# Indexes of the inference logs. The name of an index is also the name of its key attribute.
LOG_INDEXES = ("by_user", "by_model", "by_correlation")


class DataStack(cdk.Stack):
    """Data of one stage."""

    def __init__(self, scope: Construct, *, settings: StageSettings) -> None:
        super().__init__(
            scope,
            settings.name("data"),
            description="Inference API: data",
            termination_protection=settings.retain_data,
        )
        self._settings = settings
        # Maps attributes of this stack to their export names, for cdk-nag.
        self.imports: dict[str, str] = {}
        self.key = self._key() if settings.customer_managed_key else None
        # The audit log needs both images of a change.
        entities = self._table("Entities", stream=dynamodb.StreamViewType.NEW_AND_OLD_IMAGES)
        inference_logs = self._inference_logs_table()
        self.table = self._restored("Entities", settings.restored_entities) or entities
        self.logs_table = self._restored("InferenceLogs", settings.restored_logs) or inference_logs
        indexes = [f"{self.logs_table.table_arn}/index/{index}" for index in LOG_INDEXES]
        self.logs_table_arns = [self.logs_table.table_arn, *indexes]
        self.bucket = self._bucket()
        # A restored table does not remove these exports, because CloudFormation refuses to remove an export in use.
        for arn in (self.bucket.bucket_arn, entities.table_arn, inference_logs.table_arn):
            exported = self.resolve(self.export_value(arn))["Fn::ImportValue"]
            self.imports[".".join(self.resolve(arn)["Fn::GetAtt"])] = exported
        self.webhook_secret = self._webhook_secret()
        self.external_id_key = self._external_id_key()
        self.user_pool: cognito.UserPool | None = None
        self.oidc_issuer, self.oidc_audience = settings.oidc_issuer or "", settings.oidc_audience or ""
        self.oidc_jwks_url = settings.oidc_jwks_url
        if not settings.oidc_issuer:
            self.user_pool = self._user_pool()
            client = self._client(self.user_pool)
            self.oidc_issuer = self.user_pool.user_pool_provider_url
            self.oidc_audience = client.user_pool_client_id
            if settings.aws_endpoint_url and not self.oidc_jwks_url:
                self.oidc_jwks_url = f"{settings.aws_endpoint_url}/{self.user_pool.user_pool_id}/.well-known/jwks.json"
            cdk.CfnOutput(self, "UserPoolId", value=self.user_pool.user_pool_id)
            cdk.CfnOutput(self, "UserPoolClientId", value=client.user_pool_client_id)
        cdk.CfnOutput(self, "TableName", value=self.table.table_name)
        cdk.CfnOutput(self, "LogsTableName", value=self.logs_table.table_name)
        cdk.CfnOutput(self, "BucketName", value=self.bucket.bucket_name)
        cdk.CfnOutput(self, "OidcIssuer", value=self.oidc_issuer)
        cdk.CfnOutput(self, "OidcAudience", value=self.oidc_audience)
        if self.oidc_jwks_url:
            cdk.CfnOutput(self, "OidcJwksUrl", value=self.oidc_jwks_url)
        cdk.CfnOutput(self, "WebhookSecretArn", value=self.webhook_secret.secret_arn)
        cdk.CfnOutput(self, "ExternalIdKeyArn", value=self.external_id_key.secret_arn)

    def _key(self) -> kms.Key:
        key = kms.Key(
            self,
            "Key",
            description=f"Inference API ({self._settings.stage}): data at rest",
            enable_key_rotation=True,
            removal_policy=self._settings.removal_policy,
        )
        # Alarms publish to the encrypted topic of the observability stack.
        key.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                resources=["*"],
                conditions={"StringEquals": {"aws:SourceAccount": self.account}},
            )
        )
        return key

    def _table(self, id: str, *, stream: dynamodb.StreamViewType | None = None) -> dynamodb.Table:
        settings = self._settings
        table = dynamodb.Table(
            self,
            id,
            stream=stream,
            partition_key=dynamodb.Attribute(name="PK", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="SK", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            time_to_live_attribute="expires_at",
            encryption=(dynamodb.TableEncryption.CUSTOMER_MANAGED if self.key else dynamodb.TableEncryption.DEFAULT),
            encryption_key=self.key,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=settings.point_in_time_recovery
            ),
            deletion_protection=settings.retain_data,
            removal_policy=settings.removal_policy,
        )
        if not settings.point_in_time_recovery:
            acknowledge(table, "Only production's data is worth the price of continuous backups.", "AwsSolutions-DDB3")
        return table

    def _restored(self, id: str, stream_arn: str | None) -> dynamodb.ITable | None:
        """Returns the restored table that the stage uses instead of its own table, or None."""
        if not stream_arn:
            return None
        return dynamodb.Table.from_table_attributes(
            self,
            f"Restored{id}",
            table_arn=stream_arn.partition("/stream/")[0],
            table_stream_arn=stream_arn,
            encryption_key=self.key,
        )

    def _inference_logs_table(self) -> dynamodb.Table:
        table = self._table("InferenceLogs", stream=dynamodb.StreamViewType.NEW_IMAGE)
        for index in LOG_INDEXES:
            table.add_global_secondary_index(
                index_name=index,
                partition_key=dynamodb.Attribute(name=index, type=dynamodb.AttributeType.STRING),
                sort_key=dynamodb.Attribute(name="SK", type=dynamodb.AttributeType.STRING),
            )
        return table

    def _bucket(self) -> s3.Bucket:
        settings = self._settings
        bucket = s3.Bucket(
            self,
            "Files",
            encryption=s3.BucketEncryption.KMS if self.key else s3.BucketEncryption.S3_MANAGED,
            encryption_key=self.key,
            bucket_key_enabled=bool(self.key),
            enforce_ssl=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            versioned=True,
            removal_policy=settings.removal_policy,
            server_access_logs_bucket=self._access_logs() if settings.access_log_bucket else None,
            server_access_logs_prefix="files/" if settings.access_log_bucket else None,
            cors=[
                # Browsers upload files directly with presigned POSTs, which carry their own authorisation.
                s3.CorsRule(allowed_methods=[s3.HttpMethods.POST], allowed_origins=self._browser_origins())
            ],
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="tidy",
                    abort_incomplete_multipart_upload_after=cdk.Duration.days(3),
                    # Longer than a deleted space can be restored. Lineage also needs old versions for some time.
                    noncurrent_version_expiration=cdk.Duration.days(90),
                    expired_object_delete_marker=True,
                ),
                s3.LifecycleRule(
                    # Removes unfinished uploads, because they hold personal data.
                    id="forget",
                    prefix="temporary/",
                    expiration=cdk.Duration.days(31),
                    noncurrent_version_expiration=cdk.Duration.days(1),
                ),
                s3.LifecycleRule(
                    id="cool",
                    transitions=[
                        s3.Transition(
                            storage_class=s3.StorageClass.INTELLIGENT_TIERING, transition_after=cdk.Duration.days(30)
                        )
                    ],
                ),
            ],
        )
        # The CDK's own property would deploy a function to enable this.
        resource = bucket.node.default_child
        assert isinstance(resource, s3.CfnBucket)  # noqa: S101 - for the type checker
        resource.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
            event_bridge_configuration=s3.CfnBucket.EventBridgeConfigurationProperty(event_bridge_enabled=True)
        )
        return bucket

    def _access_logs(self) -> s3.Bucket:
        bucket = s3.Bucket(
            self,
            "AccessLogs",
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            removal_policy=self._settings.removal_policy,
            lifecycle_rules=[s3.LifecycleRule(expiration=cdk.Duration.days(90))],
        )
        acknowledge(bucket, "Access logs go to this bucket.", "AwsSolutions-S1")
        return bucket

    def _webhook_secret(self) -> secretsmanager.Secret:
        """Creates the Standard Webhooks key. Its 64 letters and digits are base64 of 48 bytes."""
        secret = secretsmanager.Secret(
            self,
            "WebhookSecret",
            description="Signs progress messages from training jobs (Standard Webhooks)",
            encryption_key=self.key,
            generate_secret_string=secretsmanager.SecretStringGenerator(password_length=64, exclude_punctuation=True),
            removal_policy=self._settings.removal_policy,
        )
        acknowledge(
            secret,
            "Running jobs use the key, so an operator rotates it while no job runs (docs/operating.md).",
            "AwsSolutions-SMG4",
        )
        return secret

    def _external_id_key(self) -> secretsmanager.Secret:
        """Creates the key from which the external ids of customers' roles are derived."""
        secret = secretsmanager.Secret(
            self,
            "ExternalIdKey",
            description="Derives the external ids that customers' roles require",
            encryption_key=self.key,
            generate_secret_string=secretsmanager.SecretStringGenerator(password_length=64, exclude_punctuation=True),
            removal_policy=self._settings.removal_policy,
        )
        acknowledge(
            secret,
            "Another key makes the roles of all customers unusable, so it is never rotated (docs/operating.md).",
            "AwsSolutions-SMG4",
        )
        return secret

    def _browser_origins(self) -> list[str]:
        """Returns the origins of the console and of other browser applications."""
        own = self._settings.domain_name or f"*.execute-api.{cdk.Aws.REGION}.{cdk.Aws.URL_SUFFIX}"
        return [f"https://{own}", *self._settings.cors_origins]

    def _user_pool(self) -> cognito.UserPool:
        settings = self._settings
        pool = cognito.UserPool(
            self,
            "Users",
            sign_in_aliases=cognito.SignInAliases(email=True),
            sign_in_case_sensitive=False,
            self_sign_up_enabled=settings.sign_up == "open",
            auto_verify=cognito.AutoVerifiedAttrs(email=True),
            keep_original=cognito.KeepOriginalAttrs(email=True),
            standard_attributes=cognito.StandardAttributes(
                email=cognito.StandardAttribute(required=True, mutable=True),
                given_name=cognito.StandardAttribute(mutable=True),
                family_name=cognito.StandardAttribute(mutable=True),
            ),
            password_policy=cognito.PasswordPolicy(
                min_length=12, require_digits=True, require_lowercase=True, require_uppercase=True, require_symbols=True
            ),
            mfa=cognito.Mfa.OPTIONAL,
            mfa_second_factor=cognito.MfaSecondFactor(otp=True, sms=False),
            account_recovery=cognito.AccountRecovery.EMAIL_ONLY,
            deletion_protection=settings.retain_data,
            removal_policy=settings.removal_policy,
        )
        acknowledge(pool, "Each user chooses whether to use a second factor (TOTP).", "AwsSolutions-COG2")
        acknowledge(
            pool,
            "Threat protection costs a fee for each user, so the operator decides (docs/operating.md).",
            "AwsSolutions-COG3",
            "AwsSolutions-COG8",
        )
        return pool

    def _client(self, pool: cognito.UserPool) -> cognito.UserPoolClient:
        return pool.add_client(
            "Client",
            auth_flows=cognito.AuthFlow(
                user_srp=True, admin_user_password=True, user_password=self._settings.user_password_auth
            ),
            disable_o_auth=True,
            generate_secret=False,
            prevent_user_existence_errors=True,
            id_token_validity=cdk.Duration.hours(1),
            access_token_validity=cdk.Duration.hours(1),
            refresh_token_validity=cdk.Duration.days(30),
        )
