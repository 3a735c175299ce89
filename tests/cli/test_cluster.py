"""Which processes meet, and what does not make a cluster."""

import pytest
import typer

from pplemd_cli.options import Cluster


def test_alone_where_there_are_no_others():
    assert not Cluster().several({})
    assert not Cluster().several({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"})  # the script around srun
    assert not Cluster().several({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "1"})


def test_others_are_named_or_started_by_srun():
    assert Cluster().several({"SLURM_STEP_NUM_TASKS": "2"})
    assert Cluster("node0:7000", 2, 1).several({})


@pytest.mark.parametrize(
    ("cluster", "phrase"),
    [
        (Cluster("node0:7000"), "expected all three"),
        (Cluster(None, 2, 0), "expected all three"),
        (Cluster("node0", 2, 0), "expected HOST:PORT"),
        (Cluster("node0:http", 2, 0), "expected HOST:PORT"),
        (Cluster("node0:7000", 2, 2), "a --process-id from 0 to 1"),
    ],
)
def test_half_a_cluster_is_refused(cluster, phrase):
    with pytest.raises(typer.BadParameter, match=phrase):
        cluster.several({})
