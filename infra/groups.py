"""What each function is and what it may touch, as data: one line block per resource group, workflow step and event.

Stacks turn this into functions, roles and routes. Table kinds become ``dynamodb:LeadingKeys`` conditions, key patterns
become S3 resources; nothing else is granted.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

CONNECTOR_FILES = "spaces/*/connectors/*"
# Tables of customers' databases, as scans read them.
SNAPSHOT_FILES = "spaces/*/snapshots/*"
TRAINING_FILES = "spaces/*/trainings/*"
EVALUATION_FILES = "spaces/*/evaluations/*"
SCAN_FILES = "spaces/*/scans/*"
# What is too large for the table.
CHAT_FILES = "spaces/*/chats/*"
EXPERT_FILES = "spaces/*/experts/*"
INSIGHT_FILES = "spaces/*/insights/*"
# Files that clients send, and the rows read from them, until these are saved.
PERSONA_FILES = "temporary/spaces/*/persona_files/*"
PERSONA_UPLOADS = "temporary/spaces/*/persona_uploads/*"
# Parameters, below the stage's own prefix.
CONNECTOR_CREDENTIALS = "connectors/*"
CLUSTER_TOKENS = "clusters/*"


class Workflow(StrEnum):
    """The state machines, by the part of their name that follows the stage."""

    TRAINING = "training"
    EVALUATION = "evaluation"
    CONNECTOR_SCAN = "connector-scan"


class Layer(StrEnum):
    """Third-party packages beyond the base layer that every function has."""

    SCAN = "scan"
    SCORE = "score"
    LANGUAGE = "language"
    DATABASE = "database"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """Everything a function may do beyond logging and tracing."""

    # Kinds of the entity table; writing includes reading.
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    # Kinds of the table of inference logs; writing includes reading.
    reads_logs: tuple[str, ...] = ()
    writes_logs: tuple[str, ...] = ()
    # Keys of the data bucket.
    gets: tuple[str, ...] = ()
    puts: tuple[str, ...] = ()
    deletes: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    starts: tuple[Workflow, ...] = ()
    # Describing executions and training jobs; stopping includes describing.
    watches_jobs: bool = False
    stops_jobs: bool = False
    # Names in the parameter store; writing includes reading.
    reads_parameters: tuple[str, ...] = ()
    writes_parameters: tuple[str, ...] = ()
    # The key that progress messages are signed with.
    webhook_secret: bool = False
    # Putting messages to the spaces' webhook endpoints into their queue.
    queues_webhooks: bool = False
    # Writing to the invited, as the stage's sender.
    sends_mail: bool = False
    # Going through the whole entity table and removing, of whatever kind, what belonged to a deleted space.
    purges_spaces: bool = False
    # Taking on the roles that customers let us into their buckets with.
    assumes_customer_roles: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSpec:
    """One Lambda function."""

    name: str
    handler: str
    grants: Grants = field(default_factory=Grants)
    memory_mb: int = 512
    # Of /tmp; SnapStart allows no more than 512.
    disk_mb: int = 512
    timeout_seconds: int = 29
    layers: tuple[Layer, ...] = ()
    # A script that starts a web server, whose answers are streamed; where nothing streams, the handler answers.
    web_server: str | None = None


# As long as Lambda and a streaming API Gateway allow.
STREAMING_SECONDS = 900

# Who belongs to which space, in both directions, and who is invited to.
MEMBERSHIP = ("space", "membership", "member")
INVITES = ("invite", "invite_email")

# Who deletes an entity leaves word of it for the audit log.
REMOVAL = ("removal",)

# Telling who calls: the membership, the space and the API key of every authenticated request, fetched together.
IDENTITY = ("membership", "space", "api_key")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSpec(FunctionSpec):
    """A resource group: the function behind its routes."""

    paths: tuple[str, ...]
    public: bool = False


def group(
    name: str,
    grants: Grants | None = None,
    *,
    paths: tuple[str, ...] | None = None,
    public: bool = False,
    memory_mb: int = 512,
    layers: tuple[Layer, ...] = (),
    streams: bool = False,
) -> GroupSpec:
    """A group whose code is ``functions/<name>/handler.py`` and whose routes are ``/<name>`` and all below it.

    One that streams has a ``run.sh`` beside it.
    """
    grants = grants or Grants()
    folder = name.replace("-", "_")
    if not public:
        grants = replace(grants, reads=(*grants.reads, *IDENTITY))
    return GroupSpec(
        name=name,
        handler=f"functions.{folder}.handler.handler",
        grants=grants,
        memory_mb=memory_mb,
        timeout_seconds=STREAMING_SECONDS if streams else 29,
        layers=layers,
        web_server=f"functions/{folder}/run.sh" if streams else None,
        paths=paths or (name, f"{name}/{{proxy+}}"),
        public=public,
    )


# Where every call to a language model is logged: the row, and its texts where a space keeps them. Chats have tags too,
# and a copy of the row for each.
LOGGED_CALLS = ("log", "log_text")
LOGGED_CHATS = (*LOGGED_CALLS, "log_tag")
# What such calls take of the limits of spaces, users and API keys.
CALL_LIMITS = ("limit_usage",)

GROUPS = (
    group("action-groups", Grants(writes=("action_group", *REMOVAL))),
    group("api-keys", Grants(writes=("api_key", *REMOVAL))),
    group("actions", Grants(reads=("action_group", "checkpoint", "checkpoint_alias"), writes=("action", *REMOVAL))),
    group(
        "arguments",
        Grants(
            # What an argument rests on is noted with it; what the model learned from is told in its job's papers.
            reads=("action", "insight", "checkpoint", "checkpoint_alias", "score"),
            gets=(TRAINING_FILES,),
            lists=(TRAINING_FILES,),
            writes=(
                "argument",
                "argument_index",
                "argument_change",
                "argument_comment",
                *REMOVAL,
                "cluster",
                *CALL_LIMITS,
            ),
            reads_parameters=(CLUSTER_TOKENS,),
            writes_logs=LOGGED_CALLS,
        ),
        memory_mb=1024,
        layers=(Layer.LANGUAGE,),
    ),
    group(
        "spaces",
        # A deleted space's jobs are stopped.
        Grants(
            reads=("job", "limit_usage"), writes=(*MEMBERSHIP, *INVITES, *REMOVAL), stops_jobs=True, sends_mail=True
        ),
    ),
    group(
        "users",
        Grants(reads=("invite_email",), writes=("user", "membership", "member", "invite")),
        paths=("me", "users", "users/{proxy+}"),
    ),
    group(
        "chats",
        Grants(
            reads=("expert",),
            # What failed and what is served is noted with the cluster.
            writes=("chat", "chat_turn", *REMOVAL, "cluster", *CALL_LIMITS),
            gets=(CHAT_FILES, EXPERT_FILES),
            puts=(CHAT_FILES,),
            deletes=(CHAT_FILES,),
            reads_parameters=(CLUSTER_TOKENS,),
            writes_logs=LOGGED_CHATS,
        ),
        paths=("chats", "chats/{proxy+}", "v1/{proxy+}"),
        memory_mb=1024,
        layers=(Layer.LANGUAGE,),
        streams=True,
    ),
    group(
        "clusters", Grants(writes=("cluster", *REMOVAL), writes_parameters=(CLUSTER_TOKENS,)), layers=(Layer.LANGUAGE,)
    ),
    group(
        "experts",
        Grants(
            reads=("cluster",),
            writes=("expert", "expert_version", *REMOVAL),
            gets=(EXPERT_FILES,),
            puts=(EXPERT_FILES,),
        ),
        layers=(Layer.LANGUAGE,),
    ),
    group("models", Grants(writes=("cluster",), reads_parameters=(CLUSTER_TOKENS,)), layers=(Layer.LANGUAGE,)),
    group(
        "connectors",
        Grants(
            writes=("connector", "catalog", "scan", "schema_drift", "job", *REMOVAL),
            gets=(SCAN_FILES,),
            puts=(CONNECTOR_FILES,),
            deletes=(CONNECTOR_FILES, SCAN_FILES, SNAPSHOT_FILES),
            lists=(CONNECTOR_FILES, SCAN_FILES, SNAPSHOT_FILES),
            starts=(Workflow.CONNECTOR_SCAN,),
            writes_parameters=(CONNECTOR_CREDENTIALS,),
            assumes_customer_roles=True,
        ),
        layers=(Layer.DATABASE,),
    ),
    group("data-models", Grants(writes=("data_model", *REMOVAL))),
    group(
        "trainings",
        Grants(
            reads=("benchmark", "checkpoint"),
            # A benchmark that joins a training that has succeeded is evaluated at once.
            writes=("training", "connector", "data_model", "job", "evaluation", *REMOVAL),
            starts=(Workflow.TRAINING, Workflow.EVALUATION),
            stops_jobs=True,
        ),
    ),
    group(
        "checkpoints",
        Grants(
            reads=("checkpoint", "benchmark", "score"),
            writes=("checkpoint_alias", *REMOVAL),
            gets=(TRAINING_FILES,),
            lists=(TRAINING_FILES,),
        ),
        memory_mb=3008,
        layers=(Layer.SCORE,),
    ),
    group("benchmarks", Grants(reads=("connector",), writes=("benchmark", *REMOVAL))),
    group(
        "evaluations",
        Grants(
            reads=("benchmark", "checkpoint"),
            writes=("evaluation", "job"),
            starts=(Workflow.EVALUATION,),
        ),
    ),
    group(
        "inference-logs",
        Grants(reads_logs=(*LOGGED_CHATS, "log_user", "log_model", "log_correlation", "log_rollup")),
        memory_mb=1024,
    ),
    group(
        "insights",
        Grants(
            reads=("action", "checkpoint", "checkpoint_alias", "connector", "persona", "score"),
            writes=(
                "insight",
                "insight_contact",
                "insight_policy",
                "insight_rate",
                "insight_reaction",
                "cluster",
                *CALL_LIMITS,
            ),
            gets=(INSIGHT_FILES, TRAINING_FILES),
            # Reactions are exported to managed connectors.
            puts=(INSIGHT_FILES, CONNECTOR_FILES),
            lists=(TRAINING_FILES,),
            reads_parameters=(CLUSTER_TOKENS,),
            writes_logs=LOGGED_CALLS,
        ),
        memory_mb=3008,
        layers=(Layer.SCORE, Layer.LANGUAGE),
    ),
    group("leaderboards", Grants(reads=("score", "benchmark"))),
    group(
        "personas",
        Grants(
            writes=("persona", "persona_key", "persona_upload", *REMOVAL, "cluster", *CALL_LIMITS),
            gets=(PERSONA_FILES, PERSONA_UPLOADS),
            puts=(PERSONA_FILES, PERSONA_UPLOADS),
            deletes=(PERSONA_FILES, PERSONA_UPLOADS),
            lists=(PERSONA_FILES, PERSONA_UPLOADS),
            reads_parameters=(CLUSTER_TOKENS,),
            writes_logs=LOGGED_CALLS,
        ),
        # One whole processor: files of 100 MB are read within a request.
        memory_mb=1769,
        layers=(Layer.LANGUAGE,),
    ),
    group(
        "webhooks",
        Grants(reads=("connector", "job"), writes=("webhook", "training", "evaluation"), webhook_secret=True),
        public=True,
    ),
    group(
        "webhook-endpoints",
        Grants(
            writes=("webhook_endpoint", "webhook_endpoint_secret", "webhook_delivery", *REMOVAL), queues_webhooks=True
        ),
    ),
    group("audit-logs", Grants(reads=("audit",))),
    group("documentation", paths=("health", "openapi.json", "docs", "docs/{proxy+}"), public=True),
)


def step(
    workflow: Workflow,
    verb: str,
    grants: Grants,
    *,
    memory_mb: int = 512,
    disk_mb: int = 512,
    timeout_seconds: int = 120,
    layers: tuple[Layer, ...] = (),
) -> FunctionSpec:
    """A task of a workflow: ``functions/workflows/<workflow>/<verb>.py``."""
    return FunctionSpec(
        name=verb.replace("_", "-"),
        handler=f"functions.workflows.{workflow.replace('-', '_')}.{verb}.handler",
        grants=grants,
        memory_mb=memory_mb,
        disk_mb=disk_mb,
        timeout_seconds=timeout_seconds,
        layers=layers,
    )


# What ends a training lets go of the connectors and the data model it held.
_TRAINING_END = ("training", "connector", "data_model", "job")

STEPS = {
    Workflow.TRAINING: (
        step(
            Workflow.TRAINING,
            "check_training",
            Grants(
                reads=("connector", "catalog"),
                writes=("training",),
                gets=(CONNECTOR_FILES, SCAN_FILES, SNAPSHOT_FILES),
                puts=(TRAINING_FILES,),
                lists=(CONNECTOR_FILES, SNAPSHOT_FILES),
                reads_parameters=(CONNECTOR_CREDENTIALS,),
                assumes_customer_roles=True,
            ),
            memory_mb=1024,
        ),
        step(
            Workflow.TRAINING,
            "register_checkpoints",
            Grants(
                writes=(*_TRAINING_END, "checkpoint"),
                gets=(TRAINING_FILES,),
                lists=(TRAINING_FILES,),
            ),
            memory_mb=1024,
        ),
        step(
            Workflow.TRAINING,
            "create_evaluation",
            Grants(reads=("benchmark", "checkpoint"), writes=("evaluation", "job")),
        ),
        step(
            Workflow.TRAINING,
            "fail_training",
            Grants(writes=_TRAINING_END),
        ),
    ),
    Workflow.EVALUATION: (
        step(
            Workflow.EVALUATION,
            "prepare_evaluation",
            Grants(
                reads=("benchmark", "checkpoint", "connector", "catalog"),
                writes=("evaluation",),
                gets=(CONNECTOR_FILES, EVALUATION_FILES, SCAN_FILES, SNAPSHOT_FILES),
                puts=(EVALUATION_FILES,),
                lists=(CONNECTOR_FILES, SNAPSHOT_FILES),
                reads_parameters=(CONNECTOR_CREDENTIALS,),
                assumes_customer_roles=True,
            ),
            memory_mb=1024,
        ),
        step(
            Workflow.EVALUATION,
            "record_evaluation",
            Grants(
                reads=("checkpoint",),
                writes=("evaluation", "score", "job"),
                gets=(EVALUATION_FILES,),
                lists=(EVALUATION_FILES,),
            ),
            memory_mb=1024,
        ),
        step(Workflow.EVALUATION, "fail_evaluation", Grants(writes=("evaluation", "job"))),
    ),
    Workflow.CONNECTOR_SCAN: (
        step(
            Workflow.CONNECTOR_SCAN,
            "list_scan_files",
            Grants(
                writes=("connector", "catalog", "scan"),
                puts=(SCAN_FILES,),
                # Copies of tables that are no more.
                deletes=(SNAPSHOT_FILES,),
                lists=(CONNECTOR_FILES,),
                reads_parameters=(CONNECTOR_CREDENTIALS,),
                assumes_customer_roles=True,
            ),
            timeout_seconds=300,
            layers=(Layer.DATABASE,),
        ),
        step(
            Workflow.CONNECTOR_SCAN,
            "scan_file",
            Grants(
                reads=("connector",),
                writes=("catalog", "schema_drift"),
                # With the columns of the version before, where they are long.
                gets=(CONNECTOR_FILES, SCAN_FILES, SNAPSHOT_FILES),
                # Column lists too long for the table, and tables of databases.
                puts=(SCAN_FILES, SNAPSHOT_FILES),
                deletes=(SNAPSHOT_FILES,),
                # Without it S3 answers 403 for a file that is gone.
                lists=(CONNECTOR_FILES, SNAPSHOT_FILES),
                reads_parameters=(CONNECTOR_CREDENTIALS,),
                assumes_customer_roles=True,
            ),
            memory_mb=3008,
            # A file and its decoded copy: files of about 3 GB.
            disk_mb=10_240,
            timeout_seconds=900,
            layers=(Layer.SCAN, Layer.DATABASE),
        ),
        step(
            Workflow.CONNECTOR_SCAN,
            "finish_scan",
            Grants(
                writes=("connector", "catalog", "scan", "job"),
                gets=(SCAN_FILES,),
                starts=(Workflow.CONNECTOR_SCAN,),
            ),
        ),
        step(
            Workflow.CONNECTOR_SCAN,
            "fail_scan",
            Grants(writes=("connector", "catalog", "scan", "job"), starts=(Workflow.CONNECTOR_SCAN,)),
        ),
    ),
}


def event(name: str, grants: Grants, *, memory_mb: int = 512, timeout_seconds: int = 60) -> FunctionSpec:
    """A function that something other than a request or a workflow calls: ``functions/events/<name>.py``."""
    return FunctionSpec(
        name=name.replace("_", "-"),
        handler=f"functions.events.{name}.handler",
        grants=grants,
        memory_mb=memory_mb,
        timeout_seconds=timeout_seconds,
    )


# Whoever finds a job to be other than its record says sets the record right, starts what never started, and stops what
# nobody wants any more.
_CONVERGENCE = Grants(
    reads=("benchmark", "checkpoint", "space"),
    writes=(*_TRAINING_END, "evaluation", "scan", "catalog"),
    starts=tuple(Workflow),
    stops_jobs=True,
)

CONNECTOR_SCAN = event(
    "connector_scan",
    Grants(
        writes=("connector", "catalog", "scan", "job"),
        starts=(Workflow.CONNECTOR_SCAN,),
    ),
)
JOB_STATE_CHANGED = event("job_state_changed", _CONVERGENCE)
# What deleted chats, arguments and clusters leave behind.
_LEFTOVERS = ("chat", "chat_turn", "argument", "argument_change", "argument_comment", "cluster")
# It also removes what deleted entities leave behind, and sees to the members of deleted and restored spaces.
RECONCILE_JOBS = event(
    "reconcile_jobs",
    replace(
        _CONVERGENCE,
        reads=(*_CONVERGENCE.reads, "member"),
        writes=(*_CONVERGENCE.writes, "space", "membership", *_LEFTOVERS, "schema_drift"),
        deletes=(CHAT_FILES, CONNECTOR_FILES, SCAN_FILES, SNAPSHOT_FILES),
        lists=(CONNECTOR_FILES, SCAN_FILES, SNAPSHOT_FILES),
        writes_parameters=(CONNECTOR_CREDENTIALS, CLUSTER_TOKENS),
    ),
    timeout_seconds=240,
)
ROLL_UP_INFERENCE_LOGS = event(
    "roll_up_inference_logs", Grants(writes_logs=("log_counted", "log_rollup")), timeout_seconds=120
)
# It also forgets the credentials and tokens, and the files with all their versions.
PURGE_SPACES = event(
    "purge_spaces",
    Grants(
        writes=("space",),
        writes_logs=(*LOGGED_CHATS, "log_rollup"),
        deletes=("spaces/*", "temporary/spaces/*"),
        lists=("spaces/*", "temporary/spaces/*"),
        writes_parameters=(CONNECTOR_CREDENTIALS, CLUSTER_TOKENS),
        purges_spaces=True,
    ),
    timeout_seconds=900,
)
# What the table's stream tells of holds the writes themselves; only who deleted something is looked up.
WRITE_AUDIT_LOG = event("write_audit_log", Grants(reads=("removal",), writes=("audit",)), timeout_seconds=120)
PUBLISH_WEBHOOK_EVENTS = event(
    "publish_webhook_events",
    Grants(reads=("webhook_endpoint",), writes=("webhook_delivery",), queues_webhooks=True),
    timeout_seconds=120,
)
# It also notes since when an endpoint fails, and disables it.
DELIVER_WEBHOOKS = event(
    "deliver_webhooks",
    Grants(
        reads=("space", "webhook_endpoint_secret"),
        writes=("webhook_endpoint", "webhook_delivery"),
        queues_webhooks=True,
    ),
)
# Cognito's own authorizer would refuse API keys.
AUTHORIZE = event("authorize", Grants(), timeout_seconds=10)

EVENTS = (
    CONNECTOR_SCAN,
    JOB_STATE_CHANGED,
    RECONCILE_JOBS,
    ROLL_UP_INFERENCE_LOGS,
    PURGE_SPACES,
    WRITE_AUDIT_LOG,
    PUBLISH_WEBHOOK_EVENTS,
    DELIVER_WEBHOOKS,
)
