"""The instances of a training, as SageMaker names them to each container.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import JobFailedError
from shared.models.job import JobDataset

# The names of other instances are not known immediately.
NAMING_SECONDS = 300


@dataclass(frozen=True)
class Hosts:
    """The names of all instances, and which of them this one is."""

    names: Sequence[str] = ("localhost",)
    index: int = 0
    # Through which they reach each other.
    interface: str | None = None

    @classmethod
    def of(cls, base: Path) -> "Hosts":
        """Returns the hosts from the configuration below ``/opt/ml``; without one, there is one host."""
        path = base / "input" / "config" / "resourceconfig.json"
        if not path.exists():
            return cls()
        found = json.loads(path.read_bytes())
        names = sorted(found["hosts"])
        return cls(names, names.index(found["current_host"]), found.get("network_interface_name"))

    def __len__(self) -> int:
        return len(self.names)

    def address_of_first(self) -> str:
        """Returns the IP address of the first host, where the workers meet. Raises JobFailedError."""
        deadline = time.monotonic() + NAMING_SECONDS
        while True:
            try:
                return socket.gethostbyname(self.names[0])
            except OSError as error:
                if time.monotonic() > deadline:
                    raise JobFailedError(
                        f"The instance {self.names[0]} of the training has no address ({error}). Start it again."
                    ) from error
                time.sleep(1)

    def share(self, datasets: Sequence[JobDataset]) -> list[JobDataset]:
        """Returns the data sets with the files of this host. Each gets about as many bytes.

        Raises:
            JobFailedError: there are fewer files than hosts.
        """
        files = [
            (file.size_bytes, place, index)
            for place, each in enumerate(datasets)
            for index, file in enumerate(each.files)
        ]
        if len(files) < len(self):
            raise JobFailedError(f"{len(self)} instances share the files, and there are only {len(files)}.")
        sizes = [0] * len(self)
        mine: set[tuple[int, int]] = set()
        for size, place, index in sorted(files, key=lambda file: (-file[0], file[1:])):
            host = sizes.index(min(sizes))
            # A file without a byte fills a host, too.
            sizes[host] += max(size, 1)
            if host == self.index:
                mine.add((place, index))
        shares = [
            each.model_copy(update={"files": [file for index, file in enumerate(each.files) if (place, index) in mine]})
            for place, each in enumerate(datasets)
        ]
        return [each for each in shares if each.files]
