"""Pictures in an input: ours are named by their hash, the list shows addresses or their bytes."""

import base64
import hashlib
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from flux_pipeline.outcomes import Absent, NoList
from flux_pipeline.provider.listing import Match, matches
from flux_pipeline.request import InputPicture
from tests.provider.prediction_list import Configured, ListOfPredictions, entry, find, found_id
from tests.provider.samples import MODEL, VERSION, make_request

FILES = "https://api.example/v1/files/"
URL, OTHER = f"{FILES}f1", f"{FILES}f2"
COPY = "https://outputs.example/inputs/f1"
"""Where a provider may show its own copy of a picture."""
SIGNED = "https://b.s3.example/x.png?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature="


def picture(color: str, form: str = "PNG") -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8), color).save(file, form)
    return file.getvalue()


def data_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


CONTENT = picture("red")
SHA256 = hashlib.sha256(CONTENT).hexdigest()
IMAGE = InputPicture(SHA256, "refs/red.png", len(CONTENT), "image/png")
REQUEST = replace(
    make_request(seed=None, image=IMAGE.reference, token="env:TOKEN"),
    pictures=(IMAGE,),
    seed_input="",
    secret_inputs=("token",),
)


def shown(image: object, **changes: Any) -> dict[str, Any]:
    given = {**REQUEST.input, "image": image, "token": "anything", **changes}
    return {"model": MODEL, "version": VERSION, "input": given}


@pytest.mark.parametrize(
    ("image", "addresses", "match"),
    [
        (URL, {URL}, Match.OURS),
        (URL, {OTHER, URL}, Match.OURS),
        (OTHER, {URL}, Match.NO),
        (OTHER, {"data:"}, Match.UNCLEAR),
        (OTHER, {"data:", FILES}, Match.NO),
        (COPY, {URL}, Match.UNCLEAR),
        (COPY, {"data:", FILES}, Match.UNCLEAR),
        (f"{URL}?for=you", {URL, FILES}, Match.UNCLEAR),
        (URL, set(), Match.UNCLEAR),
        (data_uri(CONTENT), set(), Match.OURS),
        (data_uri(CONTENT), {URL}, Match.OURS),
        (data_uri(picture("blue")), set(), Match.NO),
        (data_uri(picture("blue", "JPEG")), {"data:"}, Match.NO),
        (data_uri(picture("blue", "GIF")), {"data:"}, Match.NO),
        (data_uri(picture("blue", "WEBP")), {"data:"}, Match.NO),
        (data_uri(CONTENT)[:60], set(), Match.UNCLEAR),
        (data_uri(CONTENT)[:62], {"data:"}, Match.UNCLEAR),
        (data_uri(CONTENT)[:62] + "...", {URL, "data:"}, Match.UNCLEAR),
        ("data:REDACTED", {"data:"}, Match.UNCLEAR),
        (data_uri(CONTENT)[:62], {URL}, Match.NO),
        (None, {URL}, Match.NO),
        (7, {URL}, Match.NO),
        ([URL], {URL}, Match.NO),
    ],
)
def test_a_picture_is_known_by_its_address_or_its_bytes(
    image: object, addresses: set[str], match: Match
) -> None:
    assert matches(shown(image), REQUEST, {SHA256: addresses}) is match


def test_the_addresses_of_another_picture_say_nothing() -> None:
    assert matches(shown(URL), REQUEST, {"0" * 64: {URL}}) is Match.UNCLEAR
    assert matches(shown(URL), REQUEST) is Match.UNCLEAR


def test_what_is_sent_as_a_picture_may_be_left_out_of_the_list() -> None:
    entry = shown(URL)
    del entry["input"]["image"]
    assert matches(entry, REQUEST, {SHA256: {URL}}) is Match.UNCLEAR


def test_pictures_in_a_list_are_compared_one_by_one() -> None:
    second = replace(IMAGE, sha256="1" * 64)
    request = replace(
        make_request(seed=None, images=[IMAGE.reference, second.reference]),
        pictures=(IMAGE, second),
        seed_input="",
    )
    addresses = {SHA256: {URL}, second.sha256: {OTHER}}

    def match(*images: str, known: Any = addresses) -> Match:
        given = {**request.input, "images": list(images)}
        return matches({"model": MODEL, "version": VERSION, "input": given}, request, known)

    assert match(URL, OTHER) is Match.OURS
    assert match(OTHER, URL) is Match.NO
    assert match(URL) is Match.NO
    assert match(URL, OTHER, known={SHA256: {URL}}) is Match.UNCLEAR
    assert match(OTHER, OTHER, known={SHA256: {URL}}) is Match.NO


def test_a_text_that_looks_like_a_picture_is_compared_to_the_letter() -> None:
    request = make_request(prompt=f"sha256:{'2' * 64}")
    given = {"model": MODEL, "version": VERSION, "input": {**request.input, "prompt": URL}}
    assert matches(given, request) is Match.NO
    request = make_request(prompt="env:CASTLE")
    assert matches({**given, "input": {**request.input, "prompt": "env:X"}}, request) is Match.NO


@pytest.mark.parametrize("value", ["anything", "***", "", None])
def test_secrets_are_not_compared(value: object) -> None:
    assert matches(shown(URL, token=value), REQUEST, {SHA256: {URL}}) is Match.OURS


def test_secrets_may_be_left_out_of_the_list() -> None:
    entry = shown(URL)
    del entry["input"]["token"]
    assert matches(entry, REQUEST, {SHA256: {URL}}) is Match.OURS


@pytest.mark.anyio
async def test_a_picture_that_was_signed_anew_is_found(configured: Configured) -> None:
    ours = entry(1, at=4, input=shown(SIGNED + "second")["input"])
    other = entry(2, at=2, input=shown(OTHER)["input"])
    look: dict[str, Any] = {
        "request": REQUEST,
        "age": 10.0,
        "sent_as": {SHA256: [SIGNED + "first"]},
    }
    assert found_id(await find(configured, ListOfPredictions(other, ours), **look)) == "id1"
    assert await find(configured, ListOfPredictions(other), **look) == Absent()
    look["sent_as"] = {}
    assert await find(configured, ListOfPredictions(other), **look) == NoList()
