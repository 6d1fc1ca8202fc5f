"""TabM: several perceptrons that share most of their weights, fitted by PyTorch and kept as numbers.

Gorishniy, Kotelnikov, Babenko: TabM: Advancing tabular deep learning with parameter-efficient ensembling, ICLR 2025.
PyTorch is the container's own, and only imported to fit.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from functions.jobs.fitting.base import BoostingArchitecture, Examples, Hardware, MissingLibraryError, RoundWatcher
from functions.jobs.sharded.group import Group
from shared.propensity.architectures.configuration import TabMConfiguration
from shared.propensity.log_odds import LogOddsModel


class TabM(BoostingArchitecture[TabMConfiguration]):
    """See ``BoostingArchitecture``. A round is an epoch, or a part of a long one."""

    name: ClassVar[str] = "tabm"
    suffix: ClassVar[str] = ".safetensors"

    def fit(
        self,
        configuration: TabMConfiguration,
        fitted: Examples,
        validation: Examples,
        categorical: Sequence[int],
        hardware: Hardware,
        seed: int,
        watcher: RoundWatcher,
        resume: tuple[Path, int] | None = None,
        group: Group = Group(),
    ) -> LogOddsModel:
        """See ``BoostingArchitecture``. Each worker of the ``group`` gives its own rows."""
        try:
            from functions.jobs.fitting.neural.descent import fitted_network
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise MissingLibraryError(
                "The training container has no PyTorch, which the architecture tabm needs. Use AWS's PyTorch "
                "containers, or choose another architecture."
            ) from error
        network = fitted_network(configuration, fitted, validation, categorical, hardware, seed, watcher, resume, group)
        return LogOddsModel(fitted.matrix.shape[1], networks=[network])
