"""The provider's client: predictions, their outputs, files that go into them, and models.

Each method is one call and tries nothing again: the caller decides that from the outcome, which
says whether a create was never sent, refused, or may have been paid for (``provider.classify``).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import quote

from flux_pipeline.endpoint import is_model_name
from flux_pipeline.outcomes import (
    AccessDenied,
    CreateOutcome,
    FindOutcome,
    ModelFailed,
    ModelOutcome,
    NeverSent,
    Polled,
    PollFailed,
    PollOutcome,
    Throttled,
    UploadOutcome,
)
from flux_pipeline.prediction import Output, Prediction
from flux_pipeline.provider.classify import THROTTLED, ResponseClassifier
from flux_pipeline.provider.config import ProviderConfig
from flux_pipeline.provider.download import Downloader
from flux_pipeline.provider.files import Files
from flux_pipeline.provider.http import ApiClient, ConnectionOwner, Reply
from flux_pipeline.provider.limiter import Limiter, MemoryRates
from flux_pipeline.provider.listing import KnownIds, ListFailure, Listing, SentAs
from flux_pipeline.provider.offers import create_call, find_unoffered
from flux_pipeline.provider.parse import is_id
from flux_pipeline.rate_limit import RateStore
from flux_pipeline.request import OFFICIAL, JsonValue, Request

_SHORTEST_SECRET = 6
_ASKING = 64
"""Polls and cancels at once: where they hang, they must not take the connections of creates."""


class Provider(ConnectionOwner):
    """One provider, open within ``async with``, for one event loop.

    ``rates`` is the rate limit shared by all workers that use the same key; without it this
    process counts alone. ``clock`` is unix seconds.
    """

    def __init__(
        self,
        config: ProviderConfig,
        *,
        rates: RateStore | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._secrets = {config.api_key}
        self._classifier = ResponseClassifier(config.origin[1], self._secrets, clock)
        self._limiter = Limiter(
            rates
            or MemoryRates({"create": config.creates_per_minute, "call": config.calls_per_minute})
        )
        self._asking = asyncio.Semaphore(_ASKING)
        self._api = ApiClient(config)
        self._downloader = Downloader(config)
        self._listing = Listing(
            config, self._api, self._limiter, clock=clock, secrets=self._secrets
        )
        self._files = Files(config, self._api, self._limiter, clock=clock, secrets=self._secrets)
        super().__init__(self._api, self._downloader)

    async def permit(self) -> None:
        """Wait until one create may be sent. To be used at once: see ``create``."""
        await self._limiter.acquire("create")

    def paused(self) -> float:
        """Seconds from now during which the provider refuses creates; 0 where it does not."""
        return self._limiter.paused("create")

    def find_unoffered(self, request: Request) -> str | None:
        """Why this provider has not the request's model; None where it has, as far as we know."""
        return find_unoffered(request, self._config.models)

    async def create(
        self,
        request: Request,
        *,
        sent_input: Mapping[str, JsonValue] | None = None,
        permitted: bool = False,
    ) -> CreateOutcome:
        """Send the request once; the outcome says whether it was accepted, and if not, if unpaid.

        ``sent_input`` is the request's input with the addresses of its pictures and its secrets
        filled in; it is sent, and neither kept nor logged. None: the request's input as it is.

        Waits for a permit first, unless ``permitted`` says that the caller has just had one. A
        cancelled create may have been accepted, like one that ends as Ambiguous.
        """
        if unoffered := self.find_unoffered(request):
            return NeverSent(unoffered)
        sent = request.input if sent_input is None else sent_input
        self._secrets |= _secrets_sent(request, sent)
        path, content = create_call(self._config.route, request, sent)
        if not permitted:
            await self.permit()
        sent_at = time.monotonic()
        answer = await self._api.send(
            "POST",
            self._config.base_url + path,
            deadline=self._config.timeouts.create,
            content=content,
        )
        outcome = self._classifier.create(answer, seed=request.seed, seed_input=request.seed_input)
        if isinstance(outcome, Throttled):
            await self._limiter.slow_down("create", outcome.retry_after, sent_at=sent_at)
        return outcome

    async def upload(self, body: bytes, *, filename: str, content_type: str) -> UploadOutcome:
        """Upload one file, for a prediction to read when it starts.

        ``filename`` is shown by the provider; ``content_type`` is such as ``image/png``. It costs
        nothing. The address that comes back is for inputs alone: this client never fetches it.
        """
        return await self._files.upload(body, filename=filename, content_type=content_type)

    async def get_model(self, name: str, version: str = "") -> ModelOutcome:
        """What the provider says of a model, ``owner/name``, or of one of its versions.

        The reply is that of ``GET /v1/models/{owner}/{name}``, with ``/versions/{id}`` where a
        version is given.

        Raises:
            ValueError: For a text that can't be a model's name.
        """
        if not is_model_name(name):
            raise ValueError(f"{name!r} is no model: owner/name is one")
        url = self._config.model_url(name)
        if version and version != OFFICIAL:
            url = f"{url}/versions/{quote(version, safe='')}"
        sent_at = await self._limiter.acquire("call")
        answer = await self._api.send("GET", url, deadline=self._config.timeouts.call)
        outcome = self._classifier.model(answer, name=f"{name}:{version}" if version else name)
        if isinstance(answer, Reply) and answer.status == THROTTLED:
            hint = outcome.retry_after if isinstance(outcome, ModelFailed) else 0.0
            await self._limiter.slow_down("call", hint, sent_at=sent_at)
        return outcome

    async def poll(self, prediction_id: str) -> PollOutcome:
        """Ask for the state of a prediction.

        Raises:
            ValueError: For a text that can't be an id.
        """
        return await self._ask("GET", prediction_id)

    async def cancel(self, prediction_id: str) -> PollOutcome:
        """Cancel a prediction and return its state after that.

        A prediction that has ended already stays as it is.

        Raises:
            ValueError: For a text that can't be an id.
        """
        outcome = await self._ask("POST", prediction_id, "/cancel")
        # Some providers refuse to cancel a prediction that has ended: unless the answer shows an
        # end, poll once more instead of believing the refusal.
        ended = isinstance(outcome, Polled) and outcome.prediction.status.is_final
        if ended or isinstance(outcome, AccessDenied):
            return outcome
        return await self.poll(prediction_id)

    async def find(
        self,
        request: Request,
        *,
        since: float,
        age: float | None = None,
        known: KnownIds = (),
        not_before: float | None = None,
        sent_as: SentAs | None = None,
    ) -> FindOutcome:
        """Look in the provider's list for a prediction of this request.

        ``since`` is unix seconds by our clock, at or before the first moment at which it can have
        been sent. ``age``: the seconds since then by a clock that nobody sets, where there is one;
        the wall clock may have leapt meanwhile. ``known`` holds the ids that belong to other
        attempts, or is a function that returns those of some ids that do; it is called in a thread.
        The list is read after this call begins, or, with ``not_before`` (``time.monotonic``), after
        that moment: one reading serves many requests. ``sent_as`` gives, by a picture's SHA-256 as
        64 hex digits, the addresses under which it was ever sent.

        Of a request without a seed the oldest prediction is given that nobody holds, because other
        takes of the same input look the same.
        """
        return await self._listing.find(
            request, since=since, age=age, known=known, not_before=not_before, sent_as=sent_as
        )

    def recent(self) -> AsyncIterator[Prediction | ListFailure]:
        """Every prediction that the list shows, newest first, read from now on.

        One page is in memory at a time, and the next is asked for when it is needed.
        Where the list can't be read, the last item is the reason.
        """
        return self._listing.recent()

    async def download(self, output: Output) -> bytes:
        """Return the bytes of one output, fetched without the key, or decoded from a data URI.

        Raises:
            DownloadError: It says whether a later try may help; never with the URL's query.
        """
        return await self._downloader.fetch(output)

    async def _ask(self, method: str, prediction_id: str, action: str = "") -> PollOutcome:
        if not is_id(prediction_id):
            raise ValueError("not a prediction's id")
        async with self._asking:
            sent_at = await self._limiter.acquire("call")
            answer = await self._api.send(
                method,
                self._config.prediction_url(prediction_id) + action,
                deadline=self._config.timeouts.call,
            )
        outcome = self._classifier.poll(answer, prediction_id=prediction_id)
        if isinstance(answer, Reply) and answer.status == THROTTLED:
            hint = outcome.retry_after if isinstance(outcome, PollFailed) else 0.0
            await self._limiter.slow_down("call", hint, sent_at=sent_at)
        return outcome


def _secrets_sent(request: Request, sent: Mapping[str, JsonValue]) -> set[str]:
    """The values of secret inputs, but for those so short that they occur in other words."""
    values = (sent.get(name) for name in request.secret_inputs)
    return {value for value in values if isinstance(value, str) and len(value) >= _SHORTEST_SECRET}
