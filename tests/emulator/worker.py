"""A process of its own that serves a state directory, or creates in it, until it is killed.

``python -m tests.emulator.worker serve DIR`` serves until it is stopped;
``python -m tests.emulator.worker create DIR NAME COUNT`` runs an emulator of its own on the
directory, as each step process of an embedded run does, and creates COUNT predictions.
"""

import sys
from pathlib import Path

from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer, serve
from tests.emulator.api import Api

OPTIONS = EmulatorOptions(time_scale=0, render="cheap", creates_per_minute=None)


def main() -> None:
    match sys.argv[1:]:
        case ["serve", directory]:
            serve(state_dir=Path(directory), options=OPTIONS)
        case ["create", directory, name, count]:
            with EmulatorServer(OPTIONS, state_dir=Path(directory)) as server:
                api = Api(server.origin)
                for number in range(int(count)):
                    sys.stdout.write(api.create(name, seed=number)["id"] + "\n")
                    sys.stdout.flush()
                api.close()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
