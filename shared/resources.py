"""Makes the stores and gateways of one process when they are first needed, and keeps them."""

from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shared.aws.clients import Clients
from shared.clock import Clock, utc_now
from shared.errors import UnavailableError
from shared.settings import Settings

# A function imports a store only when it uses it: imports are most of a cold start.
if TYPE_CHECKING:
    from shared.audit.store import AuditLogs
    from shared.checkpoints.lineages import Lineages
    from shared.connectors.catalog import Catalog
    from shared.connectors.file_pins import FilePins
    from shared.connectors.postgres import PostgresDatabases
    from shared.connectors.scans import ConnectorCleaner, ConnectorScans
    from shared.connectors.schema_drifts import SchemaDrifts
    from shared.connectors.storage import ConnectorStorages
    from shared.dynamodb.large_values import LargeValues
    from shared.dynamodb.table import Table
    from shared.evaluations.boards import Boards
    from shared.evaluations.due import DueEvaluations
    from shared.evaluations.store import Evaluations
    from shared.http.authentication import Authentication
    from shared.http.tokens import TokenVerifier
    from shared.inference_logs.store import InferenceLogs
    from shared.insights.store import Insights
    from shared.jobs.launcher import JobLauncher
    from shared.llm.cluster_tokens import ClusterTokens
    from shared.llm.clusters import Clusters
    from shared.llm.language_models import LanguageModelAccess
    from shared.llm.model_lists import ModelLists
    from shared.llm.targets import Targets
    from shared.llm.token_cleaner import TokenCleaner
    from shared.models.job_limits import JobLimits
    from shared.network.address_guard import AddressGuard
    from shared.runs.cleaning import RunCleaner
    from shared.runs.erasures import Erasures
    from shared.runs.inputs import InputFinder
    from shared.runs.plans import Plans
    from shared.runs.publishing import Publisher
    from shared.runs.store import Runs
    from shared.space_usage.storage import StorageUsages
    from shared.webhooks.queue import WebhookQueue


class Resources(Clients):
    """Settings, clock, AWS clients, stores and gateways. Routes and handlers pass each to the services that need it."""

    def __init__(self, settings: Settings | None = None, clock: Clock = utc_now, **replaced: Any) -> None:
        super().__init__(**replaced)
        self._settings = settings
        self.clock = clock

    @cached_property
    def settings(self) -> Settings:
        return self._settings or Settings.from_environment()

    @cached_property
    def table(self) -> "Table":
        from shared.dynamodb.table import Table

        return Table(self.dynamodb, self.settings.table_name)

    @cached_property
    def large_values(self) -> "LargeValues":
        from shared.dynamodb.large_values import LargeValues

        return LargeValues(self.s3, self.settings.bucket_name, self.table, self.clock)

    @cached_property
    def inference_logs(self) -> "InferenceLogs":
        from shared.dynamodb.table import Table
        from shared.inference_logs.store import InferenceLogs

        if self.settings.logs_table_name is None:
            raise UnavailableError("This deployment keeps no inference logs: LOGS_TABLE_NAME is not set.")
        table = Table(self.dynamodb, self.settings.logs_table_name)
        return InferenceLogs(table, self.clock, timedelta(days=self.settings.log_retention_days))

    @cached_property
    def audit_logs(self) -> "AuditLogs":
        from shared.audit.store import AuditLogs

        return AuditLogs(self.table, self.clock, timedelta(days=self.settings.audit_retention_days))

    @cached_property
    def token_verifier(self) -> "TokenVerifier":
        from shared.http.tokens import TokenVerifier

        settings = self.settings
        return TokenVerifier(settings.oidc_issuer, settings.oidc_audience.split(","), settings.oidc_jwks_url)

    @cached_property
    def authentication(self) -> "Authentication":
        from shared.http.authentication import Authentication
        from shared.http.authentication_cache import AuthenticationCache

        return Authentication(
            self.token_verifier,
            self.table,
            AuthenticationCache(self.settings.admission_seconds, self.clock),
            self.clock,
        )

    @cached_property
    def address_guard(self) -> "AddressGuard":
        from shared.network.address_guard import AddressGuard

        return AddressGuard(allow_loopback=self.settings.allow_loopback)

    @cached_property
    def connector_storages(self) -> "ConnectorStorages":
        from shared.connectors.external_ids import ExternalIds
        from shared.connectors.storage import ConnectorStorages

        return ConnectorStorages(
            self.s3,
            self.ssm,
            self.sts,
            self.address_guard,
            ExternalIds(self.secrets_manager, self.settings.external_id_key_arn),
            bucket=self.settings.bucket_name,
            parameter_prefix=self.settings.parameter_prefix,
            tests_roles=not self.settings.allow_loopback,
        )

    @cached_property
    def file_pins(self) -> "FilePins":
        from shared.connectors.file_pins import FilePins

        return FilePins(self.table, self.connector_storages, self.s3, self.settings.bucket_name)

    @cached_property
    def postgres_databases(self) -> "PostgresDatabases":
        from shared.connectors.postgres import PostgresDatabases

        return PostgresDatabases(self.connector_storages, self.address_guard)

    @cached_property
    def catalog(self) -> "Catalog":
        from shared.connectors.catalog import Catalog

        return Catalog(self.table, self.s3, self.settings.bucket_name, self.clock)

    @cached_property
    def schema_drifts(self) -> "SchemaDrifts":
        from shared.connectors.schema_drifts import SchemaDrifts

        return SchemaDrifts(self.table, self.catalog, self.clock)

    @cached_property
    def connector_scans(self) -> "ConnectorScans":
        from shared.connectors.scan_store import Scans
        from shared.connectors.scans import ConnectorScans

        scans = Scans(self.table, self.clock)
        return ConnectorScans(scans, self.catalog, self.schema_drifts, self.job_launcher, self.clock)

    @cached_property
    def run_inputs(self) -> "InputFinder":
        from shared.runs.inputs import InputFinder

        return InputFinder(self.table, self.connector_storages, self.catalog, self.clock)

    @cached_property
    def run_plans(self) -> "Plans":
        from shared.runs.plans import Plans

        return Plans(self.s3, self.settings.bucket_name)

    @cached_property
    def run_publisher(self) -> "Publisher":
        from shared.runs.publishing import Publisher

        return Publisher(self.table, self.s3, self.connector_storages, self.run_plans, self.storage_usages)

    @cached_property
    def run_erasures(self) -> "Erasures":
        from shared.runs.erasures import Erasures

        return Erasures(self.table, self.clock)

    def run_cleaner(self, runs: "Runs[Any]") -> "RunCleaner":
        """Returns what cleans up after the runs of one kind."""
        from shared.runs.cleaning import RunCleaner

        return RunCleaner(runs, self.connector_storages, self.run_plans, self.run_publisher, self.run_erasures)

    @cached_property
    def connector_cleaner(self) -> "ConnectorCleaner":
        from shared.connectors.scans import ConnectorCleaner
        from shared.dynamodb.cleanup_list import CleanupList

        purges = CleanupList(self.table, "connector", self.clock)
        return ConnectorCleaner(purges, self.connector_storages, self.catalog, self.schema_drifts)

    @cached_property
    def job_limits(self) -> "JobLimits":
        from shared.models.job_limits import JobLimits

        settings = self.settings
        return JobLimits(
            running_trainings=settings.max_running_trainings,
            running_evaluations=settings.max_running_evaluations,
            running_runs=settings.max_running_runs,
            gpu_hours_per_month=settings.max_gpu_hours_per_month,
            storage_gib=settings.max_storage_gib,
        )

    @cached_property
    def storage_usages(self) -> "StorageUsages":
        from shared.space_usage.storage import StorageUsages

        return StorageUsages(self.table, self.s3, self.settings.bucket_name, self.job_limits, self.clock)

    @cached_property
    def job_launcher(self) -> "JobLauncher":
        from shared.jobs.launcher import JobLauncher
        from shared.models.job_reference import JobKind

        arns = {
            JobKind.TRAINING: self.settings.training_state_machine_arn,
            JobKind.EVALUATION: self.settings.evaluation_state_machine_arn,
            JobKind.SCAN: self.settings.scan_state_machine_arn,
            JobKind.PREDICTION: self.settings.prediction_state_machine_arn,
            JobKind.DECISION_RUN: self.settings.decision_run_state_machine_arn,
        }
        return JobLauncher(self.step_functions, self.sagemaker, arns)

    @cached_property
    def evaluations(self) -> "Evaluations":
        from shared.evaluations.store import Evaluations

        return Evaluations(self.table, self.clock, self.job_limits)

    @cached_property
    def boards(self) -> "Boards":
        from shared.evaluations.boards import Boards

        return Boards(self.table, self.large_values)

    @cached_property
    def due_evaluations(self) -> "DueEvaluations":
        from shared.evaluations.due import DueEvaluations

        return DueEvaluations(self.evaluations, self.job_launcher)

    @cached_property
    def lineages(self) -> "Lineages":
        from shared.checkpoints.lineages import Lineages
        from shared.evaluations.scores import Scores

        return Lineages(Scores(self.table), self.s3, self.settings.bucket_name)

    @cached_property
    def insights(self) -> "Insights":
        from shared.insights.store import Insights

        return Insights(self.table, self.large_values, self.clock)

    @cached_property
    def webhook_queue(self) -> "WebhookQueue":
        from shared.webhooks.queue import WebhookQueue

        if self.settings.webhook_queue_url is None:
            raise UnavailableError("This deployment sends no webhooks: WEBHOOK_QUEUE_URL is not set.")
        return WebhookQueue(self.sqs, self.settings.webhook_queue_url, self.clock)

    @cached_property
    def clusters(self) -> "Clusters":
        from shared.llm.clusters import Clusters

        return Clusters(self.table, self.clock, timedelta(seconds=self.settings.cluster_state_seconds))

    @cached_property
    def cluster_tokens(self) -> "ClusterTokens":
        from shared.llm.cluster_tokens import ClusterTokens

        return ClusterTokens(self.ssm, self.settings.parameter_prefix)

    @cached_property
    def token_cleaner(self) -> "TokenCleaner":
        from shared.llm.token_cleaner import TokenCleaner

        return TokenCleaner(self.table, self.cluster_tokens, self.clock)

    @cached_property
    def language_model_targets(self) -> "Targets":
        from shared.llm.targets import Targets

        return Targets(self.settings, self.clusters, self.cluster_tokens, self.clock)

    @cached_property
    def model_lists(self) -> "ModelLists":
        from shared.llm.model_lists import ModelLists

        return ModelLists(self.clusters, self.clock)

    @cached_property
    def language_models(self) -> "LanguageModelAccess":
        from shared.llm.language_models import LanguageModelAccess
        from shared.llm.limit_usage import LimitUsages

        usages = LimitUsages(self.table, self.clock)
        return LanguageModelAccess(
            self.language_model_targets, self.model_lists, self.inference_logs, usages, self.clock
        )
