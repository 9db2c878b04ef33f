"""Which git commit a prompt set's file is at, for the records of what was made of it."""

import shutil
import subprocess
from pathlib import Path


def find_commit(path: Path) -> str:
    """Ask git for the commit of the file's folder; ``+`` behind it says that the file was edited.

    Empty where there is no git, no repository or no commit: a record is not worth a failed run.
    """
    git = shutil.which("git")
    if git is None or not path.parent.is_dir():
        return ""
    commit = _ask(git, path, "rev-parse", "HEAD")
    edited = commit and _ask(git, path, "status", "--porcelain", "--", path.name)
    return f"{commit}+" if edited else commit


def _ask(git: str, path: Path, *arguments: str) -> str:
    try:
        answer = subprocess.run(  # noqa: S603  fixed words, and a path that is not read as an option
            [git, "-C", str(path.parent), *arguments],
            capture_output=True,
            check=False,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
