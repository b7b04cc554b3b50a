"""Cluster files: what ships loads, what cannot be is refused in one sentence, and a cluster never changes what is
made."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.cluster import CLUSTERS, LOCAL, load_cluster
from conf.load import load
from conf.parallel import Parallel
from conf.placement import place_on_cluster, place_settings_on_cluster
from conf.stages.data import DataConfig
from conf.standalone import Quantizing, validate_settings
from tests.fixtures.flow import RECIPE

SHIPPED = sorted(path.stem for path in CLUSTERS.glob("*.yaml"))


def refused(cluster: str, *overrides: str) -> str:
    with pytest.raises(ValueError) as caught:
        load_cluster(cluster, list(overrides))
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_cluster_runs_published_recipe(name: str) -> None:
    cluster = load_cluster(name)
    assert cluster.kind == name
    assert cluster.description
    recipe = load("qwen3-8b-depth-6b")
    assert place_on_cluster(recipe, cluster) == recipe
    assert cluster.resources("data").gpus_per_node == 0
    assert cluster.resources("distill").spread(Parallel(processes=8)) == (1, 8)


def test_the_default_cluster_is_the_one_that_ships_as_local() -> None:
    assert load_cluster("local") == LOCAL


def test_ranks_spread_over_nodes_by_the_gpus_there_are() -> None:
    cluster = load_cluster("slurm", ["stages.prune={nodes: 2, gpus_per_node: 4}"])
    assert cluster.resources("distill").spread(Parallel(processes=768)) == (96, 8)
    assert cluster.resources("prune").spread(Parallel(processes=2)) == (2, 1)
    for ranks, complaint in (
        (3, "3 ranks cannot be spread evenly over 2 nodes"),
        (16, "exceed gpus_per_node 4; set nodes=4"),
    ):
        with pytest.raises(ValueError, match=complaint):
            cluster.resources("prune").spread(Parallel(processes=ranks))


def test_a_stage_states_only_where_it_differs(tmp_path: Path) -> None:
    file = tmp_path / "ours.yaml"
    file.write_text(
        "extends: slurm\ndefaults: {queue: h100, environment: {A: '1'}}\nstages: {data: {queue: cpu, environment: {B:"
        " '2'}}}\n"
    )
    cluster = load_cluster(str(file), ["defaults.account=team"])
    data, distill = cluster.resources("data"), cluster.resources("distill")
    assert (data.queue, data.gpus_per_node, data.time_limit_minutes, data.account) == ("cpu", 0, 240, "team")
    assert data.environment == {"A": "1", "B": "2"}
    assert (distill.queue, distill.gpus_per_node, distill.environment) == ("h100", 8, {"A": "1"})


def test_what_cannot_be_is_refused_in_one_sentence(tmp_path: Path) -> None:
    assert "did you mean slurm" in refused("slrm")
    assert "nearest known key is cpus" in refused("slurm", "defaults.cpu=3")
    assert "stages.distil" in refused("slurm", "stages.distil.nodes=2")
    assert "a section docker" in refused("slurm", "docker.shm_gb=3")
    assert "defaults.image is missing" in refused("docker", "defaults.image=null")
    assert "stages.data.image is missing" in refused("docker", "stages.data.image=null")
    assert "volumes is missing" in refused("local", "kind=kubernetes")
    assert "several nodes" in refused("local", "defaults.nodes=2")
    assert "one node" in refused("docker", "stages.distill.nodes=2")
    assert "only slurm supports" in refused("local", "defaults.account=me")
    assert "choose a smaller margin" in refused("slurm", "stages.distill.time_limit_minutes=5")
    assert "HF_TOKEN_PATH" in refused("docker", "secrets=[HF_TOKEN]")
    assert "kubernetes.secret" in refused("kubernetes", "secrets=[HF_TOKEN]")
    assert "also listed in secrets" in refused("slurm", "secrets=[HF_TOKEN]", "defaults.environment={HF_TOKEN: hf_x}")
    assert "secrets.1" in refused("slurm", "secrets=[HF_TOKEN=hf_x]")
    assert "slurm.ssh.user is missing" in refused("slurm", "slurm.ssh={host: login}")


def test_a_cluster_lays_stages_out_and_changes_no_key() -> None:
    recipe = load(str(RECIPE), ["teacher.micro_batch=2"])
    cluster = load_cluster(
        "local", ["stages.teacher.parallel={processes: 2}", "stages.distill.parallel={processes: 2, tensor: 2}"]
    )
    here = place_on_cluster(recipe, cluster)
    assert here.teacher.parallel == Parallel(processes=2)
    assert here.distill_of("depth").parallel.tensor == 2  # type: ignore[union-attr]
    assert here.identity() == recipe.identity()
    assert place_on_cluster(recipe, LOCAL) == recipe


def test_layouts_of_a_cluster_are_checked_as_the_recipes_are() -> None:
    recipe = load(str(RECIPE))
    with pytest.raises(ValueError, match=r"parallel\.tensor"):
        place_on_cluster(recipe, load_cluster("local", ["stages.distill.parallel={processes: 64, tensor: 64}"]))
    with pytest.raises(ValueError, match="teacher on this cluster: 3 ranks cannot be spread"):
        place_on_cluster(
            recipe, load_cluster("slurm", ["stages.teacher={nodes: 2, parallel: {processes: 3, pipeline: 3}}"])
        )
    with pytest.raises(ValueError, match="choose a multiple of 8"):
        place_on_cluster(recipe, load_cluster("local", ["stages.teacher.parallel={processes: 2}"]))
    with pytest.raises(ValueError, match=r"use parallel\.pipeline"):
        place_on_cluster(recipe, load_cluster("local", ["stages.prune.parallel={processes: 2}"]))


def test_single_stages_use_cluster_layout_and_keep_keys() -> None:
    wanted = validate_settings(
        Quantizing,
        {"model": "demo/depth", "quantize": [{"format": "fp8"}], "evaluate": {"seq_length": 64, "sequences": 8}},
    )
    cluster = load_cluster("slurm", ["stages={quantize: {parallel: {threads: 3}}, evaluate: {parallel: {threads: 4}}}"])
    found = place_settings_on_cluster(wanted, cluster)
    assert found.evaluate
    assert (found.quantize[0].parallel.threads, found.evaluate.parallel.threads) == (3, 4)
    assert found.quantize[0].identity() == wanted.quantize[0].identity()
    with pytest.raises(ValueError, match=r"evaluate\.parallel: processes is 3 but the stage runs in one process"):
        place_settings_on_cluster(
            wanted, load_cluster("slurm", ["stages={evaluate: {nodes: 2, parallel: {processes: 3}}}"])
        )


def test_ranks_of_a_curation_run_where_its_data_stage_does() -> None:
    cluster = load_cluster("slurm", ["stages.data={cpus: 3}"])
    assert cluster.resources("curate").cpus == 3
    assert load_cluster("slurm", ["stages={data: {cpus: 3}, curate: {cpus: 7}}"]).resources("curate").cpus == 7


def test_ranks_are_refused_where_there_is_one_container() -> None:
    data = validate_settings(DataConfig, {"source": "world", "ranks": 2})
    for kind in ("local", "slurm"):
        assert place_settings_on_cluster(data, load_cluster(kind)).ranks == 2
    with pytest.raises(
        ValueError, match=r"^data\.ranks is 2, but docker runs a job in one container; set data\.workers"
    ):
        place_settings_on_cluster(data, load_cluster("docker"))
    place_settings_on_cluster(data.model_copy(update={"ranks": 1}), load_cluster("docker"))
