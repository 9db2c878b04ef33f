"""Settings: pure, all mistakes at once, and no secret in any message."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest
from dotenv import dotenv_values  # the reader of .env files that Dagster uses
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.errors import ConfigError, StoreError
from flux_pipeline.settings import VARIABLES, Settings, is_emulated
from flux_pipeline.store.open import open_store
from flux_pipeline.store_options import NO_OPTIONS, StoreOptions

CANARY = "r8_canary0123456789canary0123456789"


def load(**environ: str) -> Settings:
    return Settings.from_environment(environ)


def mistakes(environ: Mapping[str, str]) -> dict[str, str]:
    with pytest.raises(ConfigError) as raised:
        Settings.from_environment(environ)
    return {problem.key: problem.message for problem in raised.value.problems}


def test_an_empty_environment_is_the_embedded_default() -> None:
    settings = load()
    assert settings.provider == "emulator"
    assert settings.store == "file:./data/store"
    assert settings.ledger == "sqlite:///./data/ledger.db"
    assert settings.configs == Path("configs")
    assert (settings.rate, settings.concurrency) == (600.0, None)
    assert (settings.unknown, settings.settle_seconds) == ("resend", 30.0)
    assert settings.budget_usd_per_day is None
    assert not settings.ledger_given


def test_every_variable_arrives() -> None:
    settings = load(
        FLUX_CONFIGS="sets",
        FLUX_PROVIDER="replicate",
        FLUX_API_KEY=CANARY,
        FLUX_ROUTE="models",
        FLUX_MODELS=f"a/b, c/d:{'0' * 64}",
        FLUX_HAS_FILES="no",
        FLUX_INPUT_FILES="upload",
        FLUX_STORE="s3://bucket/prefix",
        FLUX_STORE_WRITERS="one",
        FLUX_S3_ADDRESSING="virtual",
        FLUX_S3_SSE="aws:kms",
        FLUX_S3_SSE_KMS_KEY_ID="alias/pictures",
        FLUX_S3_STORAGE_CLASS="STANDARD_IA",
        FLUX_S3_CHECKSUM="CRC32",
        FLUX_S3_ACL="bucket-owner-full-control",
        FLUX_S3_TAGS="team=art,cost=4",
        FLUX_S3_REQUEST_PAYER="requester",
        FLUX_LEDGER="postgresql://user:secret@host/db",
        FLUX_STATE="state",
        FLUX_RATE="60",
        FLUX_CONCURRENCY="8",
        FLUX_UNKNOWN="hold",
        FLUX_SETTLE_SECONDS="5.5",
        FLUX_OUTPUT_HOSTS="pictures.example, *.CDN.example",
        FLUX_OUTPUT_NETWORKS="198.18.0.0/15, fd00::/8",
        FLUX_SPOOL="waiting",
        FLUX_CACHE="remembered",
        FLUX_BUDGET_USD_PER_DAY="2.5",
    )
    assert settings == Settings(
        configs=Path("sets"),
        provider="replicate",
        api_key=CANARY,
        key_variable="FLUX_API_KEY",
        route="models",
        models=("a/b", f"c/d:{'0' * 64}"),
        has_files="no",
        input_files="upload",
        store="s3://bucket/prefix",
        store_writers="one",
        s3_addressing="virtual",
        s3_sse="aws:kms",
        s3_sse_kms_key_id="alias/pictures",
        s3_storage_class="STANDARD_IA",
        s3_checksum="CRC32",
        s3_acl="bucket-owner-full-control",
        s3_tags="team=art,cost=4",
        s3_request_payer="requester",
        ledger="postgresql://user:secret@host/db",
        ledger_given=True,
        state=Path("state"),
        rate=60.0,
        concurrency=8,
        unknown="hold",
        settle_seconds=5.5,
        output_hosts=("pictures.example", "*.cdn.example"),
        output_networks=("198.18.0.0/15", "fd00::/8"),
        spool=Path("waiting"),
        cache=Path("remembered"),
        budget_usd_per_day=2.5,
    )


def test_an_empty_or_blank_variable_counts_as_not_set() -> None:
    assert load(FLUX_STORE="", FLUX_RATE="  ", FLUX_API_KEY="") == Settings()


def test_replicates_own_variable_is_accepted_and_ours_goes_first() -> None:
    theirs = load(REPLICATE_API_TOKEN=CANARY)
    assert (theirs.api_key, theirs.key_variable) == (CANARY, "REPLICATE_API_TOKEN")
    both = load(REPLICATE_API_TOKEN="other", FLUX_API_KEY=CANARY)
    assert (both.api_key, both.key_variable) == (CANARY, "FLUX_API_KEY")


def test_all_mistakes_are_found_at_once_and_each_names_its_variable() -> None:
    found = mistakes(
        {
            "FLUX_PROVIDER": "replicat",
            "FLUX_API_KEY": "YOUR_API_KEY",
            "FLUX_STORE": "gs://bucket",
            "FLUX_LEDGER": "ledger.db",
            "FLUX_RATE": "fast",
            "FLUX_CONCURRENCY": "0",
            "FLUX_UNKNOWN": "retry",
            "FLUX_SETTLE_SECONDS": "-1",
            "FLUX_BUDGET_USD_PER_DAY": "nan",
        }
    )
    assert set(found) == {
        "FLUX_PROVIDER",
        "FLUX_API_KEY",
        "FLUX_STORE",
        "FLUX_LEDGER",
        "FLUX_RATE",
        "FLUX_CONCURRENCY",
        "FLUX_UNKNOWN",
        "FLUX_SETTLE_SECONDS",
        "FLUX_BUDGET_USD_PER_DAY",
    }
    assert found["FLUX_CONCURRENCY"] == "'0' is not allowed (a whole number, 1 to 4096)"
    assert found["FLUX_UNKNOWN"] == "'retry' is not allowed (resend or hold)"
    assert found["FLUX_RATE"] == "'fast' is not allowed (0.1 to 1e+06)"


@pytest.mark.parametrize(
    "text", ["198.18.0.0/33", "198.18.0.1/15", "proxy.example", "198.18.0.0/15;10.0.0.0/8", "*"]
)
def test_a_network_that_is_none_is_named_with_the_form_that_is_right(text: str) -> None:
    message = mistakes({"FLUX_OUTPUT_NETWORKS": f"fd00::/8,{text}"})["FLUX_OUTPUT_NETWORKS"]
    assert message == f"{text!r} is no network such as 198.18.0.0/15 (several: with commas)"


@pytest.mark.parametrize("text", ["a", "a/b:1", "a/b/c", f"a/b:{'F' * 64}", "https://h.example/a"])
def test_a_model_that_is_none_is_named_with_the_form_that_is_right(text: str) -> None:
    message = mistakes({"FLUX_MODELS": f"a/b,{text}"})["FLUX_MODELS"]
    assert message == (
        f"{text!r} is neither owner/name, owner/name:version nor a version of 64 hex digits"
        " (several: with commas)"
    )


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("ftp://x", "no such kind of store; write file:PATH, file:///PATH or s3://bucket/prefix"),
        ("s3://UPPER", "a bucket's name has 3 to 63 of a-z, 0-9, '.' and '-'"),
        ("s3://bucket/../x", "a prefix has parts of letters"),
        ("file:", "no folder here"),
        ("file:~/pictures", "no folder here"),
        ("s3://key:secret@bucket", "the address holds '@' or '?'"),
    ],
)
def test_the_address_of_a_store_is_checked_like_the_store_does(address: str, why: str) -> None:
    message = mistakes({"FLUX_STORE": address})["FLUX_STORE"]
    assert message.startswith(f"is no address of a store: {why}")
    assert "secret" not in message
    with pytest.raises(StoreError):
        open_store(address)


def test_options_of_a_store_become_one_value() -> None:
    settings = load(FLUX_STORE_WRITERS="one", FLUX_S3_SSE="AES256", FLUX_S3_TAGS="a=b")
    assert settings.store_options == StoreOptions(writers="one", sse="AES256", tags="a=b")
    assert load().store_options == NO_OPTIONS


def test_options_of_a_store_are_checked_before_anything_is_sent() -> None:
    found = mistakes(
        {
            "FLUX_STORE_WRITERS": "two",
            "FLUX_S3_ADDRESSING": "host",
            "FLUX_S3_SSE_KMS_KEY_ID": "alias/pictures",
            "FLUX_S3_STORAGE_CLASS": "GLACIER",
            "FLUX_S3_TAGS": "team",
        }
    )
    assert found["FLUX_STORE_WRITERS"] == "'two' is not allowed (many, one)"
    assert found["FLUX_S3_ADDRESSING"] == "'host' is not allowed (auto, path, virtual)"
    assert "FLUX_S3_SSE=aws:kms" in found["FLUX_S3_SSE_KMS_KEY_ID"]
    assert "GLACIER_IR" in found["FLUX_S3_STORAGE_CLASS"]
    assert "name=value" in found["FLUX_S3_TAGS"]


@pytest.mark.parametrize("text", ["inf", "1e400", "nan", "0", "-3", "", "1_0" * 400, "１"])
def test_a_rate_is_a_number_within_reason_or_a_mistake(text: str) -> None:
    if not text:
        assert load(FLUX_RATE=text).rate == 600.0
    elif text == "１":  # a digit of another script is a number to Python, and does no harm
        assert load(FLUX_RATE=text).rate == 1.0
    else:
        assert "FLUX_RATE" in mistakes({"FLUX_RATE": text})


@pytest.mark.parametrize("text", ["64.0", "6e1", "٦٤", "9" * 5000, "+5", "0x10"])
def test_a_concurrency_is_whole_and_plain(text: str) -> None:
    assert "FLUX_CONCURRENCY" in mistakes({"FLUX_CONCURRENCY": text})


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://api.example.com/replicate/", "https://api.example.com/replicate"),
        ("http://127.0.0.1:8900", "http://127.0.0.1:8900"),
    ],
)
def test_a_provider_may_be_a_base_url_with_its_prefix(url: str, kept: str) -> None:
    assert load(FLUX_PROVIDER=url).provider == kept


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://api.example.com", "in clear"),
        ("ftp://api.example.com", "neither"),
        ("api.example.com", "neither"),
        ("https://", "neither"),
        ("https://user:pw@api.example.com", "a user"),
    ],
)
def test_a_base_url_that_cannot_be_meant_is_refused(url: str, words: str) -> None:
    message = mistakes({"FLUX_PROVIDER": url})["FLUX_PROVIDER"]
    assert words in message
    assert "pw" not in message


def test_a_key_is_cleaned_of_what_copying_adds() -> None:
    assert load(FLUX_API_KEY=f' "Bearer {CANARY}"\n').api_key == CANARY


@pytest.mark.parametrize(
    ("key", "message"), [(f"{CANARY} x", "copy the key alone"), ("<your-api-key>", "placeholder")]
)
def test_a_key_that_cannot_be_one_is_refused_without_being_printed(key: str, message: str) -> None:
    found = mistakes({"FLUX_API_KEY": key})["FLUX_API_KEY"]
    assert message in found
    assert "canary" not in found


@pytest.mark.parametrize("variable", ["FLUX_C2PA_KEY", "FLUX_C2PA_CERT"])
def test_a_key_in_place_of_its_path_is_refused_without_being_printed(variable: str) -> None:
    pem = f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----"
    message = mistakes({variable: pem})[variable]
    assert "put it into a file" in message
    assert "canary" not in message


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("timestamps.example", "is not the http(s) URL"),
        ("ftp://timestamps.example", "is not the http(s) URL"),
        ("https://user:pw@timestamps.example", "a user"),
        ("https://timestamps.example/?key=pw", "a query"),
    ],
)
def test_a_timestamp_authority_has_an_address_without_secrets(url: str, words: str) -> None:
    message = mistakes({"FLUX_C2PA_TSA": url})["FLUX_C2PA_TSA"]
    assert words in message
    assert "pw" not in message


def test_a_prompt_is_embedded_or_not_and_nothing_between() -> None:
    assert "yes or no" in mistakes({"FLUX_EMBED_PROMPT": "maybe"})["FLUX_EMBED_PROMPT"]
    assert load(FLUX_EMBED_PROMPT="no").embed_prompt == "no"


def test_a_slip_in_a_name_is_a_mistake_and_a_foreign_name_is_not() -> None:
    found = mistakes({"FLUX_BUDGET_USD_DAY": "1", "FLUX_SYSTEM_NAMESPACE": "flux-system"})
    assert found == {"FLUX_BUDGET_USD_DAY": "is not known; did you mean FLUX_BUDGET_USD_PER_DAY?"}


def test_no_message_and_no_repr_holds_a_secret() -> None:
    password = "hunter2hunter2"
    settings = load(FLUX_API_KEY=CANARY, FLUX_LEDGER=f"postgresql://user:{password}@host/db")
    assert CANARY not in repr(settings)
    assert password not in repr(settings)
    with pytest.raises(ConfigError) as raised:
        load(FLUX_API_KEY=f"{CANARY} x", FLUX_LEDGER=password, FLUX_STORE=f"gs://{password}")
    assert CANARY not in str(raised.value)
    assert password not in str(raised.value)


def test_settings_are_frozen_and_travel_between_processes() -> None:
    settings = load(FLUX_RATE="60")
    with pytest.raises(AttributeError):
        settings.rate = 1.0
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301


def test_alerts_are_read_with_their_secrets_out_of_sight() -> None:
    settings = load(
        FLUX_ALERT_URL="https://hooks.slack.com/services/canary, http://127.0.0.1:9/canary",
        FLUX_ALERT_FORMAT="feishu",
        FLUX_ALERT_SECRET=",canary",
        FLUX_UI_URL="https://dagster.example/",
    )
    assert settings.alert_url == (
        "https://hooks.slack.com/services/canary",
        "http://127.0.0.1:9/canary",
    )
    assert (settings.alert_format, settings.alert_secret) == ("feishu", ("", "canary"))
    assert settings.ui_url == "https://dagster.example"
    assert "canary" not in repr(settings)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/canary",
        "https://user:canary@hooks.example/",
        "ftp://hooks.example/canary",
        "https:///canary",
        "https://[canary",
        "https://user:ca@nary/canary@hooks.example/",
        "https://user:12/canary@hooks.example/",
        "canary",
    ],
)
def test_a_webhook_is_https_and_is_never_in_a_message(url: str) -> None:
    found = mistakes({"FLUX_ALERT_URL": f"https://hooks.example/x,{url}"})
    assert set(found) == {"FLUX_ALERT_URL"}
    assert "canary" not in found["FLUX_ALERT_URL"]


def test_secrets_are_one_or_one_for_each_webhook() -> None:
    given = {"FLUX_ALERT_URL": "https://a.example,https://b.example,https://c.example"}
    found = mistakes({**given, "FLUX_ALERT_SECRET": "canary,canary"})
    assert found == {"FLUX_ALERT_SECRET": "holds 2 secrets for 3 webhooks: one, or one for each"}


def test_the_address_of_the_web_interface_is_a_page() -> None:
    assert set(mistakes({"FLUX_UI_URL": "dagster.example"})) == {"FLUX_UI_URL"}


@pytest.mark.parametrize(
    ("provider", "emulated"),
    [
        ("emulator", True),
        ("http://127.0.0.1:8900/replicate", True),
        ("replicate", False),
        ("https://api.example.com/replicate", False),
    ],
)
def test_a_provider_on_this_machine_costs_nothing(provider: str, *, emulated: bool) -> None:
    assert is_emulated(provider) is emulated


PROXY = f"http://user:{CANARY}@proxy.example:3128"


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_proxy_is_read_from_the_variables_that_others_read(variable: str) -> None:
    settings = load(**{variable: f" {PROXY} ", "no_proxy": "", "NO_PROXY": ".corp.example"})
    assert (settings.network.proxy, settings.network.no_proxy) == (PROXY, ".corp.example")
    assert settings.proxy_variable == variable
    assert CANARY not in repr(settings)


def test_lower_case_comes_first_and_https_before_all() -> None:
    every = {"ALL_PROXY": "http://d", "all_proxy": "http://c", "HTTPS_PROXY": "http://b"}
    assert load(**every).network.proxy == "http://b"
    assert load(**every, https_proxy="http://a").network.proxy == "http://a"


def test_a_socks_proxy_beside_one_for_https_is_not_used_and_no_mistake() -> None:
    both = {"https_proxy": "http://127.0.0.1:7890", "all_proxy": "socks5://127.0.0.1:7890"}
    assert load(**both).network.proxy == "http://127.0.0.1:7890"
    assert mistakes({"all_proxy": "socks5h://127.0.0.1:7890"})["all_proxy"].startswith(
        "names a proxy of a kind that can't be used (no SOCKS)"
    )


@pytest.mark.parametrize("sign", "@#/%?")
def test_a_proxy_whose_password_is_not_encoded_is_named_without_one_character_of_it(
    sign: str,
) -> None:
    for password in (f"Xq{sign}Zv", f"12{sign}Zv"):
        found = mistakes({"HTTPS_PROXY": f"http://user:{password}@proxy.example:3128"})
        assert "encode @ as %40, / as %2F, # as %23, % as %25" in found["HTTPS_PROXY"]
        assert not [part for part in ("Xq", "Zv", "12") if part in found["HTTPS_PROXY"]]


@pytest.mark.parametrize(
    "text", ["http://", "http:///x", "http://a b", "http://h:0", "http://h:99999", "http://h/x"]
)
def test_a_proxy_that_is_no_url_says_what_one_looks_like(text: str) -> None:
    message = "is no URL of a proxy such as http://proxy.example:3128"
    assert mistakes({"HTTPS_PROXY": text}) == {"HTTPS_PROXY": message}


def test_the_first_file_of_authorities_counts_and_must_be_there(tmp_path: Path) -> None:
    there = tmp_path / "authorities.pem"
    there.touch()
    found = load(SSL_CERT_FILE="", REQUESTS_CA_BUNDLE=str(there), CURL_CA_BUNDLE="/nowhere.pem")
    assert found.network.ca_file == str(there)
    assert mistakes({"SSL_CERT_FILE": "/nowhere.pem"}) == {
        "SSL_CERT_FILE": "names no file: /nowhere.pem is not there"
    }


CLEAN = {
    "FLUX_CONFIGS": "sets",
    "FLUX_PROVIDER": "replicate",
    "FLUX_API_KEY": CANARY,
    "REPLICATE_API_TOKEN": CANARY,
    "FLUX_ROUTE": "models",
    "FLUX_MODELS": "a/b,c/d",
    "FLUX_HAS_FILES": "yes",
    "FLUX_INPUT_FILES": "link",
    "FLUX_STORE": "s3://bucket/prefix",
    "FLUX_STORE_WRITERS": "one",
    "FLUX_S3_ADDRESSING": "virtual",
    "FLUX_S3_SSE": "aws:kms",
    "FLUX_S3_SSE_KMS_KEY_ID": "alias/pictures",
    "FLUX_S3_STORAGE_CLASS": "STANDARD_IA",
    "FLUX_S3_CHECKSUM": "CRC32",
    "FLUX_S3_ACL": "bucket-owner-full-control",
    "FLUX_S3_TAGS": "team=art,cost=4",
    "FLUX_S3_REQUEST_PAYER": "requester",
    "FLUX_LEDGER": "postgresql://user:secret@host/db",
    "FLUX_STATE": "state",
    "FLUX_RATE": "60",
    "FLUX_CONCURRENCY": "8",
    "FLUX_UNKNOWN": "hold",
    "FLUX_SETTLE_SECONDS": "5.5",
    "FLUX_OUTPUT_HOSTS": "pictures.example,*.cdn.example",
    "FLUX_OUTPUT_NETWORKS": "198.18.0.0/15,fd00::/8",
    "FLUX_SPOOL": "waiting",
    "FLUX_CACHE": "off",
    "FLUX_BUDGET_USD_PER_DAY": "2.5",
    "FLUX_EMBED_PROMPT": "no",
    "FLUX_AIGC_PRODUCER": "producer",
    "FLUX_C2PA_CERT": "certificates.pem",
    "FLUX_C2PA_KEY": "key.pem",
    "FLUX_C2PA_TSA": "https://timestamps.example/",
    "FLUX_ALERT_URL": "https://a.example/x,https://b.example/y",
    "FLUX_ALERT_FORMAT": "slack",
    "FLUX_ALERT_SECRET": "Kq1,Kq2",
    "FLUX_UI_URL": "https://dagster.example",
    "HTTPS_PROXY": f"http://user:{CANARY}@proxy.example:3128",
    "no_proxy": ".corp.example,10.0.0.0/8",
    "SSL_CERT_FILE": __file__,
}
"""A value of every setting."""
LISTS = [name for name, text in CLEAN.items() if "," in text]
BLANKS = st.text(alphabet=" \t\r\n\u00a0\ufeff\u200b", max_size=3)
QUOTES = st.sampled_from([("", ""), ('"', '"'), ("'", "'"), ("\u201c", "\u201d"), ("\"'", "'\"")])


def test_the_samples_are_of_every_setting() -> None:
    assert VARIABLES.keys() - CLEAN.keys() == set()


@given(BLANKS, QUOTES, BLANKS)
def test_every_setting_is_the_same_whatever_is_around_its_value(
    outer: str, quotes: tuple[str, str], inner: str
) -> None:
    def around(text: str) -> str:
        return f"{outer}{quotes[0]}{inner}{text}{inner}{quotes[1]}{outer}"

    soiled = {name: around(text) for name, text in CLEAN.items()}
    assert Settings.from_environment(soiled) == Settings.from_environment(CLEAN)
    soiled |= {name: ",".join(map(around, CLEAN[name].split(","))) for name in LISTS}
    assert Settings.from_environment(soiled) == Settings.from_environment(CLEAN)


@pytest.mark.parametrize("form", ['"{}', "{}'", "{}\r\n{}", "{} # note", "# {}"])
def test_every_setting_is_refused_alike_where_cleaning_would_be_a_guess(form: str) -> None:
    for variable, clean in CLEAN.items():
        found = mistakes({variable: form.format(clean, clean)})
        assert set(found) == {variable}
        assert not [word for word in (CANARY, "secret@", "Kq1") if word in found[variable]]


@pytest.mark.parametrize("name", ["export FLUX_RATE", "\ufeffFLUX_RATE", "FLUX_RATE\u00a0"])
def test_a_name_with_something_around_it_is_a_mistake_and_not_ignored(name: str) -> None:
    found = mistakes({name: "60"})
    assert found == {
        "FLUX_RATE": "has something around its name in the environment: write FLUX_RATE=value alone"
    }


def test_what_others_read_later_is_cleaned_where_they_read_it() -> None:
    environ = {
        "FLUX_LEDGER": '"postgresql://user:secret@host/db"\r',
        "AWS_SECRET_ACCESS_KEY": " 'abc'\r",
        "AWS_PROFILE": '""',
        "DAGSTER_HOME": '"/srv/dagster"',
        "HTTPS_PROXY": "\ufeffhttp://proxy.example:3128",
        "SHELL": '"/bin/sh"',
    }
    settings = Settings.of_process(environ)
    assert settings.ledger == environ["FLUX_LEDGER"] == "postgresql://user:secret@host/db"
    assert environ == {
        "FLUX_LEDGER": "postgresql://user:secret@host/db",
        "AWS_SECRET_ACCESS_KEY": "abc",
        "DAGSTER_HOME": "/srv/dagster",
        "HTTPS_PROXY": "http://proxy.example:3128",
        "SHELL": '"/bin/sh"',
    }


def test_a_key_for_s3_that_can_not_be_one_is_named_where_s3_is_used() -> None:
    environ = {"AWS_SECRET_ACCESS_KEY": f'"{CANARY}'}
    assert Settings.from_environment(environ) == Settings()
    found = mistakes({**environ, "FLUX_STORE": "s3://bucket"})
    assert set(found) == {"AWS_SECRET_ACCESS_KEY"}
    assert CANARY not in found["AWS_SECRET_ACCESS_KEY"]


ENV_FILE = f"""\ufeff# written on Windows
FLUX_PROVIDER = replicate   # a comment
export FLUX_API_KEY="{CANARY}"
export   REPLICATE_API_TOKEN='{CANARY}'
FLUX_STORE='s3://bucket/prefix' # a comment
FLUX_RATE=60\u00a0
FLUX_LEDGER = "postgresql://user:secret@host/db"
FLUX_SPOOL=\u201cwaiting\u201d
FLUX_UNKNOWN="  hold  "
FLUX_OUTPUT_HOSTS=pictures.example, "*.cdn.example"
FLUX_STATE=

FLUX_CONFIGS="sets"\t
"""


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_file_that_dagster_reads_gives_the_same_settings_however_it_was_written(
    tmp_path: Path, line_end: str
) -> None:
    file = tmp_path / ".env"
    file.write_bytes(ENV_FILE.replace("\n", line_end).encode())
    read = {name: text for name, text in dotenv_values(file).items() if text is not None}
    assert Settings.from_environment(read) == load(
        FLUX_PROVIDER="replicate",
        FLUX_API_KEY=CANARY,
        FLUX_STORE="s3://bucket/prefix",
        FLUX_RATE="60",
        FLUX_LEDGER="postgresql://user:secret@host/db",
        FLUX_SPOOL="waiting",
        FLUX_UNKNOWN="hold",
        FLUX_OUTPUT_HOSTS="pictures.example,*.cdn.example",
        FLUX_CONFIGS="sets",
    )


@pytest.mark.parametrize(
    "password", ["X@Zvq", "X/Zvq", "12/Zvq", "X#Zvq", "X%Zvq", "X?Zvq", "X Zvq"]
)
@pytest.mark.parametrize(
    "variable", ["FLUX_LEDGER", "FLUX_ALERT_URL", "HTTPS_PROXY", "FLUX_PROVIDER", "FLUX_UI_URL"]
)
def test_no_setting_shows_a_part_of_a_password_that_is_not_encoded(
    variable: str, password: str
) -> None:
    scheme = "postgresql" if variable == "FLUX_LEDGER" else "https"
    message = mistakes({variable: f"{scheme}://user:{password}@Zvq.example/x"})[variable]
    assert "Zvq" not in message
    if variable in ("FLUX_LEDGER", "FLUX_ALERT_URL", "HTTPS_PROXY"):
        assert "encode @ as %40, / as %2F, # as %23, % as %25" in message


@pytest.mark.parametrize("variable", ["FLUX_OUTPUT_HOSTS", "FLUX_OUTPUT_NETWORKS"])
def test_an_address_with_a_password_in_place_of_a_host_is_not_quoted(variable: str) -> None:
    for text in ("https://user:canary@cdn.example", "user:canary,x@cdn.example"):
        message = mistakes({variable: text})[variable]
        assert message.startswith("a part of it is no")
        assert "canary" not in message


def test_a_ledger_with_an_encoded_password_is_accepted() -> None:
    url = "postgresql://user:p%40ss%2Fw%23rd%25@host/data"
    assert load(FLUX_LEDGER=url).ledger == url
