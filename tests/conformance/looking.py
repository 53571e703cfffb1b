"""Run inside a sandbox: looks around, tries to write, and prints what it saw as one JSON object.

python -c SOURCE HOST_FILE
"""

import glob
import json
import os
import sys


def attempt(path: str) -> str:
    """What becomes of writing there: empty where it worked."""
    try:
        with open(path, "w") as file:
            file.write("written")
    except OSError as refused:
        return refused.strerror or str(refused)
    return ""


def read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError as refused:
        return refused.strerror or str(refused)


seen = {
    "argv": sys.argv[2:],
    "environment": dict(entry.split("=", 1) for entry in read("/proc/self/environ").split("\0") if entry),
    "environments": "".join(map(read, glob.glob("/proc/[0-9]*/environ"))),
    "commands": "".join(map(read, glob.glob("/proc/[0-9]*/cmdline"))),
    "first": read("/proc/1/environ"),
    "cwd": os.getcwd(),
    "uid": os.getuid(),
    "groups": [os.getgid(), *os.getgroups()],
    "root": os.listdir("/"),
    "homes": [f"{home}/{name}" for home in ("/root", "/home") if os.path.isdir(home) for name in os.listdir(home)],
    "descriptors": sorted(os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if int(n) > 2),
    "host file": os.path.exists(sys.argv[1]),
    "given": read("/given/note"),
    "private": read("/private/note"),
    "one": read("/single"),
    "written": {
        path: attempt(path)
        for path in ("/given/new", "/given/note", "/single", "/new", "/usr/new", "/etc/passwd", "/desk/new", "/tmp/new")
    },
}
os.mkdir("/desk/folder")
attempt("/desk/folder/deep")
os.rename("/desk/old", "/desk/moved")
seen["renamed"] = read("/desk/moved")
print(json.dumps(seen))
