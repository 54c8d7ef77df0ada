"""Progress of a long job over images, as every command reports it."""

import time
from dataclasses import dataclass, field


@dataclass
class Progress:
    """Progress of a job over images; the job changes it and hands it to the caller's function after each batch.

    An image counts once for each view of it.
    """

    total: int
    finished: int = 0
    """Images that need no more work: computed now or by an earlier process, copied, or left out."""
    computed: int = 0
    """Images that this process computed."""
    started: float = field(default_factory=time.monotonic)
    """When the job began, in seconds of `time.monotonic`."""

    @property
    def images_per_second(self) -> float:
        """Rate of this process, its start-up included."""
        return self.computed / max(time.monotonic() - self.started, 1e-9)
