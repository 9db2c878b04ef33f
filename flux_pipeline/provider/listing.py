"""Finds a lost create in the provider's list of predictions, by comparing inputs.

A create is lost when its answer did not arrive: it may have been paid for. The prediction is ours
if it shows our whole input and no other attempt holds its id. A seed makes a request's input
unique. Without one the takes of an input look the same, and so do predictions that somebody else
has made: then what was created before our intent is not ours, and of the rest the oldest that
nobody holds is given. A search without a hit proves absence only where the list shows every input
back to the moment of the create.

``Listing`` searches, ``matches`` compares one entry with a request, ``ListReader`` reads the pages.
Requests that search at the same time share one reader.
"""

import asyncio
import base64
import binascii
import hashlib
import json
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import parse_qsl, urlsplit
from weakref import WeakValueDictionary

import httpx

from flux_pipeline.models import known_defaults
from flux_pipeline.models.signed_url import comparable_url
from flux_pipeline.outcomes import Absent, AccessDenied, FindOutcome, Found, ListFailed, NoList
from flux_pipeline.prediction import Prediction
from flux_pipeline.provider.classify import (
    DENIALS,
    THROTTLED,
    Answer,
    error_text,
    retry_after,
    unix_time,
)
from flux_pipeline.provider.config import ProviderConfig
from flux_pipeline.provider.http import ApiClient, Reply, load_object
from flux_pipeline.provider.limiter import Limiter
from flux_pipeline.provider.parse import parse_moment, parse_prediction
from flux_pipeline.redaction import redact_untrusted, redact_untrusted_json
from flux_pipeline.request import PICTURE_PREFIX, JsonValue, Request

KnownIds: TypeAlias = Collection[str] | Callable[[Sequence[str]], Collection[str]]
"""Ids of other attempts, or a function that returns those of some ids that are."""
SentAs: TypeAlias = Mapping[str, Collection[str]]
"""By a picture's SHA-256 (64 hex digits) the addresses under which it was ever sent; ``data:``
stands for one that was sent within the input."""
ListFailure: TypeAlias = AccessDenied | ListFailed | NoList
_MARGIN = 300.0
"""s before ``since`` that are searched too: no clock is exact."""
_MARGIN_WITHOUT_DATE = 600.0
"""s; the same where the provider sends no ``Date`` header."""
_EXACT_MARGIN = 5.0
"""s before the intent that count as after it, where its age and the provider's clock are known:
``Date`` has whole seconds."""
_MAX_DRIFT = 30.0
"""s between the wall clock and the monotonic one; beyond it the wall clock was set."""
_REACH = 3300.0
"""s; inputs vanish from the list after an hour, and then it proves nothing."""
_MAX_PAGES = 2000
_FIRST_WAIT, _MOST_WAIT = 0.2, 2.0
"""s before a page is asked for again, at most: doubled each time, and any part of it."""
_SERVER_ERROR, _NOT_IMPLEMENTED = 500, 501
_RETRYABLE = frozenset({408, 425, THROTTLED})
_MISSING = object()
_IMAGE_ENDS = (b"\x00IEND\xaeB`\x82", b"\xff\xd9", b"\x00;")
"""The last bytes of a PNG, a JPEG and a GIF."""


class Match(Enum):
    """How an entry of the list relates to a request. Only UNCLEAR prevents a proof of absence."""

    OURS = "ours"
    """Same version, and its input is ours, but for defaults."""
    OTHER_VERSION = "other version"
    """The same but for the version: the provider served another one."""
    UNCLEAR = "unclear"
    """It hides a part of its input, so it may be ours."""
    NO = "no"


class Listing:
    """Searches the provider's list, in one event loop. ``clock`` is unix seconds.

    ``secrets``, which may grow, are redacted everywhere; by default the key.
    """

    def __init__(
        self,
        config: ProviderConfig,
        api: ApiClient,
        limiter: Limiter,
        *,
        clock: Callable[[], float],
        secrets: Collection[str] = (),
    ) -> None:
        self._config = config
        self._secrets = secrets or (config.api_key,)
        self._api = api
        self._limiter = limiter
        self._clock = clock
        self._clock_offset = clock() - time.monotonic()
        self._has_list = config.has_list
        self._first_page = asyncio.Lock()
        self._entries: SharedEntries = WeakValueDictionary()
        self._reader = self._new_reader()

    async def find(
        self,
        request: Request,
        *,
        since: float,
        known: KnownIds,
        not_before: float | None,
        age: float | None = None,
        sent_as: SentAs | None = None,
    ) -> FindOutcome:
        """Search the list for one request; see ``Provider.find``."""
        if self._has_list is False:
            return NoList()
        reader = self._shared_reader(time.monotonic() if not_before is None else not_before)
        addresses = _comparable(sent_as or {}, self._config.files_url)
        search = _Search(request, known, addresses, self._secrets)
        place = 0
        while True:
            failure = await self._read_beyond(reader, place)
            if failure is not None:
                return self._confirm(failure)
            self._has_list = True
            bound = self._bound(since, age, reader)
            fresh = reader.entries[place:]
            place += len(fresh)
            if (found := await search.inspect(fresh, bound)) is not None:
                return Found(found)
            is_last = reader.ended and place == len(reader.entries)
            if is_last or _is_before(fresh, bound.earliest):
                break
        # The provider may have served another version than was asked for: that one was paid too.
        rest = search.oldest or search.other_version
        if rest is not None:
            return Found(rest)
        if search.unclear or (self._clock() - since if age is None else age) > _REACH:
            return NoList()
        return Absent()

    async def recent(self) -> AsyncIterator[Prediction | ListFailure]:
        """See ``Provider.recent``."""
        if self._has_list is False:
            yield NoList()
            return
        reader = self._new_reader()
        while not reader.ended:
            failure = await reader.read_beyond(0)
            if failure is not None:
                yield self._confirm(failure)
                return
            page = list(reader.entries)
            reader.entries.clear()  # this reader is not shared
            for entry in page:
                prediction = parse_prediction(entry.read(), *self._secrets)
                if prediction is not None and prediction.id is not None:
                    yield prediction

    def _shared_reader(self, not_before: float) -> "ListReader":
        """The current reader, if it began late enough or has not begun, or a new one."""
        current = self._reader
        too_early = current.started_at is not None and current.started_at < not_before
        if too_early or current.failure is not None:
            self._reader = self._new_reader()
        return self._reader

    def _new_reader(self) -> "ListReader":
        return ListReader(
            self._fetch,
            clock=self._clock,
            secrets=self._secrets,
            page_tries=self._config.page_tries,
            shared=self._entries,
        )

    async def _read_beyond(self, reader: "ListReader", place: int) -> ListFailure | None:
        # One first page at a time: requests that wait meanwhile all share the next reader.
        if reader.started_at is None:
            async with self._first_page:
                return await reader.read_beyond(place)
        return await reader.read_beyond(place)

    async def _fetch(self, query: Mapping[str, str]) -> Reply | httpx.HTTPError:
        sent_at = await self._limiter.acquire("call")
        answer = await self._api.send(
            "GET",
            self._config.predictions_url,
            query=query,
            deadline=self._config.timeouts.call,
            max_bytes=self._config.max_page_bytes,
        )
        if isinstance(answer, Reply) and answer.status == THROTTLED:
            hint = retry_after(answer.headers, None, now=self._clock())
            await self._limiter.slow_down("call", hint, sent_at=sent_at)
        return answer

    def _confirm(self, failure: ListFailure) -> ListFailure:
        """Turn "there is no list" into a failure where one was seen before or is configured."""
        if isinstance(failure, NoList):
            if self._has_list:
                return ListFailed("the list, which was there before, is not found")
            self._has_list = False
        return failure

    def _bound(self, since: float, age: float | None, reader: "ListReader") -> "_Bound":
        """When the prediction can have been made, by the provider's clock."""
        if age is not None and age >= 0 and reader.skew is not None:
            exact = self._clock() + reader.skew - age
            # Where our clock is right now, both count: a virtual machine that was paused has a
            # steady clock that stood still. Where it is wrong, it tells nothing of the create.
            is_right = abs(reader.skew) <= _MAX_DRIFT
            moment = min(exact, since) if is_right else exact
            surely = moment - _EXACT_MARGIN
            return _Bound(moment - _MARGIN, surely, surely)
        # Our clock may be wrong by a constant, which Date shows, or may have been set since then,
        # which Date hides; so the earlier of both bounds counts. Where it was clearly set, the
        # whole reach of the list is searched.
        now = self._clock()
        skew = reader.skew or 0.0
        if since > now or abs(now - time.monotonic() - self._clock_offset) > _MAX_DRIFT:
            earliest = now + min(skew, 0.0) - _REACH - _MARGIN_WITHOUT_DATE
            return _Bound(earliest, earliest, math.inf)
        margin = _MARGIN_WITHOUT_DATE if reader.skew is None else _MARGIN
        earliest = min(since, since + skew) - margin
        return _Bound(earliest, earliest, max(since, since + skew) - _EXACT_MARGIN)


class _Bound(NamedTuple):
    """Moments by the provider's clock, unix seconds; the seed tells what they leave open."""

    earliest: float
    """A prediction with a seed that was made before is not ours; nor need the list be read on."""
    possible: float
    """The same without a seed: before this it was somebody else's."""
    certain: float
    """Without a seed, one of our input that was made from here on may be taken for ours; between
    both it stays unclear."""


@dataclass(slots=True)
class _Search:
    """The search for one request, and what it has found so far."""

    request: Request
    known: KnownIds
    addresses: SentAs = field(repr=False)
    """As ``matches`` takes them."""
    secrets: Collection[str] = field(repr=False)
    oldest: Prediction | None = None
    """Of a request without a seed."""
    other_version: Prediction | None = None
    unclear: bool = False

    async def inspect(self, entries: Sequence["ListEntry"], bound: _Bound) -> Prediction | None:
        """Return the first prediction that is ours beyond doubt and no other attempt holds."""
        for entry in entries:
            if entry.has_another_seed(self.request):
                continue  # decides nearly always, before the costly comparison
            shown = entry.read()
            match = matches(shown, self.request, self.addresses)
            if match is Match.NO:
                continue
            has_seed = self.request.seed is not None
            if _is_before([entry], bound.earliest if has_seed else bound.possible):
                continue
            prediction = parse_prediction(shown, *self.secrets)
            if prediction is None or prediction.id is None:
                self.unclear = True
            elif not await self._is_known(prediction.id):
                if match is Match.OURS and has_seed:
                    return prediction
                self._note(match, prediction, bound)
        return None

    def _note(self, match: Match, prediction: Prediction, bound: _Bound) -> None:
        """Keep what may be ours until the list is read; entries come newest first."""
        if match is Match.UNCLEAR:
            self.unclear = True
        elif self.request.seed is not None:
            self.other_version = self.other_version or prediction
        elif match is Match.OURS and _is_after(prediction, bound.certain):
            self.oldest = prediction
        else:
            self.unclear = True

    async def _is_known(self, prediction_id: str) -> bool:
        if callable(self.known):
            return prediction_id in await asyncio.to_thread(self.known, [prediction_id])
        return prediction_id in self.known


def _is_before(entries: Sequence["ListEntry"], bound: float) -> bool:
    """Whether the last entry, which is the oldest, was created before the bound."""
    created_at = entries[-1].created_at if entries else None
    return created_at is not None and created_at < bound


def _is_after(prediction: Prediction, bound: float) -> bool:
    """Whether it was surely created at this moment or later."""
    return prediction.created_at is not None and prediction.created_at.timestamp() >= bound


def _comparable(sent_as: SentAs, files_url: str) -> SentAs:
    """The addresses as they are compared, with the folder in which all uploads lie."""
    return {
        sha256: frozenset([*map(comparable_url, urls), f"{files_url}/"])
        for sha256, urls in sent_as.items()
    }


def matches(entry: Mapping[str, Any], request: Request, addresses: SentAs | None = None) -> Match:
    """Compare one entry with a request.

    Both inputs are redacted first: a provider may show ours with its secrets blanked out. The
    entry may add the model's own defaults, and nothing else; a part of our input that it does not
    show makes the match unclear. ``addresses`` are those of pictures, by SHA-256, as
    ``comparable_url`` gives them, and the folders (with a last slash) in which others lie: an
    address there is another picture's, and one elsewhere may be the provider's own copy.
    """
    model = entry.get("model")
    if isinstance(model, str) and model and model.partition(":")[0] != request.model:
        return Match.NO
    shown = entry.get("input")
    if not isinstance(shown, Mapping):
        return Match.UNCLEAR
    seed = request.seed
    if seed is not None and not _equal(seed, shown.get(request.seed_input, seed)):
        return Match.NO
    compared = _compare(request, shown, addresses or {})
    return _compare_version(entry, request) if compared is Match.OURS else compared


def _compare_version(entry: Mapping[str, Any], request: Request) -> Match:
    """Compare the version of an entry whose input is ours and whose model is ours, if it is shown.

    Of an official model each prediction may show another version, or ``hidden``.
    """
    version = entry.get("version")
    name, _, number = version.rpartition(":") if isinstance(version, str) else ("", "", "")
    if request.is_official:
        is_ours = bool(entry.get("model")) or request.model in (name, number)
        return Match.OURS if is_ours else Match.UNCLEAR
    return Match.OURS if number == request.version else Match.OTHER_VERSION


def _compare(request: Request, theirs: Mapping[str, Any], addresses: SentAs) -> Match:
    """Compare two inputs but for secrets; fields that only theirs has must be the model's defaults.

    Another value there is an earlier or later form of an edited prompt that kept its seed. Without
    a seed, one that the provider may have drawn, or a field that the model isn't known to have,
    leaves it unclear.
    """
    hidden, defaults = False, known_defaults(request)
    for name, value in request.input.items():
        if name in request.secret_inputs:
            continue
        given = theirs.get(name, _MISSING)
        if given is _MISSING:
            hidden = hidden or value is not None
            continue
        compared = _compare_value(value, given, request, addresses)
        if compared is Match.NO:
            return Match.NO
        hidden = hidden or compared is Match.UNCLEAR
    for name in theirs.keys() - request.input.keys():
        if theirs[name] is None:
            continue
        if name not in defaults or name == request.seed_input:
            hidden = hidden or request.seed is None
        elif not _equal_redacted(defaults[name], theirs[name]):
            return Match.NO
    return Match.UNCLEAR if hidden else Match.OURS


def _compare_value(ours: JsonValue, theirs: Any, request: Request, addresses: SentAs) -> Match:
    """Compare one value of the input; a picture by its address or its bytes."""
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = zip(ours, theirs, strict=True)
        compared = {_compare_value(our, their, request, addresses) for our, their in pairs}
        return next((each for each in (Match.NO, Match.UNCLEAR) if each in compared), Match.OURS)
    if any(ours == picture.reference for picture in request.pictures):
        sha256 = str(ours).removeprefix(PICTURE_PREFIX)
        return _compare_picture(sha256, theirs, addresses.get(sha256, ()))
    return Match.OURS if _equal_redacted(ours, theirs) else Match.NO


def _compare_picture(sha256: str, theirs: Any, addresses: Collection[str]) -> Match:
    """Compare a picture with what the entry shows in its place, an address or its bytes."""
    if not isinstance(theirs, str):
        return Match.NO
    if theirs[:5].lower() == "data:":
        content = _inline_bytes(theirs)
        if hashlib.sha256(content).hexdigest() == sha256:
            return Match.OURS
        # It may be ours and cut, unless it was never sent within an input.
        may_be_ours = not addresses or "data:" in addresses
        return Match.UNCLEAR if may_be_ours and not _is_whole(content) else Match.NO
    address = comparable_url(theirs)
    if address in addresses:
        return Match.OURS
    # Elsewhere than where addresses lie as they are sent, it may be the provider's copy of ours.
    path, known = _path(address), {_path(each) for each in addresses}
    is_another = path not in known and _folder(path) in map(_folder, known)
    return Match.NO if is_another else Match.UNCLEAR


def _path(address: str) -> str:
    """An address without its query."""
    return address.partition("?")[0]


def _folder(path: str) -> str:
    """The address of the folder in which a path lies."""
    return path.rpartition("/")[0]


def _inline_bytes(uri: str) -> bytes:
    """The bytes of a base64 ``data:`` URI; none where it holds no whole base64."""
    try:
        return base64.b64decode(uri.partition(",")[2], validate=True)
    except (binascii.Error, ValueError):
        return b""


def _is_whole(content: bytes) -> bool:
    """Whether these are all the bytes of an image, by its end or by the size that it names."""
    if content[:4] == b"RIFF":
        return int.from_bytes(content[4:8], "little") + 8 <= len(content)
    return content.endswith(_IMAGE_ENDS)


def _equal_redacted(ours: Any, theirs: Any) -> bool:
    """Whether two JSON values are the same, or are so without their secrets."""
    return _equal(ours, theirs) or _equal(
        redact_untrusted_json(ours), redact_untrusted_json(theirs)
    )


def _equal(ours: Any, theirs: Any) -> bool:
    """Whether two JSON values are the same; 1 and 1.0 are, 1 and true are not."""
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return ours is theirs
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return ours.keys() == theirs.keys() and all(
            _equal(value, theirs[name]) for name, value in ours.items()
        )
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_equal, ours, theirs))
    return bool(ours == theirs)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class ListEntry:
    """One entry of the list. As text: its objects would take ten times the memory.

    A list has all predictions of an hour, and many readers of it are alive where creates are lost
    one after the other. They share the entries that all of them were shown.
    """

    created_at: float | None
    """Unix seconds by the provider's clock; None where it names no moment."""
    numbers: Mapping[str, int | float]
    """The numbers of the input, by the input's names."""
    text: bytes
    """The whole entry, as JSON."""

    @classmethod
    def of(cls, shown: Mapping[str, Any]) -> "ListEntry":
        """The entry that the provider shows."""
        moment, given = parse_moment(shown.get("created_at")), shown.get("input")
        inputs = given.items() if isinstance(given, Mapping) else ()
        try:
            text = json.dumps(shown, separators=(",", ":"))
        except RecursionError:
            text = "{}"  # hides everything, so nothing is proven by it
        return cls(
            moment.timestamp() if moment else None,
            {name: value for name, value in inputs if type(value) in (int, float)},
            text.encode(),
        )

    def has_another_seed(self, request: Request) -> bool:
        """Whether its input shows a seed that is not the request's; ``matches`` says NO then."""
        seed = request.seed
        return seed is not None and not _equal(seed, self.numbers.get(request.seed_input, seed))

    def read(self) -> Mapping[str, Any]:
        """What the provider showed."""
        shown: Mapping[str, Any] = json.loads(self.text)
        return shown


SharedEntries: TypeAlias = WeakValueDictionary[bytes, ListEntry]
"""Entries that some reader still has, by their text."""


class ListReader:
    """Reads the list page by page, newest first; shared by all requests that search at the time.

    ``fetch`` asks for one page by its query; ``secrets`` are redacted in every message. A page that
    fails is asked for up to ``page_tries`` times. ``shared`` has the entries of other readers.
    """

    def __init__(
        self,
        fetch: Callable[[Mapping[str, str]], Awaitable[Answer]],
        *,
        clock: Callable[[], float],
        secrets: Collection[str],
        page_tries: int,
        shared: SharedEntries | None = None,
    ) -> None:
        self._shared: SharedEntries = WeakValueDictionary() if shared is None else shared
        self._fetch = fetch
        self._clock = clock
        self._secrets = secrets
        self._page_tries = page_tries
        self._reading = asyncio.Lock()
        self._query: dict[str, str] | None = {}
        self._seen: set[str] = set()
        self.entries: list[ListEntry] = []
        self.started_at: float | None = None
        """Monotonic seconds: creates accepted before this are in the list, if it has no delay."""
        self.skew: float | None = None
        """The provider's clock minus ours in seconds, by its ``Date`` header."""
        self.failure: ListFailure | None = None

    @property
    def ended(self) -> bool:
        """Whether there is no further page."""
        return self._query is None

    async def read_beyond(self, count: int) -> ListFailure | None:
        """Read until there are more than ``count`` entries, or the list has ended.

        Returns the failure that ended the reading, the same for all who share it, or None.
        """
        async with self._reading:
            while len(self.entries) <= count and self._query is not None and not self.failure:
                if self.started_at is None:
                    self.started_at = time.monotonic()
                self.failure = await self._read_page()
        return self.failure

    async def _read_page(self) -> ListFailure | None:
        """Read the next page; one that fails is asked for again.

        By a loop of our own: tenacity's objects lie in circles, and kept each reader, with all its
        entries, until the garbage collector came by.
        """
        tries = 0
        while True:
            # created_after is not sent: a window computed from a wrong clock would hide exactly the
            # prediction that is searched for.
            failure = self._add_page(await self._fetch(self._query or {}))
            tries += 1
            if tries >= self._page_tries or not self._is_retryable(failure):
                return failure
            longest = min(_FIRST_WAIT * 2 ** (tries - 1), _MOST_WAIT)
            await asyncio.sleep(random.uniform(0.0, longest))  # noqa: S311 - no secret

    def _is_retryable(self, failure: ListFailure | None) -> bool:
        """Whether another try may get the page; the limiter obeys a hint to wait."""
        return isinstance(failure, ListFailed) and self._query is not None

    def _add_page(self, answer: Answer) -> ListFailure | None:
        if isinstance(answer, httpx.HTTPError):
            return self._failed(f"the list: {answer}")
        body, unreadable = load_object(answer)
        if not answer.succeeded:
            return self._refusal(answer, body)
        results = body.get("results")
        if not isinstance(results, list):
            return self._failed(f"the list: {unreadable}") if unreadable else NoList()
        shown = [ListEntry.of(each) for each in results if isinstance(each, Mapping)]
        self.entries += [self._shared.setdefault(each.text, each) for each in shown]
        date = unix_time(answer.headers.get("date"))
        if self.skew is None and date is not None:
            self.skew = date - self._clock()
        return self._follow(body.get("next"))

    def _follow(self, link: object) -> ListFailed | None:
        """Note the query of the next page, if there is one.

        The link itself is never requested: its query is put onto our own URL, so that the key
        goes to the configured origin alone.
        """
        self._query = None
        if not isinstance(link, str) or not link:
            return None
        try:
            query = urlsplit(link).query
        except ValueError:
            return ListFailed("the list's next page has no readable cursor")
        if not query or query in self._seen or len(self._seen) >= _MAX_PAGES:
            return ListFailed("the list's pages repeat themselves")
        self._seen.add(query)
        self._query = dict(parse_qsl(query))
        return None

    def _refusal(self, answer: Reply, body: Mapping[str, Any]) -> ListFailure:
        status = answer.status
        detail = error_text(body, *self._secrets)
        if status in DENIALS:
            return AccessDenied(
                status, detail or redact_untrusted(answer.describe(), *self._secrets)
            )
        if status not in _RETRYABLE and (status < _SERVER_ERROR or status == _NOT_IMPLEMENTED):
            return NoList()
        hint = retry_after(answer.headers, body, now=self._clock())
        return self._failed(f"the list answered {status}: {detail or answer.describe()}", hint)

    def _failed(self, reason: str, hint: float = 0.0) -> ListFailed:
        return ListFailed(redact_untrusted(reason, *self._secrets), hint)
