"""Makes .venv and installs the locked requirements and the package itself into it.

Standard library and Python 3.6 syntax only, so that an old Python is refused with the way out
and not with a SyntaxError. `make` runs it whenever requirements/dev.txt or pyproject.toml change.
"""

import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 13)
PLATFORMS = {("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64")}

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
LOG = VENV / "setup.log"
PIP = [str(VENV_PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
PIP += ["--progress-bar", "off"]

# What an installer's output holds -> what to do about it.
NO_NETWORK = "no network: the package index cannot be reached"
ADVICE = (
    ("No space left on device", "the disk is full: about 3 GB are needed"),
    ("NewConnectionError", NO_NETWORK),
    ("NameResolutionError", NO_NETWORK),
    ("ConnectTimeoutError", NO_NETWORK),
    ("ReadTimeoutError", "the network is too slow or broken: run make setup again"),
    ("SSLError", "the package index's certificate was refused: set PIP_CERT to your network's CA"),
    ("DO NOT MATCH THE HASHES", "a download was damaged or changed: run make setup again"),
    ("No matching distribution", "your package index lacks a locked version (named above)"),
    ("ensurepip", "this Python makes no environments: on Debian, apt-get install python3-venv"),
    ("Permission denied", "a file cannot be written (named above): is .venv another user's?"),
)


def refusal(system, machine, version, libc="glibc"):
    """Say why the trainer cannot run on such a machine, and the way out; None if it can."""
    oldest, newest, found = (".".join(map(str, v)) for v in (OLDEST, NEWEST, version))
    if system == "Windows" or system.startswith(("CYGWIN", "MINGW", "MSYS")):
        return "native Windows is not supported: use WSL2 (wsl --install) and run make in it"
    if (system, machine) == ("Darwin", "x86_64"):
        return (
            "TensorFlow is no longer built for Intel Macs: use a Linux machine or container"
            " (on Apple silicon: this Python is an Intel one, use an arm64 Python)"
        )
    if (system, machine) not in PLATFORMS:
        return (
            "TensorFlow is not built for {} on {}: use Linux on x86_64 or aarch64,"
            " or macOS on arm64".format(system, machine)
        )
    if system == "Linux" and libc != "glibc":
        return "TensorFlow is not built for Linux without glibc (Alpine): use Debian or the like"
    if not OLDEST <= version <= NEWEST:
        return (
            "Python {} is not supported: install Python {} to {}"
            " and run make PYTHON=python{}".format(found, oldest, newest, newest)
        )
    return None


def advice(output):
    """Say in one line what to do about an installer's output."""
    known = (text for sign, text in ADVICE if sign in output)
    return next(known, "see the output above, or .venv/setup.log for all of it")


def is_usable(python, also="pass"):
    """Tell whether a Python runs, is of a right version (a stub may be there), and does `also`."""
    right = "import sys; sys.exit(not {} <= sys.version_info[:2] <= {})".format(OLDEST, NEWEST)
    code = also + "; " + right
    try:
        return subprocess.call([str(python), "-c", code], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def find_python():
    """Return a right Python: this one, else the newest on the PATH, else None."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return sys.executable
    minors = range(NEWEST[1], OLDEST[1] - 1, -1)
    found = (shutil.which("python3.{}".format(minor)) for minor in minors)
    return next((path for path in found if path and is_usable(path)), None)


def doing(output):
    """Say in a few words where an installer is, by its output."""
    if re.search("^Installing collected packages", output, re.MULTILINE):
        return "unpacking"
    fetched = re.findall("^Collecting ([A-Za-z0-9._-]+)", output, re.MULTILINE)
    return "fetching package {}, {}".format(len(fetched), fetched[-1]) if fetched else ""


def run(title, command):
    """Run a command; show its seconds and where it is, and what to do when it fails."""
    start, tty = time.monotonic(), sys.stdout.isatty()
    with LOG.open("w") as log:
        process = subprocess.Popen(command, cwd=str(ROOT), stdout=log, stderr=subprocess.STDOUT)
    while process.poll() is None:
        try:
            process.wait(timeout=1 if tty else 30)
        except subprocess.TimeoutExpired:
            now = doing(LOG.read_text(errors="replace"))
            text = "{}: {:.0f} s  {}".format(title, time.monotonic() - start, now).rstrip()
            # A longer line would wrap, and only its last row be cleared.
            shown = "\r\033[K" + text[: shutil.get_terminal_size().columns - 1]
            print(shown if tty else text, end="" if tty else "\n", flush=True)
    print("{}{}: {:.0f} s".format("\r\033[K" if tty else "", title, time.monotonic() - start))
    if process.returncode != 0:
        output = LOG.read_text(errors="replace")
        print("\n".join(output.splitlines()[-15:]), file=sys.stderr)
        sys.exit("make setup: failed at '{}': {}".format(title, advice(output)))


def main():
    """Set .venv up, or say why not."""
    python = find_python()
    version = OLDEST if python else sys.version_info[:2]
    libc = platform.libc_ver()[0]
    refused = refusal(platform.system(), platform.machine(), version, libc=libc)
    if refused:
        sys.exit("make setup: " + refused)
    # Without python3-venv, Debian leaves a .venv without pip behind.
    if not is_usable(VENV_PYTHON, "import pip"):
        shutil.rmtree(str(VENV), ignore_errors=True)
        VENV.mkdir()
        run("Making .venv", [python, "-m", "venv", str(VENV)])
    locked = ["--require-hashes", "-r", "requirements/dev.txt"]
    run("Installing requirements (0.6 GB, at first)", [*PIP, *locked])
    # The locked hatchling builds it: nothing unlocked is fetched.
    run("Installing trainer", [*PIP, "--no-deps", "--no-build-isolation", "--editable", "."])
    (VENV / ".ready").touch()
    print("Set up: make local-run trains a model, .venv/bin/trainer --help shows the commands")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("make setup: interrupted; run it again to go on")
