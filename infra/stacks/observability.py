"""What operators look at, and what wakes them."""

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from infra.settings import StageSettings
from infra.stacks.api import ApiStack
from infra.stacks.data import DataStack
from infra.stacks.workflows import WorkflowsStack

PERIOD = cdk.Duration.minutes(5)
_AT_LEAST = cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD


class ObservabilityStack(cdk.Stack):
    """Dashboard, alarms and the topic the alarms go to."""

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
        self._settings, self._data, self._api, self._workflows = settings, data, api, workflows
        self.topic = self._topic()
        self._alarms = [*self._api_alarms(), *self._function_alarms(), *self._workflow_alarms()]
        dashboard = self._dashboard()
        cdk.CfnOutput(self, "AlarmTopicArn", value=self.topic.topic_arn)
        cdk.CfnOutput(self, "DashboardName", value=dashboard.dashboard_name)

    def _topic(self) -> sns.Topic:
        topic = sns.Topic(self, "Alarms", enforce_ssl=True, master_key=self._data.key)
        # enforce_ssl gives the topic a policy, which is then the whole truth: alarms have to be let in.
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

    def _alarm(
        self,
        id: str,
        metric: cloudwatch.IMetric,
        threshold: float,
        description: str,
        *,
        periods: int = 1,
    ) -> cloudwatch.Alarm:
        alarm = cloudwatch.Alarm(
            self,
            id,
            alarm_description=description,
            metric=metric,
            threshold=threshold,
            evaluation_periods=periods,
            comparison_operator=_AT_LEAST,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        alarm.add_alarm_action(actions.SnsAction(self.topic))
        alarm.add_ok_action(actions.SnsAction(self.topic))
        return alarm

    def _stage_metric(self, name: str, statistic: str) -> cloudwatch.Metric:
        stage: apigateway.Stage = self._api.api.deployment_stage
        return cloudwatch.Metric(
            namespace="AWS/ApiGateway",
            metric_name=name,
            dimensions_map={"ApiName": self._api.api.rest_api_name, "Stage": stage.stage_name},
            statistic=statistic,
            period=PERIOD,
        )

    def _api_alarms(self) -> list[cloudwatch.Alarm]:
        share = cloudwatch.MathExpression(
            # A single failed request in a quiet night is no outage.
            expression="IF(requests >= 20, 100 * errors / requests, 0)",
            using_metrics={
                "errors": self._stage_metric("5XXError", cloudwatch.Stats.SUM),
                "requests": self._stage_metric("Count", cloudwatch.Stats.SUM),
            },
            label="5xx, % of requests",
            period=PERIOD,
        )
        latency = self._stage_metric("Latency", cloudwatch.Stats.percentile(99))
        return [
            self._alarm("ServerErrors", share, 1, "1% of requests answered 5xx in five minutes"),
            self._alarm("SlowAnswers", latency, 3_000, "p99 of answers over 3 s for 15 minutes", periods=3),
        ]

    def _function_alarms(self) -> list[cloudwatch.Alarm]:
        account = cloudwatch.Metric(
            namespace="AWS/Lambda", metric_name="Throttles", statistic=cloudwatch.Stats.SUM, period=PERIOD
        )
        reconciler = next(
            function for function in self._workflows.functions if function.spec.name == "reconcile-jobs"
        ).function
        return [
            self._alarm(
                "Throttles", account, 10, "Lambda refused calls: this account's concurrency is used up", periods=2
            ),
            self._alarm(
                "ReconcilerFails",
                reconciler.metric_errors(period=PERIOD, statistic=cloudwatch.Stats.SUM),
                1,
                "Jobs' statuses are not checked against AWS any more: three runs in a row failed",
                periods=3,
            ),
        ]

    def _workflow_alarms(self) -> list[cloudwatch.Alarm]:
        hour = cdk.Duration.hours(1)
        alarms = []
        for machine in self._workflows.machines:
            name = machine.workflow.title().replace("-", "")
            alarms.append(
                self._alarm(
                    f"{name}Fails",
                    machine.machine.metric_failed(period=hour, statistic=cloudwatch.Stats.SUM),
                    # Customers' data fails jobs as well, and is theirs to mend; many in an hour are ours.
                    10,
                    f"Ten executions of {machine.workflow} failed within an hour",
                )
            )
            alarms.append(
                self._alarm(
                    f"{name}TimesOut",
                    machine.machine.metric_timed_out(period=hour, statistic=cloudwatch.Stats.SUM),
                    1,
                    f"An execution of {machine.workflow} ran into its time limit",
                )
            )
        alarms.extend(
            self._alarm(
                f"{queue.node.id}Waiting",
                queue.metric_approximate_number_of_messages_visible(period=PERIOD),
                1,
                "Events that no function could handle wait to be looked at",
            )
            for queue in self._workflows.dead_letters
        )
        return alarms

    def _dashboard(self) -> cloudwatch.Dashboard:
        def graph(title: str, *metrics: cloudwatch.IMetric) -> cloudwatch.GraphWidget:
            return cloudwatch.GraphWidget(title=title, left=list(metrics), width=8, height=6)

        backends = [group.backend.function for group in self._api.groups]
        machines = [machine.machine for machine in self._workflows.machines]
        percentile = cloudwatch.Stats.percentile
        return cloudwatch.Dashboard(
            self,
            "Dashboard",
            dashboard_name=self._settings.name("overview"),
            widgets=[
                [cloudwatch.AlarmStatusWidget(title="Alarms", alarms=list(self._alarms), width=24, height=3)],
                [
                    graph("Requests", self._stage_metric("Count", cloudwatch.Stats.SUM)),
                    graph(
                        "Errors",
                        self._stage_metric("4XXError", cloudwatch.Stats.SUM),
                        self._stage_metric("5XXError", cloudwatch.Stats.SUM),
                    ),
                    graph("Latency, ms", *(self._stage_metric("Latency", percentile(p)) for p in (50, 95, 99))),
                ],
                [
                    graph("Function time, p95", *(f.metric_duration(statistic="p95", period=PERIOD) for f in backends)),
                    graph("Function errors", *(f.metric_errors(period=PERIOD) for f in backends)),
                    graph(
                        "Table",
                        self._data.table.metric_consumed_read_capacity_units(period=PERIOD),
                        self._data.table.metric_consumed_write_capacity_units(period=PERIOD),
                    ),
                ],
                [
                    graph("Executions started", *(m.metric_started(period=PERIOD) for m in machines)),
                    graph("Executions failed", *(m.metric_failed(period=PERIOD) for m in machines)),
                    graph(
                        "Events left over",
                        *(
                            queue.metric_approximate_number_of_messages_visible(period=PERIOD)
                            for queue in self._workflows.dead_letters
                        ),
                    ),
                ],
            ],
        )
