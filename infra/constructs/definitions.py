"""The state machines in Amazon States Language, as plain data.

``${Name}`` stands for what the stack substitutes (function ARNs, roles). The two machines that run SageMaker jobs are
JSONata, which can leave a field out (``MaxWaitTimeInSeconds`` is refused without spot) and count attempts; the scan is
JSONPath, the only language whose Distributed Map also runs outside AWS.
"""

from collections.abc import Mapping
from typing import Any

State = dict[str, Any]
Definition = dict[str, Any]

ATTEMPTS_PER_INSTANCE_TYPE = 2
# A job that AWS had no machine for, or no quota left.
_NO_CAPACITY = ("CapacityError", "InsufficientInstanceCapacity", "InsufficientCapacity", "ResourceLimitExceeded")
SECONDS_PER_WEEK = 7 * 24 * 3600

_BACKOFF = {"BackoffRate": 2, "JitterStrategy": "FULL"}
STEP_RETRY = [
    # The user's data is at fault: trying again answers the same.
    {"ErrorEquals": ["JobFailedError"], "MaxAttempts": 0},
    {
        "ErrorEquals": [
            "Lambda.ServiceException",
            "Lambda.AWSLambdaException",
            "Lambda.SdkClientException",
            "Lambda.TooManyRequestsException",
        ],
        "IntervalSeconds": 2,
        "MaxAttempts": 6,
        "MaxDelaySeconds": 60,
        **_BACKOFF,
    },
    {"ErrorEquals": ["States.TaskFailed", "States.Timeout"], "IntervalSeconds": 2, "MaxAttempts": 2, **_BACKOFF},
]
JOB_RETRY = [
    # The request itself failed (throttling above all): no job was made, so its name is free.
    {
        "ErrorEquals": ["SageMaker.AmazonSageMakerException", "SageMaker.SdkClientException"],
        "IntervalSeconds": 5,
        "MaxAttempts": 5,
        "MaxDelaySeconds": 120,
        **_BACKOFF,
    }
]
_INPUT = "{% $states.input %}"
# What a failing machine tells its last step: who it ran for, and why it ended.
_FAILURE = (
    "{% $merge([$states.context.Execution.Input,"
    " {'error': $states.errorOutput.Error,"
    " 'cause': $exists($states.errorOutput.Cause) ? $states.errorOutput.Cause : ''}]) %}"
)


def _catch(fail: str) -> list[State]:
    return [{"ErrorEquals": ["States.ALL"], "Output": _FAILURE, "Next": fail}]


def _lambda(function: str, payload: Any = _INPUT, **fields: Any) -> State:
    """Invoke a function; its answer is the state's output."""
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Arguments": {"FunctionName": f"${{{function}}}", "Payload": payload},
        "Output": "{% $states.result.Payload %}",
        "Retry": STEP_RETRY,
        **fields,
    }


def _training_job(
    program: str,
    channels: Mapping[str, str],
    *,
    keeps_checkpoints: bool,
    warm_pool_seconds: int,
    output_key: bool,
    record: str,
) -> State:
    """A SageMaker training job of the prepared ``$job``, on the instance type whose turn it is.

    ``channels`` maps an input channel to the field of ``$job`` holding its S3 URI.
    """
    arguments: dict[str, Any] = {
        "TrainingJobName": "{% $job.job_name_prefix & '-' & $string($attempt) %}",
        "RoleArn": "${JobRole}",
        "AlgorithmSpecification": {"TrainingImage": "{% $job.image_uri %}", "TrainingInputMode": "File"},
        "HyperParameters": {
            "sagemaker_program": program,
            "sagemaker_submit_directory": "${JobSource}",
            "sagemaker_region": "${Region}",
        },
        "InputDataConfig": [
            {
                "ChannelName": channel,
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": f"{{% $job.{source} %}}",
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
            }
            for channel, source in channels.items()
        ],
        "OutputDataConfig": {
            "S3OutputPath": "{% $job.output_uri %}",
            **({"KmsKeyId": "${OutputKey}"} if output_key else {}),
        },
        "ResourceConfig": {
            "InstanceType": f"{{% $job.instance_types[$floor(($attempt - 1) / {ATTEMPTS_PER_INSTANCE_TYPE})] %}}",
            "InstanceCount": "{% $job.instance_count %}",
            "VolumeSizeInGB": "{% $job.volume_gb %}",
            **({"KeepAlivePeriodInSeconds": warm_pool_seconds} if warm_pool_seconds else {}),
        },
        "EnableManagedSpotTraining": "{% $job.spot %}",
        "StoppingCondition": (
            "{% $merge([{'MaxRuntimeInSeconds': $job.max_runtime_seconds},"
            " $job.spot ? {'MaxWaitTimeInSeconds': $job.max_wait_seconds} : {}]) %}"
        ),
        # SageMaker's own faults; a job lost to them starts again from its last checkpoint.
        "RetryStrategy": {"MaximumRetryAttempts": 2},
        "Tags": [{"Key": "inference:space", "Value": "{% $job.space_id %}"}],
    }
    if keeps_checkpoints:
        arguments["CheckpointConfig"] = {"S3Uri": "{% $job.checkpoint_uri %}", "LocalPath": "/opt/ml/checkpoints"}
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
        "Catch": _catch("AnotherMachine"),
        "Next": record,
    }


def _capacity(fail: str, wait_seconds: int) -> dict[str, State]:
    """What follows a failed job: another attempt if only machines were missing and a choice is left, else ``fail``."""
    reasons = " or ".join(f"$contains($reason, '{reason}')" for reason in _NO_CAPACITY)
    return {
        "AnotherMachine": {
            "Type": "Choice",
            "Choices": [
                {
                    "Condition": (
                        "{% ($reason := $states.input.error & ' ' & $states.input.cause;"
                        f" ({reasons}) and $attempt < {ATTEMPTS_PER_INSTANCE_TYPE} * $count($job.instance_types)) %}}"
                    ),
                    "Next": "WaitForCapacity",
                }
            ],
            "Default": fail,
        },
        "WaitForCapacity": {
            "Type": "Wait",
            # Jittered, so that trainings refused together do not come back together.
            "Seconds": f"{{% $floor({wait_seconds} * (0.5 + $random())) %}}",
            "Assign": {"attempt": "{% $attempt + 1 %}"},
            "Next": "RunJob",
        },
    }


def _failed(fail: str, function: str) -> dict[str, State]:
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


_REMEMBER_JOB = {"job": "{% $states.result.Payload %}", "attempt": 1}


def training(*, capacity_wait: int, warm_pool_seconds: int = 0, output_key: bool = False) -> Definition:
    """Check the data, train, register the checkpoints, then evaluate them on each benchmark asked for."""
    return _job_machine(
        "Trains a model and evaluates it on the benchmarks asked for.",
        {
            "CheckTraining": _lambda(
                "CheckTraining", Assign=_REMEMBER_JOB, Catch=_catch("FailTraining"), Next="RunJob"
            ),
            "RunJob": _training_job(
                "functions/jobs/train/__main__.py",
                {"job": "job_uri"},
                keeps_checkpoints=True,
                warm_pool_seconds=warm_pool_seconds,
                output_key=output_key,
                record="RegisterCheckpoints",
            ),
            **_capacity("FailTraining", capacity_wait),
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
                            # An evaluation records its own failure; the training has succeeded all the same.
                            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "EvaluationEnded"}],
                            "Next": "EvaluationEnded",
                        },
                        "EvaluationEnded": {"Type": "Pass", "Output": {}, "End": True},
                    },
                },
                "Output": {},
                "End": True,
            },
            **_failed("FailTraining", "FailTraining"),
        },
    )


def evaluation(*, capacity_wait: int, warm_pool_seconds: int = 0, output_key: bool = False) -> Definition:
    """Measure one checkpoint on one benchmark."""
    return _job_machine(
        "Measures a checkpoint on a benchmark.",
        {
            "PrepareEvaluation": _lambda(
                "PrepareEvaluation", Assign=_REMEMBER_JOB, Catch=_catch("FailEvaluation"), Next="RunJob"
            ),
            "RunJob": _training_job(
                "functions/jobs/evaluate/__main__.py",
                {"job": "job_uri", "model": "model_uri"},
                keeps_checkpoints=False,
                warm_pool_seconds=warm_pool_seconds,
                output_key=output_key,
                record="RecordEvaluation",
            ),
            **_capacity("FailEvaluation", capacity_wait),
            "RecordEvaluation": _lambda("RecordEvaluation", Catch=_catch("FailEvaluation"), End=True),
            **_failed("FailEvaluation", "FailEvaluation"),
        },
    )


def connector_scan(*, concurrency: int) -> Definition:
    """List the files to scan, scan each on its own, then fold the results."""

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
    return {
        "Comment": "Reads the schema of a connector's files.",
        "StartAt": "ListScanFiles",
        "TimeoutSeconds": 24 * 3600,
        "States": {
            "ListScanFiles": invoke("ListScanFiles", everything, OutputPath="$.Payload", Catch=catch, Next="ScanFiles"),
            "ScanFiles": {
                "Type": "Map",
                "ItemReader": {
                    "Resource": "arn:aws:states:::s3:getObject",
                    "ReaderConfig": {"InputType": "JSON"},
                    "Parameters": {"Bucket": "${DataBucket}", "Key.$": "$.list_key"},
                },
                "ItemSelector": {
                    "space_id.$": "$.space_id",
                    "connector_id.$": "$.connector_id",
                    "scan_id.$": "$.scan_id",
                    "file.$": "$$.Map.Item.Value",
                },
                "MaxConcurrency": concurrency,
                # A broken file is that file's error, which finish_scan records.
                "ToleratedFailurePercentage": 100,
                "ItemProcessor": {
                    "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                    "StartAt": "ScanFile",
                    "States": {
                        # No output: the map's own would outgrow 256 KB with many files.
                        "ScanFile": invoke("ScanFile", everything, OutputPath=None, End=True)
                    },
                },
                "Label": "ScanFiles",
                "ResultPath": None,
                "Catch": catch,
                "Next": "FinishScan",
            },
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
