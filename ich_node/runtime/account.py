"""Root becomes the account of the node before it touches the state directory: a file of root there stops every part."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def become_owner(state_dir: Path) -> None:
    """As root: become the account that `state_dir` belongs to. As anybody else, or where it is root's: nothing."""
    if os.geteuid() != 0:
        return
    try:
        owner = state_dir.stat()
    except OSError:  # not there yet: whoever makes it owns it
        return
    if owner.st_uid == 0:
        return
    try:
        os.initgroups(pwd.getpwuid(owner.st_uid).pw_name, owner.st_gid)
    except KeyError:  # an account without a name, as in containers
        os.setgroups([owner.st_gid])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)
