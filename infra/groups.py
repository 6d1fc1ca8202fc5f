"""Lists every Lambda function of the service and its permissions, as data.

The stacks make functions, roles and routes of this list. Kinds of table items become ``dynamodb:LeadingKeys``
conditions, and key patterns become S3 resources. Functions get no other permissions.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

CONNECTOR_FILES = "spaces/*/connectors/*"
# Copies of tables in customers' databases, which scans make.
SNAPSHOT_FILES = "spaces/*/snapshots/*"
TRAINING_FILES = "spaces/*/trainings/*"
# The operator puts these there. A job reads them for the architecture tabicl.
TABICL_WEIGHTS = "weights/tabicl.ckpt"
EVALUATION_FILES = "spaces/*/evaluations/*"
SCAN_FILES = "spaces/*/scans/*"
# The plan and the finished parts of a run, until they are published.
RUN_FILES = "temporary/spaces/*/runs/*"
# What Step Functions exports of each scanned group of files. No function reads it.
SCAN_RESULTS = "temporary/spaces/*/scans/*"
# Which versions of files a training or an evaluation reads.
PIN_FILES = "spaces/*/pins/*"
# Content that is too large for the table.
BOARD_FILES = "spaces/*/leaderboards/*"
CHAT_FILES = "spaces/*/chats/*"
EXPERT_FILES = "spaces/*/experts/*"
INSIGHT_FILES = "spaces/*/insights/*"
# Files that clients upload and the rows read from them. Both are deleted once the personas are saved.
PERSONA_FILES = "temporary/spaces/*/persona_files/*"
PERSONA_UPLOADS = "temporary/spaces/*/persona_uploads/*"
# Everything that a space stores, to measure it.
SPACE_FOLDERS = ("spaces/*/", "temporary/spaces/*/")
# Parameter names below the stage's prefix.
CONNECTOR_CREDENTIALS = "connectors/*"
CLUSTER_TOKENS = "clusters/*"


class Workflow(StrEnum):
    """State machine, by the part of its name after the stage."""

    TRAINING = "training"
    EVALUATION = "evaluation"
    CONNECTOR_SCAN = "connector-scan"
    PREDICTION = "prediction"
    DECISION_RUN = "decision-run"


class Layer(StrEnum):
    """Lambda layer with third-party packages. Every function has the base layer too."""

    SCAN = "scan"
    SCORE = "score"
    LANGUAGE = "language"
    DATABASE = "database"
    CONDITIONS = "conditions"
    ALLOCATE = "allocate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """Permissions of a function beyond logging and tracing. Write permissions include reading."""

    # Kinds of items in the entity table.
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    # Kinds of items in the table of inference logs.
    reads_logs: tuple[str, ...] = ()
    writes_logs: tuple[str, ...] = ()
    # Key patterns of the data bucket.
    gets: tuple[str, ...] = ()
    puts: tuple[str, ...] = ()
    deletes: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    # Objects of which single versions are listed and deleted.
    erases: tuple[str, ...] = ()
    starts: tuple[Workflow, ...] = ()
    # Describes SageMaker's training jobs. Stopping includes describing.
    watches_training_jobs: bool = False
    stops_training_jobs: bool = False
    # Reads what trainings print in SageMaker.
    reads_job_logs: bool = False
    # Describes and stops executions of workflows.
    stops_executions: bool = False
    # Name patterns in the parameter store.
    reads_parameters: tuple[str, ...] = ()
    writes_parameters: tuple[str, ...] = ()
    # Reads the key that signs progress messages.
    webhook_secret: bool = False
    # Queues messages for the spaces' webhook endpoints.
    queues_webhooks: bool = False
    # Sends invitations from the stage's sender address.
    sends_mail: bool = False
    # Scans the entity table and removes items of any kind that belong to a deleted space.
    purges_spaces: bool = False
    # Assumes the roles that give access to customers' buckets, and reads the key of their external ids.
    assumes_customer_roles: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSpec:
    """Name, code, size and permissions of a Lambda function."""

    name: str
    handler: str
    grants: Grants = field(default_factory=Grants)
    memory_mb: int = 512
    # Size of /tmp. SnapStart allows at most 512.
    disk_mb: int = 512
    timeout_seconds: int = 29
    layers: tuple[Layer, ...] = ()
    # Packages that do not fit beside the layers. The function unpacks them at a cold start.
    unpacks: Layer | None = None
    # Script that starts a web server, which streams responses. Stages without streaming use the handler.
    web_server: str | None = None
    # Sends to its own queue. AWS stops other functions after about 16 rounds, so the code must end the loop itself.
    repeats_itself: bool = False


# The longest time that Lambda and a streaming API Gateway allow.
STREAMING_SECONDS = 900

MEMBERSHIP = ("space", "membership", "member")
INVITES = ("invite", "invite_email")

# A deletion writes this item, from which the audit log reads who deleted the entity.
REMOVAL = ("removal",)

# Notes of objects whose items are not stored yet.
OBJECTS = ("object",)

# An argument changes with its places in lists and with a note of the change.
ARGUMENTS = ("argument", "argument_index", "argument_change")

# A delivery changes with its place in the list of its status.
DELIVERIES = ("webhook_delivery", "webhook_delivery_index")

# Every authenticated request fetches its membership, space and API key in one batch.
IDENTITY = ("membership", "space", "api_key")
# A request with an API key notes the time and the address of its use.
KEY_USE = ("api_key_entry",)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSpec(FunctionSpec):
    """Function of a resource group, with its routes."""

    paths: tuple[str, ...]
    public: bool = False
    # Starts from a snapshot in stages with SnapStart. It pays where the objective of reads counts a GET.
    snap_start: bool = True


def group(
    name: str,
    grants: Grants | None = None,
    *,
    paths: tuple[str, ...] | None = None,
    public: bool = False,
    memory_mb: int = 512,
    layers: tuple[Layer, ...] = (),
    streams: bool = False,
    snap_start: bool = True,
) -> GroupSpec:
    """Returns the group with the code ``functions/<name>/handler.py`` and the routes ``/<name>`` and below.

    A group that streams also needs ``functions/<name>/run.sh``.
    """
    grants = grants or Grants()
    folder = name.replace("-", "_")
    if not public:
        grants = replace(grants, reads=(*grants.reads, *IDENTITY), writes=(*grants.writes, *KEY_USE))
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
        # AWS does not document SnapStart for a wrapper that replaces the runtime.
        snap_start=snap_start and not streams,
    )


# Items that log a call to a language model: the row, and its texts if the space keeps them. A chat also writes a copy
# of the row for each of its tags.
LOGGED_CALLS = ("log", "log_text")
LOGGED_CHATS = (*LOGGED_CALLS, "log_tag")
# Usage that counts towards the limits of spaces, users and API keys.
CALL_LIMITS = ("limit_usage",)
# What the jobs and the files of a space use, and the limits that an operator sets.
SPACE_USAGE = ("space_usage",)

GROUPS = (
    group("action-groups", Grants(writes=("action_group", *REMOVAL)), layers=(Layer.CONDITIONS,)),
    group("api-keys", Grants(reads=("member",), writes=("api_key",))),
    group(
        "actions",
        Grants(reads=("action_group", "checkpoint", "checkpoint_alias", "insight_policy"), writes=("action", *REMOVAL)),
        layers=(Layer.CONDITIONS,),
    ),
    group(
        "arguments",
        Grants(
            # An argument stores its sources. The job specification states what data the model learned from.
            reads=("action", "insight", "insight_policy", "checkpoint", "checkpoint_alias", "member", "score"),
            gets=(TRAINING_FILES,),
            lists=(TRAINING_FILES,),
            writes=(
                *ARGUMENTS,
                "argument_comment",
                # The ledger of the customer notes the argument.
                "insight_contact",
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
        # Deleting a space stops its jobs.
        Grants(
            reads=("job", "limit_usage", "user", *SPACE_USAGE),
            # Arguments that wait for a leaver wait for anyone then.
            writes=(*MEMBERSHIP, *INVITES, "api_key", *REMOVAL, *ARGUMENTS),
            stops_executions=True,
            stops_training_jobs=True,
            sends_mail=True,
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
            # The cluster stores its failures and the models that it serves.
            writes=("chat", "chat_turn", *REMOVAL, *OBJECTS, "cluster", *CALL_LIMITS),
            gets=(CHAT_FILES, EXPERT_FILES),
            puts=(CHAT_FILES,),
            deletes=(CHAT_FILES,),
            lists=(CHAT_FILES,),
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
            writes=("expert", "expert_version", *REMOVAL, *OBJECTS),
            gets=(EXPERT_FILES,),
            puts=(EXPERT_FILES,),
        ),
        layers=(Layer.LANGUAGE,),
    ),
    group(
        "models",
        Grants(writes=("cluster",), reads_parameters=(CLUSTER_TOKENS,)),
        layers=(Layer.LANGUAGE,),
        # Its requests wait for the spaces' servers.
        snap_start=False,
    ),
    group(
        "connectors",
        Grants(
            writes=("connector", "catalog", "scan", "schema_drift", "job", *SPACE_USAGE, *REMOVAL),
            # Previews read uploaded files.
            gets=(CONNECTOR_FILES, SCAN_FILES),
            puts=(CONNECTOR_FILES,),
            deletes=(CONNECTOR_FILES, SCAN_FILES, SNAPSHOT_FILES),
            lists=(CONNECTOR_FILES, SCAN_FILES, SNAPSHOT_FILES, *SPACE_FOLDERS),
            starts=(Workflow.CONNECTOR_SCAN,),
            writes_parameters=(CONNECTOR_CREDENTIALS,),
            assumes_customer_roles=True,
        ),
        # 1769 MB give one full processor, which reads a preview's 8 MiB of text within seconds.
        memory_mb=1769,
        layers=(Layer.SCAN, Layer.DATABASE),
    ),
    group("data-models", Grants(writes=("data_model", *REMOVAL))),
    group(
        "trainings",
        Grants(
            reads=("benchmark", "checkpoint"),
            # A benchmark that is added to a finished training is evaluated immediately.
            writes=("training", "connector", "data_model", "job", "evaluation", *SPACE_USAGE, *REMOVAL),
            # The request pins the versions of the files, so it lists them. It reads none.
            puts=(PIN_FILES,),
            deletes=(PIN_FILES,),
            lists=(CONNECTOR_FILES, SNAPSHOT_FILES),
            reads_parameters=(CONNECTOR_CREDENTIALS,),
            assumes_customer_roles=True,
            starts=(Workflow.TRAINING, Workflow.EVALUATION),
            stops_executions=True,
            stops_training_jobs=True,
            reads_job_logs=True,
        ),
        paths=("trainings", "trainings/{proxy+}", "architectures"),
    ),
    group(
        "checkpoints",
        Grants(
            # A gate compares the scores of rows that evaluations have kept.
            reads=("checkpoint", "benchmark", "evaluation", "score"),
            writes=("checkpoint_alias", "checkpoint_gate", *REMOVAL),
            gets=(EVALUATION_FILES, TRAINING_FILES),
            lists=(EVALUATION_FILES, TRAINING_FILES),
        ),
        memory_mb=3008,
        layers=(Layer.SCORE,),
    ),
    group(
        "predictions",
        Grants(
            reads=("catalog", "checkpoint", "checkpoint_alias", "insight_policy", "prediction_part"),
            writes=("prediction", "run_output", "connector", "job", *SPACE_USAGE),
            # A run is checked against the model and the scans of its files, and planned. A restart renews the plan.
            gets=(CONNECTOR_FILES, RUN_FILES, SCAN_FILES, TRAINING_FILES),
            puts=(RUN_FILES,),
            lists=(CONNECTOR_FILES, SNAPSHOT_FILES, TRAINING_FILES, *SPACE_FOLDERS),
            reads_parameters=(CONNECTOR_CREDENTIALS,),
            assumes_customer_roles=True,
            starts=(Workflow.PREDICTION,),
            stops_executions=True,
        ),
        memory_mb=3008,
        layers=(Layer.SCORE,),
    ),
    group(
        "decision-runs",
        Grants(
            # A run keeps the moment: policy, experiment, actions, models and counts.
            reads=(
                "action",
                "action_group",
                "catalog",
                "checkpoint",
                "checkpoint_alias",
                "decision_run_part",
                "insight_experiment",
                "insight_policy",
                "insight_rate",
            ),
            # A run that ends early releases its reserved contacts.
            writes=("decision_run", "run_output", "connector", "insight_contact", "job", *SPACE_USAGE),
            gets=(CONNECTOR_FILES, RUN_FILES, SCAN_FILES),
            puts=(RUN_FILES,),
            lists=(CONNECTOR_FILES, SNAPSHOT_FILES, *SPACE_FOLDERS),
            reads_parameters=(CONNECTOR_CREDENTIALS,),
            assumes_customer_roles=True,
            starts=(Workflow.DECISION_RUN,),
            stops_executions=True,
        ),
        memory_mb=1769,
    ),
    group("benchmarks", Grants(reads=("connector",), writes=("benchmark", *REMOVAL))),
    group(
        "evaluations",
        Grants(
            reads=("benchmark", "checkpoint", "connector"),
            writes=("evaluation", "job", *SPACE_USAGE),
            puts=(PIN_FILES,),
            deletes=(PIN_FILES,),
            lists=(CONNECTOR_FILES, SNAPSHOT_FILES),
            reads_parameters=(CONNECTOR_CREDENTIALS,),
            assumes_customer_roles=True,
            starts=(Workflow.EVALUATION,),
        ),
    ),
    group(
        "inference-logs",
        Grants(reads=("member",), reads_logs=(*LOGGED_CHATS, "log_user", "log_model", "log_correlation", "log_rollup")),
        memory_mb=1024,
    ),
    group(
        "insights",
        Grants(
            # A reaction to an offer of a decision run needs the run.
            reads=(
                "action",
                "action_group",
                "checkpoint",
                "checkpoint_alias",
                "connector",
                "decision_run",
                "persona",
                "score",
            ),
            writes=(
                "insight",
                "insight_contact",
                "insight_experiment",
                "insight_policy",
                "insight_rate",
                "insight_reaction",
                *OBJECTS,
                "cluster",
                *CALL_LIMITS,
                *SPACE_USAGE,
            ),
            # Reactions are exported to managed connectors, from which their owner downloads them.
            gets=(CONNECTOR_FILES, INSIGHT_FILES, TRAINING_FILES),
            puts=(INSIGHT_FILES, CONNECTOR_FILES),
            lists=(TRAINING_FILES, *SPACE_FOLDERS),
            reads_parameters=(CLUSTER_TOKENS,),
            writes_logs=LOGGED_CALLS,
        ),
        memory_mb=3008,
        layers=(Layer.SCORE, Layer.LANGUAGE, Layer.CONDITIONS),
    ),
    group(
        "clients",
        # An erasure reaches everything that is stored about a customer.
        Grants(
            reads=("action", "connector", "insight_policy", "job"),
            writes=(
                *ARGUMENTS,
                "argument_comment",
                "client_erasure",
                "decision_run",
                "insight",
                "insight_contact",
                "insight_reaction",
                "persona",
                "persona_key",
                "prediction",
                *REMOVAL,
                "run_erasure",
            ),
            reads_logs=("log_correlation",),
            writes_logs=("log_text",),
            gets=(CONNECTOR_FILES, INSIGHT_FILES),
            puts=(CONNECTOR_FILES,),
            deletes=(CONNECTOR_FILES,),
            lists=(CONNECTOR_FILES, RUN_FILES),
            erases=(CONNECTOR_FILES, INSIGHT_FILES),
        ),
        memory_mb=1769,
        paths=("clients", "clients/{proxy+}", "contacts"),
    ),
    group("leaderboards", Grants(reads=("score", "benchmark"), gets=(BOARD_FILES,))),
    group(
        "personas",
        Grants(
            writes=("persona", "persona_key", "persona_upload", *REMOVAL, "cluster", *CALL_LIMITS, *SPACE_USAGE),
            gets=(PERSONA_FILES, PERSONA_UPLOADS),
            puts=(PERSONA_FILES, PERSONA_UPLOADS),
            deletes=(PERSONA_FILES, PERSONA_UPLOADS),
            lists=(PERSONA_FILES, PERSONA_UPLOADS, *SPACE_FOLDERS),
            reads_parameters=(CLUSTER_TOKENS,),
            writes_logs=LOGGED_CALLS,
        ),
        # 1769 MB give one full processor, which reads files of 100 MB within one request.
        memory_mb=1769,
        layers=(Layer.LANGUAGE,),
    ),
    group(
        "webhooks",
        Grants(reads=("connector", "job"), writes=("webhook", "training", "evaluation"), webhook_secret=True),
        public=True,
        # Only jobs call it, and they repeat what fails.
        snap_start=False,
    ),
    group(
        "webhook-endpoints",
        Grants(writes=("webhook_endpoint", "webhook_endpoint_secret", *DELIVERIES, *REMOVAL), queues_webhooks=True),
    ),
    group("audit-logs", Grants(reads=("audit",))),
    group(
        "documentation",
        paths=("", "health", "openapi.json", "docs", "docs/{proxy+}", "console", "console/{proxy+}"),
        public=True,
    ),
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
    unpacks: Layer | None = None,
) -> FunctionSpec:
    """Returns the workflow step with the code ``functions/workflows/<workflow>/<verb>.py``."""
    return FunctionSpec(
        name=verb.replace("_", "-"),
        handler=f"functions.workflows.{workflow.replace('-', '_')}.{verb}.handler",
        grants=grants,
        memory_mb=memory_mb,
        disk_mb=disk_mb,
        timeout_seconds=timeout_seconds,
        layers=layers,
        unpacks=unpacks,
    )


# The end of a training releases its connectors and its data model.
_TRAINING_END = ("training", "connector", "data_model", "job", *SPACE_USAGE)

STEPS = {
    Workflow.TRAINING: (
        step(
            Workflow.TRAINING,
            "check_training",
            Grants(
                # Requests scans of files that no scan has read.
                writes=("training", "connector", "catalog", "scan", "job"),
                # The request pins files. Tables are looked at as they were copied.
                gets=(PIN_FILES, SCAN_FILES, SNAPSHOT_FILES),
                puts=(PIN_FILES, TRAINING_FILES),
                lists=(CONNECTOR_FILES, SNAPSHOT_FILES),
                reads_parameters=(CONNECTOR_CREDENTIALS,),
                starts=(Workflow.CONNECTOR_SCAN,),
                assumes_customer_roles=True,
            ),
            memory_mb=1024,
            # Reads the catalog's entries of up to 10,000 files of each connector.
            timeout_seconds=300,
        ),
        step(
            Workflow.TRAINING,
            "find_training_machine",
            # Jobs that wait for a machine are in the list of open jobs.
            Grants(writes=("training", "job"), watches_training_jobs=True),
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
            Grants(reads=("benchmark", "checkpoint"), writes=("evaluation", "job", *SPACE_USAGE)),
        ),
        step(
            Workflow.TRAINING,
            "fail_training",
            Grants(writes=_TRAINING_END, stops_training_jobs=True),
        ),
    ),
    Workflow.EVALUATION: (
        step(
            Workflow.EVALUATION,
            "prepare_evaluation",
            Grants(
                reads=("benchmark", "checkpoint", "connector", "catalog"),
                writes=("evaluation",),
                gets=(CONNECTOR_FILES, EVALUATION_FILES, PIN_FILES, SCAN_FILES, SNAPSHOT_FILES),
                puts=(EVALUATION_FILES,),
                lists=(CONNECTOR_FILES, SNAPSHOT_FILES),
                reads_parameters=(CONNECTOR_CREDENTIALS,),
                assumes_customer_roles=True,
            ),
            memory_mb=1024,
            timeout_seconds=300,
        ),
        step(
            Workflow.EVALUATION,
            "find_evaluation_machine",
            Grants(writes=("evaluation", "job"), watches_training_jobs=True),
        ),
        step(
            Workflow.EVALUATION,
            "record_evaluation",
            Grants(
                reads=("checkpoint",),
                # Now and then it packs the results of a leaderboard.
                writes=("evaluation", "score", "job", *OBJECTS, *SPACE_USAGE),
                gets=(EVALUATION_FILES, BOARD_FILES),
                puts=(BOARD_FILES,),
                lists=(EVALUATION_FILES,),
            ),
            memory_mb=1024,
        ),
        step(
            Workflow.EVALUATION,
            "fail_evaluation",
            Grants(writes=("evaluation", "job", *SPACE_USAGE), stops_training_jobs=True),
        ),
    ),
    Workflow.CONNECTOR_SCAN: (
        step(
            Workflow.CONNECTOR_SCAN,
            "list_scan_files",
            Grants(
                writes=("connector", "catalog", "scan"),
                puts=(SCAN_FILES,),
                # Deletes copies of tables that no longer exist.
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
                writes=("catalog", "schema_drift", *SPACE_USAGE),
                # Long column lists of earlier versions are files, too.
                gets=(CONNECTOR_FILES, SCAN_FILES, SNAPSHOT_FILES),
                # Column lists that are too long for the table, and copies of database tables.
                puts=(SCAN_FILES, SNAPSHOT_FILES),
                deletes=(SNAPSHOT_FILES,),
                # Without this permission S3 returns 403 for a missing file. Copies of tables need room in the space.
                lists=(CONNECTOR_FILES, SNAPSHOT_FILES, *SPACE_FOLDERS),
                reads_parameters=(CONNECTOR_CREDENTIALS,),
                assumes_customer_roles=True,
            ),
            memory_mb=3008,
            # Holds a file of about 3 GB and its decoded copy.
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
            # Records the errors of up to 100,000 files, as fail_scan does.
            timeout_seconds=300,
        ),
        step(
            Workflow.CONNECTOR_SCAN,
            "fail_scan",
            Grants(writes=("connector", "catalog", "scan", "job"), starts=(Workflow.CONNECTOR_SCAN,)),
            timeout_seconds=300,
        ),
    ),
}

# Items that the end of a run writes: it releases the connectors and the folder.
_RUN_END = ("prediction", "run_output", "connector", "job", *SPACE_USAGE)

STEPS |= {
    Workflow.PREDICTION: (
        step(
            Workflow.PREDICTION,
            "prepare_prediction",
            # The tasks of a SageMaker job are objects.
            Grants(writes=("prediction",), gets=(RUN_FILES,), puts=(RUN_FILES,)),
        ),
        step(
            Workflow.PREDICTION,
            "score_parts",
            Grants(
                reads=("prediction",),
                writes=("prediction_part",),
                gets=(CONNECTOR_FILES, RUN_FILES, SNAPSHOT_FILES, TRAINING_FILES),
                puts=(RUN_FILES,),
                lists=(TRAINING_FILES,),
                reads_parameters=(CONNECTOR_CREDENTIALS,),
                assumes_customer_roles=True,
            ),
            memory_mb=3008,
            # Holds a file of about 3 GB and its decoded copy.
            disk_mb=10_240,
            timeout_seconds=900,
            layers=(Layer.SCAN,),
            unpacks=Layer.SCORE,
        ),
        step(
            Workflow.PREDICTION,
            "finish_prediction",
            # Customers who were erased during the run are left out, by the policy's keys. Finished parts are removed.
            Grants(
                reads=("insight_policy", "run_erasure"),
                writes=("prediction_part", *_RUN_END),
                gets=(CONNECTOR_FILES, RUN_FILES),
                puts=(CONNECTOR_FILES, RUN_FILES),
                deletes=(RUN_FILES,),
                lists=(CONNECTOR_FILES, RUN_FILES, *SPACE_FOLDERS),
            ),
            memory_mb=3008,
            # The customers of all rows.
            disk_mb=10_240,
            # Copies thousands of parts.
            timeout_seconds=900,
            # The second one has numpy.
            layers=(Layer.SCAN, Layer.ALLOCATE),
        ),
        step(
            Workflow.PREDICTION,
            "fail_prediction",
            Grants(reads=("prediction_part",), writes=_RUN_END, deletes=(CONNECTOR_FILES,)),
            timeout_seconds=300,
        ),
    ),
}

# As above, and the contacts that were reserved are released.
_DECISION_RUN_END = ("decision_run", "run_output", "connector", "insight_contact", "job", *SPACE_USAGE)

STEPS |= {
    Workflow.DECISION_RUN: (
        step(
            Workflow.DECISION_RUN,
            "prepare_decision_run",
            Grants(writes=("decision_run",), gets=(RUN_FILES,), puts=(RUN_FILES,)),
        ),
        step(
            Workflow.DECISION_RUN,
            "decide_parts",
            Grants(
                reads=("decision_run", "insight_contact"),
                writes=("decision_run_part",),
                gets=(CONNECTOR_FILES, RUN_FILES, SNAPSHOT_FILES, TRAINING_FILES),
                puts=(RUN_FILES,),
                reads_parameters=(CONNECTOR_CREDENTIALS,),
                assumes_customer_roles=True,
            ),
            memory_mb=3008,
            disk_mb=10_240,
            timeout_seconds=900,
            layers=(Layer.SCAN, Layer.CONDITIONS),
            unpacks=Layer.SCORE,
        ),
        step(
            Workflow.DECISION_RUN,
            "finish_decision_run",
            Grants(
                reads=("run_erasure",),
                writes=("decision_run_part", "insight_experiment", *_DECISION_RUN_END),
                gets=(CONNECTOR_FILES, RUN_FILES),
                puts=(CONNECTOR_FILES, RUN_FILES),
                deletes=(RUN_FILES,),
                lists=(CONNECTOR_FILES, RUN_FILES, *SPACE_FOLDERS),
            ),
            memory_mb=6144,
            # The scores of all customers.
            disk_mb=10_240,
            timeout_seconds=900,
            layers=(Layer.SCAN, Layer.ALLOCATE),
        ),
        step(
            Workflow.DECISION_RUN,
            "fail_decision_run",
            Grants(reads=("decision_run_part",), writes=_DECISION_RUN_END, deletes=(CONNECTOR_FILES,)),
            timeout_seconds=300,
        ),
    ),
}

# The step of each workflow that records why an execution failed.
FAIL_STEPS = {
    workflow: next(each for each in steps if each.name.startswith("fail-")) for workflow, steps in STEPS.items()
}


def event(
    name: str, grants: Grants, *, memory_mb: int = 512, timeout_seconds: int = 60, repeats_itself: bool = False
) -> FunctionSpec:
    """Returns the event function with the code ``functions/events/<name>.py``."""
    return FunctionSpec(
        name=name.replace("_", "-"),
        handler=f"functions.events.{name}.handler",
        grants=grants,
        memory_mb=memory_mb,
        timeout_seconds=timeout_seconds,
        repeats_itself=repeats_itself,
    )


# A function that reconciles a job corrects its record, starts a job that never started and stops a job that was
# cancelled.
_CONVERGENCE = Grants(
    reads=("benchmark", "checkpoint", "decision_run_part", "prediction_part", "space"),
    writes=(*dict.fromkeys((*_TRAINING_END, *_RUN_END, *_DECISION_RUN_END)), "evaluation", "scan", "catalog"),
    # What a run has published, whose workflow is gone.
    deletes=(CONNECTOR_FILES,),
    starts=tuple(Workflow),
    stops_executions=True,
    stops_training_jobs=True,
)

CONNECTOR_SCAN = event(
    "connector_scan",
    Grants(
        writes=("connector", "catalog", "scan", "job"),
        starts=(Workflow.CONNECTOR_SCAN,),
    ),
)
JOB_STATE_CHANGED = event("job_state_changed", _CONVERGENCE)
# Deleting a chat, an argument or a cluster does not remove all of these items immediately.
_REMAINING_DATA = ("chat", "chat_turn", *ARGUMENTS, "argument_comment", "cluster", *OBJECTS)
# This function also removes remaining data of deleted entities and updates members of deleted or restored spaces.
RECONCILE_JOBS = event(
    "reconcile_jobs",
    replace(
        _CONVERGENCE,
        # Items that may name an object.
        reads=("benchmark", "checkpoint", "expert_version", "insight", "run_erasure", "score", "space"),
        writes=(
            *_CONVERGENCE.writes,
            "space",
            "membership",
            "member",
            *_REMAINING_DATA,
            "schema_drift",
            "decision_run_part",
            "prediction_part",
        ),
        # The manifest of an output, which may be another run's by then.
        gets=(CONNECTOR_FILES,),
        deletes=(
            BOARD_FILES,
            CHAT_FILES,
            CONNECTOR_FILES,
            EVALUATION_FILES,
            EXPERT_FILES,
            INSIGHT_FILES,
            PIN_FILES,
            RUN_FILES,
            SCAN_FILES,
            SNAPSHOT_FILES,
            TRAINING_FILES,
        ),
        lists=(
            CHAT_FILES,
            CONNECTOR_FILES,
            EVALUATION_FILES,
            PIN_FILES,
            RUN_FILES,
            SCAN_FILES,
            SNAPSHOT_FILES,
            TRAINING_FILES,
        ),
        writes_parameters=(CONNECTOR_CREDENTIALS, CLUSTER_TOKENS),
    ),
    timeout_seconds=240,
)
ROLL_UP_INFERENCE_LOGS = event(
    "roll_up_inference_logs", Grants(writes_logs=("log_counted", "log_rollup")), timeout_seconds=120
)
# This function also deletes credentials, tokens and all versions of files.
PURGE_SPACES = event(
    "purge_spaces",
    Grants(
        writes=("space", "membership"),
        writes_logs=(*LOGGED_CHATS, "log_rollup"),
        deletes=("spaces/*", "temporary/spaces/*"),
        lists=("spaces/*", "temporary/spaces/*"),
        writes_parameters=(CONNECTOR_CREDENTIALS, CLUSTER_TOKENS),
        purges_spaces=True,
    ),
    timeout_seconds=900,
)
# The stream holds the writes, so this function reads only who deleted an entity.
WRITE_AUDIT_LOG = event("write_audit_log", Grants(reads=("removal",), writes=("audit",)), timeout_seconds=120)
PUBLISH_WEBHOOK_EVENTS = event(
    "publish_webhook_events",
    Grants(reads=("webhook_endpoint",), writes=DELIVERIES, queues_webhooks=True),
    timeout_seconds=120,
)
# This function also stores since when an endpoint fails, and disables it.
DELIVER_WEBHOOKS = event(
    "deliver_webhooks",
    Grants(
        reads=("space", "webhook_endpoint_secret"),
        writes=("webhook_endpoint", *DELIVERIES),
        queues_webhooks=True,
    ),
    repeats_itself=True,
)
# Cognito's authorizer would refuse API keys.
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
FUNCTIONS = (*GROUPS, *(spec for specs in STEPS.values() for spec in specs), *EVENTS, AUTHORIZE)
