"""Makes the session of a training's models, which goes on from what an interrupted job has saved."""

import hashlib
from pathlib import Path

from functions.jobs.modelling.training import Observer, Session, Workspace
from shared.models.job import TrainingJob
from shared.propensity.architectures.configuration import ArchitectureConfiguration
from shared.propensity.checkpoints import library_versions


def training_session(
    job: TrainingJob, configuration: ArchitectureConfiguration, folder: Path, observer: Observer
) -> Session:
    """Returns the session whose models are in this folder."""
    # Saved models of other inputs must not be used.
    inputs = (
        job.model_dump_json(exclude={"progress", "save_interval_seconds"}),
        configuration.model_dump_json(),
        str(library_versions()),
    )
    fingerprint = hashlib.sha256("\n".join(inputs).encode()).hexdigest()
    workspace = Workspace.open(folder, fingerprint)
    return Session(workspace, observer, job.save_interval_seconds)
