"""Long work: the state machines, what runs in their steps, and the events that start or finish it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_destinations as destinations
from aws_cdk import aws_s3_assets as assets
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra import groups
from infra.constructs import definitions
from infra.constructs.function import (
    Code,
    ServiceFunction,
    assume_customer_roles,
    state_machine_arn,
    webhook_queue_name,
)
from infra.constructs.workflow import StateMachine
from infra.groups import (
    CONNECTOR_CREDENTIALS,
    CONNECTOR_FILES,
    EVALUATION_FILES,
    SCAN_FILES,
    SNAPSHOT_FILES,
    TRAINING_FILES,
    FunctionSpec,
    Workflow,
)
from infra.nag import because, justify_wildcards
from infra.settings import IMAGE_REGISTRY_ACCOUNT, IMAGE_REPOSITORY, StageSettings
from infra.stacks.data import DataStack

# A file is ready to be scanned this long after its last change: uploads come in bursts.
BATCHING_WINDOW = cdk.Duration.seconds(5)


class WorkflowsStack(cdk.Stack):
    """Training, evaluation and scanning of one stage."""

    def __init__(
        self, scope: Construct, *, settings: StageSettings, data: DataStack, build: Path, api_url: str
    ) -> None:
        super().__init__(scope, settings.name("workflows"), description="Inference API: training, evaluation, scanning")
        self._settings, self._data = settings, data
        self.webhook_url = settings.webhook_url or f"{api_url}webhooks"
        self.job_source = assets.Asset(self, "JobSource", path=str(build / "sourcedir.tar.gz"))
        steps = [spec for specs in groups.STEPS.values() for spec in specs]
        self._code = Code.of(self, settings, build, (*steps, *groups.EVENTS))
        self.job_role = self._job_role()
        self.functions: list[ServiceFunction] = []
        self.evaluation = self._evaluation()
        self.training = self._training()
        self.scan = self._scan()
        self.machines = (self.training, self.evaluation, self.scan)
        self.dead_letters: list[sqs.Queue] = []
        self._scan_on_upload()
        self._follow_jobs()
        self._roll_up_inference_logs()
        self._write_audit_log()
        self._publish_webhook_events()
        webhooks = self._deliver_webhooks()
        cdk.CfnOutput(self, "WebhookQueueUrl", value=webhooks.queue_url)
        cdk.CfnOutput(self, "TrainingStateMachineArn", value=self.training.machine.state_machine_arn)
        cdk.CfnOutput(self, "EvaluationStateMachineArn", value=self.evaluation.machine.state_machine_arn)
        cdk.CfnOutput(self, "ScanStateMachineArn", value=self.scan.machine.state_machine_arn)
        cdk.CfnOutput(self, "JobSourceUri", value=self.job_source.s3_object_url)
        cdk.CfnOutput(self, "JobRoleArn", value=self.job_role.role_arn)

    def _function(self, spec: FunctionSpec) -> ServiceFunction:
        function = ServiceFunction(
            self,
            spec.name.title().replace("-", ""),
            spec=spec,
            settings=self._settings,
            data=self._data,
            code=self._code,
            environment={"WEBHOOK_URL": self.webhook_url, "JOB_SOURCE_URI": self.job_source.s3_object_url},
        )
        self.functions.append(function)
        return function

    def _steps(self, workflow: Workflow) -> Sequence[ServiceFunction]:
        return [self._function(spec) for spec in groups.STEPS[workflow]]

    def _job_role(self) -> iam.Role:
        """What a training container may do: read the platform's files, write its own results, read customers' data."""
        data, settings = self._data, self._settings
        secrets = [
            iam.PolicyStatement(actions=["secretsmanager:GetSecretValue"], resources=[data.webhook_secret.secret_arn]),
            iam.PolicyStatement(
                actions=["ssm:GetParameter"],
                resources=[
                    self.format_arn(
                        service="ssm",
                        resource="parameter",
                        resource_name=f"{settings.parameter_prefix.lstrip('/')}/{CONNECTOR_CREDENTIALS}",
                    )
                ],
            ),
        ]
        files = [
            iam.PolicyStatement(
                actions=["s3:GetObject", "s3:GetObjectVersion"],
                resources=[
                    data.bucket.arn_for_objects(pattern)
                    for pattern in (CONNECTOR_FILES, SNAPSHOT_FILES, TRAINING_FILES, EVALUATION_FILES)
                ],
            ),
            iam.PolicyStatement(
                actions=["s3:PutObject", "s3:DeleteObject"],
                resources=[data.bucket.arn_for_objects(pattern) for pattern in (TRAINING_FILES, EVALUATION_FILES)],
            ),
            iam.PolicyStatement(
                actions=["s3:ListBucket"],
                resources=[data.bucket.bucket_arn],
                conditions={"StringLike": {"s3:prefix": [TRAINING_FILES, EVALUATION_FILES]}},
            ),
            iam.PolicyStatement(
                actions=["s3:GetObject"],
                resources=[self.job_source.bucket.arn_for_objects(self.job_source.s3_object_key)],
            ),
        ]
        if data.key:
            files.append(
                iam.PolicyStatement(actions=["kms:Decrypt", "kms:GenerateDataKey"], resources=[data.key.key_arn])
            )
        images = [
            iam.PolicyStatement(actions=["ecr:GetAuthorizationToken"], resources=["*"]),
            iam.PolicyStatement(
                actions=["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                resources=[
                    self.format_arn(
                        service="ecr",
                        account=IMAGE_REGISTRY_ACCOUNT,
                        resource="repository",
                        resource_name=IMAGE_REPOSITORY,
                    )
                ],
            ),
        ]
        telemetry = [
            iam.PolicyStatement(
                actions=["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
                resources=[
                    self.format_arn(
                        service="logs",
                        resource="log-group",
                        resource_name="/aws/sagemaker/TrainingJobs*",
                        arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
                    )
                ],
            ),
            iam.PolicyStatement(
                actions=["cloudwatch:PutMetricData"],
                resources=["*"],
                conditions={"StringLike": {"cloudwatch:namespace": ["/aws/sagemaker/*"]}},
            ),
        ]
        statements = [*files, *secrets, *images, *telemetry, assume_customer_roles(self)]
        role = iam.Role(
            self,
            "JobRole",
            assumed_by=iam.ServicePrincipal(
                "sagemaker.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": self.account}}
            ),
            description="What a training or evaluation job may do",
            inline_policies={"Job": iam.PolicyDocument(statements=statements)},
        )
        justify_wildcards(role, statements, data.imports)
        return role

    def _job_statements(self, kind: str) -> list[iam.PolicyStatement]:
        """What a state machine needs to run a SageMaker job and wait for it."""
        return [
            iam.PolicyStatement(
                actions=[
                    "sagemaker:AddTags",
                    "sagemaker:CreateTrainingJob",
                    "sagemaker:DescribeTrainingJob",
                    "sagemaker:StopTrainingJob",
                ],
                resources=[self.format_arn(service="sagemaker", resource="training-job", resource_name=f"{kind}-*")],
            ),
            iam.PolicyStatement(
                actions=["iam:PassRole"],
                resources=[self.job_role.role_arn],
                conditions={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
            ),
            self._managed_rule("StepFunctionsGetEventsForSageMakerTrainingJobsRule"),
        ]

    def _managed_rule(self, name: str) -> iam.PolicyStatement:
        """Step Functions hears of a job's end through a rule of this fixed name."""
        return iam.PolicyStatement(
            actions=["events:DescribeRule", "events:PutRule", "events:PutTargets"],
            resources=[self.format_arn(service="events", resource="rule", resource_name=name)],
        )

    def _job_substitutions(self) -> dict[str, str]:
        key = {"OutputKey": self._data.key.key_arn} if self._data.key else {}
        return {
            "JobRole": self.job_role.role_arn,
            "JobSource": self.job_source.s3_object_url,
            "Region": self.region,
            **key,
        }

    def _evaluation(self) -> StateMachine:
        settings = self._settings
        return StateMachine(
            self,
            "EvaluationWorkflow",
            workflow=Workflow.EVALUATION,
            settings=settings,
            definition=definitions.evaluation(
                capacity_wait=settings.capacity_wait,
                warm_pool_seconds=settings.warm_pool_seconds,
                output_key=self._data.key is not None,
            ),
            substitutions=self._job_substitutions(),
            functions=self._steps(Workflow.EVALUATION),
            statements=self._job_statements("evaluation"),
            imports=self._data.imports,
        )

    def _training(self) -> StateMachine:
        settings = self._settings
        evaluation = self.evaluation.machine
        return StateMachine(
            self,
            "TrainingWorkflow",
            workflow=Workflow.TRAINING,
            settings=settings,
            definition=definitions.training(
                capacity_wait=settings.capacity_wait,
                warm_pool_seconds=settings.warm_pool_seconds,
                output_key=self._data.key is not None,
            ),
            substitutions={
                **self._job_substitutions(),
                "EvaluationStateMachine": evaluation.state_machine_arn,
            },
            functions=self._steps(Workflow.TRAINING),
            statements=[
                *self._job_statements("training"),
                iam.PolicyStatement(actions=["states:StartExecution"], resources=[evaluation.state_machine_arn]),
                iam.PolicyStatement(
                    actions=["states:DescribeExecution", "states:StopExecution"],
                    resources=[self._executions(Workflow.EVALUATION)],
                ),
                self._managed_rule("StepFunctionsGetEventsForStepFunctionsExecutionRule"),
            ],
            imports=self._data.imports,
        )

    def _executions(self, workflow: Workflow) -> str:
        return self.format_arn(
            service="states",
            resource="execution",
            resource_name=f"{self._settings.name(workflow)}*:*",
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )

    def _scan(self) -> StateMachine:
        data, settings = self._data, self._settings
        statements = [
            iam.PolicyStatement(actions=["s3:GetObject"], resources=[data.bucket.arn_for_objects(SCAN_FILES)]),
            # A Distributed Map starts executions of its own machine.
            iam.PolicyStatement(
                actions=["states:StartExecution"],
                resources=[state_machine_arn(self, settings, Workflow.CONNECTOR_SCAN)],
            ),
            iam.PolicyStatement(
                actions=["states:DescribeExecution", "states:StopExecution"],
                resources=[self._executions(Workflow.CONNECTOR_SCAN)],
            ),
        ]
        if data.key:
            statements.append(iam.PolicyStatement(actions=["kms:Decrypt"], resources=[data.key.key_arn]))
        return StateMachine(
            self,
            "ConnectorScanWorkflow",
            workflow=Workflow.CONNECTOR_SCAN,
            settings=settings,
            definition=definitions.connector_scan(concurrency=settings.scan_concurrency),
            substitutions={"DataBucket": data.bucket.bucket_name},
            functions=self._steps(Workflow.CONNECTOR_SCAN),
            statements=statements,
            imports=data.imports,
        )

    def _queue(self, id: str, **options: object) -> sqs.Queue:
        return sqs.Queue(
            self,
            id,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            **options,  # type: ignore[arg-type]
        )

    def _dead_letter_queue(self, id: str) -> sqs.Queue:
        queue = self._queue(id, retention_period=cdk.Duration.days(14))
        because(queue, "This is a dead-letter queue.", "AwsSolutions-SQS3")
        self.dead_letters.append(queue)
        return queue

    def _scan_on_upload(self) -> None:
        """Object events of the connectors' prefix go through a queue, which smooths bursts and keeps what fails."""
        function = self._function(groups.CONNECTOR_SCAN)
        timeout = cdk.Duration.seconds(groups.CONNECTOR_SCAN.timeout_seconds)
        failed = self._dead_letter_queue("ObjectEventsFailed")
        queue = self._queue(
            "ObjectEvents",
            visibility_timeout=cdk.Duration.seconds(6 * timeout.to_seconds() + BATCHING_WINDOW.to_seconds()),
            dead_letter_queue=sqs.DeadLetterQueue(max_receive_count=5, queue=failed),
        )
        self.object_events = queue
        events.Rule(
            self,
            "ObjectChanged",
            description="Files of managed connectors came or went",
            event_pattern=events.EventPattern(
                source=["aws.s3"],
                detail_type=["Object Created", "Object Deleted"],
                detail={
                    "bucket": {"name": [self._data.bucket.bucket_name]},
                    "object": {"key": [{"wildcard": CONNECTOR_FILES}]},
                },
            ),
            targets=[targets.SqsQueue(queue, dead_letter_queue=failed)],
        )
        self._take_from(
            queue,
            "ObjectEventsToScan",
            function,
            batch_size=100,
            max_batching_window=BATCHING_WINDOW,
            max_concurrency=5,
        )

    def _roll_up_inference_logs(self) -> None:
        """New rows of the logs table, and no other change of it, are added up."""
        new_rows = {
            "eventName": lambda_.FilterRule.is_equal("INSERT"),
            "dynamodb": {"Keys": {"PK": {"S": lambda_.FilterRule.begins_with("log#")}}},
        }
        function = self._function(groups.ROLL_UP_INFERENCE_LOGS)
        self._follow_stream(
            "LoggedCallsToRollUp", self._data.logs_table, function, self._dead_letter_queue("RollUpsFailed"), new_rows
        )

    def _write_audit_log(self) -> None:
        """Writes of entities carry a stamp; counters, notes and the like do not."""
        stamped = {"written_by": {"S": lambda_.FilterRule.exists()}}
        function = self._function(groups.WRITE_AUDIT_LOG)
        self._follow_stream(
            "WritesToAudit",
            self._data.table,
            function,
            self._dead_letter_queue("AuditFailed"),
            {"dynamodb": {"NewImage": stamped}},
            {"eventName": lambda_.FilterRule.is_equal("REMOVE"), "dynamodb": {"OldImage": stamped}},
            # Rows stand by themselves, but for what is deleted and made again; an item's own changes stay in order.
            batches_at_once=4,
        )

    def _publish_webhook_events(self) -> None:
        """The stream's second reader, and its last: DynamoDB serves two."""
        function = self._function(groups.PUBLISH_WEBHOOK_EVENTS)
        self._follow_stream(
            "WritesToPublish",
            self._data.table,
            function,
            self._dead_letter_queue("WebhookEventsFailed"),
            {"dynamodb": {"NewImage": {"written_by": {"S": lambda_.FilterRule.exists()}}}},
        )

    def _deliver_webhooks(self) -> sqs.Queue:
        function, timeout = self._function(groups.DELIVER_WEBHOOKS), groups.DELIVER_WEBHOOKS.timeout_seconds
        failed = self._dead_letter_queue("WebhookDeliveriesFailed")
        queue = self._queue(
            "WebhookDeliveries",
            queue_name=webhook_queue_name(self._settings),
            visibility_timeout=cdk.Duration.seconds(6 * timeout),
            dead_letter_queue=sqs.DeadLetterQueue(max_receive_count=5, queue=failed),
        )
        # Ten messages a call, all sent at once: 500 at a time.
        self._take_from(queue, "WebhookDeliveriesToSend", function, batch_size=10, max_concurrency=50)
        return queue

    def _take_from(self, queue: sqs.Queue, id: str, function: ServiceFunction, **options: Any) -> None:
        """Hand a function the messages of a queue, and let it say which of them it could not handle."""
        lambda_.EventSourceMapping(
            self,
            id,
            target=function.function,
            event_source_arn=queue.queue_arn,
            report_batch_item_failures=True,
            **options,
        )
        function.role.attach_inline_policy(
            iam.Policy(
                self,
                f"Receive{queue.node.id}",
                statements=[
                    iam.PolicyStatement(
                        actions=[
                            "sqs:ChangeMessageVisibility",
                            "sqs:DeleteMessage",
                            "sqs:GetQueueAttributes",
                            "sqs:ReceiveMessage",
                        ],
                        resources=[queue.queue_arn],
                    )
                ],
            )
        )

    def _follow_stream(
        self,
        id: str,
        table: dynamodb.ITable,
        function: ServiceFunction,
        failed: sqs.Queue,
        *filters: dict[str, object],
        batches_at_once: int = 1,
    ) -> None:
        """Hand a function the changes of a table that pass one of the filters; what fails for good goes to a queue.

        ``batches_at_once`` are of one shard.
        """
        stream = table.table_stream_arn or ""
        statements = [
            iam.PolicyStatement(
                actions=["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"],
                resources=[stream],
            ),
            iam.PolicyStatement(actions=["dynamodb:ListStreams"], resources=[f"{table.table_arn}/stream/*"]),
            iam.PolicyStatement(actions=["sqs:SendMessage"], resources=[failed.queue_arn]),
        ]
        policy = iam.Policy(self, f"Receive{id}", statements=statements)
        function.role.attach_inline_policy(policy)
        justify_wildcards(policy, statements, self._data.imports)
        mapping = lambda_.EventSourceMapping(
            self,
            id,
            target=function.function,
            event_source_arn=stream,
            starting_position=lambda_.StartingPosition.TRIM_HORIZON,
            batch_size=500,
            max_batching_window=cdk.Duration.seconds(1),
            parallelization_factor=batches_at_once,
            bisect_batch_on_error=True,
            # The stream keeps a day's records; one that can't be handled must not hold up the others for as long.
            max_record_age=cdk.Duration.hours(6),
            filters=[lambda_.FilterCriteria.filter(one) for one in filters],
        )
        resource = mapping.node.default_child
        assert isinstance(resource, lambda_.CfnEventSourceMapping)  # noqa: S101 - tells the type checker
        resource.destination_config = lambda_.CfnEventSourceMapping.DestinationConfigProperty(
            on_failure=lambda_.CfnEventSourceMapping.OnFailureProperty(destination=failed.queue_arn)
        )
        mapping.node.add_dependency(policy)

    def _follow_jobs(self) -> None:
        """Statuses follow AWS's own events, and every five minutes are derived again from what AWS says.

        Every hour, what is left of spaces deleted long ago is removed.
        """
        failed = self._dead_letter_queue("JobEventsFailed")

        def called(spec: FunctionSpec) -> ServiceFunction:
            function = self._function(spec)
            # EventBridge keeps what it could not hand over; what then fails inside the function is for Lambda to keep.
            lambda_.EventInvokeConfig(
                self,
                f"{function.node.id}Retries",
                function=function.function,
                on_failure=destinations.SqsDestination(failed),
                retry_attempts=2,
                max_event_age=cdk.Duration.hours(2),
            )
            function.role.attach_inline_policy(
                iam.Policy(
                    self,
                    f"{function.node.id}Failures",
                    statements=[iam.PolicyStatement(actions=["sqs:SendMessage"], resources=[failed.queue_arn])],
                )
            )
            return function

        changed, reconcile, purge = map(called, (groups.JOB_STATE_CHANGED, groups.RECONCILE_JOBS, groups.PURGE_SPACES))

        def target(function: ServiceFunction) -> targets.LambdaFunction:
            return targets.LambdaFunction(
                function.function, dead_letter_queue=failed, retry_attempts=8, max_event_age=cdk.Duration.hours(2)
            )

        events.Rule(
            self,
            "TrainingJobEnded",
            event_pattern=events.EventPattern(
                source=["aws.sagemaker"],
                detail_type=["SageMaker Training Job State Change"],
                detail={"TrainingJobName": [{"prefix": "training-"}, {"prefix": "evaluation-"}]},
            ),
            targets=[target(changed)],
        )
        events.Rule(
            self,
            "ExecutionEnded",
            event_pattern=events.EventPattern(
                source=["aws.states"],
                detail_type=["Step Functions Execution Status Change"],
                detail={
                    "stateMachineArn": [machine.machine.state_machine_arn for machine in self.machines],
                    "status": ["SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"],
                },
            ),
            targets=[target(changed)],
        )
        events.Rule(
            self,
            "EveryFiveMinutes",
            schedule=events.Schedule.rate(cdk.Duration.minutes(5)),
            targets=[target(reconcile)],
        )
        events.Rule(
            self,
            "EveryHour",
            schedule=events.Schedule.rate(cdk.Duration.hours(1)),
            targets=[target(purge)],
        )
