"""The policy of a run: its patience, its limits, and when a request needs another attempt."""

from dataclasses import dataclass
from typing import Literal

from flux_pipeline.ledger.base import Attempt, State
from flux_pipeline.produce.report import ResultStatus

_FINAL = {
    State.STORED: ResultStatus.UNCHANGED,
    State.REFUSED: ResultStatus.REFUSED,
    State.HELD: ResultStatus.HELD,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Limits of the core. Times are seconds."""

    may_create: bool = True
    """False for a rescue: only what was accepted before is finished."""
    lease: float = 120.0
    """A claim older than this may be taken over by another worker."""
    send_timeout: float = 60.0
    """A POST ends within this; shorter than the lease, so that no claim ends under a live POST."""
    never_sent_tries: int = 3
    """Sends of which nothing left this machine, before the request fails in this run."""
    transient_tries: int = 2
    """New attempts after failures that the provider calls transient."""
    canceled_tries: int = 1
    """New attempts after a cancel that was not ours."""
    visibility: float = 30.0
    """How late the provider's list may show a new prediction."""
    list_reach: float = 3000.0
    """The list forgets after an hour: beyond this age, absence proves nothing."""
    settle_patience: float = 300.0
    """How long an unreadable list is read again before the request is held."""
    list_tries: int = 5
    """And how often at least: a worker that was stopped has used up its patience, not its tries."""
    unknown: Literal["resend", "hold"] = "resend"
    """What happens to a create of unknown fate where the provider has no list."""
    expected_seconds: float = 2.0
    """When a prediction is polled first, until one of its model has ended in this run."""
    deadline: float = 900.0
    """A prediction that has not ended by then is canceled."""
    store_tries: int = 5
    """Tries to download and store one output, within one run."""
    output_lifetime: float = 3600.0
    """Outputs are deleted this long after they were made: before, a 404 is not believed."""
    gone_patience: float = 60.0
    """How long a 404 of what is paid is asked again within one run; the next run goes on."""
    failed_tries: int = 5
    """Failed predictions of one request, over all runs, before only a person asks again."""
    busy_interval: float = 2.0
    """How often a request that another worker holds is looked at."""
    backoff: float = 1.0
    """First wait after a failure; doubles up to ``backoff_limit``."""
    backoff_limit: float = 30.0
    remake_expired: bool = False
    """Whether what was paid and lost is paid for again."""

    def wait_after(self, failures: int) -> float:
        """Seconds to wait after the n-th failure in a row, n from 1."""
        return min(self.backoff * 2.0 ** (failures - 1), self.backoff_limit)


@dataclass(frozen=True, slots=True)
class RunContext:
    """One run of one asset: every record names it as its maker."""

    run_id: str
    asset: str = ""
    """``<set>/images``"""
    code_version: str = ""
    """The git commit of the configuration, where there is one."""
    provider: str = ""
    """The provider's host, or ``record.EMULATED``; the producer fills it in."""


def final_status(latest: Attempt | None, policy: Policy) -> ResultStatus | None:
    """How a request has ended by its latest attempt; None where there is still something to do.

    There is, where it has no attempt, an open one, or one closed in a way that lets another follow.
    """
    if latest is None:
        return None
    goes_on = (
        latest.state.is_open
        or latest.state in (State.UNSENT, State.RESENT, State.PRUNED)
        or (latest.state is State.FAILED and latest.retryable)
        or (latest.state is State.EXPIRED and policy.remake_expired)
    )
    return None if goes_on else _FINAL.get(latest.state, ResultStatus.FAILED)


def needs_create(latest: Attempt | None) -> bool:
    """Whether the next step of a request that has not ended is a new create, which is paid."""
    return latest is None or not latest.state.is_open
