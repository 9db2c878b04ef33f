"""Prompt sets as they were at a git revision: their folder is written out beside, and loaded.

Through git's index, and not ``git archive`` or a worktree: attributes that leave files out of
releases must not leave them out here, and nothing is written into the repository.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.prompts.load import load_prompt_sets
from flux_pipeline.prompts.prompt_set import PromptSet

_PATIENCE = 300.0  # s for one call: a filter such as git-lfs may have to fetch large tables


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit, and the prompt sets of one folder in it."""

    rev: str
    """As it was given."""
    commit: str
    """40 (or 64) hex digits."""
    prompt_sets: tuple[PromptSet, ...]
    """Their tables lie in a temporary folder: use them within the block alone."""


@contextmanager
def open_revision(folder: Path, rev: str) -> Iterator[Revision]:
    """Load the prompt sets of ``folder`` as they were at ``rev``; none where it wasn't there.

    Raises:
        ConfigError: No such revision, no repository, no git; or a file is wrong at that revision.
    """
    git = _Git(_program(rev), folder, rev)
    inside = git.ask("rev-parse", "--show-prefix").removesuffix("\n")
    commit = git.ask("rev-parse", "--verify", "--end-of-options", f"{rev}^{{commit}}").strip()
    with TemporaryDirectory(prefix="flux-pipeline-") as place:
        written = Path(place) / "tree"
        written.mkdir()
        git.write(commit, written, index=Path(place) / "index")
        configs = written / inside
        yield Revision(rev, commit, _load(configs, folder, rev) if configs.is_dir() else ())


def _load(configs: Path, folder: Path, rev: str) -> tuple[PromptSet, ...]:
    try:
        return load_prompt_sets(configs)
    except ConfigError as error:
        # The temporary folder says nothing to a reader: name the file as it is called at the rev.
        raise ConfigError(
            Problem(
                problem.path.replace(str(configs), f"{rev}:{folder}"),
                problem.line,
                problem.key,
                problem.message.replace(str(configs), str(folder)),
            )
            for problem in error.problems
        ) from None


def _program(rev: str) -> str:
    program = shutil.which("git")
    if program is None:
        raise _problem(rev, "git is not installed, and the revision can't be read without it")
    return program


@dataclass(frozen=True, slots=True)
class _Git:
    program: str
    folder: Path
    rev: str

    def ask(self, *arguments: str, index: Path | None = None, given: str = "") -> str:
        """What git prints; its own words as an error where it fails."""
        environ = {**os.environ, "GIT_LITERAL_PATHSPECS": "1", "LC_ALL": "C"}
        if index is not None:
            environ["GIT_INDEX_FILE"] = str(index)
        if not self.folder.is_dir():
            raise _problem(self.rev, f"{self.folder} is no folder, seen from {Path.cwd()}")
        try:
            answer = subprocess.run(  # noqa: S603  no shell; the revision can't be read as an option
                [self.program, "-C", str(self.folder), *arguments],
                capture_output=True,
                check=False,
                env=environ,
                input=given.encode("utf-8", "surrogateescape"),
                timeout=_PATIENCE,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _problem(self.rev, f"git {arguments[0]}: {type(error).__name__}") from error
        if answer.returncode:
            said = answer.stderr.decode("utf-8", "replace").strip().splitlines()
            raise _problem(self.rev, _explained(arguments, said, self.folder))
        return answer.stdout.decode("utf-8", "surrogateescape")

    def write(self, commit: str, place: Path, *, index: Path) -> None:
        """Write what lay in the folder at the commit, under its path in the repository."""
        self.ask("read-tree", commit, index=index)
        files = self.ask("ls-files", "-z", "--cached", "--full-name", index=index)
        if not files:
            return
        top = self.ask("rev-parse", "--show-cdup").removesuffix("\n")  # ../ a level, or nothing
        root = _Git(self.program, self.folder / top, self.rev)
        root.ask("checkout-index", "-z", "--stdin", f"--prefix={place}/", index=index, given=files)


def _explained(arguments: Sequence[str], said: Sequence[str], folder: Path) -> str:
    text = said[0].removeprefix("fatal: ") if said else "failed without a word"
    if "not a git repository" in text:
        return f"{folder} lies in no git repository: there is nothing to compare with"
    if "--verify" in arguments:
        return "no such revision here; in a shallow clone, fetch it first"
    return f"git {arguments[0]}: {text}"


def _problem(rev: str, message: str) -> ConfigError:
    return ConfigError([Problem(f"--changed-since {rev}", 0, "", message)])


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
