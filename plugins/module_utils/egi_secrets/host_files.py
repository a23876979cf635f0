"""Make a list of directories, files and symbolic links on this machine what it should be, all of them or none.

The work has three steps, so that a mistake in one file leaves every other untouched: `plan` looks and changes nothing,
`validate` runs the checkers on private copies of the new contents, `apply` replaces each path atomically. Only the Python
standard library is used: this runs on bare hosts.

Whoever owns a directory on the way could put a symbolic link there to make root write elsewhere. Every path is therefore
opened component by component, and only root's own links are followed.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import secrets
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE, DIRECTORY, LINK, ABSENT = "file", "directory", "link", "absent"
HIDDEN = "(secret content is not shown)\n"
VALIDATE_SECONDS = 60


class HostFileError(Exception):
    """A path cannot be made what it should be; nothing that existed before was replaced."""


@dataclass(frozen=True)
class Wanted:
    """What one path should be. `mode` is None for what has none: links, and paths that should be absent."""

    path: str
    state: str
    content: bytes = b""
    secret: bool = False
    target: str = ""
    owner: str = "root"
    group: str = "root"
    mode: int | None = None
    validate: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Found:
    """What one path is now. `state` is "other" for devices, sockets and the like."""

    state: str
    content: bytes = b""
    target: str = ""
    uid: int = -1
    gid: int = -1
    mode: int = 0


@dataclass(frozen=True)
class Change:
    """A path that differs from what it should be."""

    wanted: Wanted
    found: Found

    @property
    def diff(self) -> dict[str, str]:
        """What Ansible shows with --diff; never the content of a secret."""
        path, hide = self.wanted.path, self.wanted.secret
        before = _describe(self.found.state, self.found.content, self.found.target, hide=hide)
        after = _describe(self.wanted.state, self.wanted.content, self.wanted.target, hide=hide)
        found, wanted = _found_attributes(self.found), _wanted_attributes(self.wanted)
        if before == after:
            before, after = f"{found}\n", f"{wanted}\n"  # Ansible shows nothing of a diff between equal texts
        return {
            "before_header": f"{path} ({found})",
            "after_header": f"{path} ({wanted})",
            "before": before,
            "after": after,
        }


def wanted_from(entry: Mapping[str, Any]) -> Wanted:
    """Return what an entry of the module's `files` asks for.

    Raises HostFileError where the entry contradicts itself, OSError where its source cannot be read.
    """
    path, state = str(entry["path"]), str(entry.get("state") or FILE)
    if not path.startswith("/") or os.path.normpath(path) != path:
        msg = f"{path}: give an absolute path without '.', '..' or a trailing slash."
        raise HostFileError(msg)
    given = [name for name in ("content", "secret_content", "source") if entry.get(name) is not None]
    if state == FILE and len(given) != 1:
        msg = f"{path}: a file takes one of content, secret_content and source."
        raise HostFileError(msg)
    if state == LINK and not entry.get("target"):
        msg = f"{path}: a link takes a target."
        raise HostFileError(msg)
    default_mode = {FILE: "0644", DIRECTORY: "0755"}.get(state)
    mode = entry.get("mode") or default_mode
    return Wanted(
        path=path,
        state=state,
        content=_content(given[0], str(entry[given[0]])) if state == FILE else b"",
        secret=given != ["content"],
        target=str(entry.get("target") or "") if state == LINK else "",
        owner=str(entry.get("owner") or "root"),
        group=str(entry.get("group") or "root"),
        mode=int(str(mode), 8) if mode is not None and default_mode else None,
        validate=tuple(map(tuple, entry.get("validate") or ())),
    )


def _content(kind: str, given: str) -> bytes:
    return Path(given).read_bytes() if kind == "source" else given.encode()


def plan(wanted: Sequence[Wanted]) -> list[Change]:
    """Return the paths that differ, in the order given. Looks only.

    Raises HostFileError for a path that must not be touched: something of another kind is there, or the way to it leads
    through a link that is not root's.
    """
    coming = {item.path for item in wanted if item.state == DIRECTORY}
    changes = []
    for item in wanted:
        found = look(item.path, coming=coming)
        if found.state not in (ABSENT, item.state) and (found.state, item.state) not in _REPLACEABLE:
            msg = (
                f"{item.path} is a {found.state} where a {item.state} belongs: "
                "look at what put it there and move it away, then run again."
            )
            raise HostFileError(msg)
        if _differs(item, found):
            changes.append(Change(item, found))
    return changes


def validate(changes: Iterable[Change]) -> list[str]:
    """Run every checker on a private copy of the new content, under the file's own name.

    Returns the paths whose checker is not on this machine yet, which is how check mode meets a bare host.
    Raises HostFileError with what the checker said.
    """
    missing = []
    for change in changes:
        item = change.wanted
        if not item.validate or item.content == change.found.content:
            continue
        with tempfile.TemporaryDirectory(prefix="host_files.") as private:
            copy = Path(private) / Path(item.path).name
            copy.touch(mode=0o600)
            copy.write_bytes(item.content)
            judged = [_accepted(item, checker, copy) for checker in item.validate]
            if not all(judged):
                missing.append(item.path)
    return missing


def _accepted(item: Wanted, checker: Sequence[str], copy: Path) -> bool:
    """Return whether `checker` accepts `copy`; False where it is not on this machine.

    Raises HostFileError where it refuses.
    """
    command = [word.replace("%s", str(copy)) for word in checker]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=VALIDATE_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        return False
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"{item.path}: its checker {command[0]} could not run: {error}. Nothing was replaced."
        raise HostFileError(msg) from error
    if done.returncode != 0:
        said = HIDDEN if item.secret else f"{done.stdout}{done.stderr}"
        msg = f"{item.path}: {command[0]} refuses the new content, so nothing was replaced. It says: {said.strip()}"
        raise HostFileError(msg)
    return True


def apply(changes: Sequence[Change]) -> None:
    """Make every change: directories first, then all new files under temporary names, then the renames.

    Raises HostFileError. A failure before the first rename leaves every existing file as it was.
    """
    for change in changes:
        if change.wanted.state == DIRECTORY:
            _make_directory(change)
    staged: list[tuple[Wanted, str]] = []
    try:
        for change in changes:
            if change.wanted.state in (FILE, LINK):
                staged.append((change.wanted, _stage(change.wanted)))
        while staged:
            item, temporary = staged[0]
            with parent_of(item.path) as (directory, name):
                os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
                os.fsync(directory)
            staged.pop(0)
    finally:
        for item, temporary in staged:
            with suppress(OSError, HostFileError), parent_of(item.path) as (directory, _):
                os.unlink(temporary, dir_fd=directory)
    for change in changes:
        if change.wanted.state == ABSENT:
            _remove(change)


def look(path: str, *, coming: Iterable[str] = ()) -> Found:
    """Return what `path` is now, never following a link at its end.

    `coming` are directories that need not exist yet because they are about to be made.
    """
    try:
        with parent_of(path) as (directory, name):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            kind = _kind(status.st_mode)
            return Found(
                state=kind,
                content=_read(directory, name) if kind == FILE else b"",
                target=os.readlink(name, dir_fd=directory) if kind == LINK else "",
                uid=status.st_uid,
                gid=status.st_gid,
                mode=stat.S_IMODE(status.st_mode),
            )
    except FileNotFoundError:
        parent = os.path.dirname(path)  # noqa: PTH120 - paths stay text here: they are opened piece by piece
        if parent in coming or _exists(parent):
            return Found(ABSENT)
        msg = f"{path}: its directory does not exist: declare it before the file."
        raise HostFileError(msg) from None


@contextmanager
def parent_of(path: str) -> Iterator[tuple[int, str]]:
    """Give an open descriptor of the directory that holds `path`, and the last component's name.

    Raises HostFileError where a component is a link that somebody else than root made.
    """
    *way, name = path.strip("/").split("/")
    current = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for component in way:
            following = _open_component(current, component, path)
            os.close(current)
            current = following
        yield current, name
    finally:
        os.close(current)


def _open_component(directory: int, component: str, path: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    status = os.stat(component, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        if status.st_uid != 0:
            msg = f"{path}: {component} on the way there is a link of uid {status.st_uid}, not of root: not followed."
            raise HostFileError(msg)
        return os.open(component, flags, dir_fd=directory)
    if not stat.S_ISDIR(status.st_mode):
        msg = f"{path}: {component} on the way there is not a directory."
        raise HostFileError(msg)
    return os.open(component, flags | os.O_NOFOLLOW, dir_fd=directory)


_REPLACEABLE = {
    (LINK, FILE),  # a rename replaces the link itself, never what it points to
    (FILE, LINK),
    (FILE, ABSENT),
    (LINK, ABSENT),
    (DIRECTORY, ABSENT),  # only when it is empty
}


def _kind(mode: int) -> str:
    for test, kind in ((stat.S_ISREG, FILE), (stat.S_ISDIR, DIRECTORY), (stat.S_ISLNK, LINK)):
        if test(mode):
            return kind
    return "other"


def _read(directory: int, name: str) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    with os.fdopen(descriptor, "rb") as handle:
        return handle.read()


def _exists(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - see look()


def _owner_id(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _group_id(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _ids(item: Wanted) -> tuple[int, int]:
    uid, gid = _owner_id(item.owner), _group_id(item.group)
    if uid is None or gid is None:
        what = f"user {item.owner}" if uid is None else f"group {item.group}"
        msg = f"{item.path}: there is no {what} on this host: create it first."
        raise HostFileError(msg)
    return uid, gid


def _differs(item: Wanted, found: Found) -> bool:
    if item.state != found.state:
        return True
    if item.state == ABSENT:
        return False
    if item.state == LINK:
        return item.target != found.target
    same_owner = (_owner_id(item.owner), _group_id(item.group)) == (found.uid, found.gid)
    return not same_owner or item.mode != found.mode or item.content != found.content


def _make_directory(change: Change) -> None:
    item = change.wanted
    uid, gid = _ids(item)
    with parent_of(item.path) as (directory, name):
        if change.found.state == ABSENT:
            os.mkdir(name, 0o700, dir_fd=directory)
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, item.mode or 0)
        finally:
            os.close(descriptor)


def _stage(item: Wanted) -> str:
    """Make the new file or link beside the old one, complete, and return its temporary name."""
    uid, gid = _ids(item)
    with parent_of(item.path) as (directory, name):
        for leftover in os.listdir(directory):  # noqa: PTH208 - an open directory, not a path
            # A host that lost power between staging and renaming kept it, a private key perhaps.
            if re.fullmatch(rf"\.{re.escape(name)}\.[0-9a-f]{{12}}", leftover):
                os.unlink(leftover, dir_fd=directory)
        temporary = f".{name}.{secrets.token_hex(6)}"  # hidden: profile.d and logrotate.d must not pick it up
        if item.state == LINK:
            os.symlink(item.target, temporary, dir_fd=directory)
            os.chown(temporary, uid, gid, dir_fd=directory, follow_symlinks=False)
            return temporary
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
        try:
            with os.fdopen(descriptor, "wb") as handle:
                os.fchown(descriptor, uid, gid)
                os.fchmod(descriptor, item.mode or 0)
                handle.write(item.content)
                handle.flush()
                os.fsync(descriptor)
        except BaseException:
            os.unlink(temporary, dir_fd=directory)
            raise
        return temporary


def _remove(change: Change) -> None:
    with parent_of(change.wanted.path) as (directory, name):
        if change.found.state == DIRECTORY:
            os.rmdir(name, dir_fd=directory)
        else:
            os.unlink(name, dir_fd=directory)


def _describe(state: str, content: bytes, target: str, *, hide: bool) -> str:
    if state == FILE:
        return HIDDEN if hide else content.decode(errors="replace")
    if state == LINK:
        return f"-> {target}\n"
    return f"{state}\n"


def _found_attributes(found: Found) -> str:
    if found.state in (ABSENT, LINK):
        return found.state
    return f"{found.state}, {_name_of(found.uid, found.gid)}, {found.mode:04o}"


def _wanted_attributes(item: Wanted) -> str:
    if item.mode is None:
        return item.state
    return f"{item.state}, {item.owner}:{item.group}, {item.mode:04o}"


def _name_of(uid: int, gid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name}:{grp.getgrgid(gid).gr_name}"
    except KeyError:
        return f"{uid}:{gid}"
