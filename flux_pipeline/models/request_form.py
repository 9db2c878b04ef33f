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

    __slots__ = ("_counts_takes", "_fingerprints", "_input", "_new", "names")

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
            outputs=values.outputs,
            width=width,
            height=height,
            image_format=values.image_format,
            aspect_ratio=values.shape,
            cost_usd=model.price.estimate(
                effective, outputs=values.outputs, size=values.size, pictures=pictures
            ),
            pictures=tuple(pictures),
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
        if self._counts_takes:
            fingerprint = self._fingerprints.find(varying, take=source.take, day=day)
        else:
            fingerprint = self._fingerprints.find(varying)
        sent = {**self._input, **varying}
        return self._new(input=sent, request_sha256=fingerprint, source=source)
