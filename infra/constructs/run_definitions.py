"""Defines the state machines of runs, for functions and for the machines of a SageMaker job alike."""

from typing import Any

from infra.constructs.definitions import JOB_RETRY, STEP_RETRY, Definition, JobOptions, State, start_command

_CATCH = [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "FailRun"}]
_FOLDER = "/opt/ml/processing"
# A job gives up before the state machine does.
JOB_SECONDS = 24 * 3600


def batch_run(kind: str, work: str, options: JobOptions, *, job: str, concurrency: int) -> Definition:
    """Returns the machine that prepares a run, has its tasks carried out by one of two engines, and publishes it.

    ``kind`` is that of the run, ``work`` the function of a task, and ``job`` the folder of ``functions/jobs``.
    """
    identity = {f"{name}.$": f"$$.Execution.Input.{name}" for name in ("space_id", f"{kind}_id")}
    name = kind.title().replace("_", "")
    return {
        "Comment": "Works on all rows of files, and publishes the output as a whole.",
        "StartAt": "PrepareRun",
        "TimeoutSeconds": 7 * 24 * 3600,
        "States": {
            "PrepareRun": _invoke(
                f"Prepare{name}", {"Payload.$": "$"}, OutputPath="$.Payload", Catch=_CATCH, Next="Engine"
            ),
            "Engine": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.engine", "StringEquals": "processing", "Next": "RunJob"}],
                "Default": "WorkOnParts",
            },
            "WorkOnParts": _map(kind, work, concurrency),
            "RunJob": _processing_job(kind, job, options),
            "FinishRun": _invoke(
                f"Finish{name}", {"Payload": identity}, OutputPath="$.Payload", Catch=_CATCH, End=True
            ),
            "FailRun": _invoke(
                f"Fail{name}",
                {"Payload": {**identity, "error.$": "$.failure.Error", "cause.$": "$.failure.Cause"}},
                ResultPath=None,
                Next="Failed",
            ),
            "Failed": {"Type": "Fail", "ErrorPath": "$.failure.Error", "CausePath": "$.failure.Cause"},
        },
    }


def _invoke(function: str, payload: dict[str, Any], **fields: Any) -> State:
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": f"${{{function}}}", **payload},
        "Retry": STEP_RETRY,
        **fields,
    }


def _map(kind: str, work: str, concurrency: int) -> State:
    """Returns the map that has a function work on each task."""
    return {
        "Type": "Map",
        "ItemReader": {
            "Resource": "arn:aws:states:::s3:getObject",
            "ReaderConfig": {"InputType": "JSON"},
            "Parameters": {"Bucket": "${DataBucket}", "Key.$": "$.tasks_key"},
        },
        "ItemSelector": {
            **{f"{field}.$": f"$.{field}" for field in ("space_id", f"{kind}_id", "work_id")},
            "task.$": "$$.Map.Item.Value",
        },
        "MaxConcurrency": concurrency,
        # The results are empty, but those of many tasks would exceed what a state may return.
        "ResultWriter": {
            "Resource": "arn:aws:states:::s3:putObject",
            "Parameters": {
                "Bucket": "${DataBucket}",
                "Prefix.$": "States.Format('temporary/spaces/{}/runs/{}/map', $.space_id, $.work_id)",
            },
        },
        # A part that fails does not stop the others. The last step names it.
        "ToleratedFailurePercentage": 100,
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
            "StartAt": "WorkOnTask",
            "States": {"WorkOnTask": _invoke(work, {"Payload.$": "$"}, OutputPath=None, End=True)},
        },
        "Label": "WorkOnParts",
        "ResultPath": None,
        "Catch": _CATCH,
        "Next": "FinishRun",
    }


def _processing_job(kind: str, job: str, options: JobOptions) -> State:
    """Returns a state that runs a SageMaker processing job. Each of its machines gets a share of the tasks."""
    resources: dict[str, Any] = {
        "InstanceCount.$": "$.job.instance_count",
        "InstanceType.$": "$.job.instance_type",
        "VolumeSizeInGB.$": "$.job.volume_gb",
    }
    if options.key and options.run_instance_type in options.types_with_volume_key:
        resources["VolumeKmsKeyId"] = "${JobKey}"
    inputs = [
        _input("code", {"S3Uri": "${JobSource}"}),
        _input("tasks", {"S3Uri.$": "$.job.tasks_uri"}, is_shared=True),
    ]
    if options.wheels:
        inputs.append(_input("wheels", {"S3Uri": "${JobWheels}"}))
    parameters: dict[str, Any] = {
        "ProcessingJobName.$": "$.job.name",
        "RoleArn": "${JobRole}",
        "AppSpecification": {
            "ImageUri.$": "$.job.image_uri",
            "ContainerEntrypoint": ["/bin/bash", "-c", start_command(f"{_FOLDER}/input/data/code"), "start", job],
        },
        "Environment": {
            "AWS_DEFAULT_REGION": "${Region}",
            "SAGEMAKER_BASE_DIR": _FOLDER,
            "FAILURE_FILE": "/opt/ml/output/message",
            "TABLE_NAME": "${Table}",
            "BUCKET_NAME": "${DataBucket}",
            "SPACE_ID.$": "$.space_id",
            "RUN_ID.$": f"$.{kind}_id",
            "WORK_ID.$": "$.work_id",
        },
        "ProcessingInputs": inputs,
        "ProcessingResources": {"ClusterConfig": resources},
        "StoppingCondition": {"MaxRuntimeInSeconds": JOB_SECONDS},
        "Tags": [{"Key": "inference:space", "Value.$": "$.space_id"}],
    }
    if options.subnets:
        subnets = [f"${{JobSubnet{number}}}" for number in range(options.subnets)]
        network = {"Subnets": subnets, "SecurityGroupIds": ["${JobSecurityGroup}"]}
        parameters["NetworkConfig"] = {"VpcConfig": network}
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::sagemaker:createProcessingJob.sync",
        "Parameters": parameters,
        "Retry": JOB_RETRY,
        "ResultPath": None,
        "Catch": _CATCH,
        "Next": "FinishRun",
    }


def _input(name: str, source: dict[str, str], *, is_shared: bool = False) -> dict[str, Any]:
    return {
        "InputName": name,
        "S3Input": {
            **source,
            "LocalPath": f"{_FOLDER}/input/data/{name}",
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": "ShardedByS3Key" if is_shared else "FullyReplicated",
        },
    }
