import subprocess
import sys
from pathlib import Path


def test_a_terminal_of_another_encoding_shows_escapes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flux_pipeline.cli", "trace", "城堡"],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONIOENCODING": "latin-1:strict", "LC_ALL": "C.UTF-8"},
        text=True,
    )

    assert done.returncode == 1
    assert r"\u57ce\u5821" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
