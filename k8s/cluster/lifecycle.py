"""Starting the cluster from outside of it, using it, and removing all of it."""

import os
import shutil
import sys
import time
from pathlib import Path

from k8s.cluster import cgroups, sandbox
from k8s.cluster.builds import build_programs, program_folders
from k8s.cluster.cluster import IMPORT
from k8s.cluster.packages import install_packages
from k8s.cluster.places import ClusterError, Place


def up(place: Place) -> None:
    """Start the cluster, or say that it runs."""
    if other := kubeconfig_of_another(place):
        print(f"using the cluster of KUBECONFIG={other}; nothing is started")
        return
    if sandbox.running(place) and place.kubeconfig.exists():
        print(f"already running: {_how_to_use(place)}")
        return
    _refuse_wrong_machine()
    install_packages(_say)
    folders = build_programs(place, _say)
    _remove(place)
    try:
        _start(place, path=_search_path(folders))
    except BaseException:
        _say("removing what was started")
        _remove(place)
        raise
    print(_how_to_use(place))


def down(place: Place) -> None:
    """End the cluster and remove all of it but the built programs and the logs."""
    was_running = sandbox.running(place)
    _remove(place)
    print(f"removed; logs: {place.logs}" if was_running else "no cluster was running")


def load(place: Place, archive: str) -> None:
    """Give an archive of an image (docker-archive) to the cluster."""
    first = sandbox.running(place)
    if first is None:
        raise ClusterError("no cluster is running: make cluster-up")
    path = str(Path(archive).resolve())
    result = sandbox.enter(first, *IMPORT, path)
    if result.returncode:
        raise ClusterError(f"{archive} was not imported: {result.stderr.strip()}")
    print(result.stdout.strip())


def kubeconfig_of_another(place: Place) -> str | None:
    """KUBECONFIG where it names another cluster than the one of `place`, which may not run yet."""
    named = os.environ.get("KUBECONFIG")
    is_ours = not named or Path(named).resolve() == place.kubeconfig.resolve()
    return None if is_ours else named


def search_path(place: Place) -> str:
    """A PATH that also finds kubectl, helm and all else that was built."""
    return _search_path(program_folders(place))


def _search_path(folders: list[Path]) -> str:
    return os.pathsep.join([*map(str, folders), os.environ["PATH"]])


def _start(place: Place, *, path: str) -> None:
    place.state.mkdir(parents=True)
    shutil.rmtree(place.logs, ignore_errors=True)
    place.logs.mkdir()
    cgroups.make_groups()
    process = sandbox.start(place, path=path)
    with place.story.open() as story:
        while not place.kubeconfig.exists():
            ended = process.poll() is not None
            print(story.read(), end="", flush=True)
            if ended:
                raise ClusterError(f"the cluster did not start; logs: {place.logs}")
            time.sleep(0.1)
        print(story.read(), end="", flush=True)


def _remove(place: Place) -> None:
    if not place.state.exists():
        return
    sandbox.end(place)
    cgroups.remove_groups()
    shutil.rmtree(place.state)


def _how_to_use(place: Place) -> str:
    return f"export KUBECONFIG={place.kubeconfig}"


def _refuse_wrong_machine() -> None:
    other = "; or start one yourself (kind create cluster) and set KUBECONFIG"
    if sys.platform != "linux":
        raise ClusterError(f"a cluster is started on Linux only{other}")
    if os.geteuid() != 0:
        raise ClusterError(f"starting a cluster takes root (sudo make cluster-up){other}")


def _say(text: str) -> None:
    print(text, flush=True)
