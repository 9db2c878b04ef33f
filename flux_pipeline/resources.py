"""The Dagster resources ``ImageProducer`` (provider, store and ledger) and ``AlertSender``.

The fields are part of every job's snapshot, so those that may hold a secret are ``EnvVar``s:
Dagster reads the variable when a run starts, and fails before anything is sent if it is missing.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import dagster as dg
from pydantic import Field, PrivateAttr

from flux_pipeline.alerts import Alert, Delivery, build_webhooks, send
from flux_pipeline.environment import split_list
from flux_pipeline.errors import ConfigError, Problem, StoreError, WrongStore
from flux_pipeline.lineage.record import EMULATED
from flux_pipeline.network import Network
from flux_pipeline.produce.policy import Policy
from flux_pipeline.provider.offers import known_offer
from flux_pipeline.rate_limit import Kind
from flux_pipeline.settings import ALERT_FORMATS, EMULATOR, LEDGER_VARIABLE, Settings, is_emulated
from flux_pipeline.store.base import Store, check_readable
from flux_pipeline.store.open import open_store
from flux_pipeline.store_options import ONE, StoreOptions

if TYPE_CHECKING:
    from flux_pipeline.ledger.sql import SqlLedger
    from flux_pipeline.produce.producer import Producer
    from flux_pipeline.provider.client import Provider
    from flux_pipeline.provider.config import ProviderConfig
    from flux_pipeline.provider.reach import Reached
    from flux_pipeline.publish.publisher import Publishing

log = logging.getLogger(__name__)
_LOOKED_AT = 100
"""Unfinished attempts that are looked at for one that is open."""


@dataclass(slots=True)
class _Kept:
    """What a run has opened and keeps until its end."""

    closing: ExitStack = field(default_factory=ExitStack)
    ledger: "SqlLedger | None" = None
    store: Store | None = None


class ImageProducer(dg.ConfigurableResource["ImageProducer"]):
    """Makes images: the provider, the store for images, and the ledger of what was paid.

    Nothing is opened until ``open`` or ``open_store`` is called. In a run, ledger and store then
    stay open until its end.
    """

    provider: str = Field(
        default=EMULATOR,
        description="emulator (embedded, free), replicate, anyapi, or a base URL with its prefix.",
    )
    api_key: str = Field(
        default="", repr=False, description="The provider's key, as an EnvVar. None: emulator."
    )
    route: Literal["auto", "predictions", "models"] = Field(
        default="auto",
        description="How official models are asked for: as the version of POST /v1/predictions, by"
        " POST /v1/models/{owner}/{name}/predictions, or as the provider is known to want it.",
    )
    models: list[str] = Field(
        default=[],
        description="The models that the provider offers: owner/name, owner/name:version or a"
        " version. None: all.",
    )
    input_files: Literal["auto", "upload", "inline", "link"] = Field(
        default="auto",
        description="How pictures are sent: upload to the provider, inline in the input, link into"
        " the bucket that they lie in; auto: small ones inline, the others uploaded.",
    )
    has_files: Literal["auto", "yes", "no"] = Field(
        default="auto",
        description="Whether the provider takes files by POST /v1/files; auto: as is known of it,"
        " or found out at the first need.",
    )
    store: str = Field(
        default="file:./data/store",
        description="Where images, lineage and galleries go: file:FOLDER or s3://bucket/prefix.",
    )
    store_options: dict[str, str] = Field(
        default={},
        description="What the store demands, by the names of ``StoreOptions``: writers, addressing,"
        " sse, sse_kms_key_id, storage_class, checksum, acl, tags, request_payer.",
    )
    ledger: str = Field(
        default="sqlite:///./data/ledger.db",
        repr=False,
        description="SQLAlchemy URL of what was asked, accepted and finished. With a password: "
        "as an EnvVar.",
    )
    state: str = Field(
        default="./data/emulator", description="Folder of the embedded emulator's state."
    )
    contracts: str = Field(
        default="",
        description="Folder of the project's own contracts of models, which the embedded emulator"
        " then knows too.",
    )
    creates_per_minute: float = Field(
        default=600.0, gt=0, description="Predictions created a minute, over all workers."
    )
    concurrency: int | None = Field(
        default=None,
        gt=0,
        description="Predictions in flight in one run, at most. Empty: as many as the rate and what"
        " they take come to.",
    )
    unknown: Literal["resend", "hold"] = Field(
        default="resend",
        description="What happens to a request that may have been paid, where nothing can prove it:"
        " resend (few, reported as possibly paid twice), or hold for a person.",
    )
    settle_seconds: float = Field(
        default=30.0,
        ge=0,
        description="How late the provider's list may show a prediction: absent for longer than "
        "this, a lost request counts as never accepted.",
    )
    output_hosts: list[str] = Field(
        default=["replicate.delivery", "*.replicate.delivery"],
        description="Hosts that pictures are fetched from, besides the provider's own; * for any"
        " public one.",
    )
    output_networks: list[str] = Field(
        default=[],
        description="Networks, such as 198.18.0.0/15, whose addresses count as public for"
        " downloads: a proxy tool's own DNS gives such. A reply can make this machine fetch from"
        " every host in them.",
    )
    spool: str = Field(
        default="./data/spool",
        description="Folder where fetched pictures wait while the store can't take them.",
    )
    usd_per_day: float | None = Field(
        default=None, ge=0, description="USD a day (UTC), over all prompt sets; None is no limit."
    )
    embed_prompt: bool = Field(
        default=True, description="Whether image files hold their prompt, which is published so."
    )
    aigc_producer: str = Field(
        default="", description="The producer in the TC260 label of image files. None: no label."
    )
    c2pa_cert: str = Field(
        default="",
        description="PEM file of certificates, the signer's first: image files get a signed C2PA"
        " manifest. None: they do not.",
    )
    c2pa_key: str = Field(
        default="",
        description="PEM file of the certificate's key, or module:function that is given bytes and"
        " gives their signature.",
    )
    c2pa_tsa: str = Field(
        default="", description="URL of a timestamp authority. It may fail: then there is none."
    )
    proxy: str = Field(
        default="",
        repr=False,
        description="Proxy of all calls but those to this machine: http://host:port, with a"
        " password as an EnvVar. None: calls are made directly.",
    )
    no_proxy: str = Field(
        default="", description="Hosts that are called without the proxy, with commas."
    )
    ca_file: str = Field(
        default="", description="PEM file of the only authorities to trust. None: the system's."
    )
    _kept: "_Kept | None" = PrivateAttr(default=None)

    @classmethod
    def from_settings(cls, settings: Settings) -> "ImageProducer":
        """Build the resource with secrets as ``EnvVar``s, which are read when a run starts."""
        needs_key = settings.provider != EMULATOR
        return cls(
            provider=settings.provider,
            api_key=dg.EnvVar(settings.key_variable) if needs_key else "",
            route=settings.route,
            models=list(settings.models),
            input_files=settings.input_files,
            has_files=settings.has_files,
            store=settings.store,
            store_options=settings.store_options.changed(),
            ledger=dg.EnvVar(LEDGER_VARIABLE) if settings.ledger_given else settings.ledger,
            state=str(settings.state),
            contracts=str(settings.configs / "models"),
            creates_per_minute=settings.rate,
            concurrency=settings.concurrency,
            unknown="hold" if settings.unknown == "hold" else "resend",
            settle_seconds=settings.settle_seconds,
            output_hosts=list(settings.output_hosts),
            output_networks=list(settings.output_networks),
            spool=str(settings.spool),
            usd_per_day=settings.budget_usd_per_day,
            embed_prompt=settings.embed_prompt == "yes",
            aigc_producer=settings.aigc_producer,
            c2pa_cert=settings.c2pa_cert,
            c2pa_key=settings.c2pa_key,
            c2pa_tsa=settings.c2pa_tsa,
            proxy=dg.EnvVar(settings.proxy_variable) if settings.network.proxy else "",
            no_proxy=settings.network.no_proxy,
            ca_file=settings.network.ca_file,
        )

    @classmethod
    def with_values(cls, settings: Settings) -> "ImageProducer":
        """Build it with the secrets' values, for use outside of Dagster."""
        secrets = {
            "api_key": settings.api_key,
            "ledger": settings.ledger,
            "proxy": settings.network.proxy,
        }
        return cls.from_settings(settings).model_copy(update=secrets)

    @property
    def policy(self) -> Policy:
        """How long things are waited for, and what is done about requests whose fate is unknown."""
        return Policy(unknown=self.unknown, visibility=self.settle_seconds)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        """Keep ledger and store open from now on: a run needs them several times, in every step."""
        self._kept = _Kept()

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        """Close what was kept open, after the streams of an interrupted step.

        Those have to be ended here, because Dagster does not close a step's generator.
        """
        from flux_pipeline.produce.shutdown import end_streams

        end_streams()
        if self._kept is not None:
            self._kept.closing.close()
            self._kept = None

    @contextmanager
    def open(self, *, reading: bool = False) -> "Iterator[Producer]":
        """Open ledger, store and provider, and close them at the end of the block.

        With ``reading`` ledger and store need not belong to each other, and the store need not be
        writable: no image will be made.

        Raises:
            ConfigError: The provider's address or key, or the signer's files, are wrong.
            StoreError: The store can't be written (it says what is missing), or is another
                provider's.
            LedgerError: The ledger can't be written, or is another store's or provider's.
        """
        from flux_pipeline.audit.ownership import raise_generation
        from flux_pipeline.images.signing import open_signer
        from flux_pipeline.ledger.sql import SqlRates
        from flux_pipeline.produce.producer import Producer
        from flux_pipeline.produce.spool import Spool
        from flux_pipeline.provider.client import Provider

        signer = open_signer(self.c2pa_cert, self.c2pa_key, self.c2pa_tsa)
        with ExitStack() as stack:
            config = stack.enter_context(self._provider_config())
            ledger = stack.enter_context(self.open_ledger())
            store = self._usable_store(ledger, reading=reading)
            per_minute: dict[Kind, float] = {
                "create": config.creates_per_minute,
                "call": config.calls_per_minute,
            }
            rates = SqlRates(ledger, per_minute, account=config.origin[1])
            yield Producer(
                open_provider=lambda: Provider(config, rates=rates),
                store=store,
                ledger=ledger,
                policy=self.policy,
                concurrency=self.concurrency,
                aigc_producer=self.aigc_producer,
                embed_prompt=self.embed_prompt,
                signer=signer,
                account=config.base_url,
                provider_name=(
                    EMULATED
                    if is_emulated(self.provider)
                    else urlsplit(config.base_url).hostname or ""
                ),
                input_files=self.input_files,
                read_secret=_read_variable,
                spool=Spool(Path(self.spool)),
                note_recorded=partial(raise_generation, ledger, store),
                open_archive=partial(open_store, options=self._store_options()),
            )

    @contextmanager
    def open_ledger_and_store(self) -> "Iterator[tuple[SqlLedger, Store]]":
        """As ``open``, but for the provider: to look up what is made, which asks nobody.

        Raises:
            StoreError, LedgerError: As ``open``.
        """
        with self.open_ledger() as ledger:
            yield ledger, self._usable_store(ledger, reading=False)

    def _usable_store(self, ledger: "SqlLedger", *, reading: bool) -> Store:
        """Give the store; one that only refuses, where it can't be used and something is paid.

        What was accepted is then still fetched, before the provider deletes it, and waits in the
        spool. With nothing open at the provider the error is raised.
        """
        from flux_pipeline.audit.ownership import check_store, claim_ledger
        from flux_pipeline.store.unavailable import UnavailableStore

        store = self.open_store()
        emulated = is_emulated(self.provider)
        only_writer = self._store_options().writers == ONE
        try:
            if reading:
                check_readable(store)
                return store
            check_store(ledger, store, emulated=emulated, only_writer=only_writer)
            store.check()
            claim_ledger(ledger, store, emulated=emulated, only_writer=only_writer)
        except (StoreError, WrongStore) as error:
            unfinished = ledger.unfinished(limit=_LOOKED_AT)
            if reading or not any(each.state.is_open for each in unfinished):
                raise
            return UnavailableStore(store.uri, str(error))
        return store

    @contextmanager
    def open_provider(self) -> "Iterator[Callable[[], Provider]]":
        """Give what makes a client of the provider, for questions that cost nothing.

        Neither store nor ledger is opened, so that the rate is this process's own.

        Raises:
            ConfigError: The provider's address or key are wrong.
        """
        from flux_pipeline.provider.client import Provider

        with self._provider_config() as config:
            yield lambda: Provider(config)

    def reach(self) -> "Reached":
        """Ask the provider once for something that is free.

        Raises:
            ConfigError: The provider's address or key are wrong.
        """
        import anyio

        from flux_pipeline.provider.reach import reach

        with self._provider_config() as config:
            return anyio.run(reach, config)

    def open_store(self) -> Store:
        """Open the store alone, for reading lineage."""
        if self._kept is None:
            return open_store(self.store, self._store_options())
        if self._kept.store is None:
            self._kept.store = open_store(self.store, self._store_options())
        return self._kept.store

    def open_pages(self) -> Store:
        """Open the store for writing what is derived from it: tables and pages.

        Raises:
            WrongStore: It is not the ledger's: a folder that was moved away is not made anew.
        """
        from flux_pipeline.audit.ownership import describe_mismatch

        store = self.open_store()
        with self.open_ledger() as ledger:
            if mismatch := describe_mismatch(ledger, store):
                raise WrongStore(
                    f"{mismatch}, which is empty or another one: put the store back where it was,"
                    " or set FLUX_STORE"
                )
        return store

    def open_publishing(self) -> "Publishing":
        """What the chosen images of a set are published with: store, ledger and signer.

        Raises:
            ConfigError: The signer's files are wrong.
            WrongStore: As ``open_pages``.
        """
        from flux_pipeline.images.signing import open_signer
        from flux_pipeline.publish.publisher import Publishing

        return Publishing(
            store=self.open_pages(),
            ledger=self.ledger,
            store_options=self._store_options(),
            signer=open_signer(self.c2pa_cert, self.c2pa_key, self.c2pa_tsa),
            embed_prompt=self.embed_prompt,
        )

    @contextmanager
    def open_ledger(self) -> "Iterator[SqlLedger]":
        """Open the ledger for the block, in a run until the run's end. Raises LedgerError."""
        from flux_pipeline.ledger.open import open_ledger

        if self._kept is None:
            with open_ledger(self.ledger) as ledger:
                yield ledger
            return
        if self._kept.ledger is None:
            self._kept.ledger = self._kept.closing.enter_context(open_ledger(self.ledger))
        yield self._kept.ledger

    def _store_options(self) -> StoreOptions:
        """The options as one value. Raises ConfigError with every mistake."""
        try:
            return StoreOptions(**self.store_options)
        except (TypeError, ValueError) as mistake:
            raise ConfigError([Problem("store", 0, "store_options", str(mistake))]) from None

    @contextmanager
    def _provider_config(self) -> "Iterator[ProviderConfig]":
        """The provider's configuration; the embedded emulator runs until the end of the block."""
        if self.provider != EMULATOR:
            yield self._configured(known_offer(self.provider).base_url, self.api_key)
            return
        from flux_pipeline.emulator.embedded import EmbeddedEmulator
        from flux_pipeline.emulator.options import EmulatorOptions

        unlimited = EmulatorOptions(
            creates_per_minute=None,
            calls_per_minute=None,
            models_folder=self.contracts if Path(self.contracts).is_dir() else "",
        )
        with EmbeddedEmulator(unlimited, state_dir=Path(self.state)) as emulator:
            yield self._configured(emulator.origin, EMULATOR)

    def _configured(self, base_url: str, api_key: str) -> "ProviderConfig":
        from flux_pipeline.provider.config import ProviderConfig, usual_calls

        offer = known_offer(self.provider)
        return ProviderConfig(
            base_url=base_url,
            api_key=api_key,
            has_list=offer.has_list,
            has_files=offer.has_files if self.has_files == "auto" else self.has_files == "yes",
            route=offer.route if self.route == "auto" else self.route,
            models=tuple(self.models),
            output_hosts=tuple(self.output_hosts),
            output_networks=tuple(self.output_networks),
            creates_per_minute=self.creates_per_minute,
            calls_per_minute=usual_calls(self.creates_per_minute),
            network=_network(self.proxy, self.no_proxy, self.ca_file),
        )


def _read_variable(name: str) -> str | None:
    """The value of a secret input's variable, as Dagster reads it when a run starts."""
    return dg.EnvVar(name).get_value() if name.isidentifier() else None


def _network(proxy: str, no_proxy: str, ca_file: str) -> Network:
    """Make the network of a resource's fields.

    Raises:
        ConfigError: The proxy's URL is none; without a part of it.
    """
    try:
        return Network(proxy=proxy.strip(), no_proxy=no_proxy, ca_file=ca_file)
    except ValueError as mistake:
        raise ConfigError([Problem("network", 0, "proxy", str(mistake))]) from None


class AlertSender(dg.ConfigurableResource["AlertSender"]):
    """Sends alerts to webhooks. Never raises into a run."""

    url: str = Field(
        default="",
        repr=False,
        description="Addresses of webhooks, several with commas, as an EnvVar. None: nobody is"
        " told.",
    )
    format: str = Field(
        default="", description=f"{', '.join(ALERT_FORMATS)}; empty: by each webhook's host."
    )
    secret: str = Field(
        default="",
        repr=False,
        description="What DingTalk and Feishu sign with, as an EnvVar; one, or one for each.",
    )
    ui_url: str = Field(
        default="http://127.0.0.1:3000", description="Where the web interface is, for links."
    )
    proxy: str = Field(
        default="", repr=False, description="Proxy of the calls, as ``ImageProducer`` has it."
    )
    no_proxy: str = Field(
        default="", description="Hosts that are called without the proxy, with commas."
    )
    ca_file: str = Field(
        default="", description="PEM file of the only authorities to trust. None: the system's."
    )

    @classmethod
    def from_settings(cls, settings: Settings) -> "AlertSender":
        """Build the resource with both secrets as ``EnvVar``, whose values are read on use."""
        return cls(
            url=dg.EnvVar("FLUX_ALERT_URL") if settings.alert_url else "",
            format=settings.alert_format,
            secret=dg.EnvVar("FLUX_ALERT_SECRET") if any(settings.alert_secret) else "",
            ui_url=settings.ui_url,
            proxy=dg.EnvVar(settings.proxy_variable) if settings.network.proxy else "",
            no_proxy=settings.network.no_proxy,
            ca_file=settings.network.ca_file,
        )

    @classmethod
    def with_values(cls, settings: Settings) -> "AlertSender":
        """Build it with the secrets' values, for use outside of Dagster."""
        return cls(
            url=",".join(settings.alert_url),
            format=settings.alert_format,
            secret=",".join(settings.alert_secret),
            ui_url=settings.ui_url,
            proxy=settings.network.proxy,
            no_proxy=settings.network.no_proxy,
            ca_file=settings.network.ca_file,
        )

    def send(self, alert: Alert) -> list[Delivery]:
        """Send one alert to every webhook; what was not delivered is logged."""
        urls = [address for address in split_list(self.url) if address]
        secrets = split_list(self.secret)
        webhooks = build_webhooks(urls, form=self.format, secrets=secrets)
        try:
            network = _network(self.proxy, self.no_proxy, self.ca_file)
        except ConfigError as error:
            log.warning("alert %r not delivered: %s", alert.title, error)
            return [Delivery(webhook, str(error)) for webhook in webhooks]
        return send(alert, webhooks, network=network)
