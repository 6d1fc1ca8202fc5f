"""Creates the dashboard and the alarms from the objectives."""

import json
from collections.abc import Mapping, Sequence

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from infra.constructs.function import JOB_LOG_GROUP, queue_name, state_machine_arn
from infra.groups import GROUPS, Workflow
from infra.nag import justify_wildcards
from infra.objectives import Alarm, Condition, Metric, Objective, ResourceNames, objectives
from infra.settings import StageSettings
from infra.stacks.api import ApiStack
from infra.stacks.data import DataStack
from infra.stacks.workflows import WorkflowsStack

PERIOD = cdk.Duration.minutes(5)
# All stages set the same time for the logs of the account's jobs.
JOB_LOG_DAYS = 365
# Width of a dashboard.
COLUMNS = 24


class ObservabilityStack(cdk.Stack):
    """Dashboard, alarms and alarm topic of one stage."""

    def __init__(
        self,
        scope: Construct,
        *,
        settings: StageSettings,
        data: DataStack,
        api: ApiStack,
        workflows: WorkflowsStack,
    ) -> None:
        super().__init__(scope, settings.name("observability"), description="Inference API: dashboard and alarms")
        self._settings, self._data = settings, data
        self.topic = self._topic()
        # Names and no references: a resource that this stack imports could never be removed from the others.
        for stack in (api, workflows):
            self.add_stack_dependency(stack)
        names = ResourceNames(
            machines={workflow: state_machine_arn(self, settings, workflow) for workflow in Workflow},
            object_events=queue_name(settings, workflows.object_events.node.id),
            dead_letters={queue.node.id: queue_name(settings, queue.node.id) for queue in workflows.dead_letters},
        )
        all_objectives = objectives(settings, names)
        alarms = {objective.name: [self._alarm(one) for one in objective.alarms] for objective in all_objectives}
        dashboard = self._dashboard(all_objectives, alarms)
        self._expire_job_logs()
        cdk.CfnOutput(self, "AlarmTopicArn", value=self.topic.topic_arn)
        cdk.CfnOutput(self, "DashboardName", value=dashboard.dashboard_name)

    def _topic(self) -> sns.Topic:
        topic = sns.Topic(self, "Alarms", enforce_ssl=True, master_key=self._data.key)
        # enforce_ssl adds a policy that replaces the default, so alarms need explicit permission.
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": self.account}},
            )
        )
        if self._settings.alarm_email:
            topic.add_subscription(subscriptions.EmailSubscription(self._settings.alarm_email))
        return topic

    def _alarm(self, alarm: Alarm) -> cloudwatch.AlarmBase:
        """Creates an alarm for each condition, and a composite alarm of several. Only the composite one notifies."""
        alarms: list[cloudwatch.AlarmBase] = [
            cloudwatch.Alarm(
                self,
                f"{alarm.id}{part}",
                alarm_description=alarm.description,
                metric=_alarm_metric(condition),
                threshold=condition.threshold,
                evaluation_periods=condition.periods,
                comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
                treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            )
            for part, condition in alarm.conditions.items()
        ]
        [notifying, *others] = alarms
        if others:
            notifying = cloudwatch.CompositeAlarm(
                self, alarm.id, alarm_description=alarm.description, alarm_rule=cloudwatch.AlarmRule.all_of(*alarms)
            )
        notifying.add_alarm_action(actions.SnsAction(self.topic))
        notifying.add_ok_action(actions.SnsAction(self.topic))
        return notifying

    def _expire_job_logs(self) -> None:
        """Limits every day how long the account keeps the logs of SageMaker's jobs.

        SageMaker creates their group without a limit, under one name for all stages. So no stack can own it.
        """

        def arn(suffix: str) -> str:
            return self.format_arn(
                service="logs",
                resource="log-group",
                resource_name=f"{JOB_LOG_GROUP}{suffix}",
                arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
            )

        statement = iam.PolicyStatement(actions=["logs:PutRetentionPolicy"], resources=[arn(""), arn(":*")])
        role = iam.Role(
            self,
            "JobLogsRole",
            assumed_by=iam.ServicePrincipal(
                "scheduler.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": self.account}}
            ),
            inline_policies={"Retention": iam.PolicyDocument(statements=[statement])},
        )
        justify_wildcards(role, [statement])
        scheduler.CfnSchedule(
            self,
            "JobLogs",
            description="Limits how long the logs of SageMaker's jobs are kept",
            schedule_expression="rate(1 day)",
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=scheduler.CfnSchedule.TargetProperty(
                arn=f"arn:{self.partition}:scheduler:::aws-sdk:cloudwatchlogs:putRetentionPolicy",
                role_arn=role.role_arn,
                input=json.dumps({"LogGroupName": JOB_LOG_GROUP, "RetentionInDays": JOB_LOG_DAYS}),
                # Before the first job there is no group. The next day tries again.
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(maximum_retry_attempts=0),
            ),
        )

    def _dashboard(
        self, all_objectives: Sequence[Objective], alarms: Mapping[str, list[cloudwatch.AlarmBase]]
    ) -> cloudwatch.Dashboard:

        def row(title: str, graphs: Mapping[str, list[cloudwatch.IMetric]]) -> list[cloudwatch.IWidget]:
            heading = cloudwatch.TextWidget(markdown=f"## {title}", width=COLUMNS, height=1)
            width = COLUMNS // len(graphs)
            return [
                heading,
                *(
                    cloudwatch.GraphWidget(title=name, left=metrics, width=width, height=6)
                    for name, metrics in graphs.items()
                ),
            ]

        def of_groups(name: str, statistic: str) -> list[cloudwatch.IMetric]:
            functions = [{"FunctionName": self._settings.name(group.name)} for group in GROUPS]
            return [
                _metric(Metric(namespace="AWS/Lambda", name=name, dimensions=one, statistic=statistic))
                for one in functions
            ]

        every = [alarm for objective in all_objectives for alarm in alarms[objective.name]]
        table = self._data.table
        return cloudwatch.Dashboard(
            self,
            "Dashboard",
            dashboard_name=self._settings.name("overview"),
            widgets=[
                [cloudwatch.AlarmStatusWidget(title="Alarms", alarms=list(every), width=COLUMNS, height=3)],
                *(
                    row(
                        objective.promise,
                        {name: [_metric(one) for one in graph] for name, graph in objective.graphs.items()},
                    )
                    for objective in all_objectives
                ),
                row(
                    "Functions and the table",
                    {
                        "Function time, p95": of_groups("Duration", "p95"),
                        "Function errors": of_groups("Errors", "Sum"),
                        "Table": [
                            table.metric_consumed_read_capacity_units(period=PERIOD),
                            table.metric_consumed_write_capacity_units(period=PERIOD),
                        ],
                    },
                ),
            ],
        )


def _metric(metric: Metric, minutes: int = 5) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace=metric.namespace,
        metric_name=metric.name,
        dimensions_map=dict(metric.dimensions),
        statistic=metric.statistic,
        period=cdk.Duration.minutes(minutes),
    )


def _alarm_metric(condition: Condition) -> cloudwatch.IMetric:
    metrics = {name: _metric(one, condition.minutes) for name, one in condition.metrics.items()}
    if condition.formula is None:
        [metric] = metrics.values()
        return metric
    return cloudwatch.MathExpression(
        expression=condition.formula,
        using_metrics=dict(metrics),
        label=condition.formula,
        period=cdk.Duration.minutes(condition.minutes),
    )
