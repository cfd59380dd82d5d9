"""Who else could have written a file or a folder: what a config or a plugin says is run as this user."""

import grp
import os
import pwd
import stat

ROOT = 0


def is_trusted_owner(uid: int) -> bool:
    """This user, or root, who could do anything here anyway."""
    return uid in (os.geteuid(), ROOT)


def is_writable_by_others(found: os.stat_result) -> bool:
    """Group write does not count where the group is the owner's private one."""
    if found.st_mode & stat.S_IWOTH:
        return True
    return bool(found.st_mode & stat.S_IWGRP) and not is_private_group(found.st_gid, found.st_uid)


def can_others_change(found: os.stat_result) -> bool:
    """Whether they can write to the file, or put something in the place of what is in the folder."""
    is_shared = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    return is_writable_by_others(found) and not is_shared


def is_everybodys(folder: os.stat_result) -> bool:
    """Whether any user can put anything into it, or in the place of what is there. `/tmp` is not meant."""
    return bool(folder.st_mode & stat.S_IWOTH) and not folder.st_mode & stat.S_ISVTX


def is_private_group(gid: int, uid: int) -> bool:
    """It is the user's primary group, and nobody else is in it."""
    try:
        user, group = pwd.getpwuid(uid), grp.getgrgid(gid)
    except KeyError:
        return False
    if gid != user.pw_gid or set(group.gr_mem) - {user.pw_name}:
        return False
    # Primary members are not in `gr_mem`. The name settles it where the passwd database cannot be listed.
    return group.gr_name == user.pw_name or all(other.pw_gid != gid or other.pw_uid == uid for other in pwd.getpwall())
