"""What the service promises, as data: each objective with what measures it and the alarms that tell it is at risk.

The observability stack makes a row of the dashboard of each objective and an alarm of each Alarm; docs/objectives.md
says the same to people, and every alarm's page is in docs/runbooks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from infra.groups import (
    PUBLISH_WEBHOOK_EVENTS,
    PURGE_SPACES,
    RECONCILE_JOBS,
    ROLL_UP_INFERENCE_LOGS,
    WRITE_AUDIT_LOG,
    FunctionSpec,
    Workflow,
)
from infra.settings import API_STAGE, StageSettings

# Of requests, over 30 days.
AVAILABILITY_PERCENT = 99.9
READ_MILLISECONDS = 1_000
FIRST_TOKEN_MILLISECONDS = 5_000
SCAN_START_SECONDS = 300
LAG_MILLISECONDS = 300_000

# From API Gateway's access log (infra/stacks/api.py): our failures, not the ones of systems that spaces point at.
FAILURES, READ_LATENCY = "Failures", "ReadLatency"
# From the functions' own output (shared/observability.py).
FIRST_TOKEN, OVERDUE_JOBS, SERVER_ERRORS = "FirstToken", "OverdueJobs", "ServerErrors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric of CloudWatch and how its values within a period become one."""

    namespace: str
    name: str
    dimensions: Mapping[str, str] = field(default_factory=dict)
    statistic: str = "Sum"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """True once ``formula`` over the metrics reaches ``threshold`` in each of the last ``periods``.

    Without a formula there is one metric, taken as it is. A period without values is none of concern.
    """

    metrics: Mapping[str, Metric]
    threshold: float
    formula: str | None = None
    minutes: int = 5
    periods: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Goes off while all conditions are true; ``runbook`` is its page, ``docs/runbooks/<runbook>.md``."""

    id: str
    runbook: str
    says: str
    conditions: Mapping[str, Condition]

    @property
    def description(self) -> str:
        return describe(self.says, self.runbook)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One promise: what it is measured by, and the alarms that follow from it."""

    name: str
    promise: str
    graphs: Mapping[str, tuple[Metric, ...]]
    alarms: tuple[Alarm, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What metrics are found by, as far as only the deployment knows it."""

    machines: Mapping[Workflow, str]
    object_events: str
    # Dead-letter queues by their id; every one is watched.
    dead_letters: Mapping[str, str]


# Which promise suffers while a queue's messages wait; the ones of queues that are not named here follow the last.
_QUEUES = {
    "ObjectEventsFailed": "scans",
    "RollUpsFailed": "summaries",
    "AuditFailed": "audit",
    "WebhookEventsFailed": "webhooks",
    "WebhookDeliveriesFailed": "webhooks",
}


def describe(says: str, runbook: str) -> str:
    """The text of an alarm: what is wrong, and where it says what to do."""
    return f"{says}. What to do: docs/runbooks/{runbook}.md"


def objectives(settings: StageSettings, names: Names) -> tuple[Objective, ...]:
    """All promises of a stage."""
    return (
        _availability(settings),
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


def _alarm(id: str, runbook: str, says: str, condition: Condition) -> Alarm:
    return Alarm(id=id, runbook=runbook, says=says, conditions={"": condition})


def _availability(settings: StageSettings) -> Objective:
    """Burn rates and windows as in Google's Site Reliability Workbook, chapter 5 (multiwindow, multi-burn-rate)."""
    metrics = {"failures": _own(settings, FAILURES), "requests": _api(settings, "Count")}

    def burns(id: str, says: str, rate: float, long_minutes: int, short_minutes: int) -> Alarm:
        allowed = rate * (100 - AVAILABILITY_PERCENT)

        def share(minutes: int, at_least: int) -> Condition:
            # A single failed request in a quiet night is no outage.
            formula = f"IF(FILL(failures, 0) >= {at_least}, 100 * FILL(failures, 0) / requests, 0)"
            return Condition(metrics=metrics, formula=formula, threshold=round(allowed, 3), minutes=minutes)

        # The long window tells that it matters, the short one that it still goes on.
        return Alarm(
            id=id,
            runbook="availability",
            says=says,
            conditions={"Long": share(long_minutes, 5), "Short": share(short_minutes, 1)},
        )

    throttles = Metric(namespace="AWS/Lambda", name="Throttles")
    return Objective(
        name="availability",
        promise=f"{AVAILABILITY_PERCENT}% of requests are answered without a failure of ours, over 30 days",
        graphs={
            "Requests": (metrics["requests"],),
            "Failures of ours; all 4xx and 5xx": (
                metrics["failures"],
                _api(settings, "4XXError"),
                _api(settings, "5XXError"),
            ),
            "Lambda refused": (throttles,),
        },
        alarms=(
            burns("AvailabilityBurnsFast", "Two days' worth of failures within an hour, and it goes on", 14.4, 60, 5),
            burns("AvailabilityBurnsSlowly", "Failures at six times the rate that is allowed, for hours", 6, 360, 30),
            _alarm(
                "Throttles",
                "throttles",
                "Lambda refused calls: this account's concurrency is used up",
                Condition(metrics={"refused": throttles}, threshold=10, periods=2),
            ),
        ),
    )


def _reads(settings: StageSettings) -> Objective:
    def latency(statistic: str) -> Metric:
        return _own(settings, READ_LATENCY, statistic)

    return Objective(
        name="reads",
        promise=f"99% of GETs are answered within {READ_MILLISECONDS / 1000:g} s (chats and models aside)",
        graphs={
            "Reads, ms": (latency("p50"), latency("p95"), latency("p99")),
            "Reads": (latency("SampleCount"),),
        },
        alarms=(
            _alarm(
                "SlowReads",
                "slow-reads",
                f"p99 of reads over {READ_MILLISECONDS / 1000:g} s for 15 minutes",
                Condition(
                    metrics={"latency": latency("p99"), "reads": latency("SampleCount")},
                    # Of fewer, the 99th of a hundred is the slowest, a cold start maybe.
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
        promise=f"95% of streamed chats have their first token within {FIRST_TOKEN_MILLISECONDS / 1000:g} s",
        graphs={
            "First token, ms": (first_token("p50"), first_token("p95")),
            "Streamed chats": (first_token("SampleCount"),),
        },
        alarms=(
            _alarm(
                "SlowFirstTokens",
                "slow-first-tokens",
                f"p95 of chats' first tokens over {FIRST_TOKEN_MILLISECONDS / 1000:g} s for 15 minutes",
                Condition(
                    metrics={"latency": first_token("p95"), "chats": first_token("SampleCount")},
                    formula="IF(chats >= 20, latency, 0)",
                    threshold=FIRST_TOKEN_MILLISECONDS,
                    periods=3,
                ),
            ),
        ),
    )


def _jobs(settings: StageSettings, names: Names) -> Objective:
    def executions(workflow: Workflow, name: str) -> Metric:
        return Metric(namespace="AWS/States", name=name, dimensions={"StateMachineArn": names.machines[workflow]})

    overdue = _own(settings, OVERDUE_JOBS, "Maximum", RECONCILE_JOBS)
    alarms = [
        _alarm(
            "JobsOverdue",
            "jobs-overdue",
            "A training, an evaluation or a scan is open an hour past its time limit",
            Condition(metrics={"overdue": overdue}, threshold=1, periods=3),
        ),
        _alarm(
            "ReconcilerFails",
            "reconciler-fails",
            "Jobs' statuses are not checked against AWS any more: three runs in a row failed",
            Condition(metrics={"errors": _function(settings, RECONCILE_JOBS, "Errors")}, threshold=1, periods=3),
        ),
        _alarm(
            "PurgeFails",
            "purge-fails",
            "What belonged to deleted spaces is not removed: the purge failed",
            Condition(metrics={"errors": _function(settings, PURGE_SPACES, "Errors")}, threshold=3, minutes=60),
        ),
    ]
    for workflow in names.machines:
        name = workflow.title().replace("-", "")
        alarms += [
            _alarm(
                f"{name}Fails",
                "workflow-fails",
                # Customers' data fails jobs as well, and is theirs to mend; many in an hour are ours.
                f"Ten executions of {workflow} failed within an hour",
                Condition(metrics={"failed": executions(workflow, "ExecutionsFailed")}, threshold=10, minutes=60),
            ),
            _alarm(
                f"{name}TimesOut",
                "workflow-times-out",
                f"An execution of {workflow} ran into its time limit",
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
        alarms=(*alarms, *_left_over("jobs", names)),
    )


def _scans(names: Names) -> Objective:
    waiting = _queue(names.object_events, "ApproximateAgeOfOldestMessage")
    return Objective(
        name="scans",
        promise=f"A new file of a managed connector is taken up within {SCAN_START_SECONDS // 60} minutes",
        graphs={"Oldest event about a file, s": (waiting,)},
        alarms=(
            _alarm(
                "ScansWait",
                "scans-wait",
                f"Events about connectors' files wait over {SCAN_START_SECONDS // 60} minutes",
                Condition(metrics={"age": waiting}, threshold=SCAN_START_SECONDS, periods=3),
            ),
            *_left_over("scans", names),
        ),
    )


def _stream(name: str, alarm: str, function: FunctionSpec, settings: StageSettings, names: Names) -> Objective:
    """What follows a table's stream: how old a change is when the function is handed it."""
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
            *_left_over(name, names),
        ),
    )


def _left_over(objective: str, names: Names) -> list[Alarm]:
    return [
        _alarm(
            f"{queue}Waiting",
            "events-left-over",
            f"What could not be handled waits in the dead-letter queue {queue}",
            Condition(metrics={"waiting": _queue(name, "ApproximateNumberOfMessagesVisible")}, threshold=1),
        )
        for queue, name in names.dead_letters.items()
        if _QUEUES.get(queue, "jobs") == objective
    ]
