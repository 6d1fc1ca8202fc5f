"""Which SageMaker instances can run a job, the preferred one first."""

from shared.errors import JobFailedError
from shared.settings import Settings

# GPUs of an instance, by family and size. Source: https://aws.amazon.com/sagemaker/pricing/ (accelerated computing).
_FOUR_OR_EIGHT = {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "16xlarge": 1, "12xlarge": 4, "24xlarge": 4}
GPU_COUNTS: dict[str, dict[str, int]] = {
    "g4dn": {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "16xlarge": 1, "12xlarge": 4},
    "g5": {**_FOUR_OR_EIGHT, "48xlarge": 8},
    "g6": {**_FOUR_OR_EIGHT, "48xlarge": 8},
    "g6e": {**_FOUR_OR_EIGHT, "48xlarge": 8},
    "p3": {"2xlarge": 1, "8xlarge": 4, "16xlarge": 8},
    "p4d": {"24xlarge": 8},
    "p5": {"4xlarge": 1, "48xlarge": 8},
}


def instance_types(settings: Settings, gpu_count: int) -> list[str]:
    """Returns the instance types to try in turn: those of the settings, or the next size of their family with enough
    GPUs.

    Raises:
        JobFailedError: no family of the settings has instances with so many GPUs.
    """
    if gpu_count == 0:
        return _listed(settings.cpu_instance_types)
    chosen = (_with_gpus(each, gpu_count) for each in _listed(settings.gpu_instance_types))
    found = list(dict.fromkeys(each for each in chosen if each is not None))
    if not found:
        raise JobFailedError(
            f"No instance type of this deployment has {gpu_count} GPUs ({settings.gpu_instance_types}). "
            "Ask for fewer, or have GPU_INSTANCE_TYPES set to a larger family."
        )
    return found


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _with_gpus(instance_type: str, gpu_count: int) -> str | None:
    family, _, size = instance_type.removeprefix("ml.").partition(".")
    counts = GPU_COUNTS.get(family, {})
    if counts.get(size, 0) >= gpu_count:
        return instance_type
    enough = sorted((count, name) for name, count in counts.items() if count >= gpu_count)
    return f"ml.{family}.{enough[0][1]}" if enough else None
