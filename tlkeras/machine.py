"""What this process may use of the machine."""

from __future__ import annotations

import os


def usable_cpus() -> int:
    """The processor cores that this process may run on, 1 or more; fewer than there are in a container or job."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
