"""Limits on the jobs and the files of a space. The operator sets them; owners see them and what is used."""

from pydantic import BaseModel, ConfigDict, Field

GIB = 1 << 30


class JobLimits(BaseModel):
    """``None`` sets no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    running_trainings: int | None = Field(default=None, ge=0, le=1000)
    running_evaluations: int | None = Field(default=None, ge=0, le=1000)
    running_runs: int | None = Field(default=None, ge=0, le=1000)
    gpu_hours_per_month: int | None = Field(default=None, ge=0, le=10**6)
    storage_gib: int | None = Field(default=None, ge=0, le=10**6)

    def overridden(self, own: dict[str, int]) -> "JobLimits":
        """Returns these limits with a space's own ones instead, where it has some."""
        return JobLimits.model_validate(self.model_dump() | own)


UNLIMITED = JobLimits()
