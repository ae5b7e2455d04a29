"""The commands: `service` has those of the daemon, `stores` those that need none."""

from dicomzarr_watch.cli import service, stores
from dicomzarr_watch.cli.command import main

__all__ = ["main", "service", "stores"]
