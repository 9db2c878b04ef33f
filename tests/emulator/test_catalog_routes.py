"""The calls about models, versions and files, and both ways to create, as the provider has them."""

import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux_pipeline.emulator.contracts import DEFAULT_MODEL, DEFAULT_VERSION
from flux_pipeline.emulator.faults import FaultPlan
from tests.emulator.api import Api, ManualClock, accepted
from tests.emulator.conftest import Start
from tests.emulator.samples import (
    DRAWER,
    EDITOR,
    LAYERS_VERSION,
    UPSCALER,
    WITHOUT_SEED,
    opened,
    picture,
    write_contract,
)

SOURCE = picture()


def read(api: Api, path: str) -> httpx.Response:
    return api.http.get(f"{api.prefix}/{path}")


@pytest.mark.parametrize("prefix", ["/v1", "/replicate/v1"])
def test_a_model_and_its_version_are_described(start: Start, prefix: str) -> None:
    _, api = start(prefix=prefix)
    name, version = UPSCALER.split(":")
    model = accepted(read(api, f"models/{name}"))
    assert (model["latest_version"]["id"], model["is_official"]) == (version, False)
    listed = accepted(read(api, f"models/{name}/versions"))["results"]
    assert [each["id"] for each in listed] == [version]
    one = accepted(read(api, f"models/{name}/versions/{version}"))
    assert one["openapi_schema"]["components"]["schemas"]["Input"]["required"] == ["image"]


def test_an_official_model_shows_no_versions(start: Start) -> None:
    _, api = start()
    model = accepted(read(api, f"models/{EDITOR}"))
    assert model["is_official"]
    assert accepted(read(api, f"models/{EDITOR}/versions"))["results"] == []
    assert read(api, f"models/{EDITOR}/versions/{model['latest_version']['id']}").status_code == 404


def test_the_default_model_is_described_too(start: Start) -> None:
    _, api = start()
    assert accepted(read(api, f"models/{DEFAULT_MODEL}"))["latest_version"]["id"] == DEFAULT_VERSION


@pytest.mark.parametrize(
    "path", ["models/no/such", "models/no/such/versions", f"models/{DEFAULT_MODEL}/versions/7"]
)
def test_what_is_not_known_is_not_found(start: Start, path: str) -> None:
    _, api = start()
    assert read(api, path).status_code == 404


@pytest.mark.parametrize("named", [UPSCALER, UPSCALER.split(":")[1], EDITOR])
def test_a_version_or_an_official_models_name_is_served(start: Start, named: str) -> None:
    _, api = start()
    field = "input_image" if named == EDITOR else "image"
    url = api.upload(SOURCE)["urls"]["get"]
    made = api.done(named, {"prompt": "x", field: url})
    assert made["status"] == "succeeded"
    assert made["model"] == (EDITOR if named == EDITOR else UPSCALER.split(":")[0])
    assert made["version"] == ("hidden" if named == EDITOR else UPSCALER.split(":")[1])


@pytest.mark.parametrize(
    "named",
    ["lucataco/remove-bg", "no/such", "a/b:7", f"google/imagen-4:{'7' * 64}", DEFAULT_MODEL, 7],
)
def test_other_names_are_refused_and_cost_nothing(start: Start, named: str) -> None:
    server, api = start()
    reply = api.order(named, {"prompt": "x"})
    assert reply.status_code == 422
    assert reply.json()["invalid_fields"][0]["field"] == "version"
    assert server.usage().creates_accepted == 0


def by_model(api: Api, model: str, **sent: Any) -> httpx.Response:
    return api.http.post(f"{api.prefix}/models/{model}/predictions", json={"input": sent})


def test_official_models_are_also_created_at_their_own_address(start: Start) -> None:
    server, api = start()
    created = accepted(by_model(api, DRAWER, prompt="x", num_outputs=2))
    assert created["model"] == DRAWER
    done = api.get(created["id"])
    assert [opened(api.download(url).content).size for url in done["output"]] == [(1024, 1024)] * 2
    assert done["metrics"]["image_output_count"] == 2
    usage = server.usage()
    assert (usage.creates_received, usage.creates_accepted, usage.charged_usd) == (1, 1, 0.006)
    assert by_model(api, UPSCALER.split(":")[0], image="data:,x").status_code == 404


def test_both_ways_are_one_input(start: Start) -> None:
    server, api = start()
    accepted(by_model(api, DRAWER, prompt="x"))
    accepted(api.order(DRAWER, {"prompt": "x"}))
    assert len(server.usage().duplicates) == 1


@pytest.mark.parametrize(
    ("routes", "codes"),
    [
        ("both", (201, 201, 201)),
        ("apart", (201, 422, 201)),
        ("predictions", (201, 201, 404)),
        ("models", (404, 404, 201)),
    ],
)
def test_a_provider_may_lack_ways_to_create(
    start: Start, routes: str, codes: tuple[int, int, int]
) -> None:
    _, api = start(create_routes=routes)
    replies = (api.post("x"), api.order(DRAWER, {"prompt": "x"}), by_model(api, DRAWER, prompt="x"))
    assert tuple(reply.status_code for reply in replies) == codes


def test_a_white_list_serves_its_versions_alone(start: Start) -> None:
    _, api = start(allowed_versions=frozenset({DEFAULT_VERSION, DRAWER}))
    assert api.post("x").status_code == 201
    assert by_model(api, DRAWER, prompt="x").status_code == 201
    assert by_model(api, EDITOR, prompt="x").status_code == 404
    assert api.order(UPSCALER, {"image": "data:,x"}).status_code == 422


def test_an_aggregator_has_neither_models_nor_files(start: Start) -> None:
    _, api = start(models_enabled=False, files_enabled=False)
    assert read(api, f"models/{DRAWER}").status_code == 404
    assert read(api, "files").status_code == 404
    upload = api.http.post("/v1/files", files={"content": ("a.png", SOURCE)})
    assert upload.status_code == 404


def test_refused_values_come_with_their_fields(start: Start) -> None:
    _, api = start()
    reply = api.order(DRAWER, {"prompt": "x", "num_outputs": 9, "seed": None})
    assert reply.status_code == 422
    fields = {each["field"]: each["type"] for each in reply.json()["invalid_fields"]}
    assert fields == {"input.num_outputs": "number_lte", "input.seed": "invalid_type"}


def test_unknown_inputs_are_refused_by_option(start: Start) -> None:
    _, api = start(unknown_inputs="refused")
    assert api.order(DRAWER, {"prompt": "x", "stray": 1}).status_code == 422
    assert api.post("x", stray=1).status_code == 422
    assert start()[1].order(DRAWER, {"prompt": "x", "stray": 1}).json()["input"] == {"prompt": "x"}


def test_a_default_drifts_under_the_same_version(start: Start) -> None:
    model = "black-forest-labs/flux-dev"
    (_, before), (_, after) = start(), start(default_drift={model: {"guidance": 2.5}})
    shown = [
        accepted(read(api, f"models/{model}"))["latest_version"]["openapi_schema"]["components"]
        for api in (before, after)
    ]
    inputs = [each["schemas"]["Input"]["properties"]["guidance"]["default"] for each in shown]
    assert inputs == [3.5, 2.5]
    files = [
        api.download(api.done(model, {"prompt": "x", "seed": 1})["output"][0]).content
        for api in (before, after)
    ]
    assert files[0] != files[1]


def test_the_same_seed_makes_the_same_picture_and_a_model_without_one_never(start: Start) -> None:
    _, api = start()

    def made(model: str, **sent: Any) -> bytes:
        output = api.done(model, {"prompt": "x", **sent})["output"]
        return api.download(output if isinstance(output, str) else output[0]).content

    assert made(DRAWER, seed=1) == made(DRAWER, seed=1)
    assert made(WITHOUT_SEED) != made(WITHOUT_SEED)


def test_a_folder_adds_models_of_every_form(start: Start, tmp_path: Path) -> None:
    server, api = start(models_folder=str(write_contract(tmp_path)))
    done = api.done(LAYERS_VERSION, {"prompt": "x", "token": "sk-secret"})
    assert sorted(done["output"]) == ["back", "front"]
    assert done["input"] == {"prompt": "x", "token": "[REDACTED]"}
    file = opened(api.download(done["output"]["front"]).content)
    assert (file.format, file.size) == ("JPEG", (1360, 768))
    assert server.usage().charged_usd == 0.5
    assert "sk-secret" not in server.usage().model_dump_json()


def test_a_list_of_objects_comes_as_one(start: Start, tmp_path: Path) -> None:
    output = {"kind": "objects", "pictures": ["image"]}
    _, api = start(models_folder=str(write_contract(tmp_path, output=output)))
    done = api.done(LAYERS_VERSION, {"prompt": "x"})
    assert [list(each) for each in done["output"]] == [["image"]]


def test_creates_may_be_too_large(start: Start) -> None:
    _, api = start(max_body_bytes=1000)
    reply = api.post("x" * 1000)
    assert reply.status_code == 400
    assert "EOF" in reply.text


def test_a_file_is_stored_listed_and_deleted(start: Start) -> None:
    server, api = start(page_size=1)
    file = api.upload(SOURCE, metadata='{"from": "castle"}', filename="ein Schloß.png")
    assert (file["name"], file["content_type"], file["size"]) == (
        "ein Schloß.png",
        "image/png",
        len(SOURCE),
    )
    assert file["checksums"]["sha256"] == hashlib.sha256(SOURCE).hexdigest()
    assert file["metadata"] == {"from": "castle"}
    assert file["urls"]["get"] == f"{api.origin}/v1/files/{file['id']}"
    assert accepted(api.http.get(file["urls"]["get"])) == file
    other = api.upload(SOURCE)
    page = accepted(read(api, "files"))
    assert [each["id"] for each in page["results"]] == [other["id"]]
    rest = accepted(api.http.get(page["next"].removeprefix("https://trap.invalid")))
    assert [each["id"] for each in rest["results"]] == [file["id"]]
    assert api.http.delete(f"/v1/files/{file['id']}").status_code == 204
    assert api.http.get(f"/v1/files/{file['id']}").status_code == 404
    assert server.usage().uploads == {hashlib.sha256(SOURCE).hexdigest(): 2}


def test_a_file_is_gone_when_it_expires(start: Start, clock: ManualClock) -> None:
    _, api = start(file_seconds=60)
    file = api.upload(SOURCE)
    clock.advance(60)
    assert read(api, f"files/{file['id']}").status_code == 404
    assert accepted(read(api, "files"))["results"] == []


def test_content_of_every_kind_is_kept_as_it_is(start: Start) -> None:
    _, api = start()
    content = b"\r\n--x\r\n\r\n\x00\xff\n\r" * 7 + b"\r\n"
    assert api.upload(content)["checksums"]["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("size", [1001, 200_000])
def test_a_file_may_be_too_large(start: Start, size: int) -> None:
    _, api = start(max_file_bytes=1000)
    reply = api.http.post("/v1/files", files={"content": ("a", bytes(size))})
    assert (reply.status_code, reply.json()["title"]) == (413, "Content too large")
    assert api.upload(bytes(1000))["size"] == 1000


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"files": {"other": ("a", b"x")}}, "content is required"),
        ({"json": {}}, "no multipart"),
        ({"files": {"content": ("a", b"x")}, "data": {"metadata": "[1]"}}, "metadata"),
        ({"files": {"content": ("a", b"x")}, "data": {"filename": "x" * 256}}, "255 bytes"),
        (
            {
                "content": b'--a\r\ncontent-disposition: form-data; name="content"\r\n\r\nx',
                "headers": {"content-type": "multipart/form-data; boundary=a"},
            },
            "cut off",
        ),
    ],
)
def test_what_is_no_upload_is_refused(start: Start, more: dict[str, Any], said: str) -> None:
    _, api = start()
    reply = api.http.post("/v1/files", **more)
    assert reply.status_code == 400
    assert said in reply.text


@pytest.mark.parametrize(
    ("fault", "status", "stored"),
    [
        ("server_error_before", None, 0),
        ("reset_before", None, 0),
        ("refused", 400, 0),
        ("too_large", 413, 0),
        ("unauthorized", 401, 0),
        ("throttled_header", 429, 0),
        ("reset_after", None, 1),
        ("server_error_after", None, 1),
        ("slow", 201, 1),
    ],
)
def test_uploads_meet_faults(start: Start, fault: str, status: int | None, stored: int) -> None:
    plan = FaultPlan.model_validate({"upload": {fault: 1.0}, "cap": 1, "late_seconds": 0})
    server, api = start(plan)
    send = {"content": ("a.png", SOURCE, "image/png")}
    if "reset" in fault:
        with pytest.raises(httpx.TransportError):
            api.http.post("/v1/files", files=send)
    else:
        reply = api.http.post("/v1/files", files=send)
        assert reply.status_code == status or (status is None and reply.status_code >= 500)
    assert sum(server.usage().uploads.values()) == stored
    assert api.upload(SOURCE)["size"] == len(SOURCE)  # the series has ended
    assert server.usage().faults == {f"upload.{fault}": 1}
