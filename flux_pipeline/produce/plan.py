"""Forecasts a run: what it would make, what exists already, what it costs, which budgets fit.

Nothing is sent or written. Against a revision it also finds the prompts that a change adds, edits
and removes, as ``baseline`` compares them.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import NamedTuple

from flux_pipeline.iteration import batched
from flux_pipeline.ledger.base import Attempt, Ledger, State
from flux_pipeline.lineage.record import records_from_json
from flux_pipeline.models import RequestForm
from flux_pipeline.produce.budgets import NAMES, Limits, micros, usd
from flux_pipeline.produce.policy import Policy, final_status, needs_create
from flux_pipeline.produce.report import ResultStatus
from flux_pipeline.prompts.chain import is_planned
from flux_pipeline.prompts.drafts import Draft
from flux_pipeline.provider.offers import find_unoffered
from flux_pipeline.request import Request

_BATCH = 1000
_POLICY = Policy()
_COUNTS = {ResultStatus.UNCHANGED: "unchanged", ResultStatus.HELD: "held"}
_SENT = frozenset({"new", "retry", "pruned"})
"""Kinds of requests that a run sends and pays for."""


@dataclass(slots=True)
class Forecast:
    """Counts of requests, the images of each, and what the new ones cost by estimate."""

    requests: int = 0
    images: int = 0
    unchanged: int = 0
    """Stored already; against a revision also what that one asked for and nobody has made."""
    new: int = 0
    """Would be sent."""
    retry: int = 0
    """Failed before and would be sent again, which is paid like a new one."""
    pruned: int = 0
    """Were removed on purpose and would be made again, which is paid like a new one."""
    returned: int = 0
    """Were removed on purpose, and would be brought back from the archive for free."""
    resumed: int = 0
    """Were sent before and not finished: resumed by id, or settled, without paying again."""
    held: int = 0
    refused: int = 0
    """Were refused or failed for good: not sent again."""
    following: int = 0
    """Those that would be sent once the picture that they are made for is there: an estimate,
    because a source may be refused, or give another number of pictures."""
    in_images: Counter[str] = field(default_factory=Counter)
    """The images that are asked for, by the name of the count that their requests are in."""
    usd: float = 0.0
    unpriced: Counter[str] = field(default_factory=Counter)
    """Requests that would be sent and are not in ``usd``, by their model: its price is unknown."""
    unoffered: Counter[str] = field(default_factory=Counter)
    """Those of them that a run refuses to send, by why: the provider has not their model."""

    def add(self, kind: str, alike: "_Alike", number: int, *, is_priced: bool = True) -> None:
        """Count so many requests; ``kind`` is the name of a count."""
        images = number * alike.outputs
        self.requests += number
        self.images += images
        setattr(self, kind, getattr(self, kind) + number)
        self.in_images[kind] += images
        if kind in _SENT:
            self.usd += number * alike.cost_usd
            self.following += number * alike.follows
            if not is_priced:
                self.unpriced[alike.model] += number
            if alike.unoffered:
                self.unoffered[alike.unoffered] += number

    def merge(self, other: "Forecast") -> None:
        """Add another forecast to this one."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    @property
    def sent(self) -> int:
        """Requests that a run sends and pays for."""
        return self.new + self.retry + self.pruned

    @property
    def sent_images(self) -> int:
        """The images that those ask for."""
        return sum(self.in_images[kind] for kind in _SENT)

    def seconds(self, creates_per_minute: float) -> float:
        """How long the new requests take at the configured rate, at least."""
        return self.sent * 60.0 / creates_per_minute


class _Alike(NamedTuple):
    """What is counted of a request: most requests of a set are alike in it."""

    model: str
    outputs: int
    cost_usd: float
    follows: bool
    unoffered: str | None


@dataclass(slots=True)
class SetForecast:
    """One prompt set's forecast, in total and by partition."""

    total: Forecast = field(default_factory=Forecast)
    partitions: dict[str, Forecast] = field(default_factory=dict)


@dataclass(slots=True)
class BudgetFit:
    """How far one budget reaches, in millionths of a USD."""

    name: str
    """The name of the setting, such as ``usd_per_run``."""
    limit_micros: int
    used_micros: int = 0
    """Spent or reserved already."""
    new: int = 0
    """Requests that would count against it."""
    fits: int = 0
    """Those of them that it allows, in their order."""
    _new_micros: int = 0
    _fit_micros: int = 0

    def add(self, cost_micros: int) -> None:
        """Count one new request. As in the ledger, a cheap one may still fit after a dear one."""
        self.new += 1
        self._new_micros += cost_micros
        if self.used_micros + self._fit_micros + cost_micros <= self.limit_micros:
            self.fits += 1
            self._fit_micros += cost_micros

    @property
    def needed_micros(self) -> int:
        """The limit at which all of them fit."""
        return self.used_micros + self._new_micros

    def __str__(self) -> str:
        limit = usd(self.limit_micros)
        if self.fits == self.new:
            return f"budget {self.name} {limit}: all {self.new} new requests fit"
        return (
            f"budget {self.name} {limit}: {self.fits} of {self.new} new requests fit;"
            f" raise it to {usd(self.needed_micros)}"
        )


def forecast(
    asked: Iterable[Draft | Request],
    ledger: Ledger,
    *,
    fits: Sequence[BudgetFit] = (),
    was_asked: Callable[[Request], bool] | None = None,
    unpriced: Collection[str] = (),
    offered: Collection[str] = (),
    on_sent: Callable[[Request], None] | None = None,
) -> SetForecast:
    """Compare what is asked for with the ledger; nothing is sent or written.

    With ``was_asked``, what had been asked for before counts as unchanged even if it was never
    made: the rest is what the change costs. Every new request is counted in ``fits``. ``unpriced``
    are the models (``owner/name``) whose price is unknown, ``offered`` the only ones that the
    provider has, as ``FLUX_MODELS`` names them; none: all. ``on_sent`` is given each request that a
    run would send. Memory grows with the partitions, not with the requests.
    """
    counts = _Counts(offered)
    for each, latest in _with_latest(asked, ledger):
        kind = "new" if latest is None else _count_of(latest)
        if kind in _SENT:
            if was_asked is not None and was_asked(_request(each)):
                kind = "unchanged"
            else:
                if on_sent is not None:
                    on_sent(_request(each))
                for fit in fits:
                    fit.add(micros(_form(each).cost_usd) or 0)
        counts.add(each, kind)
    return counts.summed(unpriced)


def _with_latest(
    asked: Iterable[Draft | Request], ledger: Ledger
) -> Iterator[tuple[Draft | Request, Attempt | None]]:
    """What is asked for, each with its latest attempt."""
    is_empty = False
    for number, batch in enumerate(batched(asked, _BATCH)):
        if is_empty:
            yield from ((each, None) for each in batch)
            continue
        shas = [
            each.fingerprint() if isinstance(each, Draft) else each.request_sha256 for each in batch
        ]
        latest = ledger.find(shas)
        yield from zip(batch, map(latest.get, shas), strict=True)
        # The first plan of a project takes no fingerprint of what can't be known.
        is_empty = number == 0 and not latest and next(ledger.attempts(), None) is None


def _request(each: Draft | Request) -> Request:
    return each.request() if isinstance(each, Draft) else each


def _form(each: Draft | Request) -> RequestForm | Request:
    """What tells its model, its images and its cost."""
    return each.form if isinstance(each, Draft) else each


@dataclass(slots=True)
class _Counts:
    """Counts requests that are alike together, by partition."""

    offered: Collection[str]
    _parts: dict[str, dict[tuple[str, _Alike], int]] = field(default_factory=dict)
    _form: RequestForm | Request | None = None
    """The last one, and what was alike in it: rows of a table mostly share it."""
    _alike: _Alike | None = None

    def add(self, each: Draft | Request, kind: str) -> None:
        """Count one; ``kind`` is the name of a count."""
        form, alike = _form(each), self._alike
        if alike is None or form is not self._form:
            alike = self._alike = self._alike_of(each)
            self._form = form
        partition = each.partition if isinstance(each, Draft) else each.source.partition
        part = self._parts.setdefault(partition, {})
        part[kind, alike] = part.get((kind, alike), 0) + 1

    def _alike_of(self, each: Draft | Request) -> _Alike:
        form = _form(each)
        unoffered = find_unoffered(_request(each), self.offered) if self.offered else None
        follows = any(map(is_planned, form.pictures))
        return _Alike(form.model, form.outputs, form.cost_usd, follows, unoffered)

    def summed(self, unpriced: Collection[str]) -> SetForecast:
        """What it came to."""
        result = SetForecast()
        for partition, part in self._parts.items():
            result.partitions[partition] = Forecast()
            for (kind, alike), number in part.items():
                for counted in (result.partitions[partition], result.total):
                    counted.add(kind, alike, number, is_priced=alike.model not in unpriced)
        return result


def _count_of(latest: Attempt) -> str:
    status = final_status(latest, _POLICY)
    if status is not None:
        return _COUNTS.get(status, "refused")
    if latest.state is State.FAILED:
        return "retry"
    if latest.state is State.PRUNED:
        removed = [one for one in records_from_json(latest.images) if one.removed_at]
        return "returned" if all(one.archived_uri for one in removed) else "pruned"
    return "new" if needs_create(latest) else "resumed"


def open_fits(limits: Limits, ledger: Ledger, *, prompt_set: str, now: datetime) -> list[BudgetFit]:
    """The budgets that limit one set, with what is spent of them; a run's own budget is unspent."""
    return [
        BudgetFit(NAMES[scope.partition(":")[0]], limit, ledger.spent_micros(scope))
        for scope, limit in (
            (budget.scope, budget.limit_micros)
            for budget in limits.budgets(run_id="plan", prompt_set=prompt_set, now=now)
        )
        if limit is not None
    ]


@dataclass(slots=True)
class Changes:
    """The names of one set's prompts that a change touches, each list in the order of the file."""

    added: list[str] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.added or self.edited or self.removed)
