"""Whether the inbox is there, which folder it is and whether events tell of it; each said once."""

from __future__ import annotations

from dicomzarr_watch.identity import Place
from dicomzarr_watch.intake.inbox import Sight
from dicomzarr_watch.intake.wakeup import Wakeup
from dicomzarr_watch.operate.logs import Event, Log


class Presence:
    """What of the inbox itself the last look found."""

    def __init__(self, log: Log, wakeup: Wakeup, poll_s: float) -> None:
        self._log = log
        self._wakeup = wakeup
        self._poll_s = poll_s
        self._place: Place | None = None
        self._unreadable: tuple[str, ...] = ()
        self._is_watched: bool | None = None
        self._is_missing = False

    @property
    def is_known(self) -> bool:
        """Whether the inbox was ever there."""
        return self._place is not None

    @property
    def is_watched(self) -> bool:
        """Whether events would tell of what happens in it."""
        return bool(self._is_watched)

    @property
    def is_whole(self) -> bool:
        """Whether all of it could be looked at when it was there last."""
        return not self._unreadable

    def see(self, sight: Sight) -> bool:
        """Say when it goes, comes back or is another one; return whether it is watched anew."""
        if sight.place is None:
            if not self._is_missing:
                self._log.warning(Event.INBOX_MISSING)
            self._is_missing = True
            return False
        is_other = self._place is not None and sight.place != self._place
        if is_other:
            self._log.warning(Event.INBOX_REPLACED)
        elif self._is_missing:
            self._log.info(Event.INBOX_BACK)
        is_anew = False
        if is_other or self._is_missing or not self._wakeup.is_healthy:
            is_anew = self.watch()
        self._place, self._is_missing = sight.place, False
        if sight.unreadable and sight.unreadable != self._unreadable:
            self._log.warning(Event.INBOX_UNREADABLE, folders=len(sight.unreadable))
        self._unreadable = sight.unreadable
        return is_anew

    def watch(self) -> bool:
        """Begin to watch, and return whether that went well."""
        is_watched = self._wakeup.start()
        if is_watched:
            self._log.info(Event.WATCH_STARTED)
        elif self._is_watched is not False:
            self._log.warning(Event.WATCH_LOST, poll_s=self._poll_s)
        self._is_watched = is_watched
        return is_watched
