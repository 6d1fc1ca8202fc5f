"""Defines the state machines in Amazon States Language, as plain data.

The stack replaces each ``${Name}`` with an ARN or a name. The two machines that run SageMaker jobs use JSONata, because
JSONata can leave out a field (SageMaker refuses ``MaxWaitTimeInSeconds`` without spot). The scan and the runs
(``run_definitions.py``) use JSONPath, because the emulator runs a Distributed Map only in JSONPath.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

State = dict[str, Any]
Definition = dict[str, Any]

# A customer's database serves others too, and has few connections.
TABLES_AT_ONCE = 4
SECONDS_PER_WEEK = 7 * 24 * 3600

_BACKOFF = {"BackoffRate": 2, "JitterStrategy": "FULL"}
STEP_RETRY: list[dict[str, Any]] = [
    # The user's data causes this error, so a retry would fail in the same way.
    {"ErrorEquals": ["JobFailedError"], "MaxAttempts": 0},
    # A bucket, a database or AWS itself is overloaded. These attempts take about a quarter of an hour.
    {
        "ErrorEquals": ["TransientError", "OutageError"],
        "IntervalSeconds": 5,
        "MaxAttempts": 10,
        "MaxDelaySeconds": 300,
        **_BACKOFF,
    },
    # The account's functions are all busy. A step waits for its turn, for as long as its workflow may run.
    {
        "ErrorEquals": ["Lambda.TooManyRequestsException"],
        "IntervalSeconds": 2,
        "MaxAttempts": 10_000,
        "MaxDelaySeconds": 60,
        **_BACKOFF,
    },
    {
        "ErrorEquals": [
            "Lambda.ServiceException",
            "Lambda.AWSLambdaException",
            "Lambda.SdkClientException",
        ],
        "IntervalSeconds": 2,
        "MaxAttempts": 6,
        "MaxDelaySeconds": 60,
        **_BACKOFF,
    },
    {"ErrorEquals": ["States.TaskFailed", "States.Timeout"], "IntervalSeconds": 2, "MaxAttempts": 2, **_BACKOFF},
]
JOB_RETRY = [
    # The request failed (usually by throttling), or only its response was lost. The name of the job stays the same, so
    # that a second request makes no second job.
    {
        "ErrorEquals": ["SageMaker.AmazonSageMakerException", "SageMaker.SdkClientException"],
        "IntervalSeconds": 5,
        "MaxAttempts": 5,
        "MaxDelaySeconds": 120,
        **_BACKOFF,
    }
]
_INPUT = "{% $states.input %}"
# The input of the step that records a failure: the execution's input, the error and its cause.
_FAILURE = (
    "{% $merge([$states.context.Execution.Input,"
    " {'error': $states.errorOutput.Error,"
    " 'cause': $exists($states.errorOutput.Cause) ? $states.errorOutput.Cause : ''}]) %}"
)


def start_command(code: str) -> str:
    """Returns a command that unpacks the code in a folder and becomes its start, so that signals reach the job.

    SageMaker allows 256 characters.
    """
    return (
        f"mkdir -p /opt/ml/code && cd /opt/ml/code && tar -xzf {code}/*"
        ' && exec python3 functions/jobs/start.py --job "$1"'
    )


def _catch(fail: str) -> list[State]:
    return [{"ErrorEquals": ["States.ALL"], "Output": _FAILURE, "Next": fail}]


def _lambda(function: str, payload: Any = _INPUT, **fields: Any) -> State:
    """Returns a state that invokes a function and outputs its return value."""
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Arguments": {"FunctionName": f"${{{function}}}", "Payload": payload},
        "Output": "{% $states.result.Payload %}",
        "Retry": STEP_RETRY,
        **fields,
    }


@dataclass(frozen=True)
class JobOptions:
    """What differs between the SageMaker jobs of the stages."""

    warm_pool_seconds: int = 0
    # Ships the packages of jobs. Otherwise the container has them already.
    wheels: bool = True
    # Encrypts the results with a key of the account, and the volumes of these instance types.
    key: bool = False
    types_with_volume_key: Sequence[str] = ()
    # The machines of runs.
    run_instance_type: str = ""
    # The number of subnets of an own network.
    subnets: int = 0


def _training_job(
    job: str,
    channels: Mapping[str, str],
    options: JobOptions,
    *,
    keeps_checkpoints: bool,
    record: str,
) -> State:
    """Returns a state that runs ``$job`` as a SageMaker training job, on the machine that ``$search`` has found.

    ``job`` is a folder of ``functions/jobs``. ``channels`` maps an input channel to its S3 URI.
    """
    code = {"code": "${JobSource}", **({"wheels": "${JobWheels}"} if options.wheels else {})}
    arguments: dict[str, Any] = {
        "TrainingJobName": "{% $states.input.job_name %}",
        "RoleArn": "${JobRole}",
        "AlgorithmSpecification": {
            "TrainingImage": "{% $job.image_uri %}",
            "TrainingInputMode": "File",
            # Without this, AWS's containers run the code in a child process, which no signal reaches.
            "ContainerEntrypoint": ["/bin/bash", "-c", start_command("/opt/ml/input/data/code")],
            "ContainerArguments": ["start", job],
        },
        # boto3 reads it. The containers' own start would set it.
        "Environment": {"AWS_DEFAULT_REGION": "${Region}"},
        "InputDataConfig": [
            {
                "ChannelName": channel,
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": uri,
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
            }
            for channel, uri in {**channels, **code}.items()
        ],
        "OutputDataConfig": {
            "S3OutputPath": "{% $job.output_uri %}",
            **({"KmsKeyId": "${JobKey}"} if options.key else {}),
        },
        "ResourceConfig": _resources(options),
        "EnableManagedSpotTraining": "{% $search.spot %}",
        # The workers of several instances send each other rows.
        "EnableInterContainerTrafficEncryption": "{% $job.instance_count > 1 %}",
        "StoppingCondition": (
            "{% $merge([{'MaxRuntimeInSeconds': $job.max_runtime_seconds},"
            " $search.spot ? {'MaxWaitTimeInSeconds': $job.max_wait_seconds} : {}]) %}"
        ),
        # SageMaker retries after its internal errors. The job then continues from its last checkpoint.
        "RetryStrategy": {"MaximumRetryAttempts": 2},
        "Tags": [{"Key": "inference:space", "Value": "{% $job.space_id %}"}],
    }
    if keeps_checkpoints:
        arguments["CheckpointConfig"] = {"S3Uri": "{% $job.checkpoint_uri %}", "LocalPath": "/opt/ml/checkpoints"}
    if options.subnets:
        subnets = [f"${{JobSubnet{number}}}" for number in range(options.subnets)]
        arguments["VpcConfig"] = {"Subnets": subnets, "SecurityGroupIds": ["${JobSecurityGroup}"]}
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::sagemaker:createTrainingJob.sync",
        "Arguments": arguments,
        "Output": (
            "{% $merge([$states.context.Execution.Input, {"
            "'job_name': $states.result.TrainingJobName,"
            " 'output_uri': $job.output_uri,"
            " 'model_uri': $states.result.ModelArtifacts.S3ModelArtifacts,"
            " 'instance_type': $states.result.ResourceConfig.InstanceType,"
            " 'training_seconds': $exists($states.result.TrainingTimeInSeconds)"
            " ? $states.result.TrainingTimeInSeconds : null,"
            " 'billable_seconds': $exists($states.result.BillableTimeInSeconds)"
            " ? $states.result.BillableTimeInSeconds : null}]) %}"
        ),
        "Retry": JOB_RETRY,
        "Catch": _catch("FindMachine"),
        "Next": record,
    }


def _resources(options: JobOptions) -> Any:
    """Returns the machines of a job. SageMaker refuses a volume key where the volume is a disk of the machine."""
    machine = "$search.instance_type"
    resources = {
        "InstanceType": f"{{% {machine} %}}",
        "InstanceCount": "{% $job.instance_count %}",
        "VolumeSizeInGB": "{% $job.volume_gb %}",
        **({"KeepAlivePeriodInSeconds": options.warm_pool_seconds} if options.warm_pool_seconds else {}),
    }
    if not (options.key and options.types_with_volume_key):
        return resources
    fields = ", ".join(f"'{name}': {str(value).strip('{%} ')}" for name, value in resources.items())
    return (
        f"{{% $merge([{{{fields}}}, {machine} in {list(options.types_with_volume_key)}"
        " ? {'VolumeKmsKeyId': '${JobKey}'} : {}]) %}"
    )


def _machine_states(function: str, record: str, fail: str, wait_seconds: int) -> dict[str, State]:
    """Returns the states that find a machine for ``$job``, before its first SageMaker job and after a failure."""

    def follows(decision: str, state: str) -> State:
        return {"Condition": f"{{% $states.input.next = '{decision}' %}}", "Next": state}

    return {
        "FindMachine": _lambda(
            function,
            "{% $merge([$states.input, {'plan': $job, 'search': $search}]) %}",
            Assign={"search": "{% $states.result.Payload.search %}"},
            Catch=_catch(fail),
            Next="MachineFound",
        ),
        "MachineFound": {
            "Type": "Choice",
            "Choices": [follows("run", "RunJob"), follows("wait", "WaitForMachine"), follows("register", record)],
            "Default": fail,
        },
        "WaitForMachine": {
            "Type": "Wait",
            # Jitter keeps jobs that were refused at the same time from retrying at the same time.
            "Seconds": f"{{% $floor({wait_seconds} * $states.input.pause * (0.5 + $random())) %}}",
            "Output": "{% $states.context.Execution.Input %}",
            "Next": "FindMachine",
        },
    }


def _failure_states(fail: str, function: str) -> dict[str, State]:
    return {
        fail: _lambda(function, Output=_INPUT, Next="Failed"),
        "Failed": {"Type": "Fail", "Error": "{% $states.input.error %}", "Cause": "{% $states.input.cause %}"},
    }


def _job_machine(comment: str, states: dict[str, State]) -> Definition:
    return {
        "Comment": comment,
        "QueryLanguage": "JSONata",
        "StartAt": next(iter(states)),
        "TimeoutSeconds": SECONDS_PER_WEEK,
        "States": states,
    }


_ASSIGN_JOB = {"job": "{% $states.result.Payload %}", "search": {}}


def training(options: JobOptions, *, capacity_wait: int) -> Definition:
    """Returns the machine that checks the data, trains, registers the checkpoints and evaluates each benchmark."""
    return _job_machine(
        "Trains a model and evaluates it on the benchmarks asked for.",
        {
            "CheckTraining": _lambda(
                "CheckTraining", Assign=_ASSIGN_JOB, Catch=_catch("FailTraining"), Next="FilesAreScanned"
            ),
            "FilesAreScanned": {
                "Type": "Choice",
                "Choices": [{"Condition": "{% $exists($states.input.wait_seconds) %}", "Next": "WaitForScans"}],
                "Default": "FindMachine",
            },
            # The step limits how often and how long it asks for this.
            "WaitForScans": {"Type": "Wait", "Seconds": "{% $states.input.wait_seconds %}", "Next": "CheckTraining"},
            "RunJob": _training_job(
                "train",
                {"job": "{% $job.job_uri %}"},
                options,
                keeps_checkpoints=True,
                record="RegisterCheckpoints",
            ),
            **_machine_states("FindTrainingMachine", "RegisterCheckpoints", "FailTraining", capacity_wait),
            "RegisterCheckpoints": _lambda(
                "RegisterCheckpoints", Catch=_catch("FailTraining"), Next="EvaluateBenchmarks"
            ),
            "EvaluateBenchmarks": {
                "Type": "Map",
                "Items": "{% $states.input.benchmark_ids %}",
                "ItemSelector": {
                    "training": "{% $states.input %}",
                    "benchmark_id": "{% $states.context.Map.Item.Value %}",
                },
                "MaxConcurrency": 4,
                "ItemProcessor": {
                    "ProcessorConfig": {"Mode": "INLINE"},
                    "StartAt": "CreateEvaluation",
                    "States": {
                        "CreateEvaluation": _lambda(
                            "CreateEvaluation",
                            "{% $merge([$states.input.training, {'benchmark_id': $states.input.benchmark_id}]) %}",
                            Catch=[{"ErrorEquals": ["States.ALL"], "Next": "EvaluationEnded"}],
                            Next="RunEvaluation",
                        ),
                        "RunEvaluation": {
                            "Type": "Task",
                            "Resource": "arn:aws:states:::states:startExecution.sync:2",
                            "Arguments": {
                                "StateMachineArn": "${EvaluationStateMachine}",
                                "Name": "{% $states.input.evaluation_id %}",
                                "Input": {
                                    "space_id": "{% $states.input.space_id %}",
                                    "evaluation_id": "{% $states.input.evaluation_id %}",
                                    "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": "{% $states.context.Execution.Id %}",
                                },
                            },
                            # An evaluation records its own failure, and the training still succeeds.
                            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "EvaluationEnded"}],
                            "Next": "EvaluationEnded",
                        },
                        "EvaluationEnded": {"Type": "Pass", "Output": {}, "End": True},
                    },
                },
                "Output": {},
                "End": True,
            },
            **_failure_states("FailTraining", "FailTraining"),
        },
    )


def evaluation(options: JobOptions, *, capacity_wait: int) -> Definition:
    """Returns the machine that measures one checkpoint on one benchmark."""
    return _job_machine(
        "Measures a checkpoint on a benchmark.",
        {
            "PrepareEvaluation": _lambda(
                "PrepareEvaluation", Assign=_ASSIGN_JOB, Catch=_catch("FailEvaluation"), Next="FindMachine"
            ),
            "RunJob": _training_job(
                "evaluate",
                {"job": "{% $job.job_uri %}", "model": "{% $job.model_uri %}"},
                options,
                keeps_checkpoints=False,
                record="RecordEvaluation",
            ),
            **_machine_states("FindEvaluationMachine", "RecordEvaluation", "FailEvaluation", capacity_wait),
            "RecordEvaluation": _lambda("RecordEvaluation", Catch=_catch("FailEvaluation"), End=True),
            **_failure_states("FailEvaluation", "FailEvaluation"),
        },
    )


def connector_scan(*, concurrency: int) -> Definition:
    """Returns the machine that lists a connector's files, scans each in its own execution and combines the results."""

    def invoke(function: str, payload: dict[str, Any], **fields: Any) -> State:
        return {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Parameters": {"FunctionName": f"${{{function}}}", **payload},
            "Retry": STEP_RETRY,
            **fields,
        }

    everything = {"Payload.$": "$"}
    identity = {f"{name}.$": f"$$.Execution.Input.{name}" for name in ("space_id", "connector_id", "scan_id")}
    catch = [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "FailScan"}]

    def scan(label: str, at_once: int) -> State:
        """Returns the map that scans each group of files in an execution of its own."""
        step = label.removesuffix("s")
        return {
            "Type": "Map",
            "ItemReader": {
                "Resource": "arn:aws:states:::s3:getObject",
                "ReaderConfig": {"InputType": "JSON"},
                "Parameters": {"Bucket": "${DataBucket}", "Key.$": "$.groups_key"},
            },
            "ItemSelector": {
                "space_id.$": "$.space_id",
                "connector_id.$": "$.connector_id",
                "scan_id.$": "$.scan_id",
                "files.$": "$$.Map.Item.Value",
            },
            "MaxConcurrency": at_once,
            # Even empty results of 87,000 groups would exceed the 256 KB that a state may return. Nothing reads the
            # exported results, and the bucket deletes them after a month.
            "ResultWriter": {
                "Resource": "arn:aws:states:::s3:putObject",
                "Parameters": {
                    "Bucket": "${DataBucket}",
                    "Prefix.$": "States.Format('temporary/spaces/{}/scans/{}', $.space_id, $.scan_id)",
                },
            },
            # finish_scan records the error of a broken file, so the map itself must not fail.
            "ToleratedFailurePercentage": 100,
            "ItemProcessor": {
                "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                # Names of states are unique in the whole machine.
                "StartAt": step,
                "States": {
                    # The results stay small, because files hold them.
                    step: invoke("ScanFile", everything, OutputPath=None, End=True)
                },
            },
            "Label": label,
            "ResultPath": None,
            "Catch": catch,
            "Next": "FinishScan",
        }

    return {
        "Comment": "Reads the schema of a connector's files.",
        "StartAt": "ListScanFiles",
        "TimeoutSeconds": 24 * 3600,
        "States": {
            "ListScanFiles": invoke(
                "ListScanFiles", everything, OutputPath="$.Payload", Catch=catch, Next="FilesOrTables"
            ),
            "FilesOrTables": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.is_database", "BooleanEquals": True, "Next": "ScanTables"}],
                "Default": "ScanFiles",
            },
            "ScanFiles": scan("ScanFiles", concurrency),
            "ScanTables": scan("ScanTables", min(concurrency, TABLES_AT_ONCE)),
            "FinishScan": invoke("FinishScan", everything, OutputPath="$.Payload", Catch=catch, End=True),
            "FailScan": invoke(
                "FailScan",
                {"Payload": {**identity, "error.$": "$.failure.Error", "cause.$": "$.failure.Cause"}},
                ResultPath=None,
                Next="Failed",
            ),
            "Failed": {"Type": "Fail", "ErrorPath": "$.failure.Error", "CausePath": "$.failure.Cause"},
        },
    }
