"""GET of an output: the image's bytes, while they exist."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from flux_pipeline.emulator import outputs, records, refusals
from flux_pipeline.emulator.emulator import Emulator
from flux_pipeline.emulator.faulty.downloads import Download, spoiled_file
from flux_pipeline.emulator.gate import admit
from flux_pipeline.emulator.pictures.encode import CONTENT_TYPES


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
        fault = self.emulator.fault_of_call("download", record, part=f"/{index}")
        if fault is not None:
            return self._spoiled(fault, Download(self.emulator, record, request.url.path, body))
        return Response(body, media_type=CONTENT_TYPES[record.typed_input.output_format])

    def _spoiled(self, fault: str, download: Download) -> Response:
        if fault == "expired":
            with self.emulator.state.transaction() as connection:
                records.expire(connection, download.record.id)
        return spoiled_file(fault, download)
