"""A module has 300 lines, a class 200, a function 40, a test 30 and a template 120 at most.

And a function 7 parameters. Or its reason stands here.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST = {ast.ClassDef: 200, ast.FunctionDef: 40, ast.AsyncFunctionDef: 40}
REASONS = {
    "trainer/data/prepare.py": "each step of a preparation, in their order",
    "trainer/run/facts.py": "one reading of each file of a run's folder, which may be damaged",
    "trainer/run/run_dir.py": "who may go on with a run: rules that mean each other",
    "trainer/storage/gcs.py": "one method for each of the interface, all by the same repetition",
    "trainer/training.py": "the stages of a training, in their order",
    "bench/checkpoint.py:_results": "a table of figures",
    "k8s/cluster/cluster.py:run": "the parts of a cluster, started in their order",
    "tests/e2e/run.py:Run": "what a user does to a release, and sees of it",
    "trainer/agent/group_supervisor.py:GroupSupervisor": "the states of an agent in a group",
    "trainer/agent/group_supervisor.py:_lives": "one generation after the other, in their order",
    "trainer/agent/group_supervisor.py:_live": "what ends a generation, side by side",
    "trainer/callbacks/assemble.py:__init__": "what its callbacks tell of is of all stages",
    "trainer/callbacks/assemble.py:choose_callbacks": "all callbacks, in the order of their hooks",
    "trainer/checkpoint/boundary.py:Checkpoints": "all places where a run may save or stop",
    "trainer/checkpoint/boundary.py:__init__": "assigns",
    "trainer/checkpoint/lease.py:acquire": "one loop, whose rules exclude each other",
    "trainer/cli/chaos.py:chaos": "mostly options and their help",
    "trainer/data/index.py:index_directory": "what is looked at in a folder, and then written",
    "trainer/data/pipeline.py:_plan": "one look ahead: where it ends depends on all of it",
    "trainer/data/reader.py:__init__": "assigns",
    "trainer/debugging.py:debug": "launch's stages, over another storage",
    "trainer/gathering/leader.py:__init__": "what a test gives in place of the usual, too",
    "trainer/gathering/group.py:Group": "a state machine: messages in, messages out",
    "trainer/launch.py:launch": "the stages before a worker, in their order",
    "trainer/metrics/registry.py:__init__": "a line for each metric",
    "trainer/run/facts.py:read_facts": "a line for each fact",
    "trainer/run/report/time_line.py:time_line": "one drawing",
    "trainer/run/run_dir.py:RunDir": "see its module",
    "trainer/script/measures.py:evaluate": "Keras' own arguments",
    "trainer/script/fit.py:fit": "Keras' own arguments",
    "trainer/script/fit_data.py:feed": "Keras' own arguments",
    "trainer/storage/gcs.py:GCSStorage": "see its module",
    "trainer/training.py:Training": "see its module",
    "helm/trainer/templates/_checks.tpl": "all that cannot work, in one place",
    "tests/faults/inject.py": "a class for each fault",
    "tests/fault_proxy.py:_forward": "one request, on its way past all faults",
    "tests/faults/harness.py:start": "mostly how the keys of a start are put together",
    "tests/faults/test_gcs_faults.py:test_f06_a_signal_while_the_records_are_stalled": "one story",
    "tests/faults/test_gcs_runs.py"
    ":test_the_packaged_run_gives_the_same_result_from_and_to_the_store": "one story",
    "tests/unit/test_diagnose.py"
    ":test_what_tensorflow_datasets_wrote_fits_whatever_its_features": "mostly a table of features",
    "trainer/training.py:__init__": "callbacks and what they share, assembled once",
}


def large(path: Path) -> Iterator[str]:
    """The module, if it is large, and what is large in it; of tests their functions alone.

    A module of tests is as long as its subject has cases.
    """
    name, text = str(path.relative_to(ROOT)), path.read_text()
    if len(text.splitlines()) > 300 and not path.name.startswith("test_"):
        yield name
    for node in ast.walk(ast.parse(text)):
        most = MOST.get(type(node))
        if most is None:
            continue
        lines, is_function = node.end_lineno - node.lineno + 1, most == 40
        is_test = is_function and node.name.startswith("test_")
        # Fixtures of tests are parameters.
        is_wide = is_function and not name.startswith("tests/") and parameters(node) > 7
        if is_wide or lines > (30 if is_test else most):
            yield f"{name}:{node.name}"


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many there are, without the object itself."""
    found = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len([name for name in found if name not in ("self", "cls")])


def test_what_is_large_has_a_reason():
    folders = ("trainer", "scripts", "bench", "k8s", "docker", "tests")
    modules = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    found = [one for path in modules for one in large(path)]
    templates = (ROOT / "helm").rglob("templates/**/*")
    found += [
        str(path.relative_to(ROOT))
        for path in templates
        if path.is_file() and len(path.read_text().splitlines()) > 120
    ]
    assert sorted(found) == sorted(REASONS)
