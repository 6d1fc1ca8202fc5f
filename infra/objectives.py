"""Defines the service level objectives, their metrics and their alarms, as data.

The observability stack makes a dashboard row of each objective and CloudWatch alarms of each Alarm. docs/objectives.md
describes the objectives, and docs/runbooks has a page for each alarm.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from infra.groups import (
    FAIL_STEPS,
    GROUPS,
    PUBLISH_WEBHOOK_EVENTS,
    PURGE_SPACES,
    RECONCILE_JOBS,
    ROLL_UP_INFERENCE_LOGS,
    WRITE_AUDIT_LOG,
    FunctionSpec,
    Workflow,
)
from infra.settings import API_STAGE, StageSettings

AVAILABILITY_PERCENT = 99.9
READ_MILLISECONDS = 1_000
FIRST_TOKEN_MILLISECONDS = 5_000
SCAN_START_SECONDS = 300
LAG_MILLISECONDS = 300_000

# Metrics made from API Gateway's access log (infra/stacks/api.py).
GATEWAY_FAILURES, READ_LATENCY = "GatewayFailures", "ReadLatency"
# Metrics that functions publish. Failures of what belongs to a space do not count (docs/decisions/0045).
FAILURES, FAILED_JOBS, FIRST_TOKEN, OVERDUE_JOBS = "Failures", "FailedJobs", "FirstToken", "OverdueJobs"
SERVER_ERRORS, FOREIGN_SPACE_CALLS = "ServerErrors", "ForeignSpaceCalls"
UNUSABLE_WEBHOOK_KEYS = "UnusableWebhookKeys"
# The dimension of failures of all functions together.
ALL_FUNCTIONS = {"service": "api"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """CloudWatch metric and the statistic over its values in a period."""

    namespace: str
    name: str
    dimensions: Mapping[str, str] = field(default_factory=dict)
    statistic: str = "Sum"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Condition that is true when ``formula`` reaches ``threshold`` in each of the last ``periods``.

    Without a formula, the only metric is compared. A period without values does not reach the threshold.
    """

    metrics: Mapping[str, Metric]
    threshold: float
    formula: str | None = None
    minutes: int = 5
    periods: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Alarm that is on while all conditions are true. ``docs/runbooks/<runbook>.md`` is its page."""

    id: str
    runbook: str
    summary: str
    conditions: Mapping[str, Condition]

    @property
    def description(self) -> str:
        return describe(self.summary, self.runbook)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Promise to the users, with the graphs that show it and the alarms that watch it."""

    name: str
    promise: str
    graphs: Mapping[str, tuple[Metric, ...]]
    alarms: tuple[Alarm, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceNames:
    """Names in metrics that only the deployment knows."""

    machines: Mapping[Workflow, str]
    object_events: str
    # Names of the dead-letter queues by their ids.
    dead_letters: Mapping[str, str]


# The objective that a dead-letter queue belongs to. All other queues belong to "jobs".
_OBJECTIVE_OF_QUEUE = {
    "ObjectEventsFailed": "scans",
    "RollUpsFailed": "summaries",
    "AuditFailed": "audit",
    "WebhookEventsFailed": "webhooks",
    "WebhookDeliveriesFailed": "webhooks",
}


def describe(summary: str, runbook: str) -> str:
    """Returns the description of an alarm, which names its runbook page."""
    return f"{summary}. What to do: docs/runbooks/{runbook}.md"


def objectives(settings: StageSettings, names: ResourceNames) -> tuple[Objective, ...]:
    return (
        _availability(settings),
        _isolation(settings),
        _reads(settings),
        _chats(settings),
        _jobs(settings, names),
        _scans(names),
        _stream("summaries", "RollUpsLag", ROLL_UP_INFERENCE_LOGS, settings, names),
        _stream("audit", "AuditLags", WRITE_AUDIT_LOG, settings, names),
        _stream("webhooks", "WebhooksLag", PUBLISH_WEBHOOK_EVENTS, settings, names),
    )


def _api(settings: StageSettings, name: str) -> Metric:
    dimensions = {"ApiName": settings.name("api"), "Stage": API_STAGE}
    return Metric(namespace="AWS/ApiGateway", name=name, dimensions=dimensions)


def _own(settings: StageSettings, name: str, statistic: str = "Sum", function: FunctionSpec | None = None) -> Metric:
    dimensions = {"service": function.name} if function else {}
    return Metric(namespace=settings.metrics_namespace, name=name, dimensions=dimensions, statistic=statistic)


def _function(settings: StageSettings, function: FunctionSpec, name: str, statistic: str = "Sum") -> Metric:
    dimensions = {"FunctionName": settings.name(function.name)}
    return Metric(namespace="AWS/Lambda", name=name, dimensions=dimensions, statistic=statistic)


def _queue(queue: str, name: str) -> Metric:
    return Metric(namespace="AWS/SQS", name=name, dimensions={"QueueName": queue}, statistic="Maximum")


def _alarm(id: str, runbook: str, summary: str, condition: Condition) -> Alarm:
    return Alarm(id=id, runbook=runbook, summary=summary, conditions={"": condition})


def _availability(settings: StageSettings) -> Objective:
    """Returns the availability objective.

    Burn rates and windows are from Google's Site Reliability Workbook, chapter 5 (multiwindow, multi-burn-rate).
    """
    failures = Metric(namespace=settings.metrics_namespace, name=FAILURES, dimensions=ALL_FUNCTIONS)
    metrics = {"answered": failures, "gateway": _own(settings, GATEWAY_FAILURES), "requests": _api(settings, "Count")}

    def burn_rate_alarm(id: str, summary: str, rate: float, long_minutes: int, short_minutes: int) -> Alarm:
        allowed = rate * (100 - AVAILABILITY_PERCENT)

        def share(minutes: int, at_least: int) -> Condition:
            # A single failed request among few requests must not set off the alarm.
            failed = "(FILL(answered, 0) + FILL(gateway, 0))"
            formula = f"IF({failed} >= {at_least}, 100 * {failed} / requests, 0)"
            return Condition(metrics=metrics, formula=formula, threshold=round(allowed, 3), minutes=minutes)

        # The long window shows that the failures matter, the short one that they still occur.
        return Alarm(
            id=id,
            runbook="availability",
            summary=summary,
            conditions={"Long": share(long_minutes, 5), "Short": share(short_minutes, 1)},
        )

    throttles = Metric(namespace="AWS/Lambda", name="Throttles")
    return Objective(
        name="availability",
        promise=f"{AVAILABILITY_PERCENT}% of requests are answered without a failure of ours, over 30 days",
        graphs={
            "Requests": (metrics["requests"],),
            "Failures of ours; all 4xx and 5xx": (
                metrics["answered"],
                metrics["gateway"],
                _api(settings, "4XXError"),
                _api(settings, "5XXError"),
            ),
            "Lambda refused": (throttles,),
        },
        alarms=(
            burn_rate_alarm(
                "AvailabilityBurnsFast", "Requests fail at 14.4 times the allowed rate, for an hour", 14.4, 60, 5
            ),
            burn_rate_alarm(
                "AvailabilityBurnsSlowly", "Requests fail at six times the allowed rate, for six hours", 6, 360, 30
            ),
            _alarm(
                "Throttles",
                "throttles",
                "Lambda refuses calls because the account's concurrency is used up",
                Condition(metrics={"refused": throttles}, threshold=10, periods=2),
            ),
        ),
    )


def _isolation(settings: StageSettings) -> Objective:
    calls = Metric(namespace=settings.metrics_namespace, name=FOREIGN_SPACE_CALLS, dimensions={"service": "all"})
    return Objective(
        name="isolation",
        promise="No request and no step of a workflow reads or writes data of another space",
        graphs={"Refused calls for another space": (calls,)},
        alarms=(
            _alarm(
                "ForeignSpaceCalls",
                "foreign-space-calls",
                "The code of a request asked for data of another space, and was refused",
                Condition(metrics={"calls": calls}, threshold=1),
            ),
        ),
    )


def _reads(settings: StageSettings) -> Objective:
    def latency(statistic: str) -> Metric:
        return _own(settings, READ_LATENCY, statistic)

    return Objective(
        name="reads",
        promise=(
            f"99% of GETs are answered within {READ_MILLISECONDS / 1000:g} s (aside from those that wait for a model, "
            "a cluster or a customer's storage)"
        ),
        graphs={
            "Reads, ms": (latency("p50"), latency("p95"), latency("p99")),
            "Reads": (latency("SampleCount"),),
        },
        alarms=(
            _alarm(
                "SlowReads",
                "slow-reads",
                f"The p99 of read times has been over {READ_MILLISECONDS / 1000:g} s for 15 minutes",
                Condition(
                    metrics={"latency": latency("p99"), "reads": latency("SampleCount")},
                    # With fewer reads, p99 is the slowest read, which may be a cold start.
                    formula="IF(reads >= 100, latency, 0)",
                    threshold=READ_MILLISECONDS,
                    periods=3,
                ),
            ),
        ),
    )


def _chats(settings: StageSettings) -> Objective:
    def first_token(statistic: str) -> Metric:
        return _own(settings, FIRST_TOKEN, statistic, ROLL_UP_INFERENCE_LOGS)

    return Objective(
        name="chats",
        promise=(
            "95% of streamed chats with the deployment's models have their first token within "
            f"{FIRST_TOKEN_MILLISECONDS / 1000:g} s"
        ),
        graphs={
            "First token, ms": (first_token("p50"), first_token("p95")),
            "Streamed chats": (first_token("SampleCount"),),
        },
        alarms=(
            _alarm(
                "SlowFirstTokens",
                "slow-first-tokens",
                f"The p95 of first-token times has been over {FIRST_TOKEN_MILLISECONDS / 1000:g} s for 15 minutes",
                Condition(
                    metrics={"latency": first_token("p95"), "chats": first_token("SampleCount")},
                    formula="IF(chats >= 20, latency, 0)",
                    threshold=FIRST_TOKEN_MILLISECONDS,
                    periods=3,
                ),
            ),
        ),
    )


def _jobs(settings: StageSettings, names: ResourceNames) -> Objective:
    def executions(workflow: Workflow, name: str) -> Metric:
        return Metric(namespace="AWS/States", name=name, dimensions={"StateMachineArn": names.machines[workflow]})

    overdue = _own(settings, OVERDUE_JOBS, "Maximum", RECONCILE_JOBS)
    [webhooks] = [group for group in GROUPS if group.name == "webhooks"]
    alarms = [
        _alarm(
            "WebhookKeyUnusable",
            "webhook-key-unusable",
            "A value of the webhook secret is no key, so progress messages signed with it are refused",
            Condition(metrics={"keys": _own(settings, UNUSABLE_WEBHOOK_KEYS, function=webhooks)}, threshold=1),
        ),
        _alarm(
            "JobsOverdue",
            "jobs-overdue",
            "A training, an evaluation or a scan is still open an hour after its time limit",
            Condition(metrics={"overdue": overdue}, threshold=1, periods=3),
        ),
        _alarm(
            "ReconcilerFails",
            "reconciler-fails",
            "The function that reconciles jobs with AWS failed three times in a row",
            Condition(metrics={"errors": _function(settings, RECONCILE_JOBS, "Errors")}, threshold=1, periods=3),
        ),
        _alarm(
            "PurgeFails",
            "purge-fails",
            "The function that removes the data of deleted spaces fails",
            Condition(metrics={"errors": _function(settings, PURGE_SPACES, "Errors")}, threshold=3, minutes=60),
        ),
    ]
    for workflow in names.machines:
        name = workflow.title().replace("-", "")
        alarms += [
            _alarm(
                f"{name}Fails",
                "workflow-fails",
                f"At least ten {workflow} executions failed within an hour, and not because of a customer's data",
                Condition(
                    metrics={
                        "failed": _own(settings, FAILED_JOBS, function=FAIL_STEPS[workflow]),
                        # The step that records the reason failed itself.
                        "broke": _function(settings, FAIL_STEPS[workflow], "Errors"),
                    },
                    formula="FILL(failed, 0) + FILL(broke, 0)",
                    threshold=10,
                    minutes=60,
                ),
            ),
            _alarm(
                f"{name}TimesOut",
                "workflow-times-out",
                f"A {workflow} execution reached its time limit",
                Condition(metrics={"late": executions(workflow, "ExecutionsTimedOut")}, threshold=1, minutes=60),
            ),
        ]
    return Objective(
        name="jobs",
        promise="Every training, evaluation and scan comes to an end, and its record says so within 10 minutes",
        graphs={
            "Executions started": tuple(executions(one, "ExecutionsStarted") for one in names.machines),
            "Executions failed": tuple(executions(one, "ExecutionsFailed") for one in names.machines),
            "Overdue jobs": (overdue,),
        },
        alarms=(*alarms, *_dead_letter_alarms("jobs", names)),
    )


def _scans(names: ResourceNames) -> Objective:
    waiting = _queue(names.object_events, "ApproximateAgeOfOldestMessage")
    return Objective(
        name="scans",
        promise=f"A new file of a managed connector is taken up within {SCAN_START_SECONDS // 60} minutes",
        graphs={"Oldest event about a file, s": (waiting,)},
        alarms=(
            _alarm(
                "ScansWait",
                "scans-wait",
                f"Events about connectors' files have waited for over {SCAN_START_SECONDS // 60} minutes",
                Condition(metrics={"age": waiting}, threshold=SCAN_START_SECONDS, periods=3),
            ),
            *_dead_letter_alarms("scans", names),
        ),
    )


def _stream(name: str, alarm: str, function: FunctionSpec, settings: StageSettings, names: ResourceNames) -> Objective:
    """Returns the objective of a function that reads a table's stream. The lag is the age of a change at that time."""
    age = _function(settings, function, "IteratorAge", "Maximum")
    minutes = LAG_MILLISECONDS // 60_000
    what = {
        "summaries": "A call is in the summaries of inference logs",
        "audit": "A write is in the audit log",
        "webhooks": "A change is on its way to a space's webhook endpoints",
    }[name]
    return Objective(
        name=name,
        promise=f"{what} within {minutes} minutes",
        graphs={"Lag, ms": (age,), "Errors": (_function(settings, function, "Errors"),)},
        alarms=(
            _alarm(
                alarm,
                "stream-lags",
                f"{function.name} is over {minutes} minutes behind its table",
                Condition(metrics={"lag": age}, threshold=LAG_MILLISECONDS, periods=3),
            ),
            *_dead_letter_alarms(name, names),
        ),
    )


def _dead_letter_alarms(objective: str, names: ResourceNames) -> list[Alarm]:
    return [
        _alarm(
            f"{queue}Waiting",
            "events-left-over",
            f"The dead-letter queue {queue} holds messages that could not be handled",
            Condition(metrics={"waiting": _queue(name, "ApproximateNumberOfMessagesVisible")}, threshold=1),
        )
        for queue, name in names.dead_letters.items()
        if _OBJECTIVE_OF_QUEUE.get(queue, "jobs") == objective
    ]
