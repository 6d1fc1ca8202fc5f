"""Creates the state machines, the functions of their steps, and the event functions with their sources."""

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
from infra.constructs import definitions, run_definitions
from infra.constructs.function import (
    Code,
    ServiceFunction,
    assume_customer_roles,
    queue_name,
    state_machine_arn,
)
from infra.constructs.job_network import JobNetwork
from infra.constructs.workflow import StateMachine
from infra.groups import (
    CONNECTOR_CREDENTIALS,
    CONNECTOR_FILES,
    EVALUATION_FILES,
    RUN_FILES,
    SCAN_FILES,
    SCAN_RESULTS,
    SNAPSHOT_FILES,
    TABICL_WEIGHTS,
    TRAINING_FILES,
    FunctionSpec,
    Workflow,
)
from infra.nag import acknowledge, justify_wildcards
from infra.settings import IMAGE_REGISTRY_ACCOUNT, IMAGE_REPOSITORY, StageSettings
from infra.stacks.data import DataStack

# Uploads come in bursts, so events are collected for this long.
BATCHING_WINDOW = cdk.Duration.seconds(5)
STREAM_ATTEMPTS = 100

# What a job does to record a part of a run.
_PART_ACTIONS = ("BatchGetItem", "DeleteItem", "GetItem", "PutItem", "UpdateItem")


class WorkflowsStack(cdk.Stack):
    """Workflows and event functions of one stage."""

    def __init__(
        self, scope: Construct, *, settings: StageSettings, data: DataStack, build: Path, api_url: str
    ) -> None:
        super().__init__(scope, settings.name("workflows"), description="Inference API: training, evaluation, scanning")
        self._settings, self._data, self._build = settings, data, build
        self.webhook_url = settings.webhook_url or f"{api_url}webhooks"
        self.job_source = assets.Asset(self, "JobSource", path=str(build / "sourcedir.tar.gz"))
        self.job_wheels = None
        if settings.layers:
            self.job_wheels = assets.Asset(self, "JobWheels", path=str(build / "wheels.tar"))
        self.job_network = JobNetwork(self, "JobNetwork", data=data) if settings.job_network == "isolated" else None
        steps = [spec for specs in groups.STEPS.values() for spec in specs]
        self._code = Code.of(self, settings, build, (*steps, *groups.EVENTS))
        self.job_role = self._job_role()
        self.functions: list[ServiceFunction] = []
        self.evaluation = self._evaluation()
        self.training = self._training()
        self.scan = self._scan()
        self.prediction = self._run(Workflow.PREDICTION, "ScoreParts", "predict")
        self.decision_run = self._run(Workflow.DECISION_RUN, "DecideParts", "decide")
        self.machines = (self.training, self.evaluation, self.scan, self.prediction, self.decision_run)
        self.dead_letters: list[sqs.Queue] = []
        self._scan_on_upload()
        self._reconcile_jobs()
        self._roll_up_inference_logs()
        self._write_audit_log()
        self._publish_webhook_events()
        webhooks = self._deliver_webhooks()
        cdk.CfnOutput(self, "WebhookQueueUrl", value=webhooks.queue_url)
        cdk.CfnOutput(self, "TrainingStateMachineArn", value=self.training.machine.state_machine_arn)
        cdk.CfnOutput(self, "EvaluationStateMachineArn", value=self.evaluation.machine.state_machine_arn)
        cdk.CfnOutput(self, "ScanStateMachineArn", value=self.scan.machine.state_machine_arn)
        cdk.CfnOutput(self, "PredictionStateMachineArn", value=self.prediction.machine.state_machine_arn)
        cdk.CfnOutput(self, "DecisionRunStateMachineArn", value=self.decision_run.machine.state_machine_arn)
        cdk.CfnOutput(self, "JobSourceUri", value=self.job_source.s3_object_url)
        cdk.CfnOutput(self, "JobRoleArn", value=self.job_role.role_arn)

    def _function(self, spec: FunctionSpec) -> ServiceFunction:
        packages = self._packages(spec)
        function = ServiceFunction(
            self,
            spec.name.title().replace("-", ""),
            spec=spec,
            settings=self._settings,
            data=self._data,
            code=self._code,
            environment={
                "WEBHOOK_URL": self.webhook_url,
                "JOB_SOURCE_URI": self.job_source.s3_object_url,
                **({"PACKAGES_URI": packages.s3_object_url} if packages else {}),
            },
        )
        if packages:
            allowed = iam.PolicyStatement(
                actions=["s3:GetObject"], resources=[packages.bucket.arn_for_objects(packages.s3_object_key)]
            )
            policy = iam.Policy(self, f"{function.node.id}ReadsPackages", statements=[allowed])
            function.role.attach_inline_policy(policy)
        self.functions.append(function)
        return function

    def _packages(self, spec: FunctionSpec) -> assets.Asset | None:
        """Returns the archive of packages that a function unpacks, in stages with layers."""
        if spec.unpacks is None or not self._settings.layers:
            return None
        folder = self._build / "layers" / spec.unpacks
        return assets.Asset(self, f"{spec.name.title().replace('-', '')}Packages", path=str(folder))

    def _steps(self, workflow: Workflow) -> Sequence[ServiceFunction]:
        return [self._function(spec) for spec in groups.STEPS[workflow]]

    def _job_role(self) -> iam.Role:
        """Creates the role of SageMaker jobs: it reads platform files and customers' data and writes job results."""
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
                    for pattern in (CONNECTOR_FILES, SNAPSHOT_FILES, TRAINING_FILES, EVALUATION_FILES, RUN_FILES)
                ],
            ),
            *self._weights_statements(),
            iam.PolicyStatement(
                actions=["s3:PutObject", "s3:DeleteObject"],
                resources=[data.bucket.arn_for_objects(pattern) for pattern in (TRAINING_FILES, EVALUATION_FILES)],
            ),
            # Jobs of runs only add parts.
            iam.PolicyStatement(actions=["s3:PutObject"], resources=[data.bucket.arn_for_objects(RUN_FILES)]),
            iam.PolicyStatement(
                actions=["s3:ListBucket"],
                resources=[data.bucket.bucket_arn],
                conditions={"StringLike": {"s3:prefix": [TRAINING_FILES, EVALUATION_FILES, RUN_FILES]}},
            ),
            iam.PolicyStatement(
                actions=["s3:GetObject"],
                resources=[asset.bucket.arn_for_objects(asset.s3_object_key) for asset in self._job_assets()],
            ),
        ]
        if data.key:
            files.append(
                # SageMaker encrypts the output with the key that the job names, which needs kms:Encrypt.
                iam.PolicyStatement(
                    actions=["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"], resources=[data.key.key_arn]
                )
            )
            if settings.types_with_volume_key:
                # SageMaker lets the machine use the key of its volume.
                files.append(
                    iam.PolicyStatement(
                        actions=["kms:CreateGrant"],
                        resources=[data.key.key_arn],
                        conditions={"Bool": {"kms:GrantIsForAWSResource": "true"}},
                    )
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
                        resource_name=f"/aws/sagemaker/{kind}Jobs*",
                        arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
                    )
                    for kind in ("Training", "Processing")
                ],
            ),
            iam.PolicyStatement(
                actions=["cloudwatch:PutMetricData"],
                resources=["*"],
                conditions={"StringLike": {"cloudwatch:namespace": ["/aws/sagemaker/*"]}},
            ),
        ]
        network = self.job_network.statements if self.job_network else []
        # Jobs of runs look whether their run goes on, and record finished parts.
        items = [
            iam.PolicyStatement(
                actions=[f"dynamodb:{action}" for action in actions],
                resources=[data.table.table_arn],
                conditions={"ForAllValues:StringLike": {"dynamodb:LeadingKeys": [f"{kind}#*"]}},
            )
            for kind, actions in (
                ("prediction", ("GetItem",)),
                ("prediction_part", _PART_ACTIONS),
                ("decision_run", ("GetItem",)),
                ("decision_run_part", _PART_ACTIONS),
                ("insight_contact", ("BatchGetItem", "Query")),
            )
        ]
        statements = [*files, *items, *secrets, *images, *telemetry, *network, assume_customer_roles(self)]
        role = iam.Role(
            self,
            "JobRole",
            assumed_by=iam.ServicePrincipal(
                "sagemaker.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": self.account}}
            ),
            description="Permissions of SageMaker jobs",
            inline_policies={"Job": iam.PolicyDocument(statements=statements)},
        )
        justify_wildcards(role, statements, data.imports)
        return role

    def _weights_statements(self) -> list[iam.PolicyStatement]:
        """Allows jobs to read the weights that the operator has put into the bucket, if there are any."""
        if not self._settings.tabicl_weights_sha256:
            return []
        weights = self._data.bucket.arn_for_objects(TABICL_WEIGHTS)
        return [iam.PolicyStatement(actions=["s3:GetObject"], resources=[weights])]

    def _job_assets(self) -> list[assets.Asset]:
        return [self.job_source, *([self.job_wheels] if self.job_wheels else [])]

    def _job_options(self) -> definitions.JobOptions:
        return definitions.JobOptions(
            warm_pool_seconds=self._settings.warm_pool_seconds,
            wheels=self.job_wheels is not None,
            key=self._data.key is not None,
            types_with_volume_key=self._settings.types_with_volume_key,
            run_instance_type=self._settings.cpu_instance_types[0],
            subnets=len(self.job_network.subnets) if self.job_network else 0,
        )

    def _job_statements(self, kind: str) -> list[iam.PolicyStatement]:
        """Allows a state machine to run a SageMaker job and wait for it."""
        return [
            iam.PolicyStatement(
                actions=[
                    "sagemaker:AddTags",
                    "sagemaker:CreateTrainingJob",
                    "sagemaker:DescribeTrainingJob",
                    "sagemaker:ListTags",
                    "sagemaker:StopTrainingJob",
                ],
                resources=[self.format_arn(service="sagemaker", resource="training-job", resource_name=f"{kind}-*")],
            ),
            self._pass_job_role(),
            self._managed_rule("StepFunctionsGetEventsForSageMakerTrainingJobsRule"),
        ]

    def _pass_job_role(self) -> iam.PolicyStatement:
        return iam.PolicyStatement(
            actions=["iam:PassRole"],
            resources=[self.job_role.role_arn],
            conditions={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        )

    def _managed_rule(self, name: str) -> iam.PolicyStatement:
        """Allows Step Functions to create the rule that reports the end of a job. AWS fixes the rule's name."""
        return iam.PolicyStatement(
            actions=["events:DescribeRule", "events:PutRule", "events:PutTargets"],
            resources=[self.format_arn(service="events", resource="rule", resource_name=name)],
        )

    def _job_substitutions(self) -> dict[str, str]:
        substitutions = {
            "JobRole": self.job_role.role_arn,
            "JobSource": self.job_source.s3_object_url,
            "Region": self.region,
        }
        if self.job_wheels:
            substitutions["JobWheels"] = self.job_wheels.s3_object_url
        if self._data.key:
            substitutions["JobKey"] = self._data.key.key_arn
        if self.job_network:
            substitutions["JobSecurityGroup"] = self.job_network.security_group
            substitutions |= {f"JobSubnet{number}": subnet for number, subnet in enumerate(self.job_network.subnets)}
        return substitutions

    def _evaluation(self) -> StateMachine:
        settings = self._settings
        return StateMachine(
            self,
            "EvaluationWorkflow",
            workflow=Workflow.EVALUATION,
            settings=settings,
            definition=definitions.evaluation(self._job_options(), capacity_wait=settings.capacity_wait),
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
            definition=definitions.training(self._job_options(), capacity_wait=settings.capacity_wait),
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

    def _map_statements(self, workflow: Workflow, items: str, results: str) -> list[iam.PolicyStatement]:
        """Allows a state machine to run a Distributed Map over ``items``, and to export its results."""
        data = self._data
        statements = [
            iam.PolicyStatement(actions=["s3:GetObject"], resources=[data.bucket.arn_for_objects(items)]),
            iam.PolicyStatement(
                actions=["s3:AbortMultipartUpload", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject"],
                resources=[data.bucket.arn_for_objects(results)],
            ),
            # A Distributed Map starts executions of its own state machine.
            iam.PolicyStatement(
                actions=["states:StartExecution"], resources=[state_machine_arn(self, self._settings, workflow)]
            ),
            iam.PolicyStatement(
                actions=["states:DescribeExecution", "states:StopExecution"], resources=[self._executions(workflow)]
            ),
        ]
        if data.key:
            statements.append(
                iam.PolicyStatement(actions=["kms:Decrypt", "kms:GenerateDataKey"], resources=[data.key.key_arn])
            )
        return statements

    def _run(self, workflow: Workflow, work: str, job: str) -> StateMachine:
        """Creates the machine of a kind of run. ``work`` is the function of a task, ``job`` a folder of jobs."""
        data, settings = self._data, self._settings
        kind = workflow.replace("-", "_")
        return StateMachine(
            self,
            f"{kind.title().replace('_', '')}Workflow",
            workflow=workflow,
            settings=settings,
            definition=run_definitions.batch_run(
                kind, work, self._job_options(), job=job, concurrency=settings.run_concurrency
            ),
            substitutions={
                **self._job_substitutions(),
                "DataBucket": data.bucket.bucket_name,
                "Table": data.table.table_name,
            },
            functions=self._steps(workflow),
            statements=[
                *self._map_statements(workflow, RUN_FILES, RUN_FILES),
                iam.PolicyStatement(
                    actions=[
                        "sagemaker:AddTags",
                        "sagemaker:CreateProcessingJob",
                        "sagemaker:DescribeProcessingJob",
                        "sagemaker:ListTags",
                        "sagemaker:StopProcessingJob",
                    ],
                    resources=[
                        self.format_arn(service="sagemaker", resource="processing-job", resource_name=f"{workflow}-*")
                    ],
                ),
                self._pass_job_role(),
                self._managed_rule("StepFunctionsGetEventsForSageMakerProcessingJobsRule"),
            ],
            imports=data.imports,
        )

    def _scan(self) -> StateMachine:
        data, settings = self._data, self._settings
        return StateMachine(
            self,
            "ConnectorScanWorkflow",
            workflow=Workflow.CONNECTOR_SCAN,
            settings=settings,
            definition=definitions.connector_scan(concurrency=settings.scan_concurrency),
            substitutions={"DataBucket": data.bucket.bucket_name},
            functions=self._steps(Workflow.CONNECTOR_SCAN),
            statements=self._map_statements(Workflow.CONNECTOR_SCAN, SCAN_FILES, SCAN_RESULTS),
            imports=data.imports,
        )

    def _queue(self, id: str, **options: object) -> sqs.Queue:
        return sqs.Queue(
            self,
            id,
            queue_name=queue_name(self._settings, id),
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            **options,  # type: ignore[arg-type]
        )

    def _dead_letter_queue(self, id: str) -> sqs.Queue:
        queue = self._queue(id, retention_period=cdk.Duration.days(14))
        acknowledge(queue, "This is a dead-letter queue.", "AwsSolutions-SQS3")
        self.dead_letters.append(queue)
        return queue

    def _scan_on_upload(self) -> None:
        # The queue smooths bursts of events and keeps failed ones.
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
            description="Files of managed connectors were created or deleted",
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
        self._read_queue(
            queue,
            "ObjectEventsToScan",
            function,
            batch_size=100,
            max_batching_window=BATCHING_WINDOW,
            max_concurrency=5,
        )

    def _roll_up_inference_logs(self) -> None:
        new_rows = {
            "eventName": lambda_.FilterRule.is_equal("INSERT"),
            "dynamodb": {"Keys": {"PK": {"S": lambda_.FilterRule.begins_with("log#")}}},
        }
        function = self._function(groups.ROLL_UP_INFERENCE_LOGS)
        self._read_stream(
            "LoggedCallsToRollUp", self._data.logs_table, function, self._dead_letter_queue("RollUpsFailed"), new_rows
        )

    def _write_audit_log(self) -> None:
        # Only writes of entities have this write marker.
        marked = {"written_by": {"S": lambda_.FilterRule.exists()}}
        function = self._function(groups.WRITE_AUDIT_LOG)
        self._read_stream(
            "WritesToAudit",
            self._data.table,
            function,
            self._dead_letter_queue("AuditFailed"),
            {"dynamodb": {"NewImage": marked}},
            {"eventName": lambda_.FilterRule.is_equal("REMOVE"), "dynamodb": {"OldImage": marked}},
            # Changes of an item stay in order, and other changes do not need it.
            parallel_batches=4,
        )

    def _publish_webhook_events(self) -> None:
        # This is the second reader of the stream. DynamoDB supports no third one.
        function = self._function(groups.PUBLISH_WEBHOOK_EVENTS)
        self._read_stream(
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
            visibility_timeout=cdk.Duration.seconds(6 * timeout),
            dead_letter_queue=sqs.DeadLetterQueue(max_receive_count=5, queue=failed),
        )
        # Each call sends its ten messages in parallel, so at most 500 are sent at the same time.
        self._read_queue(queue, "WebhookDeliveriesToSend", function, batch_size=10, max_concurrency=50)
        return queue

    def _read_queue(self, queue: sqs.Queue, id: str, function: ServiceFunction, **options: Any) -> None:
        """Invokes a function with messages of a queue. The function reports those that it could not handle."""
        statement = iam.PolicyStatement(
            actions=[
                "sqs:ChangeMessageVisibility",
                "sqs:DeleteMessage",
                "sqs:GetQueueAttributes",
                "sqs:ReceiveMessage",
            ],
            resources=[queue.queue_arn],
        )
        policy = iam.Policy(self, f"Receive{queue.node.id}", statements=[statement])
        function.role.attach_inline_policy(policy)
        mapping = lambda_.EventSourceMapping(
            self,
            id,
            target=function.function,
            event_source_arn=queue.queue_arn,
            report_batch_item_failures=True,
            **options,
        )
        # Lambda checks the role's permissions when it creates the mapping.
        mapping.node.add_dependency(policy)

    def _read_stream(
        self,
        id: str,
        table: dynamodb.ITable,
        function: ServiceFunction,
        failed: sqs.Queue,
        *filters: dict[str, object],
        parallel_batches: int = 1,
    ) -> None:
        """Invokes a function with the changes of a table that pass one of the filters.

        Records that still fail after retries go to the queue ``failed``. ``parallel_batches`` is per shard.
        """
        stream = table.table_stream_arn or ""
        statements = [
            iam.PolicyStatement(
                actions=["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"],
                resources=[stream],
            ),
            # This action knows no resources, so that a narrower statement would never allow it.
            iam.PolicyStatement(actions=["dynamodb:ListStreams"], resources=["*"]),
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
            parallelization_factor=parallel_batches,
            bisect_batch_on_error=True,
            # A record that always fails blocks the other spaces' records of its shard, so it is set aside after
            # minutes. An outage of DynamoDB lasts longer for each attempt, because the function then waits.
            retry_attempts=STREAM_ATTEMPTS,
            max_record_age=cdk.Duration.hours(6),
            filters=[lambda_.FilterCriteria.filter(one) for one in filters],
        )
        resource = mapping.node.default_child
        assert isinstance(resource, lambda_.CfnEventSourceMapping)  # noqa: S101 - for the type checker
        resource.destination_config = lambda_.CfnEventSourceMapping.DestinationConfigProperty(
            on_failure=lambda_.CfnEventSourceMapping.OnFailureProperty(destination=failed.queue_arn)
        )
        mapping.node.add_dependency(policy)

    def _reconcile_jobs(self) -> None:
        """Updates job statuses from AWS's events, reconciles them every five minutes and purges spaces every hour."""
        failed = self._dead_letter_queue("JobEventsFailed")

        def invoked_function(spec: FunctionSpec) -> ServiceFunction:
            function = self._function(spec)
            # EventBridge keeps events that it could not deliver. Lambda keeps events that the function fails on.
            retries = lambda_.EventInvokeConfig(
                self,
                f"{function.node.id}Retries",
                function=function.function,
                on_failure=destinations.SqsDestination(failed),
                retry_attempts=2,
                max_event_age=cdk.Duration.hours(2),
            )
            policy = iam.Policy(
                self,
                f"{function.node.id}Failures",
                statements=[iam.PolicyStatement(actions=["sqs:SendMessage"], resources=[failed.queue_arn])],
            )
            function.role.attach_inline_policy(policy)
            # Lambda checks the role's permissions when it sets the destination.
            retries.node.add_dependency(policy)
            return function

        changed, reconcile, purge = map(
            invoked_function, (groups.JOB_STATE_CHANGED, groups.RECONCILE_JOBS, groups.PURGE_SPACES)
        )

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
