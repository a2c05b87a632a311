"""How often and how long an asynchronous invocation is tried ("Error handling for asynchronous invocation", AWS Lambda
developer guide), and the bounds of the queue.
"""

from __future__ import annotations

from dataclasses import dataclass

# What Lambda and CFC accept of an asynchronous event.
EVENT_LIMIT = 256 * 1024
# How long the id of a finished event is known: longer than any trigger makes up for what was missed (a day).
REMEMBER_S = 2 * 86_400


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """``after_failure_s``: a delay for each repetition after an error of the function, so their number too.
    What is refused for want of room is tried again after ``refused_first_s``, doubled up to ``refused_most_s``,
    until the event is ``max_age_s`` old. ``unsettled_s`` is between two tries to write down what became of an event.
    """

    after_failure_s: tuple[float, ...] = (60.0, 120.0)
    refused_first_s: float = 1.0
    refused_most_s: float = 300.0
    max_age_s: float = 6 * 3600.0
    unsettled_s: float = 5.0

    def after_failure(self, failures: int, retries: int | None) -> float | None:
        """Return the delay after the ``failures``-th error, None where it was the last; ``retries`` None: as many
        repetitions as there are delays.
        """
        if failures > (len(self.after_failure_s) if retries is None else retries):
            return None
        return self.after_failure_s[min(failures, len(self.after_failure_s)) - 1]

    def after_refusal_s(self, refusals: int) -> float:
        """Return the delay after the ``refusals``-th refusal."""
        return float(min(self.refused_most_s, self.refused_first_s * 2 ** min(refusals - 1, 30)))
