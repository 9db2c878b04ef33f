"""The bytes of one output: the same for the same version, input, seed and batch number."""

import json
from dataclasses import dataclass

from flux_pipeline.emulator import chance
from flux_pipeline.emulator.inputs import ModelInput
from flux_pipeline.emulator.pictures.encode import encode, tagged
from flux_pipeline.emulator.pictures.scenes import draw

_NOT_IN_PICTURE = frozenset({"seed", "num_outputs", "output_format", "output_quality"})


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that one output depends on."""

    version: str
    input: ModelInput
    seed: int
    """The one sent, or the one drawn."""
    index: int
    """Batch number, from 0."""

    def digest(self) -> bytes:
        """32 bytes that name the picture, whatever its format and quality."""
        fields = {name: value for name, value in self.input if name not in _NOT_IN_PICTURE}
        return chance.digest(self.version, json.dumps(fields), self.seed, self.index)

    def file(self, *, cheap: bool, size: tuple[int, int] | None = None) -> bytes:
        """The encoded file; ``size`` in px is the input's unless a fault wants another."""
        wanted = size or self.input.size
        if cheap:
            return tagged(wanted, self.input.output_format, self.digest())
        image = draw(self.digest(), self.input.prompt, wanted)
        return encode(image, self.input.output_format, self.input.output_quality)
