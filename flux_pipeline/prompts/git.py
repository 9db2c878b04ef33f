"""Asks git: which commit a file is at, and what the prompt sets of a folder were at a revision.

A revision's files are written into a temporary folder through an index of their own, not by ``git
archive`` or a worktree: attributes that leave files out of releases must not leave them out here,
and nothing is written into the repository.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.prompts.load import load_prompt_sets
from flux_pipeline.prompts.prompt_set import PromptSet

_SECONDS_FOR_REVISION = 300.0
"""For one call: a filter such as git-lfs may have to fetch large tables."""
_SECONDS_FOR_COMMIT = 10.0


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit, and the prompt sets of one folder in it."""

    rev: str
    """As it was given."""
    commit: str
    """40 (or 64) hex digits."""
    prompt_sets: tuple[PromptSet, ...]
    """Their tables are in a temporary folder: use them only within ``open_revision``'s block."""


@contextmanager
def open_revision(folder: Path, rev: str) -> Iterator[Revision]:
    """Load the prompt sets of ``folder`` as they were at ``rev``; none where it did not exist.

    Raises:
        ConfigError: No such revision, no repository, no git; or a file is wrong at that revision.
    """
    git = _Git(_find_program(rev), folder, rev)
    inside = git.ask("rev-parse", "--show-prefix").removesuffix("\n")
    commit = git.ask("rev-parse", "--verify", "--end-of-options", f"{rev}^{{commit}}").strip()
    with TemporaryDirectory(prefix="flux-pipeline-") as temporary:
        tree = Path(temporary) / "tree"
        tree.mkdir()
        git.write(commit, tree, index=Path(temporary) / "index")
        configs = tree / inside
        yield Revision(rev, commit, _load(configs, folder, rev) if configs.is_dir() else ())


def find_commit(path: Path) -> str:
    """The commit of the file's folder; with ``+`` behind it where the file was edited since.

    Empty where there is no git, no repository or no commit: a record is not worth a failed run.
    """
    program = shutil.which("git")
    if program is None or not path.parent.is_dir():
        return ""

    def ask(*arguments: str) -> str:
        try:
            answer = _run(program, path.parent, arguments, seconds=_SECONDS_FOR_COMMIT)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return answer.stdout.decode("utf-8", "replace").strip() if answer.returncode == 0 else ""

    commit = ask("rev-parse", "HEAD")
    edited = commit and ask("status", "--porcelain", "--", path.name)
    return f"{commit}+" if edited else commit


@dataclass(frozen=True, slots=True)
class _Git:
    program: str
    folder: Path
    rev: str

    def ask(self, *arguments: str, index: Path | None = None, given: str = "") -> str:
        """The output of a git command; ConfigError with git's own words where it fails."""
        variables = {"GIT_LITERAL_PATHSPECS": "1", "LC_ALL": "C"}
        if index is not None:
            variables["GIT_INDEX_FILE"] = str(index)
        if not self.folder.is_dir():
            raise _problem(self.rev, f"{self.folder} is no folder, seen from {Path.cwd()}")
        try:
            answer = _run(
                self.program,
                self.folder,
                arguments,
                seconds=_SECONDS_FOR_REVISION,
                variables=variables,
                given=given.encode("utf-8", "surrogateescape"),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _problem(self.rev, f"git {arguments[0]}: {type(error).__name__}") from error
        if answer.returncode:
            lines = answer.stderr.decode("utf-8", "replace").strip().splitlines()
            raise _problem(self.rev, _describe_failure(arguments, lines, self.folder))
        return answer.stdout.decode("utf-8", "surrogateescape")

    def write(self, commit: str, target: Path, *, index: Path) -> None:
        """Write the folder's files at the commit, under their paths in the repository."""
        self.ask("read-tree", commit, index=index)
        files = self.ask("ls-files", "-z", "--cached", "--full-name", index=index)
        if not files:
            return
        top = self.ask("rev-parse", "--show-cdup").removesuffix("\n")  # ../ a level, or nothing
        root = _Git(self.program, self.folder / top, self.rev)
        root.ask("checkout-index", "-z", "--stdin", f"--prefix={target}/", index=index, given=files)


def _run(
    program: str,
    folder: Path,
    arguments: Sequence[str],
    *,
    seconds: float,
    variables: Mapping[str, str] = MappingProxyType({}),
    given: bytes = b"",
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # noqa: S603  no shell; no argument can be read as an option
        [program, "-C", str(folder), *arguments],
        capture_output=True,
        check=False,
        env={**os.environ, **variables},
        input=given,
        timeout=seconds,
    )


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


def _find_program(rev: str) -> str:
    program = shutil.which("git")
    if program is None:
        raise _problem(rev, "git is not installed, and the revision can't be read without it")
    return program


def _describe_failure(arguments: Sequence[str], lines: Sequence[str], folder: Path) -> str:
    text = lines[0].removeprefix("fatal: ") if lines else "failed without a word"
    if "not a git repository" in text:
        return f"{folder} lies in no git repository: there is nothing to compare with"
    if "--verify" in arguments:
        return "no such revision here; in a shallow clone, fetch it first"
    return f"git {arguments[0]}: {text}"


def _problem(rev: str, message: str) -> ConfigError:
    return ConfigError([Problem(f"--changed-since {rev}", 0, "", message)])
