"""The resource: every field arrives where it is used, and no secret leaves with it."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import httpx
import pytest

from flux_pipeline.alerts import Kind, build_alert
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.emulator.usage import read_usage
from flux_pipeline.errors import ConfigError, LedgerError, StoreError, WrongStore
from flux_pipeline.ledger.base import Claimed, Intent, State
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlLedger
from flux_pipeline.lineage.record import records_to_json
from flux_pipeline.network import Network
from flux_pipeline.resources import AlertSender, ImageProducer
from flux_pipeline.settings import Settings
from flux_pipeline.store.unavailable import UnavailableStore
from tests.defs.reports import build_record
from tests.emulator.samples import write_contract

CANARY = "r8_canary0123456789canary0123456789"
PROXY = f"http://user:{CANARY}@proxy.example:3128"


@pytest.fixture
def embedded(tmp_path: Path) -> ImageProducer:
    return ImageProducer(
        store=f"file:{tmp_path}/store",
        ledger=f"sqlite:///{tmp_path}/ledger.db",
        state=str(tmp_path / "emulator"),
    )


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def test_every_setting_arrives() -> None:
    settings = Settings(
        configs=Path("own"),
        provider="anyapi",
        api_key=CANARY,
        route="models",
        models=("a/b",),
        has_files="yes",
        input_files="upload",
        store="s3://bucket/x",
        store_writers="one",
        s3_sse="AES256",
        ledger="sqlite:///x.db",
        state=Path("state"),
        rate=60.0,
        concurrency=8,
        unknown="hold",
        settle_seconds=5.0,
        output_hosts=("pictures.example",),
        output_networks=("198.18.0.0/15",),
        spool=Path("waiting"),
        budget_usd_per_day=2.0,
        embed_prompt="no",
        aigc_producer="00119144",
        c2pa_cert="certificates.pem",
        c2pa_key="kms:sign",
        c2pa_tsa="http://timestamps.example",
        network=Network(proxy=PROXY, no_proxy=".corp.example", ca_file="authorities.pem"),
        proxy_variable="all_proxy",
    )
    resource = ImageProducer.from_settings(settings)
    values = {name: getattr(resource, name) for name in type(resource).model_fields}
    assert values == {
        "provider": "anyapi",
        "api_key": dg.EnvVar("FLUX_API_KEY"),
        "route": "models",
        "models": ["a/b"],
        "has_files": "yes",
        "input_files": "upload",
        "store": "s3://bucket/x",
        "store_options": {"writers": "one", "sse": "AES256"},
        "ledger": "sqlite:///x.db",
        "state": "state",
        "contracts": "own/models",
        "creates_per_minute": 60.0,
        "concurrency": 8,
        "unknown": "hold",
        "settle_seconds": 5.0,
        "output_hosts": ["pictures.example"],
        "output_networks": ["198.18.0.0/15"],
        "spool": "waiting",
        "usd_per_day": 2.0,
        "embed_prompt": False,
        "aigc_producer": "00119144",
        "c2pa_cert": "certificates.pem",
        "c2pa_key": "kms:sign",
        "c2pa_tsa": "http://timestamps.example",
        "proxy": dg.EnvVar("all_proxy"),
        "no_proxy": ".corp.example",
        "ca_file": "authorities.pem",
    }


def test_every_field_is_described() -> None:
    fields = ImageProducer.model_fields
    assert [name for name, field in fields.items() if not field.description] == []


def test_every_field_reaches_what_is_opened(embedded: ImageProducer, tmp_path: Path) -> None:
    resource = embedded.model_copy(
        update={
            "concurrency": 7,
            "unknown": "hold",
            "settle_seconds": 1.5,
            "embed_prompt": False,
            "aigc_producer": "00119144",
            "spool": str(tmp_path / "waiting"),
        }
    )
    with resource.open() as producer:
        assert producer.concurrency == 7
        assert (producer.embed_prompt, producer.aigc_producer) == (False, "00119144")
        assert producer.spool.folder == tmp_path / "waiting"
        assert (producer.policy.unknown, producer.policy.visibility) == ("hold", 1.5)
        assert producer.store.uri == (tmp_path / "store").as_uri()
        assert str(tmp_path / "ledger.db") in producer.ledger.name
        assert (tmp_path / "emulator").is_dir()


def test_secrets_are_passed_on_by_name() -> None:
    settings = Settings(
        provider="replicate",
        api_key=CANARY,
        key_variable="REPLICATE_API_TOKEN",
        ledger="postgresql://user:hunter2hunter2@host/db",
        ledger_given=True,
    )
    resource = ImageProducer.from_settings(settings)
    assert resource.api_key == dg.EnvVar("REPLICATE_API_TOKEN")
    assert resource.ledger == dg.EnvVar("FLUX_LEDGER")


def test_the_embedded_emulator_needs_no_key() -> None:
    assert ImageProducer.from_settings(Settings()).api_key == ""


def test_the_embedded_emulator_knows_the_projects_own_models(
    embedded: ImageProducer, tmp_path: Path
) -> None:
    folder = write_contract(tmp_path / "models")
    resource = embedded.model_copy(update={"contracts": str(folder)})
    with resource._provider_config() as config:
        reply = httpx.get(
            f"{config.base_url}/v1/models/somebody/layers",
            headers={"authorization": "Bearer any"},
            timeout=60,
        )
    assert reply.json()["description"] == "Makes layers."


def test_no_secret_is_in_a_snapshot_an_event_or_a_repr(
    monkeypatch: pytest.MonkeyPatch,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Against a provider that takes the key: it was sent, and is nowhere else."""
    monkeypatch.setenv("FLUX_API_KEY", CANARY)
    monkeypatch.setenv("FLUX_LEDGER", f"sqlite:///{tmp_path}/hunter2hunter2.db")
    seen: list[str] = []

    @dg.asset
    def probe(image_producer: ImageProducer) -> None:
        seen.extend((image_producer.api_key, repr(image_producer), str(image_producer)))
        with image_producer.open() as producer:
            seen.append(repr(producer.open_provider()))
        raise RuntimeError(repr(image_producer))

    with EmulatorServer() as server:
        resource = ImageProducer.from_settings(
            Settings(
                provider=server.origin,
                api_key=CANARY,
                store=f"file:{tmp_path}/store",
                ledger="sqlite:///hunter2hunter2.db",
                ledger_given=True,
            )
        )
        definitions = dg.Definitions([probe], resources={"image_producer": resource})
        job = definitions.resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(instance=instance, raise_on_error=False)
    key, *shown = seen
    assert key == CANARY
    snapshot = instance.get_job_snapshot(result.dagster_run.job_snapshot_id or "")
    events = instance.all_logs(result.run_id)
    for sink in (
        *shown,
        repr(resource),
        repr(snapshot),
        dg.serialize_value(snapshot),
        *map(dg.serialize_value, events),
        repr(result.dagster_run),
        caplog.text,
    ):
        assert CANARY not in sink
        assert "hunter2hunter2" not in sink


def test_a_missing_key_fails_before_anything_is_opened(
    monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    monkeypatch.delenv("FLUX_API_KEY", raising=False)

    @dg.asset
    def probe(image_producer: ImageProducer) -> None:
        raise AssertionError("was reached")

    resource = ImageProducer.from_settings(
        Settings(provider="replicate", store=f"file:{tmp_path}/store")
    )
    with pytest.raises(dg.DagsterInvalidConfigError, match="FLUX_API_KEY"):
        dg.materialize([probe], instance=instance, resources={"image_producer": resource})
    assert list(tmp_path.iterdir()) == []


def test_an_empty_key_is_reported_in_words(tmp_path: Path) -> None:
    resource = ImageProducer(provider="replicate", store=f"file:{tmp_path}/store")
    with pytest.raises(ConfigError, match="api_key: is empty"), resource.open():
        pass


def test_what_the_downloads_may_reach_arrives_at_the_provider(
    embedded: ImageProducer, tmp_path: Path
) -> None:
    hosts, networks = ["pictures.example"], ["198.18.0.0/15", "fd00::/8"]
    resource = embedded.model_copy(
        update={"output_hosts": hosts, "output_networks": networks, "creates_per_minute": 90.0}
    )
    with resource._provider_config() as config:
        assert list(config.output_hosts) == hosts
        assert list(map(str, config.output_networks)) == networks
        assert config.creates_per_minute == 90.0


@pytest.mark.parametrize(
    ("changes", "has_files", "route"),
    [
        ({"provider": "replicate"}, True, "predictions"),
        ({"provider": "replicate", "route": "models", "has_files": "no"}, False, "models"),
        ({"provider": "anyapi"}, False, "models"),
        ({"provider": "anyapi", "route": "predictions", "has_files": "yes"}, True, "predictions"),
        ({"provider": "https://other.example"}, None, "models"),
    ],
)
def test_what_a_provider_offers_is_known_of_it_or_configured(
    changes: dict[str, str], has_files: bool | None, route: str
) -> None:
    resource = ImageProducer(**{"api_key": CANARY, "models": ["a/b"], **changes})
    with resource._provider_config() as config:
        assert (config.has_files, config.route) == (has_files, route)
        assert config.models == ("a/b",)


def test_a_store_that_cannot_be_written_stops_before_anything_is_sent(
    embedded: ImageProducer, tmp_path: Path
) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(StoreError), embedded.open():
        pass
    assert read_usage(tmp_path / "emulator").creates_received == 0
    with open_ledger(embedded.ledger) as ledger:
        assert ledger.is_empty()


def test_a_run_opens_ledger_and_store_once(
    embedded: ImageProducer, instance: dg.DagsterInstance
) -> None:
    with dg.build_resources({"images": embedded}, instance=instance) as resources:
        with resources.images.open() as first:
            pass
        with resources.images.open() as second:
            assert second.ledger is first.ledger
            assert second.ledger.is_empty()
        assert resources.images.open_pages() is first.store is second.store
    with embedded.open() as producer:  # outside of a run nothing is kept
        assert producer.ledger is not first.ledger
        assert embedded.open_store() is not first.store


def note_image(ledger: SqlLedger, uri: str, state: State) -> None:
    """Enter one prediction as paid, and its image as stored where the state says so."""
    record = build_record(uri=uri)
    intent = Intent(record.request_sha256, record.prompt_set, record.run_id, 3000, "{}")
    claim = ledger.claim(intent, holder="worker")
    assert isinstance(claim, Claimed)
    ledger.accept(claim.attempt, prediction_id="prediction-1", reply="{}")
    if state is State.STORED:
        images = records_to_json([record])
        assert ledger.close(claim.attempt, state, holder="worker", images=images)


def test_a_store_that_was_moved_away_is_not_made_anew(
    embedded: ImageProducer, tmp_path: Path
) -> None:
    with embedded.open() as producer:
        note_image(producer.ledger, f"{producer.store.uri}/images/a.webp", State.STORED)
    (tmp_path / "store").rename(tmp_path / "moved")
    with pytest.raises(WrongStore, match="FLUX_STORE"), embedded.open():
        pass
    with pytest.raises(WrongStore, match="put the store back where it was, or set FLUX_STORE"):
        embedded.open_pages()
    assert not (tmp_path / "store").exists()


def test_without_its_store_a_producer_opens_for_what_is_paid_alone(
    embedded: ImageProducer, tmp_path: Path
) -> None:
    with embedded.open() as producer:
        note_image(producer.ledger, "", State.ACCEPTED)
    (tmp_path / "store").rename(tmp_path / "moved")
    (tmp_path / "store").write_text("a file where the folder should be")
    with embedded.open() as producer:
        assert isinstance(producer.store, UnavailableStore)
        assert "store" in producer.store.reason


def test_a_ledger_that_cannot_be_opened_is_reported_in_words(
    embedded: ImageProducer, tmp_path: Path
) -> None:
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(LedgerError, match="ledger"), embedded.open():
        pass


def test_the_store_alone_opens_nothing_else(embedded: ImageProducer, tmp_path: Path) -> None:
    embedded.open_store().put("a.txt", b"a", content_type="text/plain")
    assert not (tmp_path / "ledger.db").exists()
    assert not (tmp_path / "emulator").exists()


def test_an_alert_sender_has_its_secrets_by_name_in_dagster_and_by_value_in_a_process() -> None:
    settings = Settings(
        alert_url=("https://a.example/x", "https://b.example/y"),
        alert_format="feishu",
        alert_secret=("", CANARY),
        ui_url="https://dagster.example",
        network=Network(proxy=PROXY, no_proxy="*", ca_file="authorities.pem"),
        proxy_variable="HTTPS_PROXY",
    )
    named, valued = AlertSender.from_settings(settings), AlertSender.with_values(settings)
    assert (named.url, named.secret) == (
        dg.EnvVar("FLUX_ALERT_URL"),
        dg.EnvVar("FLUX_ALERT_SECRET"),
    )
    assert (valued.url, valued.secret) == ("https://a.example/x,https://b.example/y", f",{CANARY}")
    assert (named.proxy, valued.proxy) == (dg.EnvVar("HTTPS_PROXY"), PROXY)
    for each in (named, valued):
        assert (each.format, each.ui_url) == ("feishu", "https://dagster.example")
        assert (each.no_proxy, each.ca_file) == ("*", "authorities.pem")
        assert CANARY not in repr(each)
        assert "example/x" not in repr(each)
    assert AlertSender.from_settings(Settings()).url == ""
    assert [f for f in AlertSender.model_fields.values() if not f.description] == []


def test_a_proxy_that_is_none_is_a_mistake_without_its_password_and_raises_into_no_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wrong = f"http://user:a/{CANARY}@proxy.example"
    resource = ImageProducer(provider="https://api.example", api_key="key", proxy=wrong)
    with pytest.raises(ConfigError, match="ambiguous") as raised, resource.open():
        pass
    sender = AlertSender(url="https://hook.example/x", proxy=wrong)
    [delivery] = sender.send(build_alert(Kind.TEST, "a test"))
    assert "ambiguous" in delivery.problem
    assert "ambiguous" in caplog.text
    assert CANARY not in f"{raised.value}{delivery}{caplog.text}"


@dg.asset
def opens_the_ledger(image_producer: ImageProducer) -> None:
    with image_producer.open():
        pass


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:p@ca/nary#x%y@127.0.0.1:1/data",
        "postgresql://user:p%40canary@127.0.0.1:1/data?password=canary&nary=1",
    ],
)
def test_dagster_stores_nothing_of_a_ledgers_password(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUX_LEDGER", url)
    producer = ImageProducer(ledger=dg.EnvVar("FLUX_LEDGER"), store=f"file:{tmp_path}/store")
    home = tmp_path / "home"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        ended = dg.materialize(
            [opens_the_ledger],
            resources={"image_producer": producer},
            instance=instance,
            raise_on_error=False,
        )
        assert not ended.success
    kept = b"".join(each.read_bytes() for each in home.rglob("*") if each.is_file())
    assert b"LedgerError" in kept
    assert b"nary" not in kept
    assert "nary" not in repr(producer)
