"""What requests that differ in prompt and seed alone have in common, which is computed once.

Price, size, weights and the other inputs' part of the fingerprint are the same for all rows of a
table, and most of what a request costs.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from flux_pipeline.models.base import Model, ModelInput
from flux_pipeline.request import OFFICIAL, Fingerprints, InputPicture, JsonValue, Request, Source


class RequestForm:
    """The requests of one checked input, whatever its prompt and seed are.

    ``names`` are the inputs that vary: those of the model's ``free_inputs`` that ``values`` has.
    """

    __slots__ = (
        *("_counts_takes", "_fingerprints", "_input", "_new"),
        *("cost_usd", "model", "names", "outputs", "pictures"),
    )

    def __init__(
        self,
        model: Model,
        values: ModelInput,
        *,
        version: str | None = None,
        pictures: Sequence[InputPicture] = (),
    ) -> None:
        """``version`` (64 hex digits) overrides the model's own."""
        chosen = version or model.version
        width, height = values.size
        effective, sent = values.effective(), values.sent()
        self.model = model.name
        self.outputs = values.outputs
        self.cost_usd = model.price.estimate(
            effective, outputs=values.outputs, size=values.size, pictures=pictures
        )
        self.pictures = tuple(pictures)
        self._input = sent
        self.names = model.free_inputs & sent.keys()
        served = model.name if chosen == OFFICIAL else chosen
        self._fingerprints = Fingerprints(served, effective, self.names)
        # Of a model without a seed nothing else tells two takes, or two days, apart.
        self._counts_takes = not model.takes_seed
        self._new = partial(
            Request,
            model=model.name,
            version=chosen,
            outputs=self.outputs,
            width=width,
            height=height,
            image_format=values.image_format,
            aspect_ratio=values.shape,
            cost_usd=self.cost_usd,
            pictures=self.pictures,
            defaults=model.recorded_defaults,
            price=model.recorded_price,
            seed_input=model.seed_input,
            secret_inputs=tuple(sorted(model.secrets & sent.keys())),
            weights=" ".join(str(effective[name]) for name in model.weights if effective.get(name)),
        )

    def request(
        self, varying: Mapping[str, JsonValue], source: Source, *, day: str = ""
    ) -> Request:
        """The request with these values, one for each of ``names``."""
        sha = self.fingerprint(varying, take=source.take, day=day)
        return self._new(input={**self._input, **varying}, request_sha256=sha, source=source)

    def fingerprint(self, varying: Mapping[str, JsonValue], *, take: int = 1, day: str = "") -> str:
        """The fingerprint of that request: 64 hex digits."""
        if self._counts_takes:
            return self._fingerprints.find(varying, take=take, day=day)
        return self._fingerprints.find(varying)
