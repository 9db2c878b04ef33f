"""Options of the emulated API, as one frozen value."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class EmulatorOptions(BaseModel):
    """How the emulated API behaves without faults; faults are in a ``FaultPlan``.

    The defaults are for embedded use: pictures within a second, no limits that a demo would meet.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, description="Decides latencies and drawn seeds.")
    accepted_keys: frozenset[str] = Field(
        default=frozenset(), repr=False, description="Keys that work; empty: any non-empty key."
    )

    latency_median: float = Field(default=0.5, ge=0, description="From create to output, s.")
    latency_spread: float = Field(
        default=0.25, ge=0, description="Standard deviation of the latency's logarithm."
    )
    latency_by_model: dict[str, float] = Field(
        default_factory=dict,
        description="By `owner/name` or version, in place of `latency_median`, s.",
    )
    cold_start_rate: float = Field(default=0.0, ge=0, le=1, description="Share of cold starts.")
    cold_start_seconds: tuple[float, float] = Field(
        default=(40.0, 120.0), description="Shortest and longest cold start, s."
    )
    time_scale: float = Field(
        default=1.0, ge=0, description="Multiplies latencies and cold starts; 0 is immediate."
    )
    retention_seconds: float = Field(
        default=3600.0,
        ge=0,
        description="From a prediction's end until its data vanish, s.",
    )

    list_enabled: bool = Field(default=True, description="False: no list, as on the aggregator.")
    list_delay_seconds: float = Field(
        default=0.0, ge=0, description="A prediction shows in the list this long after its create."
    )
    page_size: int = Field(default=100, ge=1, description="Predictions a page of the list.")

    creates_per_minute: float | None = Field(default=600.0, gt=0, description="None: no limit.")
    calls_per_minute: float | None = Field(
        default=3000.0, gt=0, description="All API calls but creates; None: no limit."
    )
    burst_seconds: float = Field(
        default=60.0, gt=0, description="A bucket holds what flows in during this time, s."
    )
    rate_hint: Literal["all", "header", "date", "body", "detail", "reset", "none"] = Field(
        default="all", description="Where a 429 says how long to wait."
    )
    credit_usd: float | None = Field(default=None, ge=0, description="Then 402; None: no end.")
    low_credit_usd: float = Field(
        default=0.0, ge=0, description="Below this credit: 6 creates a minute, one at a time."
    )
    usd_per_image: float = Field(
        default=0.003,
        ge=0,
        description="Charged at acceptance, USD, where a contract has no price.",
    )

    models_folder: str = Field(
        default="", description="Folder of contract files beside the shipped ones, which it hides."
    )
    default_drift: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Model to input to a default that changed under the same version.",
    )
    unknown_inputs: Literal["dropped", "refused"] = Field(
        default="dropped", description="Inputs that the model doesn't know: ignored, or 422."
    )
    models_enabled: bool = Field(
        default=True, description="False: no `GET /models/...`, as on the aggregator."
    )
    create_routes: Literal["both", "apart", "predictions", "models"] = Field(
        default="both",
        description="How official models are named: either way; by path alone (apart); one route.",
    )
    allowed_versions: frozenset[str] = Field(
        default=frozenset(),
        description="Versions (64 hex digits or owner/name) that are served; empty: all.",
    )
    files_enabled: bool = Field(default=True, description="False: no `/files`, as elsewhere.")
    file_seconds: float = Field(
        default=86_400.0, ge=0, description="From a file's upload until it is gone, s."
    )
    max_file_bytes: int = Field(default=100_000_000, ge=0, description="Larger uploads: 413.")
    max_body_bytes: int | None = Field(
        default=None, ge=0, description="Larger creates are cut off, and 400; None: no limit."
    )
    input_hosts: frozenset[str] = Field(
        default=frozenset({"127.0.0.1", "localhost", "::1"}),
        description="Hosts from which input pictures are fetched.",
    )

    reply_shape: Literal["prediction", "data_url", "data_b64", "error_object"] = Field(
        default="prediction",
        description="Form of a create's reply. The data[] forms hold the reply until the end.",
    )
    error_shape: Literal["problem", "cog", "object"] = Field(
        default="problem",
        description="Form of errors: {title, detail, status}; a list of details; {error: {…}}.",
    )
    output_shape: Literal["list", "string", "data_uri"] = Field(
        default="list", description="Form of `output`; a string where there is one image."
    )
    create_status: Literal[200, 201, 202] = Field(default=201, description="Of a good create.")
    cancel_finished: Literal["unchanged", "refused"] = Field(
        default="unchanged", description="Cancelling what has ended: 200 as it is, or 422."
    )
    signed_outputs: bool = Field(default=False, description="Output URLs carry a signature.")
    trap_origin: str = Field(
        default="https://trap.invalid",
        description="Origin of `urls.*` and of the list's links; no client may follow them.",
    )
    output_origin: str = Field(
        default="", description="Origin of output URLs; empty: the one that the client asked."
    )
    render: Literal["picture", "cheap"] = Field(
        default="picture", description="cheap: one base a size, made distinct by a tag (10 us)."
    )

    def of_model(self, model: str, version: str) -> "EmulatorOptions":
        """These options with the latency of one model, which a create names by either."""
        found = self.latency_by_model.get(model, self.latency_by_model.get(version))
        return self if found is None else self.model_copy(update={"latency_median": found})


def realistic(seed: int = 0) -> EmulatorOptions:
    """Options with the latency, cold starts and limits that the real API is assumed to have."""
    return EmulatorOptions(seed=seed, latency_median=2.5, latency_spread=0.35, cold_start_rate=0.02)
