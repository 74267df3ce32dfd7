"""What has to be checked of one key: whether it has ended, its refused windows, its requests a minute.

Owns: a key's gate, and remembering the refusal that a window gives.
Called by: `gateway/admission/admission.py`. Next: `gateway/admission/minute.py` counts, `gateway/admission/refusal.py` words the no.

Most keys have no gate. A client that is refused asks again at once, so a refusal must cost no more than an
admission: it is worded once, and made anew only when its `retry_after` has changed, once a second.
"""

from __future__ import annotations

from pipeline.accounts.keys import KeyRecord
from pipeline.accounts.model import TRIAL_REQUESTS_PER_MINUTE, Refused
from pipeline.gateway.admission import refusal
from pipeline.gateway.admission.minute import Minute
from pipeline.gateway.admission.refusal import Refusal

REVOKED_MS = -1
NEVER_MS = 2**62


class Gate:
    """A key's gate.

    `ends_ms` is when the key stops being valid: never (None), at its expiry, or long ago once revoked.
    `_no` is the answer from `_from_ms` until `_until_ms`; None there leaves it to the minute.
    """

    __slots__ = ("_from_ms", "_no", "_until_ms", "ends_ms", "minute", "record", "rpm", "windows")

    def __init__(self) -> None:
        """Start with nothing to check."""
        self.record: KeyRecord | None = None
        self.windows: tuple[Refused, ...] = ()
        self.rpm: int | None = None
        self.ends_ms: int | None = None
        self.minute = Minute()
        self._no: Refusal | None = None
        self._from_ms = self._until_ms = 0

    def set_record(self, record: KeyRecord) -> None:
        """Take in what the org set for the key."""
        self.record = record
        self.ends_ms = REVOKED_MS if record.revoked else record.expires_ms
        self.rpm = record.rpm_limit
        if record.tier == "trial":
            self.rpm = min(record.rpm_limit or TRIAL_REQUESTS_PER_MINUTE, TRIAL_REQUESTS_PER_MINUTE)
        self._forget_answer()

    def forget_record(self) -> None:
        """Know nothing of what the org set for the key any more."""
        self.record = self.rpm = self.ends_ms = None
        self._forget_answer()

    def set_windows(self, windows: tuple[Refused, ...]) -> None:
        """Take in the windows in which the key is refused, in place of the earlier ones."""
        self.windows = windows
        self._forget_answer()

    @property
    def end(self) -> Refusal:
        """The refusal of a key that has ended."""
        return refusal.KEY_REVOKED if self.ends_ms == REVOKED_MS else refusal.KEY_EXPIRED

    def admit(self, now_ms: int) -> Refusal | None:
        """Count a request and return None, or return why the windows or the minute refuse it."""
        if not self._from_ms <= now_ms < self._until_ms:
            self._look(now_ms)
        if self._no is not None:
            return self._no
        rpm = self.rpm
        if rpm is None:
            return None
        wait_s = self.minute.admit(now_ms, rpm)
        if not wait_s:
            return None
        # Within a second no request of the minute is forgotten, so the answer stays.
        self._no, self._from_ms = refusal.of_rate(rpm, wait_s), now_ms
        self._until_ms = min(self._until_ms, now_ms // 1000 * 1000 + 1000)
        return self._no

    def _look(self, now_ms: int) -> None:
        """Remember what the windows say, and until when: a window's edge, or the end of a second to wait."""
        self._no, self._from_ms = None, now_ms
        edges = [at for window in self.windows for at in (window.from_ms, window.until_ms) if at > now_ms]
        for window in self.windows:
            if window.from_ms <= now_ms < window.until_ms:
                self._no = refusal.of_window(window, now_ms)
                edges.append(refusal.changes_ms(window, now_ms))
                break
        self._until_ms = min(edges, default=NEVER_MS)

    def _forget_answer(self) -> None:
        self._no, self._from_ms, self._until_ms = None, 0, 0

    def is_needed(self, now_ms: int) -> bool:
        """Whether there is anything to check or remember."""
        if self.windows or self.ends_ms is not None:
            return True
        return self.rpm is not None and (self.record is not None or not self.minute.is_idle(now_ms))
