"""Derives the requests that AWS's services make for a stage from its templates.

No test can record them, because AWS makes them: events that reach queues and functions, alarms that reach the topic,
tasks of state machines, SageMaker's own work for a job, and uses of the key for those who read or write what it
encrypts. AWS's documents name the actions.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from infra.groups import FUNCTIONS
from tests.fixtures.iam_calls import ACCOUNT, CUSTOMER_ROLE, CUSTOMER_ROLE_KEYS, ENTITIES, FILES, LOGS, REGION, SECRETS
from tests.infra.simulator.deployment import IMAGES, Deployment, Keys, Request

FROM_ACCOUNT: Keys = (("aws:SourceAccount", ACCOUNT),)
_LOG_DELIVERY = (
    "CreateLogDelivery",
    "DeleteLogDelivery",
    "DescribeLogGroups",
    "DescribeResourcePolicies",
    "GetLogDelivery",
    "ListLogDeliveries",
    "PutResourcePolicy",
    "UpdateLogDelivery",
)
_TRACES = ("GetSamplingRules", "GetSamplingTargets", "PutTelemetryRecords", "PutTraceSegments")
_OF_QUEUES = ("ChangeMessageVisibility", "DeleteMessage", "GetQueueAttributes", "ReceiveMessage")
_OF_STREAMS = ("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams")


def arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


# What a step lays out for a Distributed Map.
ITEMS_OF_MAPS = {"$.groups_key": "spaces/1/scans/1/groups.json", "$.tasks_key": "temporary/spaces/1/runs/1/tasks.json"}
# The names of the jobs of runs, by the folder of their code.
JOBS_OF_RUNS = {"predict": "prediction", "decide": "decision-run"}
_OF_PARTS = ("BatchGetItem", "DeleteItem", "GetItem", "PutItem", "UpdateItem")
# The code of a run's job looks whether the run goes on, records finished parts, and reads contacts before it decides.
ITEMS_OF_RUNS = {
    "prediction": ("GetItem",),
    "prediction_part": _OF_PARTS,
    "decision_run": ("GetItem",),
    "decision_run_part": _OF_PARTS,
    "insight_contact": ("BatchGetItem", "Query"),
}
JOB_LOGS = arn("logs", "log-group:/aws/sagemaker/TrainingJobs")


def service_calls(stage: Deployment) -> list[Request]:
    """Returns everything that AWS's services do for a stage, without the calls that code makes."""
    parts = (_assumed_roles, _events, _api, _alarms, _access_logs, _sources, _machines, _jobs, _releases, _schedules)
    return [one for part in parts for one in part(stage)] + [*_functions(stage)]


def uses_of_key(stage: Deployment, requests: Iterable[Request]) -> Iterator[Request]:
    """Yields how a service uses the stage's key for those who read or write what the key encrypts."""
    [key] = (stage.arn(name) for name, _ in stage.of_type("AWS::KMS::Key"))
    buckets = {stage.arn(name) for name, one in stage.of_type("AWS::S3::Bucket") if "aws:kms" in json.dumps(one)}
    for principal, action, resource, _ in requests:
        service, verb = action.split(":")
        writes = verb.startswith(("Put", "Update", "Delete", "BatchWrite"))
        if service == "s3" and "/" in resource and resource.partition("/")[0] in buckets:
            if not verb.startswith(("Get", "Put")):
                continue
            context = ("aws:s3:arn", resource.partition("/")[0])
        elif service == "dynamodb" and resource != "*":
            context = ("aws:dynamodb:tableName", resource.split("/")[1])
        elif service == "secretsmanager":
            context = ("SecretARN", resource)
        else:
            continue
        keys: Keys = (
            ("kms:ViaService", f"{service}.{REGION}.amazonaws.com"),
            (f"kms:EncryptionContext:{context[0]}", context[1]),
        )
        yield Request(principal, "kms:Decrypt", key, keys)
        if writes:
            yield Request(principal, "kms:GenerateDataKey", key, keys)


def granted_calls(stage: Deployment) -> Iterator[Request]:
    """Yields a call of each function for each of its grants that reaches something encrypted, a queue or logs."""
    roles = function_roles(stage)
    deliveries = arn("sqs", "inference-prod-webhook-deliveries")
    for spec in FUNCTIONS:
        grants, role = spec.grants, roles[spec.name]
        for found, action, resource in (
            (grants.reads or grants.writes, "dynamodb:GetItem", ENTITIES),
            (grants.writes, "dynamodb:PutItem", ENTITIES),
            (grants.reads_logs or grants.writes_logs, "dynamodb:GetItem", LOGS),
            (grants.writes_logs, "dynamodb:PutItem", LOGS),
            (grants.gets, "s3:GetObject", f"{FILES}/{next(iter(grants.gets), '')}"),
            (grants.puts, "s3:PutObject", f"{FILES}/{next(iter(grants.puts), '')}"),
            (grants.webhook_secret, "secretsmanager:GetSecretValue", SECRETS["webhook-secret"]),
            (grants.assumes_customer_roles, "secretsmanager:GetSecretValue", SECRETS["external-id-key"]),
            (grants.reads_job_logs, "logs:DescribeLogStreams", JOB_LOGS),
            (grants.reads_job_logs, "logs:GetLogEvents", f"{JOB_LOGS}:log-stream:training-1/algo-1"),
            (grants.queues_webhooks, "sqs:SendMessage", deliveries),
        ):
            if found:
                yield Request(role, action, resource)


def function_roles(stage: Deployment) -> dict[str, str]:
    """Returns the logical id of the role of each function by the function's name in ``infra/groups.py``."""
    named = {one["FunctionName"]: stage.role(one["Role"]) for _, one in stage.of_type("AWS::Lambda::Function")}
    return {spec.name: named[f"inference-prod-{spec.name}"] for spec in FUNCTIONS}


def _assumed_roles(stage: Deployment) -> Iterator[Request]:
    users = {
        "AWS::Lambda::Function": ("Role", "lambda"),
        "AWS::StepFunctions::StateMachine": ("RoleArn", "states"),
        "AWS::CodeDeploy::DeploymentGroup": ("ServiceRoleArn", "codedeploy"),
        "AWS::ApiGateway::Account": ("CloudWatchRoleArn", "apigateway"),
        "AWS::ApiGateway::Authorizer": ("AuthorizerCredentials", "apigateway"),
    }
    found = {(one[name], service) for kind, (name, service) in users.items() for one in _resolved(stage, kind)}
    found |= {(one["Target"]["RoleArn"], "scheduler") for one in _resolved(stage, "AWS::Scheduler::Schedule")}
    found |= {(stage.arn(job_role(stage)), "sagemaker")}
    for role, service in sorted(found):
        yield Request(f"{service}.amazonaws.com", "sts:AssumeRole", role, FROM_ACCOUNT)


def _resolved(stage: Deployment, type: str) -> list[dict[str, Any]]:
    return [stage.resolved(one) for _, one in stage.of_type(type)]


def job_role(stage: Deployment) -> str:
    [role] = {
        stage.role(one["DefinitionSubstitutions"]["JobRole"])
        for _, one in stage.of_type("AWS::StepFunctions::StateMachine")
        if "JobRole" in one["DefinitionSubstitutions"]
    }
    return role


def _events(stage: Deployment) -> Iterator[Request]:
    for name, properties in stage.of_type("AWS::Events::Rule"):
        keys: Keys = (("aws:SourceArn", stage.arn(name)), *FROM_ACCOUNT)
        for target in stage.resolved(properties["Targets"]):
            action = "lambda:InvokeFunction" if ":lambda:" in target["Arn"] else "sqs:SendMessage"
            yield Request("events.amazonaws.com", action, target["Arn"], keys)
            yield Request("events.amazonaws.com", "sqs:SendMessage", target["DeadLetterConfig"]["Arn"], keys)


def _api(stage: Deployment) -> Iterator[Request]:
    [api] = (stage.name(name) for name, _ in stage.of_type("AWS::ApiGateway::RestApi"))
    for one in _resolved(stage, "AWS::ApiGateway::Method"):
        if one["Integration"]["Type"] == "AWS_PROXY":
            function = one["Integration"]["Uri"].partition("/functions/")[2].partition("/")[0]
            keys: Keys = (("aws:SourceArn", arn("execute-api", f"{api}/v1/{one['HttpMethod']}/spaces")), *FROM_ACCOUNT)
            yield Request("apigateway.amazonaws.com", "lambda:InvokeFunction", function, keys)
    for one in _resolved(stage, "AWS::ApiGateway::Authorizer"):
        function = one["AuthorizerUri"].partition("/functions/")[2].partition("/")[0]
        yield Request(stage.role(one["AuthorizerCredentials"]), "lambda:InvokeFunction", function)


def _alarms(stage: Deployment) -> Iterator[Request]:
    keys_of_topics = {
        stage.arn(name): stage.resolved(one["KmsMasterKeyId"]) for name, one in stage.of_type("AWS::SNS::Topic")
    }
    for name, properties in stage.of_type("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"):
        keys: Keys = (("aws:SourceArn", stage.arn(name)), *FROM_ACCOUNT)
        for topic in stage.resolved([*properties.get("AlarmActions", []), *properties.get("OKActions", [])]):
            yield Request("cloudwatch.amazonaws.com", "sns:Publish", topic, keys)
            for verb in ("Decrypt", "GenerateDataKey"):
                yield Request("cloudwatch.amazonaws.com", f"kms:{verb}", keys_of_topics[topic], keys)


def _access_logs(stage: Deployment) -> Iterator[Request]:
    for name, properties in stage.of_type("AWS::S3::Bucket"):
        if logging := stage.resolved(properties.get("LoggingConfiguration")):
            target = f"arn:aws:s3:::{logging['DestinationBucketName']}/{logging['LogFilePrefix']}1"
            keys: Keys = (("aws:SourceArn", stage.arn(name)), *FROM_ACCOUNT)
            yield Request("logging.s3.amazonaws.com", "s3:PutObject", target, keys)


def _sources(stage: Deployment) -> Iterator[Request]:
    """Yields how Lambda, with a function's role, reads queues and streams and keeps what the function fails on."""
    for _, properties in stage.of_type("AWS::Lambda::EventSourceMapping", "AWS::Lambda::EventInvokeConfig"):
        function = stage.resources[properties["FunctionName"]["Ref"]]["Properties"]
        role, source = stage.role(function["Role"]), stage.resolved(properties.get("EventSourceArn", ""))
        verbs = _OF_QUEUES if ":sqs:" in source else _OF_STREAMS if source else ()
        for verb in verbs:
            # ListStreams knows no resources.
            resource = "*" if verb == "ListStreams" else source
            yield Request(role, f"{source.split(':')[2]}:{verb}", resource)
        if "DestinationConfig" in properties:
            failed = stage.resolved(properties["DestinationConfig"]["OnFailure"]["Destination"])
            yield Request(role, "sqs:SendMessage", failed)


def _functions(stage: Deployment) -> Iterator[Request]:
    """Yields how Lambda writes the logs and traces of each function with its role, and packages that one unpacks."""
    for properties in _resolved(stage, "AWS::Lambda::Function"):
        role = stage.role(properties["Role"])
        stream = arn("logs", f"log-group:{properties['LoggingConfig']['LogGroup']}:log-stream:1")
        yield from (Request(role, f"logs:{verb}", stream) for verb in ("CreateLogStream", "PutLogEvents"))
        yield from (Request(role, f"xray:{verb}", "*") for verb in ("PutTelemetryRecords", "PutTraceSegments"))
        if packages := properties["Environment"]["Variables"].get("PACKAGES_URI"):
            yield Request(role, "s3:GetObject", packages.replace("s3://", "arn:aws:s3:::"))


def _machines(stage: Deployment) -> Iterator[Request]:
    for name, properties in stage.of_type("AWS::StepFunctions::StateMachine"):
        role, values = stage.role(properties["RoleArn"]), stage.resolved(properties["DefinitionSubstitutions"])
        yield from (Request(role, f"logs:{verb}", "*") for verb in _LOG_DELIVERY)
        yield from (Request(role, f"xray:{verb}", "*") for verb in _TRACES)
        for state in _states(json.loads(properties["DefinitionString"])):
            yield from (one._replace(principal=role) for one in _of_state(stage, name, state, values))


def _states(node: Any) -> Iterator[dict[str, Any]]:
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        if isinstance(value, dict) and value.get("Type") in ("Task", "Map"):
            yield value
        yield from _states(value)


def _of_state(stage: Deployment, machine: str, state: dict[str, Any], values: dict[str, str]) -> Iterator[Request]:
    arguments = state.get("Arguments") or state.get("Parameters") or {}
    resource = state.get("Resource", "").removeprefix("arn:aws:states:::")
    if resource == "lambda:invoke":
        yield Request("", "lambda:InvokeFunction", values[arguments["FunctionName"].strip("${}")])
    elif resource == "sagemaker:createTrainingJob.sync":
        kind = arguments["AlgorithmSpecification"]["ContainerArguments"][1]
        job = arn("sagemaker", f"training-job/{'training' if kind == 'train' else 'evaluation'}-1")
        for verb in ("AddTags", "CreateTrainingJob", "DescribeTrainingJob", "ListTags", "StopTrainingJob"):
            yield Request("", f"sagemaker:{verb}", job)
        yield Request("", "iam:PassRole", values["JobRole"], (("iam:PassedToService", "sagemaker.amazonaws.com"),))
        yield from _managed_rule("StepFunctionsGetEventsForSageMakerTrainingJobsRule")
    elif resource == "sagemaker:createProcessingJob.sync":
        kind = arguments["AppSpecification"]["ContainerEntrypoint"][-1]
        job = arn("sagemaker", f"processing-job/{JOBS_OF_RUNS[kind]}-1")
        for verb in ("AddTags", "CreateProcessingJob", "DescribeProcessingJob", "ListTags", "StopProcessingJob"):
            yield Request("", f"sagemaker:{verb}", job)
        yield Request("", "iam:PassRole", values["JobRole"], (("iam:PassedToService", "sagemaker.amazonaws.com"),))
        yield from _managed_rule("StepFunctionsGetEventsForSageMakerProcessingJobsRule")
    elif resource == "states:startExecution.sync:2":
        yield from _executions(values["EvaluationStateMachine"], ":1")
        yield from _managed_rule("StepFunctionsGetEventsForStepFunctionsExecutionRule")
    elif state.get("ItemProcessor", {}).get("ProcessorConfig", {}).get("Mode") == "DISTRIBUTED":
        yield from _executions(stage.arn(machine), f"/{state['Label']}:1")
        bucket = f"arn:aws:s3:::{values['DataBucket']}"
        yield Request("", "s3:GetObject", f"{bucket}/{ITEMS_OF_MAPS[state['ItemReader']['Parameters']['Key.$']]}")
        results = state["ResultWriter"]["Parameters"]["Prefix.$"].split("'")[1].replace("{}", "1")
        for verb in ("AbortMultipartUpload", "GetObject", "ListMultipartUploadParts", "PutObject"):
            yield Request("", f"s3:{verb}", f"{bucket}/{results}/x")


def _managed_rule(name: str) -> Iterator[Request]:
    yield from (
        Request("", f"events:{verb}", arn("events", f"rule/{name}"))
        for verb in ("DescribeRule", "PutRule", "PutTargets")
    )


def _executions(machine: str, name: str) -> Iterator[Request]:
    yield Request("", "states:StartExecution", machine)
    execution = f"{machine.replace(':stateMachine:', ':execution:')}{name}"
    yield from (Request("", f"states:{verb}", execution) for verb in ("DescribeExecution", "StopExecution"))


def _jobs(stage: Deployment) -> Iterator[Request]:
    """Yields what SageMaker does with the role of a job, and what the code of a job does."""
    role = job_role(stage)
    [key] = (stage.arn(name) for name, _ in stage.of_type("AWS::KMS::Key"))
    folders = ("spaces/1/trainings/1", "spaces/1/evaluations/1")
    runs = "temporary/spaces/1/runs/1"
    machines = [one["DefinitionSubstitutions"] for one in _resolved(stage, "AWS::StepFunctions::StateMachine")]
    assets = {one[name].replace("s3://", "arn:aws:s3:::") for one in machines for name in one
              if name in ("JobSource", "JobWheels")}  # fmt: skip
    yield from (Request(role, "s3:GetObject", one) for one in sorted(assets))
    for folder in folders:
        yield Request(role, "s3:ListBucket", FILES, (("s3:prefix", f"{folder}/input/"),))
        for verb in ("DeleteObject", "GetObject", "PutObject"):
            yield Request(role, f"s3:{verb}", f"{FILES}/{folder}/x")
    yield Request(role, "s3:ListBucket", FILES, (("s3:prefix", f"{runs}/tasks/"),))
    for verb in ("GetObject", "PutObject"):
        yield Request(role, f"s3:{verb}", f"{FILES}/{runs}/x")
    for kind, verbs in ITEMS_OF_RUNS.items():
        for verb in verbs:
            yield Request(role, f"dynamodb:{verb}", ENTITIES, (("dynamodb:LeadingKeys", (f"{kind}#1",)),))
    for folder in ("connectors", "snapshots"):
        for verb in ("GetObject", "GetObjectVersion"):
            yield Request(role, f"s3:{verb}", f"{FILES}/spaces/1/{folder}/1/x")
    yield Request(role, "kms:Encrypt", key, (("kms:ViaService", f"s3.{REGION}.amazonaws.com"),))
    yield Request(role, "kms:CreateGrant", key, (("kms:GrantIsForAWSResource", "true"),))
    yield Request(role, "secretsmanager:GetSecretValue", SECRETS["webhook-secret"])
    yield Request(role, "ssm:GetParameter", arn("ssm", "parameter/inference/prod/connectors/1"))
    yield Request(role, "sts:AssumeRole", CUSTOMER_ROLE, CUSTOMER_ROLE_KEYS)
    yield Request(role, "ecr:GetAuthorizationToken", "*")
    for verb in ("BatchCheckLayerAvailability", "BatchGetImage", "GetDownloadUrlForLayer"):
        yield Request(role, f"ecr:{verb}", IMAGES)
    for verb in ("CreateLogGroup", "CreateLogStream", "DescribeLogStreams", "PutLogEvents"):
        for kind in ("Training", "Processing"):
            yield Request(role, f"logs:{verb}", arn("logs", f"log-group:/aws/sagemaker/{kind}Jobs:log-stream:x/algo-1"))
    yield Request(role, "cloudwatch:PutMetricData", "*", (("cloudwatch:namespace", "/aws/sagemaker/TrainingJobs"),))


def _releases(stage: Deployment) -> Iterator[Request]:
    groups = _resolved(stage, "AWS::CodeDeploy::DeploymentGroup")
    for role in {stage.role(one["ServiceRoleArn"]) for one in groups}:
        yield Request(role, "cloudwatch:DescribeAlarms", "*")
        for _, alias in stage.of_type("AWS::Lambda::Alias"):
            for verb in ("GetAlias", "UpdateAlias"):
                yield Request(role, f"lambda:{verb}", stage.arn(alias["FunctionName"]["Ref"]))


def _schedules(stage: Deployment) -> Iterator[Request]:
    for one in _resolved(stage, "AWS::Scheduler::Schedule"):
        group = json.loads(one["Target"]["Input"])["LogGroupName"]
        yield Request(
            stage.role(one["Target"]["RoleArn"]), "logs:PutRetentionPolicy", arn("logs", f"log-group:{group}")
        )
