"""The provider's list held against the ledger: what was accepted there and is not known here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from flux_pipeline.audit.census import Census
from flux_pipeline.audit.findings import Finding, Kind
from flux_pipeline.audit.judging import is_paid_in_vain
from flux_pipeline.audit.recognition import match_of
from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.base import Attempt, Ledger, State
from flux_pipeline.outcomes import AccessDenied, ListFailed, NoList
from flux_pipeline.prediction import Prediction, Status
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.listing import Match

REACH_SECONDS = 3900.0
"""An hour, after which inputs vanish, and what two clocks may differ by."""
_PAGE = 100
_UNPAID = frozenset({Status.FAILED, Status.CANCELED, Status.ABORTED})
_PAID = frozenset({State.ACCEPTED, State.SUCCEEDED, State.STORED, State.RESENT, State.DUPLICATE})


@dataclass(slots=True)
class ListCheck:
    """One reading of the list, compared as it comes."""

    ledger: Ledger
    census: Census
    """Filled from the ledger."""
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    complete: bool = True
    _strangers: int = 0

    async def run(self, provider: Provider, *, now: float) -> None:
        """Read as far back as the list still shows inputs; ``now`` is unix seconds."""
        page: list[Prediction] = []
        async for each in provider.recent():
            if not isinstance(each, Prediction):
                self._note(each)
                break
            if each.created_at and each.created_at.timestamp() < now - REACH_SECONDS:
                break
            page.append(each)
            if len(page) == _PAGE:
                self._compare(page)
                page = []
        self._compare(page)
        if self._strangers:
            self.notes.append(
                f"{self._strangers} predictions in the provider's list are of no request in this"
                " ledger: somebody else uses the key, or the ledger is not the one it was"
            )

    def _note(self, failure: AccessDenied | ListFailed | NoList) -> None:
        if isinstance(failure, NoList):
            self.notes.append("the provider has no list: what it accepted can't be compared")
            return
        why = failure.detail if isinstance(failure, AccessDenied) else failure.reason
        self.complete = False
        self.notes.append(f"the provider's list could not be read: {why}; verify again")

    def _compare(self, page: Sequence[Prediction]) -> None:
        known = self.ledger.known_ids([each.id for each in page if each.id])
        for prediction in page:
            if prediction.id not in known and prediction.status not in _UNPAID:
                self.findings.extend(self._unknown(prediction))

    def _unknown(self, prediction: Prediction) -> Iterator[Finding]:
        histories = [
            history
            for sha in self._candidates(prediction)
            if (history := self.ledger.history(sha)) and _is_of(prediction, history[-1])
        ]
        if not histories:
            self._strangers += 1
            return
        # A reproduction has its original's input: the one that waits for an answer is meant.
        meant = max(histories, key=_waits)
        finding = judge_unknown(prediction.id or "", meant)
        if finding is not None:
            yield finding

    def _candidates(self, prediction: Prediction) -> Sequence[str]:
        seed = prediction.input.get("seed")
        return self.census.requests(seed) if isinstance(seed, int) else ()


def judge_unknown(prediction_id: str, history: Sequence[Attempt]) -> Finding | None:
    """Judge a paid prediction whose request is known, and its id is not.

    None while an attempt is open without an id: its answer may be on the way.
    """
    states = {attempt.state for attempt in history}
    sha = history[-1].request_sha256
    adopt = f"`flux-pipeline held adopt {sha} {prediction_id}`"
    if State.INTENT in states:
        return None
    if State.HELD in states:
        what = f"the provider's list shows prediction {prediction_id} with its input; {adopt}"
        return Finding(Kind.HELD, sha, what)
    if states & _PAID or any(map(is_paid_in_vain, history)):
        what = f"accepted besides another prediction of the same request; {adopt} notes it"
        return Finding(Kind.PAID_TWICE, prediction_id, what)
    what = f"accepted, and the ledger says that its request never was; {adopt} fetches it"
    return Finding(Kind.LOST, prediction_id, what)


def _waits(history: Sequence[Attempt]) -> bool:
    return any(attempt.state in {State.INTENT, State.HELD} for attempt in history)


def _is_of(prediction: Prediction, attempt: Attempt) -> bool:
    try:
        return match_of(prediction, attempt) in {Match.OURS, Match.OTHER_VERSION}
    except LedgerError:
        return False
