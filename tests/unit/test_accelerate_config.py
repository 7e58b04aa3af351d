"""What ``accelerate launch`` makes of a config, by its own code, and what a run makes of that."""

from argparse import Namespace

import pytest
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import (
    prepare_deepspeed_cmd_env,
    prepare_multi_gpu_env,
    prepare_simple_launcher_cmd_env,
)

from recbole_hellm.cli import main
from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.config.resources import accelerate_config, accelerate_configs, properties_dir
from recbole_hellm.distributed.accelerate_config import launched_settings
from recbole_hellm.errors import ConfigError

SHIPPED = sorted((properties_dir() / "accelerate").glob("*.yaml"))
JOINED = {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def arguments(path, *argv) -> Namespace:
    parsed = launch_command_parser().parse_args(["--config_file", str(path), *argv, "script.py"])
    parsed.nondefault = []  # what its own parser collects: options given by hand
    return _validate_launch_command(parsed)[0]


def environment(path):
    """The variables a process finds."""
    given = arguments(path)
    if given.use_deepspeed:
        given.deepspeed_fields_from_accelerate_config = ""
        return {**prepare_deepspeed_cmd_env(given)[1], **JOINED}
    if given.use_fsdp or given.multi_gpu or given.use_megatron_lm:
        return {**prepare_multi_gpu_env(given), **JOINED}
    return prepare_simple_launcher_cmd_env(given)[1]


@pytest.fixture
def changed(tmp_path):
    """Write a shipped config with other keys; those of ``fsdp_config`` begin with ``fsdp_``."""

    def write(name, **keys):
        config = yaml.safe_load(accelerate_config(name).read_text())
        for key, value in keys.items():
            (config["fsdp_config"] if key.startswith("fsdp_") and name == "fsdp2" else config)[key] = value
        (tmp_path / "changed.yaml").write_text(yaml.safe_dump({k: v for k, v in config.items() if v is not None}))
        return environment(tmp_path / "changed.yaml")

    return write


def test_four_configs_are_shipped():
    assert [path.stem for path in SHIPPED] == ["cpu-2", "fsdp2", "gpus", "machines-2"] == list(accelerate_configs())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_config_is_understood_by_accelerate_and_taken_here(path):
    given = arguments(path)
    assert (int(given.num_processes), given.num_machines) == {"machines-2": (8, 2)}.get(path.stem, (2, 1))
    assert launched_settings(environment(path)) == ({"llm_sharded": True} if path.stem == "fsdp2" else {})


def test_without_accelerate_nothing_is_asked_for():
    assert launched_settings({}) == {}
    assert launched_settings(JOINED) == {}


@pytest.mark.parametrize(("key", "value"), [
    ("fsdp_version", 1), ("fsdp_reshard_after_forward", False), ("fsdp_offload_params", True),
    ("fsdp_cpu_ram_efficient_loading", True), ("fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP"),
    ("fsdp_auto_wrap_policy", "NO_WRAP"), ("fsdp_state_dict_type", "SHARDED_STATE_DICT"),
    ("fsdp_activation_checkpointing", True), ("fsdp_activation_checkpointing_offload", True),
    ("fsdp_ignored_modules", "head"), ("mixed_precision", "bf16"), ("mixed_precision", "fp16"),
    ("dynamo_backend", "INDUCTOR"),
])  # fmt: skip
def test_a_key_that_is_not_honoured_is_refused_by_name(changed, key, value):
    with pytest.raises(ConfigError, match=f"accelerate config: '{key}' = {str(value).lower()} is not for this run; "):
        launched_settings(changed("fsdp2", **{key: value}))


def test_keys_left_out_have_accelerates_defaults_which_are_refused_where_they_mean_something_else(tmp_path):
    config = {"distributed_type": "FSDP", "fsdp_config": {"fsdp_version": 2}, "num_processes": 2}
    (tmp_path / "short.yaml").write_text(yaml.safe_dump({**config, "main_process_port": 0}))
    with pytest.raises(ConfigError, match="'fsdp_cpu_ram_efficient_loading' = true is not for this run"):
        launched_settings(environment(tmp_path / "short.yaml"))


@pytest.mark.parametrize("kind", ["DEEPSPEED", "MEGATRON_LM"])
def test_other_ways_to_split_are_refused_with_the_way_out(changed, kind):
    more = {"deepspeed_config": {"zero_stage": 3}} if kind == "DEEPSPEED" else {}
    with pytest.raises(ConfigError, match=f"'distributed_type: {kind}' is not for this run; .*: take fsdp2.yaml"):
        launched_settings(changed("gpus", distributed_type=kind, **more))


def test_processes_that_accelerate_would_not_start_are_told(changed):
    with pytest.raises(ConfigError, match="one process of a config with several .* write distributed_type: MULTI_GPU"):
        launched_settings(changed("cpu-2", distributed_type="MULTI_CPU"))
    assert launched_settings(changed("cpu-2", distributed_type="NO", num_processes=1)) == {}


def test_the_run_takes_it_and_no_setting_may_contradict(monkeypatch):
    for name, value in environment(accelerate_config("fsdp2")).items():
        if name.startswith(("FSDP_", "ACCELERATE_")):
            monkeypatch.setenv(name, value)
    assert HellmConfig("HeLLM", "ml-100k")["llm_sharded"] is True
    with pytest.raises(ConfigError, match="setting 'llm_sharded' = False contradicts the config of accelerate launch"):
        HellmConfig("HeLLM", "ml-100k", argv=["--llm_sharded=False"])
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    assert HellmConfig("HeLLM", "ml-100k")["llm_sharded"] is False


def test_the_command_prints_where_they_lie(capsys):
    assert main(["accelerate", "fsdp2"]) == 0
    assert capsys.readouterr().out == f"{properties_dir() / 'accelerate' / 'fsdp2.yaml'}\n"
    assert main(["accelerate"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{path.stem}: {path}" for path in SHIPPED]
    assert main(["accelerate", "fdsp2"]) == 2
    assert "did you mean 'fsdp2'?); known: cpu-2, fsdp2, gpus, machines-2" in capsys.readouterr().err
