"""GET of an output: the image's bytes, while they exist."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from flux_pipeline.emulator import outputs, refusals
from flux_pipeline.emulator.emulator import Emulator
from flux_pipeline.emulator.encode import CONTENT_TYPES
from flux_pipeline.emulator.gate import admit


@dataclass(frozen=True, slots=True)
class Files:
    """Serves outputs."""

    emulator: Emulator

    async def get(self, request: Request) -> Response:
        """One image; no key is needed, and none should come."""
        admit(self.emulator, request, "open")
        record = self.emulator.find(request.path_params["id"])
        if record is None:
            raise refusals.not_found()
        moment = record.life.at(self.emulator.clock(), self.emulator.options.retention_seconds)
        names = {outputs.file_name(record, index): index for index in moment.outputs or ()}
        index = names.get(request.path_params["name"])
        if index is None or moment.removed:
            raise refusals.not_found()
        body = await outputs.image_bytes(self.emulator, record, index)
        return Response(body, media_type=CONTENT_TYPES[record.typed_input.output_format])
